//! Rules choose the route: hosts with failover and port, LMTP, another domain's way, options of the path; and the
//! priority. A reload of routes and rules holds at once, for what waits, too.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use egret_tests::harness::{Fleet, Options, addresses, binary, eventually};
use egret_tests::peer::sink::{Behaviour, Sink};
use serde_json::Value;

use crate::support::{edit, smtp};

/// Runs `egret-mta` with `arguments`; whether it worked, and what it said.
fn run(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(binary("egret-mta")).args(arguments).output().expect("runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

/// An order over the queues, or a question, that must work.
fn queue(fleet: &Fleet, arguments: &[&str]) -> String {
    let (good, told) = run(&[&["queue"], arguments, &["--admin", &fleet.mta_admin.to_string()]].concat());
    assert!(good, "{arguments:?}: {told}\n{}", fleet.mta.log());
    told
}

fn explain(fleet: &Fleet, header: &str) -> String {
    let file = fleet.file("mta.toml").display().to_string();
    let (good, told) =
        run(&["explain", "--from", "s@a.test", "--to", "r@b.test", "--header", header, "--config", &file]);
    assert!(good, "{told}");
    told
}

/// Offers a message with a header `X-Way`.
fn offer(fleet: &Fleet, way: &str, recipient: &str) {
    let (rcpt, text) = (format!("RCPT TO:<{recipient}>"), format!("X-Way: {way}\r\nSubject: x\r\n\r\nbody\r\n."));
    let answers = smtp(fleet.smtp, &["EHLO x", "MAIL FROM:<s@a.test>", &rcpt, "DATA", &text, "QUIT"]);
    assert!(answers[5].starts_with("250 "), "{answers:?}");
}

async fn takes(at: SocketAddr) -> Sink {
    Sink::start(&[at], Behaviour::default(), None, None).await.expect("it listens")
}

fn delivery_to(fleet: &Fleet, recipient: &str) -> Value {
    fleet.event("delivery", |event| event["type"] == "delivery" && event["recipients"][0] == recipient)
}

/// An LMTP server that takes everything, one session after the other, until the test ends.
fn lmtp(at: SocketAddr) {
    let listener = TcpListener::bind(at).expect("it listens");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A session that ends early is told by what the test misses.
            let _ = lmtp_session(&stream);
        }
    });
}

