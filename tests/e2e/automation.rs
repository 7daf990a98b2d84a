//! Rules over answers: a path that is told to slow down is suspended while others go on, and comes back with one message.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use egret_tests::harness::{Fleet, Options, binary, eventually};
use serde_json::Value;

use crate::support::{get, offer};

/// What the destination says to whom it does not like.
const REFUSAL: &str = "421 4.7.0 [TS01] Messages temporarily deferred";
/// The answer to content takes so long, so that what goes on at once is seen.
const THINKING: Duration = Duration::from_millis(30);

/// What a destination has seen.
#[derive(Default)]
pub struct Seen {
    /// Whom it refuses.
    pub refuses: HashSet<IpAddr>,
    /// How many recipients it has refused.
    pub refused: usize,
    /// For each message that was taken: from where, and by which connection.
    pub taken: Vec<(IpAddr, usize)>,
    connections: usize,
    /// Messages under way.
    under_way: usize,
    /// The most of them before the first was taken after the last refusal.
    pub most_before: usize,
    is_proven: bool,
}

/// A destination that refuses some sources.
#[derive(Clone, Default)]
pub struct Destination(Arc<Mutex<Seen>>);

impl Destination {
    /// Listens.
    pub fn start(at: SocketAddr) -> Self {
        let listener = TcpListener::bind(at).expect("binds");
        let destination = Self::default();
        let shared = destination.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = shared.clone();
                std::thread::spawn(move || shared.serve(&stream));
            }
        });
        destination
    }

    /// What it has seen.
    pub fn seen<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// One connection; it ends with the client.
    fn serve(&self, stream: &TcpStream) -> Option<()> {
        let (peer, mut out) = (stream.peer_addr().ok()?.ip(), stream);
        let number = self.seen(|seen| {
            seen.connections += 1;
            seen.connections
        });
        let mut say = |text: &str| out.write_all(format!("{text}\r\n").as_bytes()).ok();
        say("220 mx.test")?;
        let mut is_content = false;
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if is_content {
                if line == "." {
                    is_content = false;
                    std::thread::sleep(THINKING);
                    self.seen(|seen| {
                        seen.under_way -= 1;
                        seen.is_proven = true;
                        seen.taken.push((peer, number));
                    });
                    say("250 2.0.0 taken")?;
                }
                continue;
            }
            match line.split([' ', ':']).next().unwrap_or_default() {
                "EHLO" => say("250 mx.test")?,
                "RCPT" if self.refuses(peer) => say(REFUSAL)?,
                "DATA" => {
                    is_content = true;
                    self.seen(|seen| {
                        seen.under_way += 1;
                        if !seen.is_proven {
                            seen.most_before = seen.most_before.max(seen.under_way);
                        }
                    });
                    say("354 go on")?;
                }
                "QUIT" => return say("221 bye"),
                _ => say("250 2.0.0 ok")?,
            }
        }
        None
    }

    fn refuses(&self, peer: IpAddr) -> bool {
        self.seen(|seen| {
            let is_refused = seen.refuses.contains(&peer);
            if is_refused {
                seen.refused += 1;
                (seen.is_proven, seen.most_before) = (false, 0);
            }
            is_refused
        })
    }

    /// Waits until it has taken so many.
    pub fn takes(&self, fleet: &Fleet, count: usize) {
        eventually("delivery", || match self.seen(|seen| seen.taken.len()) {
            found if found >= count => Ok(()),
            found => Err(format!("{found} of {count}\n{}", fleet.mta.log())),
        });
    }
}

/// Runs `egret-mta …` against the fleet: what it prints.
pub fn asked(fleet: &Fleet, arguments: &[&str]) -> String {
    let admin = fleet.mta_admin.to_string();
    let output = Command::new(binary("egret-mta")).args(arguments).args(["--admin", &admin]).output().expect("runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {text}\n{}", fleet.mta.log());
    text
}

/// The orders of rules that are in force.
pub fn controls(fleet: &Fleet) -> Vec<Value> {
    let listed = asked(fleet, &["automation", "list", "--json"]);
    serde_json::from_str::<Value>(&listed).expect("JSON").as_array().expect("a list").clone()
}

/// A rule for that refusal.
pub fn rule(action: &str, duration: &str) -> String {
    format!("[[automation]]\nregex = \"\\\\[TS0[0-9]\\\\]\"\naction = {action}\nduration = \"{duration}\"\n")
}

