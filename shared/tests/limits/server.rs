//! Redis servers and nodes for tests.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use egret_shared::clock::Clock;
use egret_shared::limits::{Count, FleetOptions, Health, Lease, Limits, Manner, Refusal, Throttle, When};
use egret_shared::redis::{Mode, Redis, RedisOptions, Value, cmd};
use tokio_util::sync::CancellationToken;

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        // The bus of a cluster is 10,000 above.
        if port < 50_000 && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
    }
}

/// A process that is killed at the end.
pub struct Server {
    pub port: u16,
    child: Child,
    folder: tempfile::TempDir,
    args: Vec<String>,
}

impl Server {
    /// Whether there is a server to start at all.
    pub fn is_installed() -> bool {
        let found = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_ok();
        if !found {
            println!("skipped: redis-server is not installed");
        }
        found
    }

    pub fn start(args: &[&str]) -> Self {
        Self::start_at(free_port(), args)
    }

    pub fn start_at(port: u16, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let child = Self::spawn(port, &folder, &args);
        let server = Self { port, child, folder, args };
        server.is_up();
        server
    }

    fn spawn(port: u16, folder: &tempfile::TempDir, args: &[String]) -> Child {
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let mut command = Command::new("redis-server");
        // A configuration file comes first, if there is one.
        let (first, rest) =
            if args.first().is_some_and(|arg| !arg.starts_with("--")) { args.split_at(1) } else { (&args[..0], args) };
        command.args(first);
        if first.is_empty() {
            command.args(["--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--dir"]).arg(folder.path());
        }
        if !rest.iter().any(|arg| arg == "--port") {
            command.args(["--port", &port.to_string()]);
        }
        command.args(rest).stdout(log).spawn().expect("redis-server")
    }

    fn is_up(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "redis-server did not start: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill").success());
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Starts again, empty.
    pub fn again(&mut self) {
        self.child = Self::spawn(self.port, &self.folder, &self.args);
        self.is_up();
    }

    /// Starts again with more arguments, and with what it has saved.
    pub fn again_with(&mut self, more: &[&str]) {
        self.args.extend(more.iter().map(|arg| (*arg).to_owned()));
        self.again();
    }

    pub fn options(&self) -> RedisOptions {
        RedisOptions::one("127.0.0.1", self.port)
    }

    /// A command, of somebody who may do everything.
    pub async fn say(&self, words: &[&str]) -> Value {
        say(&self.options(), words).await
    }
}

/// A command; tried again until the server takes it.
pub async fn say(options: &RedisOptions, words: &[&str]) -> Value {
    let redis = Redis::new(options.clone());
    let mut command = cmd(words[0]);
    command.arg(&words[1..]);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match redis.command(&command).await {
            Ok(value) => return value,
            Err(failure) => assert!(Instant::now() < deadline, "{words:?}: {failure}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A cluster of three servers that answers.
pub async fn cluster() -> (Vec<Server>, RedisOptions) {
    let args = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
    let servers: Vec<Server> = (0..3).map(|_| Server::start(&args)).collect();
    let places: Vec<String> = servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
    let mut make = Command::new("redis-cli");
    make.args(["--cluster", "create"]).args(&places).args(["--cluster-yes"]).stdout(Stdio::null());
    assert!(make.status().expect("redis-cli").success());
    for server in &servers {
        while !format!("{:?}", server.say(&["CLUSTER", "INFO"]).await).contains("cluster_state:ok") {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
    let addresses = servers.iter().map(|server| ("127.0.0.1".to_owned(), server.port)).collect();
    (servers, RedisOptions { mode: Mode::Cluster, addresses, ..RedisOptions::one("", 0) })
}

/// A node of a fleet.
pub struct Node {
    pub limits: Limits,
    pub clock: Clock,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Node {
    pub fn start(name: &str, options: &RedisOptions) -> Self {
        Self::with(name, options, Manner::default())
    }

    pub fn with(name: &str, options: &RedisOptions, manner: Manner) -> Self {
        Self::at(name, options, manner, true, Clock::system())
    }

    /// One whose clock is this; the time of limits is that of Redis, or of this clock.
    pub fn at(name: &str, options: &RedisOptions, manner: Manner, server_time: bool, clock: Clock) -> Self {
        let fleet = FleetOptions { node: name.to_owned(), manner, server_time, degraded_metric: "test_degraded" };
        let (limits, driver) = Limits::fleet(Redis::new(options.clone()), fleet, clock.clone());
        let stop = CancellationToken::new();
        let task = tokio::spawn(driver.run(stop.clone()));
        Self { limits, clock, stop, task }
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("it ends");
    }

    /// It is gone without a word.
    pub fn kill(self) {
        self.task.abort();
    }

    pub fn try_hold(&self, counts: &[(Arc<str>, Count)]) -> Result<Lease, Refusal> {
        self.limits.hold(counts, self.clock.now())
    }

    /// Holds, however long it takes.
    pub async fn hold(&self, counts: &[(Arc<str>, Count)]) -> Lease {
        until("a place", || self.try_hold(counts).ok()).await
    }

    /// Takes as many as there are at once.
    pub async fn drain(&self, throttles: &[(Arc<str>, Throttle)]) -> usize {
        let mut taken = 0;
        loop {
            match self.limits.take(throttles, self.clock.now()) {
                Ok(()) => taken += 1,
                Err(Refusal { when: When::At(_), .. }) => return taken,
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    }

    pub async fn is_well(&self) {
        until("the store", || (self.limits.health() == Health::Ok).then_some(())).await;
    }

    /// Why the limits are degraded, once they are.
    pub async fn is_degraded(&self) -> String {
        until("shares", || match self.limits.health() {
            Health::Degraded { why, .. } => Some(why),
            Health::Ok => None,
        })
        .await
    }
}

/// Waits for a condition.
pub async fn until<T>(what: &str, mut is: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        if let Some(done) = is() {
            return done;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn count(name: &str, count: u32) -> (Arc<str>, Count) {
    (name.into(), count.into())
}

pub fn throttle(name: &str, rate: &str) -> (Arc<str>, Throttle) {
    (name.into(), rate.parse().expect("a rate"))
}
