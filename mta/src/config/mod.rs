//! What `mta.toml` means: each key declared once, with its default and its sentence, and read into
//! the options of the room that it is for. Floor 5.
//! Reads the configuration file and the passwords and keys it names; starts nothing.
//! Always: a configuration that is returned holds no contradiction; otherwise every complaint is told.

mod automation;
mod delivery;
mod discover;
mod dkim;
mod egress;
mod floor;
mod listener;
mod memory;
mod outcome;
mod overrides;
mod path;
mod proxy;
mod queues;
mod route;
mod routing;
mod rule;
mod shaping;
mod spelling;
mod texts;
mod users;
mod vain;
mod warmup;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use egret_shared::config::{self, Complaints, KeyDoc, Section};
use egret_shared::lifecycle::LogFormat;
use egret_shared::limits::Sharing;
use egret_shared::redis::RedisOptions;
use egret_shared::units::{Size, Span};
use egret_shared::users::Passwords;

use crate::delivery::OutcomeRule;
use crate::dns::resolver::DnsOptions;
use crate::elsewhere::Elsewhere;
use crate::memory::Options;
use crate::queue::QueueOptions;
use crate::queue::floors::Floor;
use crate::routing::discover::Discovery;
use crate::routing::label::LabelHeaders;
use crate::routing::pool::Pool;
use crate::routing::route::Routes;
use crate::routing::rule::Rules;
use crate::routing::ways::Ways;
use crate::shaping::Shaper;
use crate::shaping::automation::RuleSet;
use crate::shaping::blocks::Shaping;
use crate::shaping::options::PathOptions;
use crate::shaping::patch::Patch;
use crate::shaping::resolve::provider_names;
use crate::sign::Signers;
use crate::spool;

pub use listener::{ListenerConfig, TlsFiles};
pub use overrides::Overrides;
pub use queues::Read as QueuesRead;
pub use shaping::{Read as ShapingRead, fuzz_shaping, read as read_shaping};
pub use texts::Texts;
pub use vain::unused as unused_keys;

/// A whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of this host: in the banner, in trace headers, in reports.
    pub hostname: Arc<str>,
    /// How long a stop waits for what is in flight.
    pub drain_timeout: Duration,
    /// Where accepted mail is kept.
    pub spool: spool::Options,
    /// Where mail comes in.
    pub listeners: Vec<ListenerConfig>,
    /// Who may log in there.
    pub users: Arc<Passwords>,
    /// Retries and expiry.
    pub queue: QueueOptions,
    /// What is said of single queues.
    pub queues: QueuesRead,
    /// How much of a failed message comes back with its report.
    pub max_returned_bytes: u64,
    /// Where the DNS is asked.
    pub dns: DnsOptions,
    /// Which headers say whose mail a message is.
    pub labels: LabelHeaders,
    /// Signatures.
    pub signers: Arc<Signers>,
    /// Limits of the program's memory.
    pub memory: Options,
    /// Static routes.
    pub routes: Routes,
    /// Routing rules.
    pub rules: Rules,
    /// What is said of the answers of destinations.
    pub outcomes: Vec<OutcomeRule>,
    /// Where more of the following comes from.
    pub elsewhere: Elsewhere,
    /// What follows by itself from the answers of destinations.
    pub automation: RuleSet,
    /// The pools, among them the default one.
    pub pools: Vec<Pool>,
    /// What adds to them at run time.
    pub discovery: Discovery,
    /// Where nodes and proxies find each other.
    pub redis: Option<RedisOptions>,
    /// How limits are shared.
    pub sharing: Sharing,
    /// The pool of mail for which no other is chosen.
    pub default_pool: Arc<str>,
    /// How mail is delivered where nothing else is said.
    pub path: PathOptions,
    /// What `[delivery]` says of that.
    pub delivery: Arc<Patch>,
    /// What shaping files say of paths, and what in them is worth a word.
    pub shaping: ShapingRead,
    /// What is kept of limits for tenants and priorities.
    pub floors: Arc<[Floor]>,
    /// Where events go.
    pub event_log: PathBuf,
    /// Where health, metrics and the API are served; `None` is nowhere.
    pub admin: Option<SocketAddr>,
    /// What is logged, and how.
    pub log: Log,
}

/// What is logged, and how.
#[derive(Clone, Debug)]
pub struct Log {
    /// A filter like `info` or `egret_mta=debug`.
    pub level: String,
    /// Text or JSON.
    pub format: LogFormat,
}

