//! A session whose proxy has it no more: it ends at once, after what the proxy had sent before.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use egret_mta::delivery::Claims;
use egret_mta::message::Verdict;
use egret_mta::routing::source::{Dialect, Proxy, Way};
use egret_shared::clock::Clock;
use egret_shared::fault::{Party, Reason};
use egret_shared::sockets::claim::Report;
use egret_shared::sockets::ledger::Announced;
use tokio::sync::oneshot;

use crate::bench::{Bench, bench};

/// A proxy by header and a server in one. Takes what comes up to the line that begins with `until`, and gives the
/// connection out.
fn serve(until: &'static str) -> (SocketAddr, oneshot::Receiver<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.2:0").expect("loopback");
    let (at, (sender, receiver)) = (listener.local_addr().expect("bound"), oneshot::channel());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut lines = BufReader::new(stream.try_clone().expect("a second handle")).lines().map_while(Result::ok);
        let header = lines.next().expect("a header");
        assert!(header.starts_with("PROXY TCP4 "), "{header}");
        stream.write_all(b"220 mx.test\r\n").expect("written");
        let line = lines.find(|line| {
            let is_content = !["EHLO", "MAIL", "RCPT", "DATA"].iter().any(|verb| line.starts_with(verb));
            let answer = if line.starts_with("DATA") { "354 go on" } else { "250 mx.test" };
            let is_last = line.starts_with(until);
            if !is_last && !is_content {
                stream.write_all(format!("{answer}\r\n").as_bytes()).expect("written");
            }
            is_last
        });
        assert!(line.is_some(), "the client has left");
        let _ = sender.send(stream);
    });
    (at, receiver)
}

fn through(at: SocketAddr, claims: &Claims) -> Bench {
    let (name, dialect) = ("p".into(), Dialect::ProxyV1);
    let proxy = Proxy { name, address: at, dialect, credentials: None, tls: None, admin: None };
    Bench { way: Way::Proxy(Arc::new(proxy)), claims: claims.clone(), ..bench(&[at]) }
}

/// The proxy has the session, and then has it no more. Nobody else runs meanwhile.
fn lose(claims: &Claims, at: SocketAddr) {
    let announced: Announced = [(at, vec![Arc::from("north")])].into();
    let mut ended = 0;
    for beat in 0..3 {
        let drafts = claims.drafts(&announced);
        let draft = drafts.first().expect("a claim");
        let missing = if beat == 0 { HashSet::new() } else { draft.ends.iter().copied().collect() };
        let report = Report { run: 7, number: draft.number, missing };
        ended += claims.heard(&[(draft.proxy.clone(), vec![report])].into());
        assert_eq!(claims.seen(), 1);
    }
    assert_eq!(ended, 1);
}

#[tokio::test]
async fn a_session_that_its_proxy_has_no_more_ends_and_counts_as_no_attempt() {
    let (claims, (at, stream)) = (Claims::compared(Clock::system()), serve("RCPT"));
    let bench = through(at, &claims);
    let ticket = bench.store.add(&["a@b.test"], "x\r\n");
    let (id, running) = (ticket.id, tokio::spawn(bench.run(vec![ticket])));
    let _held = stream.await.expect("a session");
    lose(&claims, at);
    let end = running.await.expect("an end");
    assert!(end.settled.is_empty(), "{}", end.words());
    assert_eq!(end.returned, [id]);
    let fault = end.fault.expect("a fault");
    assert_eq!((fault.party(), fault.reason), (Party::Proxy, Reason::SessionLost));
    assert_eq!(claims.seen(), 0, "it is claimed no more");
}

#[tokio::test]
async fn what_the_proxy_had_sent_before_it_lost_the_session_is_heard() {
    let (claims, (at, stream)) = (Claims::compared(Clock::system()), serve("."));
    let bench = through(at, &claims);
    let ticket = bench.store.add(&["a@b.test"], "x\r\n");
    let running = tokio::spawn(bench.run(vec![ticket]));
    let mut stream = stream.await.expect("a session");
    // Both wait for the session when it runs again.
    stream.write_all(b"250 2.0.0 queued\r\n").expect("written");
    lose(&claims, at);
    let end = running.await.expect("an end");
    assert_eq!(end.verdicts(), [Verdict::Delivered], "{}", end.words());
}

#[tokio::test]
async fn behind_the_content_it_is_uncertain_what_became_of_the_message() {
    let (claims, (at, stream)) = (Claims::compared(Clock::system()), serve("."));
    let bench = through(at, &claims);
    let ticket = bench.store.add(&["a@b.test"], "x\r\n");
    let store = bench.store.clone();
    let running = tokio::spawn(bench.run(vec![ticket]));
    let _held = stream.await.expect("a session");
    lose(&claims, at);
    let end = running.await.expect("an end");
    assert_eq!(end.verdicts(), [Verdict::Retry { counts: true }], "{}", end.words());
    assert!(store.events.lock().iter().any(|event| event.uncertain), "{}", end.words());
}
