//! Where Redis is and how to speak with it: the section `[redis]` of both programs.
//! Floor 3. Reads the file of the password when a connection is made.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::config::Section;
use crate::config_value_from_str;
use crate::units::Wait;

/// The shape of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One server.
    One,
    /// The master that sentinels name.
    Sentinel,
    /// A cluster.
    Cluster,
}

impl FromStr for Mode {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "one" => Ok(Self::One),
            "sentinel" => Ok(Self::Sentinel),
            "cluster" => Ok(Self::Cluster),
            _ => Err("write \"one\", \"sentinel\" or \"cluster\"".to_owned()),
        }
    }
}

config_value_from_str! { Mode => "a mode" }

/// Where Redis is and how to speak with it.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisOptions {
    /// The shape of Redis.
    pub mode: Mode,
    /// Servers, sentinels or nodes of the cluster, by host and port.
    pub addresses: Vec<(String, u16)>,
    /// The name by which the sentinels know the master.
    pub master_name: String,
    /// TLS to servers and sentinels.
    pub tls: bool,
    /// Who vouches for their certificates (PEM); else the roots of this system.
    pub ca_file: Option<PathBuf>,
    /// The user; none is `default`.
    pub username: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// A file that holds the password.
    pub password_file: Option<PathBuf>,
    /// The password of the sentinels.
    pub sentinel_password: Option<String>,
    /// The number of the database.
    pub db: i64,
    /// With what all keys and channels begin.
    pub prefix: String,
    /// How long a call may take.
    pub timeout: Duration,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// Whether the program starts only if Redis is there.
    pub required: bool,
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions").field("mode", &self.mode).field("place", &self.place()).finish_non_exhaustive()
    }
}

impl RedisOptions {
    /// One server without a password.
    pub fn one(host: &str, port: u16) -> Self {
        Self {
            mode: Mode::One,
            addresses: vec![(host.to_owned(), port)],
            master_name: String::new(),
            tls: false,
            ca_file: None,
            username: None,
            password: None,
            password_file: None,
            sentinel_password: None,
            db: 0,
            prefix: "egret".to_owned(),
            timeout: Duration::from_millis(250),
            connect_timeout: Duration::from_millis(500),
            required: false,
        }
    }

    /// The same Redis, with keys and channels of their own: those of `part`.
    #[must_use]
    pub fn part(&self, part: &str) -> Self {
        Self { prefix: format!("{}:{part}", self.prefix), ..self.clone() }
    }

    /// Where it is, in words.
    pub fn place(&self) -> String {
        let all: Vec<String> = self.addresses.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        match self.mode {
            Mode::One => all.join(", "),
            Mode::Sentinel => format!("sentinels {}", all.join(", ")),
            Mode::Cluster => format!("cluster {}", all.join(", ")),
        }
    }

    /// The password, also from its file: a new one holds from the next connection on.
    pub(super) fn password(&self) -> std::io::Result<Option<String>> {
        let Some(file) = &self.password_file else { return Ok(self.password.clone()) };
        let text = std::fs::read_to_string(file)
            .map_err(|error| std::io::Error::new(error.kind(), format!("{}: {error}", file.display())))?;
        Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
    }

