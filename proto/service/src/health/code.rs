//! The codes of a health log: a permanent name for each kind of event, and what an operator should do about it.

use std::fmt::Write;

/// A kind of event in the health log.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    /// The event id in the Windows Event Log: 1 to 1000.
    pub number: u16,
    /// The value of `code` in the health log.
    pub name: &'static str,
    /// The level: `error`, `warn` or `info`.
    pub level: &'static str,
    /// What the event means.
    pub meaning: &'static str,
    /// What the operator should do; empty if nothing.
    pub remedy: &'static str,
}

/// Defines codes: for each, a constant that holds its name; for all, the table `ALL`.
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
        /// All codes, in the order of their numbers.
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

/// Returns the codes as a table in Markdown.
pub fn as_markdown(codes: &[Code]) -> String {
    let mut table = String::from("| id | code | level | meaning | what to do |\n|---|---|---|---|---|\n");
    for Code { number, name, level, meaning, remedy } in codes {
        // Writing to a string cannot fail.
        let _ = writeln!(table, "| {number} | `{name}` | {level} | {meaning} | {remedy} |");
    }
    table
}