/// Offers so many messages.
pub fn offer_some(fleet: &Fleet, count: usize) {
    for n in 0..count {
        let answer = offer(fleet.smtp, "s@sender.example", &format!("r{n}@a.example"));
        assert!(answer.starts_with("250 "), "{answer}");
    }
}

/// What rules have done.
pub fn automation_events(fleet: &Fleet) -> Vec<Value> {
    fleet.events().into_iter().filter(|event| event["type"] == "automation").collect()
}

#[test]
fn a_path_is_suspended_over_a_restart_and_the_others_go_on() {
    let tables = rule("\"Suspend\"", "1h");
    let mut fleet = Fleet::start(&Options { dialect: Some("socks5"), tables, ..Options::default() });
    let destination = Destination::start(fleet.sink);
    let bad = fleet.sources[0];
    destination.seen(|seen| seen.refuses.insert(bad));
    offer_some(&fleet, 24);
    destination.takes(&fleet, 24);
    let event = fleet.event("the automation", |event| event["type"] == "automation");
    assert_eq!((&event["source"], &event["automation"]["action"]), (&"s0".into(), &"Suspend".into()), "{event}");
    assert!(event["automation"]["rule"].as_str().expect("a text").contains("mta.toml:"), "{event}");
    assert_eq!(event["response"]["text"], "[TS01] Messages temporarily deferred", "{event}");
    let id = event["automation"]["control"].as_str().expect("an id").to_owned();
    let listed = controls(&fleet);
    assert_eq!((listed.len(), &listed[0]["id"], &listed[0]["by"]), (1, &id.clone().into(), &"automation".into()));
    let metrics = get(fleet.mta_admin, "/metrics").1;
    assert!(metrics.contains("egret_mta_automation_fired_total{action=\"Suspend\"} 1"), "{metrics}");

    fleet.restart_mta();
    assert_eq!(controls(&fleet), listed, "a restart keeps it");
    let refused = destination.seen(|seen| seen.refused);
    offer_some(&fleet, 24);
    destination.takes(&fleet, 48);
    assert_eq!(destination.seen(|seen| seen.refused), refused, "nothing more went there");
    assert!(asked(&fleet, &["queue", "controls"]).contains("automation"));

    destination.seen(|seen| seen.refuses.clear());
    let told = asked(&fleet, &["automation", "cancel", &id]);
    assert!(told.starts_with(&format!("ended: suspend {id}")), "{told}");
    assert!(asked(&fleet, &["automation", "list"]).contains("no rule has set anything"));
    offer_some(&fleet, 24);
    destination.takes(&fleet, 72);
    assert!(destination.seen(|seen| seen.taken.iter().any(|(from, _)| *from == bad)), "it is in use again");
}

#[test]
fn after_its_end_one_message_goes_first_and_a_relapse_is_longer() {
    let tables = rule("\"Suspend\"", "2s");
    let fleet = Fleet::start(&Options { tables, ..Options::default() });
    let destination = Destination::start(fleet.sink);
    let own = IpAddr::from([127, 0, 0, 1]);
    let all: Vec<IpAddr> = vec![own, fleet.sink.ip(), fleet.smtp.ip()];
    destination.seen(|seen| seen.refuses.extend(all));
    offer_some(&fleet, 1);
    fleet.event("the automation", |event| event["type"] == "automation");
    offer_some(&fleet, 40);
    eventually("a relapse", || match automation_events(&fleet).len() {
        0 | 1 => Err(fleet.mta.log()),
        _ => Ok(()),
    });
    destination.seen(|seen| seen.refuses.clear());
    let told = automation_events(&fleet);
    let span = |event: &Value| event["automation"]["until_ms"].as_u64().zip(event["time_ms"].as_u64());
    let spans: Vec<u64> = told.iter().filter_map(span).map(|(until, from)| until - from).collect();
    assert!(spans[1] > spans[0] * 3 / 2, "{spans:?}");
    destination.takes(&fleet, 41);
    let (refused, most) = destination.seen(|seen| (seen.refused, seen.most_before));
    assert_eq!(refused, automation_events(&fleet).len(), "each probe is one message");
    assert_eq!(most, 1, "and so is the one that was taken");
}

