//! One running binary. Floor 1.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::eventually;

/// The binary `name` of this workspace, from the folder that this program was built into.
///
/// # Panics
/// If it was not built.
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a program knows its own file");
    // Tests lie in target/PROFILE/deps, binaries in target/PROFILE.
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| {
        panic!("{name} is missing beside {}; run `cargo build --workspace --bins` first", own.display())
    })
}

/// A running binary; it is killed when this is dropped.
pub struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts `name` with `arguments`; what it prints goes to `log`.
    pub fn start(name: &str, arguments: &[&str], log: &Path) -> Self {
        Self::spawn(Command::new(binary(name)).args(arguments), log)
    }

    /// Starts any command; what it prints goes to `log`.
    pub fn spawn(command: &mut Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("a log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn()
            .expect("the binary starts");
        Self { child, log: log.to_owned() }
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"));
        kill(pid, signal).expect("the process is there");
    }

    /// SIGSTOP; returns when it stands still.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
        eventually("the stop", || if self.is_paused() { Ok(()) } else { Err("it runs".to_owned()) });
    }

    /// Whether it stands still (proc_pid_stat(5)).
    pub fn is_paused(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    /// SIGTERM, and its exit code.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let log = self.log.clone();
        eventually("the end of the program", || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            _ => Err(std::fs::read_to_string(&log).unwrap_or_default()),
        })
    }

    /// Kills it, as a crash would.
    pub fn crash(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// True while it runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.crash();
    }
}
