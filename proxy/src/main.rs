//! The program: arguments, library, exit code. Floor 6.

use std::process::ExitCode;

use clap::Parser as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    egret_shared::lifecycle::end_when_unread();
    egret_proxy::cli::run(egret_proxy::cli::Arguments::parse())
}
