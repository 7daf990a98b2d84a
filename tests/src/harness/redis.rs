//! A real Redis. Floor 2.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;

use super::{Program, addresses, eventually};

/// A Redis server with an address of its own; it ends with its handle.
pub struct Redis {
    at: SocketAddr,
    directory: tempfile::TempDir,
    program: Option<Program>,
}

impl Redis {
    /// Starts one; `None`, which is told, where it is not installed.
    ///
    /// # Panics
    /// If it is installed and does not start.
    pub fn start() -> Option<Self> {
        if Command::new("redis-server").arg("--version").output().is_err() {
            eprintln!("skipped: redis-server is not installed");
            return None;
        }
        let at = SocketAddr::new(IpAddr::V4(addresses(1)[0]), 6379);
        let mut redis = Self { at, directory: tempfile::tempdir().expect("a directory"), program: None };
        redis.run();
        Some(redis)
    }

    /// Starts it again, with nothing in it.
    ///
    /// # Panics
    /// If it does not start.
    pub fn run(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(["--port", "6379", "--save", "", "--appendonly", "no", "--bind"]).arg(self.at.ip().to_string());
        command.arg("--dir").arg(self.directory.path());
        let program = Program::spawn(&mut command, &self.directory.path().join("log"));
        eventually("Redis", || TcpStream::connect(self.at).map(drop).map_err(|_| program.log()));
        self.program = Some(program);
    }

    /// Ends it, as a crash would.
    pub fn stop(&mut self) {
        self.program = None;
    }

    /// The table `[redis]` of a configuration.
    pub fn table(&self) -> String {
        format!("[redis]\naddress = [\"{}\"]\n", self.at)
    }
}
