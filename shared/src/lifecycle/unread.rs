//! A command whose standard output nobody reads any more, as behind `| head`, ends without a word; one whose output cannot
//! be written, as on a full disk, says why. Floor 1.
//! What ends other programs there, SIGPIPE, Rust ignores, and for a server that must stay so: its connections close at any
//! time. Only unsafe code could ask for the signal back. `print!` panics instead, so that panic is told by an exit code alone.

use std::io::{self, Write as _};
use std::{panic, process};

/// What a shell says of a program that SIGPIPE has ended: 128 and the signal's number.
const ENDED_BY_PIPE: i32 = 141;
/// What sysexits(3) has for an output that cannot be written.
const CANNOT_WRITE: i32 = 74;
/// What `print!` says before the error.
const FAILED: &str = "failed printing to stdout: ";

/// From now on `print!` to a closed pipe, or to what cannot be written, ends the program. Other panics are told as before.
pub fn end_when_unread() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| match panic.payload_as_str().and_then(|words| words.strip_prefix(FAILED)) {
        Some(error) => end(error),
        None => usual(panic),
    }));
}

/// Writes bytes to standard output, as `print!` does text, and ends the program where that would.
pub fn write_out(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
        end(&error.to_string());
    }
}

/// Ends the program after its output could not be written.
fn end(error: &str) -> ! {
    if is_closed_pipe(error) {
        process::exit(ENDED_BY_PIPE);
    }
    // Standard error may be the same full disk; the exit code tells, too.
    let _ = writeln!(io::stderr(), "standard output cannot be written: {error}");
    process::exit(CANNOT_WRITE);
}

fn is_closed_pipe(error: &str) -> bool {
    error == io::Error::from_raw_os_error(libc::EPIPE).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_closed_pipe_is_passed_over() {
        assert!(is_closed_pipe("Broken pipe (os error 32)"));
        assert!(!is_closed_pipe("No space left on device (os error 28)"));
    }
}
