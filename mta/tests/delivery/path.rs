//! What the way to the destination does wrong: proxies that are not there, are silent, or speak something else. Each is
//! blamed by its name, and the message is as if never tried.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use egret_mta::event::record::Kind;
use egret_mta::message::Verdict;
use egret_mta::routing::source::{Dialect, Proxy, Way};
use egret_shared::fault::{Party, Reason};

use crate::bench::{Bench, FROM, bench, greeting, script, taken};
use crate::smtp::{Bytes, Drip, Listen, Mute, Reset, Say, Step, Take, serve, serve_then};

const BRIEF: Duration = Duration::from_millis(100);

fn through(address: SocketAddr, dialect: Dialect) -> Way {
    Way::Proxy(Arc::new(Proxy { name: "p".into(), address, dialect, credentials: None, tls: None, admin: None }))
}

/// One message towards a server that would take it: not tried, and the fault told once.
async fn blamed(name: &str, bench: Bench, want: Reason) {
    let store = bench.store.clone();
    let ticket = store.add(&["a@b.test"], "x\r\n");
    let id = ticket.id;
    let end = bench.run(vec![ticket]).await;
    assert_eq!((end.settled.len(), end.returned), (0, vec![id]), "{name}: it counts as tried");
    let fault = end.fault.unwrap_or_else(|| panic!("{name}: no fault"));
    assert_eq!((fault.reason, fault.party()), (want, Party::Proxy), "{name}: {fault}");
    let told: Vec<_> = store.events.lock().iter().map(|event| (event.kind, event.reason)).collect();
    assert_eq!(told, [(Kind::Fault, Some(want))], "{name}");
}

#[tokio::test]
async fn a_proxy_that_fails_is_blamed_and_nothing_counts() {
    let ready = || vec![Take(3), Bytes(&[5, 0]), Take(10)];
    let rows: Vec<(&str, Vec<Step>, Reason)> = vec![
        ("X2 closes at once", vec![], Reason::ProxyUnspecified),
        ("X2 resets at once", vec![Reset], Reason::ProxyUnspecified),
        ("X3 takes the connection and is silent", vec![Mute], Reason::ProxyTimeout),
        ("X3 answers drop by drop", vec![Drip("\x05")], Reason::ProxyDialect),
        ("X3 greets and is silent", ready(), Reason::ProxyTimeout),
        ("X2 greets and closes", vec![Take(3), Bytes(&[5, 0])], Reason::ProxyUnspecified),
        ("X14 speaks HTTP", vec![Say("HTTP/1.1 400 Bad Request\r\n\r\n"), Mute], Reason::ProxyDialect),
        ("X14 speaks SOCKS4", vec![Take(3), Bytes(&[0, 90, 0, 0, 0, 0, 0, 0]), Mute], Reason::ProxyDialect),
        ("X14 wants a password", vec![Take(3), Bytes(&[5, 255]), Mute], Reason::NoAcceptableMethod),
    ];
    for (name, mut steps, want) in rows {
        if want == Reason::ProxyTimeout {
            steps.push(Mute);
        }
        let (proxy, _) = serve_then("127.0.0.2:0", vec![], steps).await;
        let mut bench = bench(&[SocketAddr::from(([127, 0, 0, 1], 2525))]);
        bench.way = through(proxy, Dialect::Socks5);
        bench.options.smtp.timeouts.connect = BRIEF;
        blamed(name, bench, want).await;
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_blamed_in_each_dialect() {
    for dialect in [Dialect::Socks5, Dialect::Connect, Dialect::ProxyV1, Dialect::ProxyV2] {
        let (gone, _) = serve("127.0.0.2:0", vec![]).await;
        let mut bench = bench(&[SocketAddr::from(([127, 0, 0, 1], 2525))]);
        // The port of a listener that is there, at an address where none is.
        bench.way = through(SocketAddr::from(([127, 0, 0, 9], gone.port())), dialect);
        blamed("X2 refuses", bench, Reason::ProxyUnreachable).await;
    }
}

/// Slow is not broken.
#[tokio::test]
async fn a_slow_proxy_carries_all_the_same() {
    let success = [[5, 0, 0, 1].as_slice(), &FROM, &[0, 9]].concat();
    let success: &'static [u8] = Box::leak(success.into_boxed_slice());
    let pieces = |bytes: &'static [u8]| bytes.chunks(1).map(Bytes).collect::<Vec<_>>();
    let handshake = [vec![Take(3)], pieces(&[5, 0]), vec![Take(10)], pieces(success), vec![Take(10)], pieces(success)];
    let steps = script(&[handshake.concat(), greeting(), taken(), vec![Listen]]);
    let (proxy, _) = serve("127.0.0.2:0", vec![steps]).await;
    let mut bench = bench(&[SocketAddr::from(([127, 0, 0, 1], 2525))]);
    bench.way = through(proxy, Dialect::Socks5);
    let ticket = bench.store.add(&["a@b.test"], "x\r\n");
    let end = bench.run(vec![ticket]).await;
    assert_eq!(end.verdicts(), [Verdict::Delivered], "{:?}", end.fault);
}
