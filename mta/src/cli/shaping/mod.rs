//! `shaping`: what shaping files say, and what is wrong with them. Floor 6.

mod check;
mod explain;

pub(super) use explain::ANY_SOURCE;

use std::process::ExitCode;

use clap::Subcommand;

/// `shaping`.
#[derive(Debug, Subcommand)]
pub(super) enum ShapingCommand {
    /// Say what is wrong or doubtful in shaping files, with file and line.
    Check(check::Check),
    /// Say which options hold for a domain, and where each comes from.
    Explain(explain::Explain),
}

pub(super) fn run(command: &ShapingCommand) -> anyhow::Result<ExitCode> {
    match command {
        ShapingCommand::Check(asked) => check::run(asked),
        ShapingCommand::Explain(asked) => explain::run(asked),
    }
}
