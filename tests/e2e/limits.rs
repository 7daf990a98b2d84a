//! Limits of one node: what the destination sees, and what `why` tells meanwhile.

use std::time::Duration;

use egret_tests::harness::{Fleet, Options, ask, eventually};
use egret_tests::peer::sink::Behaviour;
use egret_tests::peer::source::Plan;

use crate::support::{all_delivered, edit, get, nothing_counted, send, sink};

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_keeps_mail_back_without_an_attempt_and_another_rate_lets_it_go() {
    let tables = "[pool.one]\nsources = { s0 = 1 }\n[delivery]\nmax_message_rate = \"3/h\"\n".to_owned();
    let fleet = Fleet::start(&Options { dialect: Some("socks5"), tables, ..Options::default() });
    let sink = sink(&fleet, Behaviour::default()).await;
    assert_eq!(send(&fleet, Plan { size: 500, ..Plan::new(fleet.smtp, 20) }).await.accepted, 20);
    eventually("the first three", || match sink.stats().messages {
        3 => Ok(()),
        n => Err(format!("{n}: {}", fleet.mta.log())),
    });
    let (status, why) = get(fleet.mta_admin, "/v1/why?source=s0");
    assert!(status == 200 && why.contains("max_message_rate s0->") && why.contains("is reached"), "{why}");
    edit(&fleet, "3/h", "1000/s");
    let (status, told) = ask(fleet.mta_admin, "POST /v1/reload", "", Duration::from_secs(30)).expect("an answer");
    assert!(status == 200 && told.contains("delivery.max_message_rate"), "{told}");
    all_delivered(&fleet, &sink);
    nothing_counted(&fleet, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_all_paths_share_a_named_limit() {
    let tables = "[delivery]\nadditional_connection_limits = { all = 3 }\nidle_timeout = \"10s\"\n".to_owned();
    let fleet = Fleet::start(&Options { dialect: Some("socks5"), tables, ..Options::default() });
    let behaviour = Behaviour { delay: Duration::from_millis(5), ..Behaviour::default() };
    let sink = sink(&fleet, behaviour).await;
    let plan = Plan { size: 500, concurrency: 30, ..Plan::new(fleet.smtp, 400) };
    assert_eq!(send(&fleet, plan).await.accepted, 400);
    all_delivered(&fleet, &sink);
    let (peak, _) = sink.pace();
    assert!((1..=3).contains(&peak), "{peak} sessions at once, of eight sources");
    assert_eq!(sink.stats().by_source.len(), 8, "each source had its turn");
    nothing_counted(&fleet, &[]);
}