fn lmtp_session(mut stream: &TcpStream) -> std::io::Result<()> {
    let (mut reader, mut recipients) = (BufReader::new(stream), 0);
    stream.write_all(b"220 lmtp.test\r\n")?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let reply = match line.get(..4).unwrap_or_default() {
            "LHLO" => "250 lmtp.test\r\n".to_owned(),
            "EHLO" | "HELO" => "500 this is LMTP\r\n".to_owned(),
            "RCPT" => {
                recipients += 1;
                "250 ok\r\n".to_owned()
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n")?;
                while line.trim_end() != "." {
                    line.clear();
                    reader.read_line(&mut line)?;
                }
                "250 2.0.0 kept\r\n".repeat(std::mem::take(&mut recipients))
            }
            _ => "250 ok\r\n".to_owned(),
        };
        stream.write_all(reply.as_bytes())?;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_choose_among_routes_of_one_domain_and_a_dead_host_is_passed_over() {
    let own = addresses(5);
    let at = |n: usize, port: u16| SocketAddr::new(own[n].into(), port);
    let (plain, dead, relay, local, other) = (at(0, 2525), at(1, 2525), at(2, 5587), at(3, 2424), at(4, 2525));
    let tables = format!(
        "[[route]]\ndomains = [\"*\"]\nhosts = [\"{plain}\"]\n\
         [[route]]\nname = \"relay\"\nhosts = [\"{dead}\", \"{relay}\"]\nconnection_limit = 3\nenable_pipelining = false\n\
         [[route]]\nname = \"local\"\nhosts = [\"{local}\"]\nprotocol = \"lmtp\"\n\
         [[route]]\ndomains = [\"other.test\"]\nhosts = [\"{other}\"]\n\
         [[rule]]\nname = \"by relay\"\nheaders = {{ X-Way = \"relay\" }}\nset_route = \"relay\"\nset_priority = \"low\"\n\
         [[rule]]\nname = \"to boxes\"\nheaders = {{ X-Way = \"local\" }}\nset_route = \"local\"\n\
         [[rule]]\nname = \"as other.test\"\nheaders = {{ X-Way = \"other\" }}\nset_routing_domain = \"other.test\"\n\
         [delivery]\nconnection_limit = 8\nidle_timeout = \"1s\"\n"
    );
    let fleet = Fleet::start(&Options { tables, ..Options::default() });
    let _sinks = [takes(plain).await, takes(relay).await, takes(other).await];
    lmtp(local);
    for (way, queue, peer, mark) in [
        ("none", "@b.test", plain, ""),
        ("relay", "@b.test!relay", relay, ""),
        ("local", "@b.test!local", local, "/lmtp"),
        ("other", "@b.test!other.test", other, ""),
    ] {
        let recipient = format!("{way}@b.test");
        offer(&fleet, way, &recipient);
        let event = delivery_to(&fleet, &recipient);
        let site = if way == "relay" { format!("{dead},{relay}") } else { format!("{peer}{mark}") };
        assert_eq!((event["queue"].as_str(), event["site"].as_str()), (Some(queue), Some(&*site)), "{event}");
        assert_eq!(event["peer"]["address"].as_str(), Some(&*peer.to_string()), "{event}");
        assert_eq!(event["recipients"][0].as_str(), Some(&*recipient), "recipients stay as they are");
    }
    let told = explain(&fleet, "X-Way: relay");
    let lines = [
        "  rules     by relay".to_owned(),
        "  queue     @b.test!relay".to_owned(),
        "  priority  low".to_owned(),
        "  route     relay ([[route]] 2), by a rule".to_owned(),
        format!("  site      {dead},{relay}"),
        "  option    connection_limit = 3 (by its route)".to_owned(),
        "  option    enable_pipelining = false (by its route)".to_owned(),
        "  option    idle_timeout = 1s (by [delivery])".to_owned(),
    ];
    for line in lines {
        assert!(told.lines().any(|l| l == line), "{line:?} is missing in:\n{told}");
    }
    assert!(explain(&fleet, "X-Way: other").contains("  route     [[route]] 4, as other.test, by a rule\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_higher_priority_goes_first_also_after_a_restart_and_a_move() {
    let at = SocketAddr::new(addresses(1)[0].into(), 2525);
    let mut tables = format!(
        "[[route]]\ndomains = [\"*\"]\nhosts = [\"{at}\"]\n[[route]]\nname = \"relay\"\nhosts = [\"{at}\"]\n\
         [delivery]\nconnection_limit = 1\n"
    );
    tables.extend(
        ["high", "low"].map(|priority| {
            format!("[[rule]]\nheaders = {{ X-Way = \"{priority}\" }}\nset_priority = \"{priority}\"\n")
        }),
    );
    let mut fleet = Fleet::start(&Options { tables, ..Options::default() });
    queue(&fleet, &["suspend", "--everything", "--for", "1h"]);
    let classes = ["low", "normal", "high"];
    for n in 0..4 {
        for class in classes {
            offer(&fleet, class, &format!("{class}{n}@b.test"));
        }
    }
    fleet.restart_mta();
    let list = || serde_json::from_str::<Value>(&queue(&fleet, &["list", "--json"])).expect("JSON");
    eventually("recovery", || {
        let rows = list();
        let held: u64 = rows.as_array().into_iter().flatten().filter_map(|row| row["held"].as_u64()).sum();
        if held == 12 { Ok(()) } else { Err(rows.to_string()) }
    });
    queue(&fleet, &["rebind", "--domain", "b.test", "--to-routing", "relay", "--wait"]);
    let rows = list();
    let mut priorities = Vec::new();
    for row in rows.as_array().expect("rows") {
        assert!(row["queue"] == "@b.test!relay" && row["held"] == 4, "{rows}");
        priorities.push(row["priority"].as_str().unwrap_or_default());
    }
    priorities.sort_unstable();
    assert_eq!(priorities, ["high", "low", "normal"]);
    let _sink = takes(at).await;
    queue(&fleet, &["resume", "--everything"]);
    let went = eventually("delivery of all", || {
        let events = fleet.events();
        let all = events.iter().filter(|event| event["type"] == "delivery");
        let went: Vec<String> = all.filter_map(|event| Some(event["recipients"][0].as_str()?.to_owned())).collect();
        if went.len() == 12 { Ok(went) } else { Err(format!("{went:?}")) }
    });
    // The first goes before the others are there; nine pass before the low ones have a turn.
    let place = |name: &String| ["high", "normal", "low"].iter().position(|class| name.starts_with(class));
    let places: Vec<_> = went[1..9].iter().map(place).collect();
    assert!(places.is_sorted() && places.iter().filter(|p| **p == Some(0)).count() >= 3, "{went:?}");
    assert_eq!(place(&went[11]), Some(2), "{went:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_and_rules_are_reloaded_while_mail_waits() {
    let own = addresses(2);
    let [dead, alive] = [0, 1].map(|n| SocketAddr::new(own[n].into(), 2525));
    let tables = format!(
        "[[route]]\ndomains = [\"*\"]\nhosts = [\"{dead}\"]\n\
         [[rule]]\nname = \"all\"\nset_tenant = \"one\"\nset_priority = \"low\"\n[delivery]\nconnection_limit = 4\n"
    );
    let fleet = Fleet::start(&Options { tables, ..Options::default() });
    let _sink = takes(alive).await;
    offer(&fleet, "x", "first@b.test");
    fleet.event("a fault of the dead host", |event| event["type"] == "fault");

    let reload = |good: bool| {
        let (went_well, told) = run(&["reload", "--admin", &fleet.mta_admin.to_string()]);
        assert_eq!(went_well, good, "{told}");
        told
    };
    edit(&fleet, "set_tenant = \"one\"", "set_pool = \"new\"");
    let told = reload(false);
    assert!(told.contains("set_pool: names the pool \"new\""), "{told}");

    edit(&fleet, "set_pool = \"new\"", "set_tenant = \"two\"");
    edit(&fleet, &dead.to_string(), &alive.to_string());
    edit(&fleet, "connection_limit = 4", "connection_limit = 5\nsmtp_port = 2526");
    let told = reload(true);
    for line in [
        "route[0].hosts[0] holds now",
        "rule[0].set_tenant holds now",
        "delivery.connection_limit holds now",
        "delivery.smtp_port has changed and wants a restart",
    ] {
        assert!(told.lines().any(|l| l == line), "{line}: {told}");
    }
    assert_eq!(delivery_to(&fleet, "first@b.test")["queue"], "one@b.test", "what waited goes by the new route");
    offer(&fleet, "x", "second@b.test");
    assert_eq!(delivery_to(&fleet, "second@b.test")["queue"], "two@b.test");
}