impl Config {
    /// What decides about the way of mail.
    pub fn ways(&self) -> Ways {
        Ways {
            labels: self.labels.clone(),
            rules: self.rules.clone(),
            routes: self.routes.clone(),
            queues: self.queues.rules.clone(),
            default_pool: self.default_pool.clone(),
        }
    }

    /// What is worth a word in the files that it names.
    pub fn notes(&self) -> impl Iterator<Item = &config::Complaint> {
        self.shaping.notes.iter().chain(&self.queues.notes)
    }

    /// What decides about the options of paths, before any site is known.
    pub fn shaper(&self) -> Shaper {
        let own = self.routes.options(self.dns.smtp_port);
        Shaper::new(Arc::new(self.shaping.shaping.clone()), self.delivery.clone(), own)
    }
}

/// Reads `file`.
pub fn read(file: &Path) -> Result<Config, Complaints> {
    read_with_texts(file).map(|(config, _)| config)
}

/// Reads `file` and what it names; with the texts, so that later ones can be compared with them.
pub fn read_with_texts(file: &Path) -> Result<(Config, Texts), Complaints> {
    let texts = Texts::read(file)?;
    texts.parse().map(|config| (config, texts))
}

/// The keys of options of paths: those of `[delivery]` that are not the DNS resolver's.
pub fn path_keys() -> Vec<KeyDoc> {
    let is_resolvers = |key: &KeyDoc| ["smtp_port", "allow_special_destinations"].contains(&key.key);
    keys().into_iter().filter(|key| key.section == "delivery" && !is_resolvers(key)).collect()
}

/// Every key, for the reference page.
pub fn keys() -> Vec<KeyDoc> {
    config::describe(build)
}

fn build(root: &Section<'_>) -> Option<Config> {
    let hostname = root.required::<String>(
        "hostname",
        "The name of this host, which should have an address record: told in the banner, in Received headers and in reports.",
    );
    if let Some(name) = hostname.as_deref().filter(|name| !is_host_name(name)) {
        root.complain("hostname", format!("{name:?} is not a host name; write it like \"mail.example.com\""));
    }
    let drain = root.with_default::<Span>(
        "drain_timeout",
        "\"30s\"",
        "How long a stop waits for sessions in flight; what is not done by then stays in the spool.",
    );
    let users_file = users::file(root);
    let spool = spool_options(root);
    let listeners = root.repeated("listener").iter().map(listener::build).collect::<Vec<_>>();
    let users = users::build(root, users_file, &listeners);
    let queue = delivery::queue(root);
    let max_returned_bytes = delivery::max_returned_bytes(root);
    let (dns, said) = delivery::delivery(root);
    let path = said.over(&PathOptions::default());
    let mut shaping = shaping::build(root, &path.tls);
    let memory = memory::build(root);
    let labels = routing::labels(root);
    let signers = dkim::build(root);
    let providers = shaping.as_ref().map(|read| provider_names(&read.shaping));
    let all = route::All { options: &path, smtp_port: dns.smtp_port };
    let egress = egress::build(root, hostname.as_deref().unwrap_or_default(), &all, providers.as_deref());
    let names = |egress: &egress::Egress| egress.pools.iter().map(|pool| pool.name.clone()).collect::<Vec<_>>();
    let known = rule::Known {
        pools: egress.as_ref().map(names),
        routes: egress.as_ref().map(|egress| egress.routes.names()),
        listeners: listeners.iter().flatten().collect(),
    };
    let elsewhere = texts::elsewhere(root);
    let (redis, sharing) = redis(root, egress.as_ref());
    let rules = rule::build(root, &known);
    let queues = queues::build(root, known.pools.as_deref());
    let outcomes = outcome::build(root);
    let nothing = Shaping::default();
    let nameable = automation::Known {
        providers: providers.as_deref(),
        sources: egress.as_ref().map(|egress| &*egress.sources),
        discovery: egress.as_ref().map(|egress| &egress.discovery),
    };
    let automation = automation::build(root, shaping.as_ref().map_or(&nothing, |read| &read.shaping), &nameable);
    if let (Some(read), Some(rules)) = (&mut shaping, &automation) {
        vain::note_rules(read, rules, &path.tls);
    }
    let floors = floor::build(root, named_limits(root, &said, egress.as_ref(), &dns, shaping.as_ref()).as_ref());
    let event_log =
        root.section("event_log").required("path", "The file that events are appended to, one JSON object a line.");
    let admin = root.section("admin").optional(
        "address",
        "Where health, metrics and the API over the queues are served, over HTTP without access control: a private address.",
    );
    let log = log(root);
    let (spool, egress) = (spool?, egress?);
    Some(Config {
        hostname: hostname?.into(),
        drain_timeout: drain.0,
        spool,
        users: users?,
        listeners: listeners.into_iter().collect::<Option<_>>()?,
        queue,
        queues: queues?,
        max_returned_bytes,
        dns,
        labels,
        signers: Arc::new(signers?),
        memory,
        routes: egress.routes,
        rules,
        outcomes,
        elsewhere,
        automation: automation?,
        pools: egress.pools,
        default_pool: egress.default_pool,
        discovery: egress.discovery,
        redis,
        sharing,
        path,
        delivery: Arc::new(said),
        shaping: shaping?,
        floors,
        event_log: event_log?,
        admin,
        log,
    })
}

