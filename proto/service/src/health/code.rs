//! The codes of a health log: what each kind of event is called, for ever, and what an operator does about it.

use std::fmt::Write;

/// A kind of event.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    /// Its number, which is the event id in the Windows Event Log: 1 to 1000.
    pub number: u16,
    /// Its name, which is `code` in the health log.
    pub name: &'static str,
    /// `error`, `warn` or `info`.
    pub level: &'static str,
    /// What it tells.
    pub meaning: &'static str,
    /// What to do; empty where nothing is to be done.
    pub remedy: &'static str,
}

/// Defines codes: a constant with the name for each, and a table of them all.
///
/// ```
/// seatmeter_service::codes! {
///     1 STARTED "started" info "The service has started.", "";
/// }
/// assert_eq!(STARTED, "started");
/// assert_eq!(ALL[0].number, 1);
/// ```
#[macro_export]
macro_rules! codes {
    ($($number:literal $constant:ident $name:literal $level:ident $meaning:literal, $remedy:literal;)*) => {
        $(
            #[doc = $meaning]
            pub const $constant: &str = $name;
        )*
        /// All codes, by their numbers.
        pub const ALL: &[$crate::health::code::Code] = &[
            $($crate::health::code::Code {
                number: $number,
                name: $name,
                level: stringify!($level),
                meaning: $meaning,
                remedy: $remedy,
            },)*
        ];
    };
}

/// The codes as a table in Markdown.
pub fn as_markdown(codes: &[Code]) -> String {
    let mut table = String::from("| id | code | level | meaning | what to do |\n|---|---|---|---|---|\n");
    for Code { number, name, level, meaning, remedy } in codes {
        // Writing to a string cannot fail.
        let _ = writeln!(table, "| {number} | `{name}` | {level} | {meaning} | {remedy} |");
    }
    table
}
