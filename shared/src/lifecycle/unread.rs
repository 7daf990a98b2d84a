//! A command whose standard output nobody reads any more, as behind `| head`, ends without a word. Floor 1.
//! What ends other programs there, SIGPIPE, Rust ignores, and for a server that must stay so: its connections close at any
//! time. Only unsafe code could ask for the signal back. `print!` panics instead, so that panic is told by an exit code alone.

use std::io::{self, Write as _};
use std::{panic, process};

/// What a shell says of a program that SIGPIPE has ended: 128 and the signal's number.
const ENDED_BY_PIPE: i32 = 141;
/// What `print!` says before the error.
const FAILED: &str = "failed printing to stdout: ";

/// From now on `print!` to a closed pipe ends the program. Other panics are told as before.
pub fn end_when_unread() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str().is_some_and(is_of_closed_pipe) {
            process::exit(ENDED_BY_PIPE);
        }
        usual(panic);
    }));
}

/// Writes bytes to standard output, as `print!` does text; a closed pipe ends the program.
///
/// # Errors
/// Of writing, such as a full disk.
pub fn write_out(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => process::exit(ENDED_BY_PIPE),
        written => written,
    }
}

fn is_of_closed_pipe(words: &str) -> bool {
    let closed = io::Error::from_raw_os_error(libc::EPIPE).to_string();
    words.strip_prefix(FAILED) == Some(&*closed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_closed_pipe_is_passed_over() {
        assert!(is_of_closed_pipe("failed printing to stdout: Broken pipe (os error 32)"));
        assert!(!is_of_closed_pipe("failed printing to stdout: No space left on device (os error 28)"));
        assert!(!is_of_closed_pipe("failed printing to stderr: Broken pipe (os error 32)"));
        assert!(!is_of_closed_pipe("Broken pipe (os error 32)"));
    }
}
