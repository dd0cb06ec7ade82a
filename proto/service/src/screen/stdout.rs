//! Standard output, where programs answer a person or another program.
//!
//! Where whoever read it has gone, as `head` does when it has enough, the rest is said to nobody, and the program goes on
//! to its end: what it does beside answering is done, and its exit code is its own. Where a file cannot take the answer,
//! the program ends with an error, since half an answer is none.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};

/// Prints a line of an answer: `println!` for answers.
#[macro_export]
macro_rules! answer {
    ($($words:tt)*) => {
        $crate::screen::stdout::line(::std::format_args!($($words)*))
    };
}

/// Prints a line.
pub fn line(words: Arguments<'_>) {
    end_if_failed(writeln!(io::stdout().lock(), "{words}"));
}

/// Prints bytes.
pub fn bytes(bytes: &[u8]) {
    let mut output = io::stdout().lock();
    end_if_failed(output.write_all(bytes).and_then(|()| output.flush()));
}

fn end_if_failed(written: io::Result<()>) {
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        Err(error) => {
            eprintln!("error: the answer cannot be written: {error}");
            std::process::exit(1);
        }
    }
}
