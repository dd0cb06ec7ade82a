//! Writes answers to standard output, for people and for other programs.
//!
//! If the reader closes the pipe early, as `head` does, the rest of the output is discarded and the program runs to its
//! normal end: it finishes its other work and returns its usual exit code. If the answer cannot be written to a file,
//! the program ends with an error, because half an answer is useless.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};

/// Prints a line of an answer. Like `println!`, but does not panic if the pipe is closed.
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
