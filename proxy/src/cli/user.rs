//! `user`: makes and changes the file of users. Floor 6.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use egret_shared::users::{self, ask_password, hash};

/// The file of users.
#[derive(Debug, clap::Args)]
pub(super) struct UsersFile {
    /// The file that users_file of the configuration names.
    #[arg(long, value_name = "FILE", default_value = "/etc/egret/proxy-users")]
    file: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Add a user, or give it a new password. The password is asked for, or read from standard input.
    #[command(after_help = "Examples:
  egret-proxy user add mta1
  pwgen 32 1 | egret-proxy user add mta1 --file ./users
Then reload the proxy: systemctl reload egret-proxy")]
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
    /// Print the hash of a password, for password_hash of the configuration.
    Hash,
}

pub(super) fn run(command: UserCommand) -> anyhow::Result<ExitCode> {
    let done = match command {
        UserCommand::Add { name, file } => add(&name, &file.file),
        UserCommand::Remove { name, file } => users::remove(&file.file, &name).map(|()| {
            println!("{}: {name} can no longer log in after a reload", file.file.display());
        }),
        UserCommand::List(file) => users::read(&file.file).map(|all| {
            for (name, _) in all {
                println!("{name}");
            }
        }),
        UserCommand::Hash => ask_password().and_then(|password| hash(&password)).map(|hash| println!("{hash}")),
    };
    done.map_err(anyhow::Error::msg).map(|()| ExitCode::SUCCESS)
}

fn add(name: &str, file: &Path) -> Result<(), String> {
    if name.contains('+') {
        return Err(format!("{name:?} cannot be a user: behind a `+` a login names its source"));
    }
    users::add(file, name, &ask_password()?)?;
    println!("{}: {name} can log in after a reload", file.display());
    Ok(())
}

/// The password in `file`.
pub(super) fn read_password_file(file: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