#[test]
fn an_option_is_set_for_a_time() {
    let tables = rule("{SetConfig={name=\"max_deliveries_per_connection\", value=1}}", "1h");
    let fleet = Fleet::start(&Options { tables, ..Options::default() });
    let destination = Destination::start(fleet.sink);
    let all = vec![IpAddr::from([127, 0, 0, 1]), fleet.sink.ip(), fleet.smtp.ip()];
    destination.seen(|seen| seen.refuses.extend(all));
    offer_some(&fleet, 1);
    fleet.event("the automation", |event| event["type"] == "automation");
    destination.seen(|seen| seen.refuses.clear());
    assert_eq!(controls(&fleet)[0]["setting"]["name"], "max_deliveries_per_connection");
    offer_some(&fleet, 8);
    destination.takes(&fleet, 9);
    let connections: Vec<usize> = destination.seen(|seen| seen.taken.iter().map(|(_, number)| *number).collect());
    // The session that heard the refusal was opened before.
    let later: HashSet<usize> = connections.iter().copied().filter(|number| *number > 1).collect();
    assert_eq!(later.len(), connections.iter().filter(|number| **number > 1).count(), "{connections:?}");
    assert!(!later.is_empty(), "{connections:?}");
}

#[test]
fn rules_can_be_tried_on_an_answer() {
    let tables = rule("[\"Suspend\", \"BounceTenant\"]", "2 hours");
    let fleet = Fleet::start(&Options { tables, ..Options::default() });
    let config = fleet.file("mta.toml");
    let tried = |answer: &str| {
        let mut command = Command::new(binary("egret-mta"));
        let output = command.args(["automation", "test", answer, "--config"]).arg(&config).output().expect("runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let told = tried(REFUSAL);
    assert!(told.contains("mta.toml:") && told.contains("fits: Suspend, BounceTenant for 2h, at once"), "{told}");
    assert_eq!(tried("550 5.1.1 no such user"), "none of 1 rules would fire\n");
}

#[test]
fn rules_of_shaping_files_hold_where_they_stand() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("shaping.toml");
    let text = "[\"default\"]\nconnection_limit = 2\n\
                [[\"default\".automation]]\nregex = \"TS01\"\naction = \"Suspend\"\nduration = \"1h\"\n\
                [provider.\"big\"]\nmatch = [{ DomainSuffix = \".big.test\" }]\n\
                [[provider.\"big\".automation]]\nregex = \"temporarily deferred\"\nduration = \"1h\"\n\
                action = {SetConfig={name=\"max_deliveries_per_connection\", value=1}}\n";
    std::fs::write(&file, text).expect("written");
    let tables = format!("[shaping]\nfiles = [\"{}\"]\n", file.display());
    let fleet = Fleet::start(&Options { tables, ..Options::default() });
    let destination = Destination::start(fleet.sink);
    let all = [IpAddr::from([127, 0, 0, 1]), fleet.sink.ip(), fleet.smtp.ip()];
    destination.seen(|seen| seen.refuses.extend(all));
    let fired = |recipient: &str, count: usize| {
        let before = automation_events(&fleet).len();
        assert!(offer(fleet.smtp, "s@sender.example", recipient).starts_with("250 "));
        // An event of the attempt is written behind those of the rules.
        fleet.event("the attempt", |event| event["type"] != "reception" && event["recipients"][0] == recipient);
        let events = eventually("the rules", || {
            let events = automation_events(&fleet);
            if events.len() >= before + count { Ok(events) } else { Err(fleet.mta.log()) }
        });
        let mut fired: Vec<(String, String)> = events[before..]
            .iter()
            .map(|event| {
                let automation = &event["automation"];
                let rule = automation["rule"].as_str().expect("a text");
                let line = rule.rsplit_once("shaping.toml:").expect("a rule of the file").1;
                (line.to_owned(), automation["action"].as_str().expect("a text").to_owned())
            })
            .collect();
        fired.sort();
        fired
    };
    let of_all = ("3".to_owned(), "Suspend".to_owned());
    let of_big = ("9".to_owned(), "SetConfig max_deliveries_per_connection = 1".to_owned());
    assert_eq!(fired("r@in.big.test", 2), [of_all.clone(), of_big], "all fire, on a path of its own");
    assert_eq!(fired("r@plain.test", 1), [of_all], "that of the provider is the provider's, and so is its suspension");
    let scopes: Vec<String> = controls(&fleet).iter().map(|one| one["scope"].to_string()).collect();
    assert_eq!(scopes.iter().filter(|scope| scope.contains("!~@big")).count(), 2, "{scopes:?}");
}
