//! Months: what is reported and billed of them.
//!
//! | module | one idea |
//! |---|---|
//! | [`statement`] | the report of a month, in words and numbers alone |
//! | [`effect`] | what a change of the rules comes to, in each month |

pub mod effect;
pub mod statement;
