//! The store as the simulation asks it: in the order in which questions arrive, each at its own time.
//! Floor 1. The real one is a Redis with the real scripts, which are told the simulated time.
//! Always: answers come in the order of the questions, and so does what nodes are told meanwhile.

use std::collections::{HashMap, VecDeque};
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use egret_shared::limits::store::{Store, answer};
use egret_shared::limits::{Answer, Ask};
use egret_shared::redis::{Parser, Redis, RedisOptions, Value, cmd};

use super::super::process::Server;

/// The wall clock at the start of the simulation, in microseconds.
const WALL: u64 = 1_700_000_000_000_000;
/// Bytes that wait to be written, at most.
const WAITING: usize = 64 * 1024;
/// About so many bytes has an answer.
const ANSWER: u64 = 20;

/// A node from its start to its end. One that starts again has another life.
pub type Life = usize;

/// Answers, and who is told to look again at which limit.
#[derive(Debug, Default, PartialEq)]
pub struct Told {
    /// One for each question.
    pub answers: Vec<Answer>,
    /// Lives and names.
    pub nudges: Vec<(Life, Arc<str>)>,
}

/// What decides for all nodes.
pub trait Asked {
    /// A node begins a life, with a name that no other has.
    fn begins(&mut self, life: Life, name: &str) -> anyhow::Result<()>;
    /// Questions arrive at a time, in microseconds. What is said to them is to be received by the ticket.
    fn send(&mut self, life: Life, asks: &[Ask], at: u64) -> anyhow::Result<u64>;
    /// The answers.
    fn receive(&mut self, ticket: u64, asks: &[Ask]) -> anyhow::Result<Told>;
    /// All that it knows is lost.
    fn flush(&mut self) -> anyhow::Result<()>;
    /// What it cost so far, if that can be measured.
    fn cost(&mut self) -> anyhow::Result<Option<Cost>>;
}

/// What a store cost so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// CPU time in seconds.
    pub cpu: f64,
    /// Bytes of questions and answers.
    pub bytes: u64,
    /// Memory in bytes.
    pub memory: u64,
    /// Keys.
    pub keys: u64,
}

/// A Redis of its own.
pub struct RealStore {
    options: Redis,
    stream: UnixStream,
    parser: Parser,
    out: Vec<u8>,
    nodes: HashMap<Life, Store>,
    lives: HashMap<String, Life>,
    sent: u64,
    /// Tickets and how many answers they still wait for.
    waiting: VecDeque<(u64, usize)>,
    values: HashMap<u64, Vec<Value>>,
    nudges: Vec<(Life, Arc<str>)>,
    bytes: u64,
    _server: Server,
    _directory: tempfile::TempDir,
}

impl RealStore {
    /// Starts one, with a socket in a directory of its own.
    ///
    /// # Errors
    /// It does not start, or does not speak as it should.
    pub fn start() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let socket = directory.path().join("socket");
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(&socket);
        // What nobody has read yet may be much: the simulation reads when the simulated time has come.
        command.args(["--client-output-buffer-limit", "pubsub 0 0 0", "--dir"]).arg(directory.path());
        let server = Server::spawn(&mut command, &directory.path().join("log"))?;
        let stream = connect(&socket)?;
        let mut store = Self {
            options: Redis::new(RedisOptions::one("127.0.0.1", 0)),
            stream,
            parser: Parser::new(),
            out: Vec::new(),
            nodes: HashMap::new(),
            lives: HashMap::new(),
            sent: 0,
            waiting: VecDeque::new(),
            values: HashMap::new(),
            nudges: Vec::new(),
            bytes: 0,
            _server: server,
            _directory: directory,
        };
        store.learn_scripts()?;
        Ok(store)
    }

    /// Messages come on the same connection as answers, and the server knows the scripts.
    fn learn_scripts(&mut self) -> anyhow::Result<()> {
        let mut hello = cmd("HELLO");
        hello.arg(3);
        self.say(&hello)?;
        let stranger = Store::new(&self.options, "nobody", false);
        let name: Arc<str> = "nothing".into();
        let count = Ask::Count { name: name.clone(), turn: 1, limit: 1, keep: 0, want: 0 };
        let quota = Ask::Quota { name: name.clone(), day: 1, most: 1, units: 1 };
        let rate = Ask::Rate { name, interval: Duration::from_secs(1), burst: 1, tokens: 1, used: None };
        for ask in [Ask::Live { shard: 0, join: false }, Ask::Leave { shard: 0 }, count, quota, rate] {
            let command = stranger.call(&ask, WALL).by_text();
            self.say(&command)?;
        }
        Ok(())
    }

    /// One command, and what is said to it. Nothing else may be under way.
    fn say(&mut self, command: &egret_shared::redis::Cmd) -> anyhow::Result<Value> {
        self.out.extend(command.get_packed_command());
        self.write()?;
        loop {
            if let Some(value) = self.read()? {
                return Ok(value);
            }
        }
    }

    fn write(&mut self) -> anyhow::Result<()> {
        self.stream.write_all(&self.out).context("Redis does not listen")?;
        self.bytes += self.out.len() as u64;
        self.out.clear();
        Ok(())
    }

    /// The next answer; `None` if it was a message.
    fn read(&mut self) -> anyhow::Result<Option<Value>> {
        match self.parser.parse_value(&self.stream).context("Redis does not answer")? {
            Value::Push { data, .. } => {
                if let [Value::BulkString(channel), Value::BulkString(name)] = &data[..] {
                    let (channel, name) = (String::from_utf8_lossy(channel), String::from_utf8_lossy(name));
                    self.bytes += (channel.len() + name.len() + 30) as u64;
                    if let Some(life) = self.lives.get(&*channel) {
                        self.nudges.push((*life, name.as_ref().into()));
                    }
                }
                Ok(None)
            }
            Value::ServerError(error) => bail!("Redis refuses: {error}"),
            value => Ok(Some(value)),
        }
    }

    /// Keeps the next answer for its ticket.
    fn next_answer(&mut self) -> anyhow::Result<()> {
        let Some(value) = self.read()? else { return Ok(()) };
        let (ticket, left) = self.waiting.front_mut().context("an answer to nothing")?;
        *left -= 1;
        let (ticket, is_last) = (*ticket, *left == 0);
        if is_last {
            self.waiting.pop_front();
        }
        self.bytes += ANSWER;
        self.values.entry(ticket).or_default().push(value);
        Ok(())
    }

    fn info(&mut self, section: &str) -> anyhow::Result<String> {
        let mut info = cmd("INFO");
        info.arg(section);
        match self.say(&info)? {
            Value::BulkString(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Value::VerbatimString { text, .. } => Ok(text),
            other => bail!("INFO says {other:?}"),
        }
    }
}

