//! A command whose output nobody reads ends without a word, and one whose output cannot be written says so.

use std::process::Command;

#[test]
fn a_closed_pipe_ends_a_command_as_it_ends_any_other() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_egret-mta"));
    let ended = command.args(["config", "reference"]).stdout(writer).output().expect("it runs");
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!((ended.status.code(), &*told), (Some(141), ""));
}

#[test]
fn an_output_that_cannot_be_written_is_told() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("a device that is full");
    let mut command = Command::new(env!("CARGO_BIN_EXE_egret-mta"));
    let ended = command.args(["config", "reference"]).stdout(full).output().expect("it runs");
    let told = String::from_utf8_lossy(&ended.stderr);
    let why = "standard output cannot be written: No space left on device (os error 28)\n";
    assert_eq!((ended.status.code(), &*told), (Some(74), why));
}
