//! Prints answers on standard output, for people and for other programs.
//!
//! | module | one idea |
//! |---|---|
//! | [`stdout`] | writing to standard output, also after its reader has gone |
//! | [`table`] | rows as a table, as JSON, as CSV |
//! | [`text`] | numbers, sizes, times and foreign text, formatted for the screen |

pub mod stdout;
pub mod table;
pub mod text;
