//! What servers do wrong (the table of mta/tests/delivery/wrong), through a real egret-proxy in two dialects; and a proxy
//! that is killed at each step of a session. The party that is blamed must be right each time.

#[path = "../../mta/tests/delivery/bench.rs"]
#[allow(dead_code, reason = "the tests of mta use more of it")]
mod bench;
#[path = "../../mta/tests/delivery/smtp.rs"]
#[allow(dead_code, reason = "the tests of mta use more of it")]
mod smtp;
#[path = "../../mta/tests/delivery/wrong/mod.rs"]
mod wrong;

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use egret_mta::message::Verdict;
use egret_mta::routing::source::{Dialect, Proxy, Way};
use egret_shared::fault::Party;
use egret_tests::harness::{Program, addresses, ask, binary, eventually};
use tempfile::TempDir;
use tokio::sync::Notify;

use bench::{COUNTED, FROM, bench, greeting, script};
use smtp::{Content, Hear, Hold, Reached, Say, Step, serve};

/// The port that the proxy may dial.
const PORT: u16 = 2525;

/// A real proxy that holds the source of the sessions.
struct Real {
    program: Program,
    at: SocketAddr,
    admin: SocketAddr,
    _directory: TempDir,
}

impl Real {
    fn start() -> Self {
        let own = addresses(1)[0].into();
        let (at, admin) = (SocketAddr::new(own, 1080), SocketAddr::new(own, 9180));
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("proxy.toml");
        let source = std::net::IpAddr::from(FROM);
        let text = format!(
            "[[listener]]\naddress = \"{at}\"\n[[listener]]\naddress = \"{own}:1081\"\nprotocol = \"proxy\"\n[sources]\n\
             addresses = [\"{source}\"]\n[access]\nallow_special_destinations = [\"127.0.0.0/8\"]\n[admin]\naddress = \
             \"{admin}\"\n"
        );
        std::fs::write(&file, text).expect("written");
        let mut command = Command::new(binary("egret-proxy"));
        let program = Program::spawn(command.args(["serve", "--config"]).arg(&file), &directory.path().join("log"));
        eventually("the proxy", || match ask(admin, "GET /livez", "", Duration::from_secs(1)) {
            Ok((200, _)) => Ok(()),
            other => Err(format!("{other:?} {}", program.log())),
        });
        Self { program, at, admin, _directory: directory }
    }

    fn way(&self, dialect: Dialect) -> Way {
        let port = if dialect.is_header() { 1081 } else { self.at.port() };
        let address = SocketAddr::new(self.at.ip(), port);
        let admin = Some(self.admin);
        Way::Proxy(Arc::new(Proxy { name: "p".into(), address, dialect, credentials: None, tls: None, admin }))
    }
}

/// An address for a server of its own.
fn server() -> String {
    SocketAddr::new(addresses(1)[0].into(), PORT).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn through_a_real_proxy_what_a_server_does_wrong_is_still_the_servers() {
    let proxy = Real::start();
    for dialect in [Dialect::Socks5, Dialect::ProxyV2] {
        let mut playing = tokio::task::JoinSet::new();
        for row in wrong::rows() {
            playing.spawn(wrong::play(row, proxy.way(dialect), Box::leak(server().into_boxed_str())));
        }
        playing.spawn(wrong::nobody_listens(proxy.way(dialect), server().parse().expect("an address")));
        let mut failed = 0;
        while let Some(played) = playing.join_next().await {
            failed += usize::from(played.is_err());
        }
        assert_eq!(failed, 0, "rows failed in {dialect:?}, as told above");
    }
}

/// A session up to a step, at which the proxy is killed.
fn steps() -> Vec<(&'static str, Vec<Step>)> {
    let answered = |text| vec![Hear, Hear, Hear, Say(text)];
    vec![
        ("before the greeting", vec![]),
        ("at EHLO", vec![Say("220 mx.test\r\n"), Hear]),
        ("at MAIL", script(&[greeting(), vec![Hear]])),
        ("at RCPT", script(&[greeting(), answered("250 a\r\n")])),
        ("at DATA", script(&[greeting(), answered("250 a\r\n250 b\r\n")])),
        ("behind the dot", script(&[greeting(), answered("250 a\r\n250 b\r\n354 go\r\n"), vec![Content]])),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_killed_at_any_step_is_blamed_and_only_behind_the_dot_it_is_uncertain() {
    for dialect in [Dialect::Socks5, Dialect::ProxyV2] {
        for (name, script) in steps() {
            let mut proxy = Real::start();
            let reached = Arc::new(Notify::new());
            let script = [script, vec![Reached(reached.clone()), Hold]].concat();
            let (at, _) = serve(&server(), vec![script]).await;
            let mut bench = bench(&[at]);
            bench.way = proxy.way(dialect);
            let store = bench.store.clone();
            let ticket = store.add(&["a@b.test"], "x\r\n");
            let id = ticket.id;
            let killed = tokio::spawn(async move {
                reached.notified().await;
                proxy.program.crash();
                proxy
            });
            let end = bench.run(vec![ticket]).await;
            let _gone = killed.await.expect("killed");
            let told = format!("{dialect:?}, killed {name}: {} {:?}", end.words(), end.fault);
            if name == "behind the dot" {
                assert_eq!(end.verdicts(), [COUNTED] as [Verdict; 1], "{told}");
                assert!(store.events.lock().iter().any(|event| event.uncertain), "{told}");
                continue;
            }
            assert_eq!((end.settled.len(), &*end.returned), (0, &[id][..]), "{told}");
            assert_eq!(end.fault.map(|fault| fault.party()), Some(Party::Proxy), "{told}");
            let blamed: Vec<_> = store.events.lock().iter().map(|event| event.party).collect();
            assert_eq!(blamed, [Some(Party::Proxy)], "{told}");
        }
    }
}
