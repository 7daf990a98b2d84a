//! `user`: makes and changes the file of users. Floor 6.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use egret_shared::users::{self, ask_password};

/// The file of users.
#[derive(Debug, clap::Args)]
pub(super) struct UsersFile {
    /// The file that users_file of the configuration names.
    #[arg(long, value_name = "FILE", default_value = "/etc/egret/mta-users")]
    file: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Add a user, or give it a new password. The password is asked for, or read from standard input.
    #[command(after_help = "Examples:
  egret-mta user add shop
  pwgen 32 1 | egret-mta user add shop --file ./users
Then have the MTA read it: egret-mta reload")]
    Add {
        /// The name.
        name: String,
        #[command(flatten)]
        file: UsersFile,
    },
    /// Remove a user.
    Remove {
        /// The name.
        name: String,
        #[command(flatten)]
        file: UsersFile,
    },
    /// List the users.
    List(UsersFile),
}

pub(super) fn run(command: UserCommand) -> anyhow::Result<ExitCode> {
    let done = match command {
        UserCommand::Add { name, file } => add(&name, &file),
        UserCommand::Remove { name, file } => users::remove(&file.file, &name).map(|()| {
            println!("{}: {name} can no longer log in after a reload", file.file.display());
        }),
        UserCommand::List(file) => users::read(&file.file).map(|all| {
            for (name, _) in all {
                println!("{name}");
            }
        }),
    };
    done.map_err(anyhow::Error::msg).map(|()| ExitCode::SUCCESS)
}

fn add(name: &str, file: &UsersFile) -> Result<(), String> {
    users::add(&file.file, name, &ask_password()?)?;
    println!("{}: {name} can log in after a reload", file.file.display());
    Ok(())
}
