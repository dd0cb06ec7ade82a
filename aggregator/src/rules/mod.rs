//! The rules by which usage is counted and billed: who is one person, who is free, what is which SKU, and whose use is which customer's.
//!
//! Facts know nothing of them. A question is answered by the rules that are valid in its month.
//!
//! | module | one idea |
//! |---|---|
//! | [`rule`] | a rule, as it is kept |
//! | [`mod@check`] | which rules make no sense, by themselves or together |
//! | [`mod@file`] | files of rules |
//! | [`book`] | all versions of the rules, each with its author |
//! | [`set`] | the rules of a version |
//! | [`month_rules`] | what they come to in a month |
//! | [`pattern`] | what names of accounts are like |
//! | [`people`] | which identities are one person |
//! | [`catalogue`] | which features make up which SKU |
//! | [`attributes`] | who is free, and whose use is which customer's |

pub mod attributes;
pub mod book;
pub mod catalogue;
pub mod check;
pub mod file;
pub mod month_rules;
pub mod pattern;
pub mod people;
pub mod rule;
pub mod set;