/// Where nodes and proxies find each other, and how limits are shared.
fn redis(root: &Section<'_>, egress: Option<&egress::Egress>) -> (Option<RedisOptions>, Sharing) {
    let section = root.section("redis");
    let read = (RedisOptions::read(&section), Sharing::read(&section));
    // With it goes what is told of its misspelled keys, one of which may be the address.
    drop(section);
    let finding = egress.and_then(|egress| discover::names(&egress.discovery.selectors).first().cloned());
    if let Some(pool) = finding
        && read.0.is_none()
        && !root.is_refused("redis")
    {
        let what = if root.holds("redis") { "has no address" } else { "is missing" };
        root.complain("redis", format!("{what}; the pool {pool} finds its sources there: add redis.address"));
    }
    read
}

/// The limits that bear names, wherever they are said; `None` if one of those places was complained about.
fn named_limits(
    root: &Section<'_>,
    delivery: &Patch,
    egress: Option<&egress::Egress>,
    dns: &DnsOptions,
    shaping: Option<&ShapingRead>,
) -> Option<floor::Named> {
    if ["delivery.additional_", "route.additional_"].iter().any(|keys| root.is_refused(keys)) {
        return None;
    }
    let routes = egress?.routes.options(dns.smtp_port);
    let patches = std::iter::once(delivery).chain(routes.values().map(|patch| &**patch));
    Some(floor::Named::of(patches, Some(&shaping?.shaping)))
}

fn spool_options(root: &Section<'_>) -> Option<spool::Options> {
    let section = root.section("spool");
    let path = section.required(
        "path",
        "The directory of the spool, on a disk of its own if there is one. Only one process may use it.",
    );
    let segment =
        section.with_default::<Size>("segment_size", "\"64MiB\"", "The size at which a new segment file is begun.");
    let free = section.with_default::<Size>(
        "min_free",
        "\"256MiB\"",
        "With less free space than this on its disk, mail is refused with 452.",
    );
    let cache = section.with_default::<Size>(
        "body_cache",
        "\"256MiB\"",
        "Memory for bodies of fresh messages, so that a first attempt does not read the disk.",
    );
    let unsynced = section.with_default::<Span>(
        "max_unsynced_mark",
        "\"50ms\"",
        "How long the note that a message is done may wait for the disk. A crash in that time sends the message twice.",
    );
    if segment.0 < 1 << 20 {
        section.complain("segment_size", "is under 1MiB; a segment must hold many messages");
    }
    Some(spool::Options {
        segment_bytes: segment.0,
        min_free_bytes: free.0,
        body_cache_bytes: cache.0,
        max_unsynced_mark: unsynced.0,
        ..spool::Options::in_path(path?)
    })
}

fn log(root: &Section<'_>) -> Log {
    let section = root.section("log");
    Log {
        level: section.with_default(
            "level",
            "\"info\"",
            "What is logged: a level, or a filter like \"info,egret_mta::delivery=debug\".",
        ),
        format: section.with_default(
            "format",
            "\"text\"",
            "\"text\" for people, \"json\" for machines; to standard error.",
        ),
    }
}

/// Letters, digits, hyphens and dots, or an address literal: what may stand in a banner.
fn is_host_name(name: &str) -> bool {
    let label = |l: &str| {
        !l.is_empty() && l.len() <= 63 && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let literal = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    literal.is_some_and(|l| l.trim_start_matches("IPv6:").parse::<std::net::IpAddr>().is_ok())
        || (name.len() <= 253 && name.split('.').all(label))
}

#[cfg(test)]
mod mistakes;
#[cfg(test)]
mod tests;
