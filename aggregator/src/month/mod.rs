//! Months: what is reported and billed of them.
//!
//! | module | one idea |
//! |---|---|
//! | [`statement`] | the report of a month, in words and numbers alone |
//! | [`document`] | a revision of a month, as JSON |
//! | [`ledger`] | revisions, and how they come to be billed |
//! | [`evidence`] | a closed month with all that proves it |
//! | `people` | the people behind a report |
//! | [`effect`] | what a change of the rules comes to, in each month |

pub mod document;
pub mod effect;
pub mod evidence;
pub mod ledger;
mod people;
pub mod statement;
