//! A real Redis. Floor 2.

use std::io::{BufRead as _, BufReader, Write as _};
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
        Self::start_at(IpAddr::V4(addresses(1)[0]))
    }

    /// Starts one at an address of this host; `None`, which is told, where it is not installed.
    ///
    /// # Panics
    /// If it is installed and does not start.
    pub fn start_at(ip: IpAddr) -> Option<Self> {
        if Command::new("redis-server").arg("--version").output().is_err() {
            eprintln!("skipped: redis-server is not installed");
            return None;
        }
        let at = SocketAddr::new(ip, 6379);
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
        // Its clients may be on another host, without a password.
        command.args(["--protected-mode", "no", "--dir"]).arg(self.directory.path());
        let program = Program::spawn(&mut command, &self.directory.path().join("log"));
        eventually("Redis", || TcpStream::connect(self.at).map(drop).map_err(|_| program.log()));
        self.program = Some(program);
    }

    /// Ends it, as a crash would.
    pub fn stop(&mut self) {
        self.program = None;
    }

    /// Says a command, and returns the first line of the answer.
    ///
    /// # Panics
    /// If it is not there.
    pub fn say(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(self.at).expect("Redis is there");
        stream.write_all(format!("{command}\r\n").as_bytes()).expect("written");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("an answer");
        line.trim_end().to_owned()
    }

    /// The table `[redis]` of a configuration.
    pub fn table(&self) -> String {
        format!("[redis]\naddress = [\"{}\"]\n", self.at)
    }
}
