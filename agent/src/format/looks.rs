//! Guesses the kind of a file that is not a license log, for people who named the wrong file.

use memchr::memmem;

/// Guesses, from a few marks, the kind of content that has no line in a known format. The guess is only shown to
/// people.
pub fn looks_like(sample: &[u8]) -> &'static str {
    let has = |mark: &str| memmem::find(sample, mark.as_bytes()).is_some();
    let begins = |mark: &[u8]| sample.starts_with(mark);
    if begins(b"\x7fELF") || begins(b"MZ") {
        "a program"
    } else if begins(b"SQLite format 3") {
        "an SQLite database"
    } else if has("lmutil - Copyright") || has("License server status:") || has("lmstat - Copyright") {
        "the output of lmstat"
    } else if has("rlmstat") || has("rlmutil") {
        "the output of rlmstat"
    } else if has("RLM Report Log") || has("Report log started on") || has("RLM License Server") {
        "an RLM log in which nothing has happened"
    } else if has("LM-X License Server") || has("<LM-X ") || has("<LICENSE_PATH ") {
        "the output of lmxendutil"
    } else if has("LM-X") {
        "an LM-X log"
    } else if has("-Report Log Header Begin-") || has("REPORTLOG") {
        "a report log of FlexNet, which only FlexNet Manager can read (the debug log tells the same)"
    } else if has("udadmin") || has("Users and Devices") {
        "the output of udadmin"
    } else if [
        b"SERVER ".as_slice(),
        b"FEATURE ",
        b"INCREMENT ",
        b"VENDOR ",
        b"DAEMON ",
        b"HOST ",
        b"ISV ",
        b"LICENSE ",
    ]
    .iter()
    .any(|mark| begins(mark) || memmem::find(sample, &[b"\n".as_slice(), mark].concat()).is_some())
    {
        "a license file"
    } else if sample.trim_ascii_start().starts_with(b"<") {
        "XML or HTML"
    } else if sample.trim_ascii_start().starts_with(b"{") {
        "JSON"
    } else if has(":x:0:0:") {
        "a list of user accounts"
    } else if sample.iter().filter(|byte| **byte < b' ' && !byte.is_ascii_whitespace()).count() > sample.len() / 16 {
        "binary data"
    } else {
        "text without a line of a license log"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_files_are_named() {
        for (sample, expected) in [
            (b"\x7fELF\x02\x01".as_slice(), "a program"),
            (b"root:x:0:0:root:/root:/bin/bash\n", "a list of user accounts"),
            (b"SERVER host ANY 27000\nVENDOR d\n", "a license file"),
            (b"lmutil - Copyright (c) 1989-2023 Flexera.\n", "the output of lmstat"),
            (b"RLM Report Log Format 5, version 14.2\n", "an RLM log in which nothing has happened"),
            (b"rlmutil v12.0\nrlm status on host\n", "the output of rlmstat"),
            (b"<?xml version=\"1.0\"?>", "XML or HTML"),
            (b"\0\x01\x02\x03abc", "binary data"),
            (b"hello\nworld\n", "text without a line of a license log"),
        ] {
            assert_eq!(looks_like(sample), expected);
        }
    }
}
