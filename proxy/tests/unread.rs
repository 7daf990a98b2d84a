//! A command whose output nobody reads ends without a word.

use std::process::Command;

#[test]
fn a_closed_pipe_ends_a_command_as_it_ends_any_other() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_egret-proxy"));
    let ended = command.args(["config", "reference"]).stdout(writer).output().expect("it runs");
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!((ended.status.code(), &*told), (Some(141), ""));
}
