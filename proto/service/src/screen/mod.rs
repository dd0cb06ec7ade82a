//! How programs talk to people and to other programs on standard output.
//!
//! | module | one idea |
//! |---|---|
//! | [`stdout`] | writing to standard output, whatever becomes of its reader |
//! | [`table`] | rows as a table, as JSON, as CSV |
//! | [`text`] | numbers, sizes, moments and foreign text in words that fit a screen |

pub mod stdout;
pub mod table;
pub mod text;
