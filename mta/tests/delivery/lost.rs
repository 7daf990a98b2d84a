//! No ticket is lost, whatever the server says and whenever the session is cut.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::sync::Notify;

use crate::bench::{EHLO, bench, script};
use crate::smtp::{Any, Content, Hear, Listen, Reached, Reset, Say, Step, Take, serve};

/// A step of a server that follows no rule; 9 cuts the session.
fn step(choice: u8, cut: &Arc<Notify>) -> Vec<Step> {
    match choice {
        0 => vec![Say("250 ok\r\n")],
        1 => vec![Say("354 go\r\n"), Content],
        2 => vec![Say("421 bye\r\n")],
        3 => vec![Say("550 no\r\n")],
        4 => vec![Say("rubbish\r\n")],
        5 => vec![Reset],
        6 => vec![Hear, Hear, Hear, Say("250 a\r\n250 b\r\n354 go\r\n"), Content, Say("250 ok\r\n")],
        7 => vec![Hear],
        8 => vec![Say("452 many\r\n")],
        10 => vec![Hear, Hear, Hear, Hear, Take(16), Say("250 2.0.0 reset\r\n"), Say(TAKEN)],
        11 => vec![Hear, Hear, Hear, Take(16), Say(TAKEN)],
        12 => vec![Say("250 2.1.0 s\r\n"), Any],
        _ => vec![Reached(cut.clone()), Listen],
    }
}

const TAKEN: &str = "250 2.1.0 s\r\n250 2.1.5 r\r\n250 2.0.0 taken\r\n";

async fn all_accounted_for(choices: Vec<u8>, ahead: usize) {
    let cut = Arc::new(Notify::new());
    let steps = choices.iter().map(|choice| step(*choice, &cut));
    let offers = if ahead > 0 { "250-x\r\n250-PIPELINING\r\n250 CHUNKING\r\n" } else { EHLO };
    let greeting = vec![Say("220 mx.test\r\n"), Hear, Say(offers)];
    // It shows how it answers before it does as it likes.
    let proofs = [step(11, &cut), step(10, &cut)].into_iter().take(ahead);
    let steps: Vec<Vec<Step>> = std::iter::once(greeting).chain(proofs).chain(steps).collect();
    let (at, _) = serve("127.0.0.1:0", vec![script(&steps)]).await;
    let mut bench = bench(&[at]);
    // Some scripts wait for what never comes: then the client's limit ends the session.
    let brief = Duration::from_millis(30);
    let timeouts = &mut bench.options.smtp.timeouts;
    (timeouts.mail_from, timeouts.rcpt_to, timeouts.data) = (brief, brief, brief);
    (timeouts.data_dot, timeouts.rset, timeouts.banner, timeouts.ehlo) = (brief, brief, brief, brief);
    let (store, stop) = (bench.store.clone(), bench.stop.clone());
    tokio::spawn(async move {
        cut.notified().await;
        stop.cancel();
    });
    bench.ahead = ahead;
    let tickets: Vec<_> = (0..4 + 2 * ahead).map(|_| store.add(&["a@b.test"], "x\r\n")).collect();
    let ids: Vec<_> = tickets.iter().map(|t| t.id).collect();
    let end = bench.run(tickets).await;
    let mut seen: Vec<_> = end.settled.iter().map(|s| s.0).chain(end.returned.iter().copied()).collect();
    // One that was handed over when the session had closed its channel was never received.
    let received = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), received, "{choices:?}: one had two ends");
    assert_eq!(seen, ids[..received], "{choices:?}: one was passed over");
    assert_eq!(end.unreceived, ids.len() - received, "{choices:?}: one was lost");
    let disposed: usize = store.events.lock().iter().map(|e| e.recipients.len()).sum();
    assert_eq!(disposed, end.settled.len(), "{choices:?}: one event for each recipient that was settled");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn every_ticket_has_one_end(choices in prop::collection::vec(0u8..13, 0..12), ahead in 0usize..3) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(all_accounted_for(choices, ahead));
    }
}
