//! `user`: makes and changes the file of users. Floor 6. Writes it whole and renames it into place, so
//! that a proxy that reloads meanwhile never sees half of it.

use std::fs::{self, OpenOptions};
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Subcommand;

use crate::auth::hash;
use crate::config::read_users_file;

/// Who may read a file of users: its owner, and its group, which is the proxy's.
const MODE: u32 = 0o640;

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
    match command {
        UserCommand::Add { name, file } => add(&name, &file.file)?,
        UserCommand::Remove { name, file } => remove(&name, &file.file)?,
        UserCommand::List(file) => {
            for (name, _) in read_users_file(&file.file).map_err(anyhow::Error::msg)? {
                println!("{name}");
            }
        }
        UserCommand::Hash => println!("{}", hash(&password()?).map_err(anyhow::Error::msg)?),
    }
    Ok(ExitCode::SUCCESS)
}

fn add(name: &str, file: &Path) -> anyhow::Result<()> {
    if name.is_empty() || name.len() > 255 || name.contains([':', '#', '+']) || name.chars().any(char::is_whitespace) {
        bail!("{name:?} cannot be a user: 1 to 255 bytes without space, `:`, `#` and `+`");
    }
    let mut users = if file.exists() { read_users_file(file).map_err(anyhow::Error::msg)? } else { Vec::new() };
    let hash = hash(&password()?).map_err(anyhow::Error::msg)?;
    match users.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = hash,
        None => users.push((name.to_owned(), hash)),
    }
    write(file, &users)?;
    println!("{}: {name} can log in after a reload", file.display());
    Ok(())
}

fn remove(name: &str, file: &Path) -> anyhow::Result<()> {
    let mut users = read_users_file(file).map_err(anyhow::Error::msg)?;
    let before = users.len();
    users.retain(|(known, _)| known != name);
    if users.len() == before {
        bail!("{}: no user {name:?}", file.display());
    }
    write(file, &users)?;
    println!("{}: {name} can no longer log in after a reload", file.display());
    Ok(())
}

fn write(file: &Path, users: &[(String, String)]) -> anyhow::Result<()> {
    let new = file.with_extension("new");
    let context = || format!("{} cannot be written", new.display());
    let mut out =
        OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&new).with_context(context)?;
    for (name, hash) in users {
        writeln!(out, "{name}:{hash}").with_context(context)?;
    }
    out.sync_all().with_context(context)?;
    // The proxy must stay able to read it.
    if let Ok(old) = fs::metadata(file) {
        use std::os::unix::fs::MetadataExt as _;
        let _ = fs::set_permissions(&new, old.permissions());
        let _ = std::os::unix::fs::chown(&new, Some(old.uid()), Some(old.gid()));
    }
    fs::rename(&new, file).with_context(|| format!("{} cannot be replaced", file.display()))
}

/// Asks at a terminal, twice; reads a line from anything else.
fn password() -> anyhow::Result<String> {
    let password = if std::io::stdin().is_terminal() {
        let first = rpassword::prompt_password("Password: ")?;
        if rpassword::prompt_password("Again: ")? != first {
            bail!("the two differ");
        }
        first
    } else {
        let mut text = String::new();
        std::io::stdin().take(4096).read_to_string(&mut text).context("standard input")?;
        text.trim_end_matches(['\r', '\n']).to_owned()
    };
    if password.is_empty() || password.len() > 255 {
        bail!("a password must have 1 to 255 bytes (RFC 1929)");
    }
    Ok(password)
}

/// The password in `file`.
pub(super) fn read_password_file(file: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
