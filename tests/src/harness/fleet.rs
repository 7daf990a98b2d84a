//! A proxy and an MTA in a directory of their own, on addresses of their own. Floor 1.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::{Namespace, Program, addresses, ask, binary, eventually};

/// How many sources a fleet has.
const SOURCES: usize = 8;
/// How long the answer about readiness may take.
const ANSWER: Duration = Duration::from_secs(1);

/// What differs between fleets.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The dialect towards the proxy; `None` delivers directly.
    pub dialect: Option<&'static str>,
    /// Another address to which the MTA speaks instead of the proxy's own.
    pub via: Option<SocketAddr>,
    /// More lines for a proxy's section in mta.toml; `ADMIN` in them becomes its admin address.
    pub proxy_keys: String,
    /// How the sources are reached, in mta.toml, instead of by the proxy `p`.
    pub source_keys: Option<&'static str>,
    /// More lines at the top of mta.toml.
    pub root_keys: String,
    /// More lines for the listener's section in mta.toml.
    pub listener_keys: String,
    /// More tables for mta.toml; replaces the default of the same name.
    pub tables: String,
    /// The proxy listener's more keys, and more tables for proxy.toml.
    pub proxy_toml: String,
    /// Networks of special use that the proxy may dial.
    pub proxy_allows: Option<&'static str>,
    /// More variables for the MTA's environment.
    pub environment: Vec<(&'static str, String)>,
    /// The host that the proxy runs on, with its sources, instead of this one.
    pub space: Option<Arc<Namespace>>,
    /// The sources, instead of eight, or of those of `space`.
    pub sources: Option<Vec<IpAddr>>,
}

/// A proxy, an MTA, and where they are.
pub struct Fleet {
    directory: TempDir,
    space: Option<Arc<Namespace>>,
    environment: Vec<(&'static str, String)>,
    /// Where the MTA takes mail.
    pub smtp: SocketAddr,
    /// Where mail goes.
    pub sink: SocketAddr,
    /// The MTA's health and metrics.
    pub mta_admin: SocketAddr,
    /// The proxy's health and metrics.
    pub proxy_admin: SocketAddr,
    /// The proxy's SOCKS5 listener.
    pub socks5: SocketAddr,
    /// The proxy's PROXY listener.
    pub proxy_v2: SocketAddr,
    /// The source addresses.
    pub sources: Vec<IpAddr>,
    /// The proxy.
    pub proxy: Option<Program>,
    /// The MTA.
    pub mta: Program,
}

impl Fleet {
    /// Starts both, and waits until they are ready.
    pub fn start(options: &Options) -> Self {
        let own = addresses(32);
        let at = |n: usize, port| SocketAddr::new(own[n].into(), port);
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        let space = options.space.clone();
        let (proxy, sink, sources) = match &space {
            Some(space) => (space.there[0], space.here, space.sources.clone()),
            None => (own[0].into(), own[2].into(), own[8..8 + SOURCES].iter().map(|ip| (*ip).into()).collect()),
        };
        let sources = options.sources.clone().unwrap_or(sources);
        let [socks5, proxy_v2, proxy_admin] = [1080, 1081, 9180].map(|port| SocketAddr::new(proxy, port));
        let (smtp, mta_admin, sink) = (at(1, 2525), at(1, 9181), SocketAddr::new(sink, 2525));
        std::fs::write(path.join("proxy.toml"), proxy_toml(options, [socks5, proxy_v2, proxy_admin], &sources))
            .expect("written");
        let via = options.via.unwrap_or(if options.dialect.is_some_and(|dialect| dialect.starts_with("proxy-")) {
            proxy_v2
        } else {
            socks5
        });
        let mta_toml = mta_toml(options, path, [smtp, mta_admin, sink, via, proxy_admin], &sources);
        std::fs::write(path.join("mta.toml"), mta_toml).expect("written");
        let proxy = options.dialect.map(|_| start(path, "proxy", &[], space.as_deref()));
        let environment = options.environment.clone();
        let mta = start(path, "mta", &environment, None);
        let fleet = Self {
            directory,
            space,
            environment,
            smtp,
            sink,
            mta_admin,
            proxy_admin,
            socks5,
            proxy_v2,
            sources,
            proxy,
            mta,
        };
        if let Some(proxy) = &fleet.proxy {
            ready(proxy_admin, proxy);
        }
        ready(mta_admin, &fleet.mta);
        fleet
    }

