//! Debian's Postfix as a peer, from a directory of its own. Floor 1. Touches that directory and runs Postfix's own
//! check of it.
//! Always: nothing of the host's Postfix (/etc/postfix, its queue, its data) is used or changed.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::bail;

/// Why Postfix cannot run here, if it cannot.
pub fn obstacle() -> Option<&'static str> {
    if !Path::new(MASTER).exists() {
        return Some("postfix is not installed");
    }
    (!nix::unistd::geteuid().is_root()).then_some("only root can start Postfix")
}

const MASTER: &str = "/usr/lib/postfix/sbin/master";

/// Writes the configuration for a Postfix with queue, data and log below `directory`, which takes mail at `smtp`;
/// `settings` are more lines of its main.cf, in which `@PATH@` stands for the directory. Returns the command that
/// runs it in the foreground: SIGTERM ends it with all its processes.
///
/// # Errors
/// If it cannot run here, a file cannot be written, or Postfix finds fault with the directory.
pub fn configure(directory: &Path, smtp: SocketAddr, settings: &str) -> anyhow::Result<Command> {
    if let Some(obstacle) = obstacle() {
        bail!("{obstacle}");
    }
    for folder in ["queue", "data", "conf"] {
        fs::create_dir(directory.join(folder))?;
    }
    run(Command::new("chown").arg("postfix").arg(directory.join("data")))?;
    // A temporary folder is private; Postfix's own user must get through it.
    run(Command::new("chmod").arg("755").arg(directory))?;
    let main = include_str!("postfix/main.cf").to_owned() + settings;
    let main = main.replace("@PATH@", &directory.display().to_string());
    let conf = directory.join("conf");
    fs::write(conf.join("main.cf"), main)?;
    fs::write(conf.join("master.cf"), include_str!("postfix/master.cf").replace("@SMTP@", &smtp.to_string()))?;
    run(Command::new("/usr/sbin/postfix").arg("-c").arg(&conf).arg("check"))?;
    // Not `postfix start-fg`: that is a shell between us and the process that is to be stopped.
    let mut master = Command::new(MASTER);
    master.arg("-c").arg(&conf).arg("-s");
    Ok(master)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output()?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