    /// Asks `[redis]` for its keys. `None` if there is no address, which means no Redis, or after a complaint.
    pub fn read(section: &Section<'_>) -> Option<Self> {
        let mode = section.with_default(
            "mode",
            "\"one\"",
            "What stands at the addresses: \"one\" server (the first that can be reached), \"sentinel\"s, which name the master, or nodes of a \"cluster\".",
        );
        let addresses = section.optional::<Vec<String>>(
            "address",
            "Where Redis is, like `[\"10.0.0.5:6379\"]`. Without it each node keeps its limits for itself.",
        );
        let master_name =
            section.with_default("master_name", "\"mymaster\"", "The name by which the sentinels know the master.");
        let tls = section.with_default("tls", "false", "Speak TLS to servers and sentinels.");
        let ca_file: Option<PathBuf> = section
            .optional("ca_file", "A PEM file of those who vouch for their certificates; else this system's roots.");
        let username = section.optional("username", "The user; without one it is `default`.");
        let password: Option<String> = section.optional("password", "The password.");
        let password_file: Option<PathBuf> = section.optional(
            "password_file",
            "A file that holds the password in its first line; it is read for each new connection.",
        );
        let sentinel_password = section.optional("sentinel_password", "The password of the sentinels.");
        let db = section.with_default::<u32>("db", "0", "The number of the database; a cluster has only 0.");
        let prefix: String = section.with_default(
            "prefix",
            "\"egret\"",
            "With what all keys and channels begin: installations with different ones share nothing.",
        );
        let timeout = section.with_default::<Wait>(
            "timeout",
            "\"250ms\"",
            "How long a call may take. Twice in a row without an answer, and each node goes on with its share of the limits.",
        );
        let connect_timeout =
            section.with_default::<Wait>("connect_timeout", "\"500ms\"", "How long a connection may take.");
        let required = section.with_default(
            "required",
            "false",
            "With true the program starts only if Redis answers within `timeout`, and else ends with an error; a Redis that goes away later stops nothing. With false it starts without Redis, too, with its share of the limits.",
        );
        if password.is_some() && password_file.is_some() {
            section.complain("password_file", "stands beside password; write one of them");
        }
        if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte)) {
            section.complain("prefix", format!("is {prefix:?}, but letters, digits and \"-_.:\" belong here"));
        }
        for (key, file) in [("ca_file", &ca_file), ("password_file", &password_file)] {
            if let Some(Err(error)) = file.as_deref().map(std::fs::read) {
                section.complain(key, format!("cannot be read: {error}"));
            }
        }
        let mut places = Vec::new();
        for text in addresses.unwrap_or_default() {
            match place(&text) {
                Some(place) => places.push(place),
                None => section
                    .complain("address", format!("holds {text:?}; write a host and a port, like \"10.0.0.5:6379\"")),
            }
        }
        if places.is_empty() {
            return None;
        }
        Some(Self {
            mode,
            addresses: places,
            master_name,
            tls,
            ca_file,
            username,
            password,
            password_file,
            sentinel_password,
            db: i64::from(db),
            prefix,
            timeout: timeout.0,
            connect_timeout: connect_timeout.0,
            required,
        })
    }
}

/// `host:port`, `[v6]:port`.
fn place(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.trim().rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().ok().filter(|port| *port > 0)?;
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn the_section_says_where_and_how() {
        let text = "[redis]\nmode = \"sentinel\"\naddress = [\"10.0.0.5:26379\", \"[2001:db8::1]:26379\"]\ntimeout = \"100ms\"\n";
        let read = |text: &str| config::parse("x.toml", text, |root| Some(RedisOptions::read(&root.section("redis"))));
        let options = read(text).expect("no complaint").expect("an address");
        assert_eq!(options.mode, Mode::Sentinel);
        assert_eq!(options.addresses, [("10.0.0.5".to_owned(), 26379), ("2001:db8::1".to_owned(), 26379)]);
        assert_eq!((options.timeout, options.master_name.as_str()), (Duration::from_millis(100), "mymaster"));
        assert_eq!(read("").expect("no complaint"), None);
        for wrong in
            ["mode = \"two\"", "address = [\"host\"]", "prefix = \"{}\"", "password = \"a\"\npassword_file = \"b\""]
        {
            assert!(read(&format!("[redis]\n{wrong}\n")).is_err(), "{wrong}");
        }
        let told = read("[redis]\npassword_file = \"/nowhere/password\"\n").expect_err("no file").to_string();
        assert_eq!(told, "x.toml:2: redis.password_file: cannot be read: No such file or directory (os error 2)");
    }
}