    /// The directory of configuration, spool and logs.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Starts the MTA again, on the same spool.
    pub fn restart_mta(&mut self) {
        self.mta.crash();
        self.mta = start(self.path(), "mta", &self.environment, None);
        ready(self.mta_admin, &self.mta);
    }

    /// Starts the proxy again.
    pub fn restart_proxy(&mut self) {
        self.proxy = None;
        let proxy = start(self.path(), "proxy", &[], self.space.as_deref());
        ready(self.proxy_admin, &proxy);
        self.proxy = Some(proxy);
    }

    /// The events so far; a last line that is not whole yet is left out.
    pub fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.file("events")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for an event that `fits`.
    pub fn event(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        eventually(what, || {
            let events = self.events();
            events.iter().find(|event| fits(event)).cloned().ok_or_else(|| {
                let last = events.iter().rev().take(5).map(ToString::to_string).collect::<Vec<_>>().join("\n");
                format!("last events:\n{last}\nlog:\n{}", self.mta.log())
            })
        })
    }
}

fn start(path: &Path, name: &str, environment: &[(&'static str, String)], space: Option<&Namespace>) -> Program {
    let program = binary(&format!("egret-{name}"));
    let mut command = space.map_or_else(|| Command::new(&program), |space| space.command(&program));
    command.args(["serve", "--config"]).arg(path.join(format!("{name}.toml")));
    command.envs(environment.iter().map(|(key, value)| (key, value)));
    Program::spawn(&mut command, &path.join(format!("{name}.log")))
}

/// A socket that accepts is not enough: it is bound before the spool is read.
fn ready(admin: SocketAddr, program: &Program) {
    eventually("readiness", || match ask(admin, "GET /livez", "", ANSWER) {
        Ok((200, _)) => Ok(()),
        other => Err(format!("{admin}: {other:?}\n{}", program.log())),
    });
}

fn proxy_toml(options: &Options, [socks5, proxy_v2, admin]: [SocketAddr; 3], sources: &[IpAddr]) -> String {
    let allows = options.proxy_allows.unwrap_or("127.0.0.0/8");
    let list = sources.iter().map(|ip| format!("\"{ip}\"")).collect::<Vec<_>>().join(", ");
    format!(
        "[[listener]]\naddress = \"{socks5}\"\n{}\n[[listener]]\naddress = \"{proxy_v2}\"\nprotocol = \"proxy\"\n\
         [sources]\naddresses = [{list}]\n[access]\nallow_special_destinations = [\"{allows}\"]\n\
         [admin]\naddress = \"{admin}\"\n[timeouts]\nconnect = \"2s\"\ndrain = \"5s\"\n",
        options.proxy_toml
    )
}

fn mta_toml(
    options: &Options,
    path: &Path,
    [smtp, admin, sink, via, proxy_admin]: [SocketAddr; 5],
    sources: &[IpAddr],
) -> String {
    let path = path.display();
    let mut text = format!(
        "hostname = \"mta.test\"\ndrain_timeout = \"10s\"\n{}\n[event_log]\npath = \"{path}/events\"\n\
         [admin]\naddress = \"{admin}\"\n[[listener]]\naddress = \"{smtp}\"\n{}\n",
        options.root_keys, options.listener_keys
    );
    for (table, default) in [
        ("[spool]", format!("path = \"{path}/spool\"\nmin_free = \"1MiB\"")),
        ("[[route]]", format!("domains = [\"*\"]\nhosts = [\"{sink}\"]")),
        ("[queue]", "retry_interval = \"1s\"\nmax_retry_interval = \"5s\"".to_owned()),
        ("[delivery]", String::new()),
    ] {
        if !options.tables.contains(table) {
            let _ = write!(text, "{table}\n{default}\n");
        }
    }
    if let Some(dialect) = options.dialect {
        let keys = options.proxy_keys.replace("ADMIN", &proxy_admin.to_string());
        let _ = write!(text, "[proxy.p]\naddress = \"{via}\"\ndialect = \"{dialect}\"\n{keys}\n");
        for (n, source) in sources.iter().enumerate() {
            let way = options.source_keys.unwrap_or("proxy = \"p\"");
            let _ = write!(text, "[source.s{n}]\naddress = \"{source}\"\n{way}\n");
        }
    }
    text.push_str(&options.tables.replace("PATH", &path.to_string()));
    text
}
