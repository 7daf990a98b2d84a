//! A server under measurement, with all its processes. Floor 1.

use std::collections::HashMap;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Looks at a port until it answers, 10 s at most.
const LOOKS: u32 = 500;
const LOOK: Duration = Duration::from_millis(20);

/// CPU time and memory of a server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// CPU time so far, in seconds, of processes that ended included.
    pub cpu_s: f64,
    /// Memory now, in bytes; pages that several processes share count once (PSS).
    pub memory_bytes: u64,
}

/// A running server; it is stopped when this is dropped.
pub struct Server {
    child: Child,
}

impl Server {
    /// Starts `command`; what it prints is appended to `log`.
    pub fn spawn(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let file = fs::File::options().create(true).append(true).open(log)?;
        let shown = format!("{command:?}");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("{shown} does not start"))?;
        Ok(Self { child })
    }

    /// Starts `command` and waits until `address` answers.
    pub fn start(command: &mut Command, address: SocketAddr, log: &Path) -> anyhow::Result<Self> {
        let shown = format!("{command:?}");
        let mut server = Self::spawn(command, log)?;
        for _ in 0..LOOKS {
            if TcpStream::connect(address).is_ok() {
                return Ok(server);
            }
            if let Some(status) = server.ended() {
                bail!("{shown} ended with {status}: {}", fs::read_to_string(log).unwrap_or_default());
            }
            std::thread::sleep(LOOK);
        }
        bail!("{shown} does not answer on {address}: {}", fs::read_to_string(log).unwrap_or_default())
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// SIGTERM, and how it ended if it did within `patience`.
    pub fn terminate(&mut self, patience: Duration) -> Option<ExitStatus> {
        // Once it was waited for, its id may be another's.
        if self.ended().is_none()
            && let Ok(pid) = i32::try_from(self.child.id())
        {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let end = Instant::now() + patience;
        while self.ended().is_none() && Instant::now() < end {
            std::thread::sleep(LOOK);
        }
        self.ended()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Descriptors that the process itself has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, Iterator::count)
    }

    /// The most memory that the process itself has had.
    pub fn peak_bytes(&self) -> u64 {
        kilobytes(&format!("/proc/{}/status", self.child.id()), "VmHWM:") * 1024
    }

    /// What it and its descendants have used.
    pub fn usage(&self) -> Usage {
        let processes = processes();
        let mut usage = Usage::default();
        for (pid, process) in &processes {
            let mut ancestor = *pid;
            while ancestor != self.child.id() && ancestor > 1 {
                ancestor = processes.get(&ancestor).map_or(0, |p| p.parent);
            }
            if ancestor == self.child.id() {
                usage.cpu_s += process.cpu_s;
                usage.memory_bytes += memory(*pid);
            }
        }
        usage
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.terminate(LOOK * LOOKS).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

struct Process {
    parent: u32,
    cpu_s: f64,
}

/// All processes (proc_pid_stat(5)); times are in ticks of 10 ms.
fn processes() -> HashMap<u32, Process> {
    let mut all = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let fields: Vec<&str> = rest.split(' ').collect();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        // Own user and system time, and those of children that were waited for.
        let ticks: u64 = (11..15).map(number).sum();
        all.insert(pid, Process { parent: number(1) as u32, cpu_s: ticks as f64 / 100.0 });
    }
    all
}

fn memory(pid: u32) -> u64 {
    kilobytes(&format!("/proc/{pid}/smaps_rollup"), "Pss:") * 1024
}

/// The value of a line that begins with `key`, in a file of /proc; 0 if there is none.
fn kilobytes(file: &str, key: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