/// The number behind `field:` in what INFO says.
fn field(text: &str, field: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(0.0)
}

fn connect(socket: &PathBuf) -> anyhow::Result<UnixStream> {
    let end = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(error) if std::time::Instant::now() > end => return Err(error).context("redis-server does not start"),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

impl Asked for RealStore {
    fn begins(&mut self, life: Life, name: &str) -> anyhow::Result<()> {
        let store = Store::new(&self.options, name, false);
        let channel = store.channel();
        let mut subscribe = cmd("SUBSCRIBE");
        subscribe.arg(&channel);
        // It is said so by a message, so nothing is waited for.
        self.out.extend(subscribe.get_packed_command());
        self.lives.insert(channel, life);
        self.nodes.insert(life, store);
        Ok(())
    }

    fn send(&mut self, life: Life, asks: &[Ask], at: u64) -> anyhow::Result<u64> {
        let store = self.nodes.get(&life).context("a life has begun before it asks")?;
        for ask in asks {
            self.out.extend(store.call(ask, WALL + at).by_hash().get_packed_command());
        }
        self.sent += 1;
        self.waiting.push_back((self.sent, asks.len()));
        self.values.insert(self.sent, Vec::with_capacity(asks.len()));
        if self.out.len() > WAITING {
            self.write()?;
        }
        Ok(self.sent)
    }

    fn receive(&mut self, ticket: u64, asks: &[Ask]) -> anyhow::Result<Told> {
        if !self.out.is_empty() {
            self.write()?;
        }
        while self.values.get(&ticket).is_some_and(|values| values.len() < asks.len()) {
            self.next_answer()?;
        }
        let values = self.values.remove(&ticket).unwrap_or_default();
        let told = asks.iter().zip(&values);
        let answers: Option<Vec<Answer>> = told.map(|(ask, value)| answer(ask, value)).collect();
        let answers = answers.with_context(|| format!("{values:?} is no answer to {asks:?}"))?;
        Ok(Told { answers, nudges: std::mem::take(&mut self.nudges) })
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        // In its turn among the questions; nobody waits for what is said to it.
        self.out.extend(cmd("FLUSHALL").get_packed_command());
        self.sent += 1;
        self.waiting.push_back((self.sent, 1));
        Ok(())
    }

    fn cost(&mut self) -> anyhow::Result<Option<Cost>> {
        self.write()?;
        while !self.waiting.is_empty() {
            self.next_answer()?;
        }
        let (bytes, cpu) = (self.bytes, self.info("cpu")?);
        let memory = self.info("memory")?;
        let Value::Int(keys) = self.say(&cmd("DBSIZE"))? else { bail!("DBSIZE says no number") };
        Ok(Some(Cost {
            cpu: field(&cpu, "used_cpu_sys") + field(&cpu, "used_cpu_user"),
            bytes,
            memory: whole(field(&memory, "used_memory")),
            keys: u64::try_from(keys).unwrap_or(0),
        }))
    }
}

#[allow(clippy::cast_sign_loss)] // it is a size
fn whole(number: f64) -> u64 {
    number as u64
}
