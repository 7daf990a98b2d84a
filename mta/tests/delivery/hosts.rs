//! Which addresses of a site are tried, and where a session goes on when its connection has ended.

use std::net::{IpAddr, SocketAddr};

use egret_mta::event::record::Kind;
use egret_mta::message::Verdict;
use egret_mta::shaping::options::ReconnectStrategy;
use egret_shared::address::{Network, Networks};
use egret_shared::fault::{Party, Reason};

use crate::bench::{COUNTED, bench, greeting, script, taken};
use crate::smtp::{Content, Hear, Heard, Listen, Reset, Say, Step, serve};

fn networks(all: &[IpAddr]) -> Networks {
    Networks::new(all.iter().map(|ip| Network((*ip).into())).collect())
}

/// A server that takes one message and then says 421 to the next.
async fn leaves_after_one() -> (SocketAddr, Heard) {
    let farewell = vec![Hear, Hear, Hear, Say("421 4.7.0 enough\r\n")];
    let once = script(&[greeting(), taken(), farewell]);
    serve("127.0.0.1:0", vec![once.clone(), once.clone(), once]).await
}

#[tokio::test]
async fn a_session_goes_on_where_the_operator_wants_it_to() {
    use ReconnectStrategy::{ConnectNextHost, ReconnectSameHost, TerminateSession};
    for (strategy, connections, delivered) in
        [(ConnectNextHost, [1, 1], 2), (ReconnectSameHost, [3, 0], 3), (TerminateSession, [1, 0], 1)]
    {
        let (first, at_first) = leaves_after_one().await;
        let (second, at_second) = leaves_after_one().await;
        let mut bench = bench(&[first, second]);
        bench.options.hosts.reconnect_strategy = strategy;
        let store = bench.store.clone();
        let tickets = (0..3).map(|_| store.add(&["a@b.test"], "x\r\n")).collect();
        let end = bench.run(tickets).await;
        let seen = [&at_first, &at_second].map(|heard| heard.lock().len());
        assert_eq!(seen, connections, "{strategy:?}");
        assert_eq!(end.verdicts(), vec![Verdict::Delivered; delivered], "{strategy:?}");
        assert_eq!(store.kinds(), vec![Kind::Delivery; delivered], "{strategy:?}: a farewell counts for nobody");
        assert_eq!(end.returned.len() + end.unreceived, 3 - delivered, "{strategy:?}: none is lost");
        assert!(end.fault.is_none(), "{strategy:?}");
    }
}

#[tokio::test]
async fn what_breaks_at_one_address_is_offered_to_the_next_if_that_is_wanted() {
    let breaks = || script(&[greeting(), vec![Hear, Hear, Hear, Say("250 a\r\n250 b\r\n"), Reset]]);
    for (wanted, verdicts, kinds) in [
        (true, [Verdict::Delivered], vec![Kind::TransientFailure, Kind::Delivery]),
        (false, [COUNTED], vec![Kind::TransientFailure]),
    ] {
        let (bad, _) = serve("127.0.0.1:0", vec![breaks()]).await;
        let (good, _) = serve("127.0.0.1:0", vec![script(&[greeting(), taken(), vec![Listen]])]).await;
        let mut bench = bench(&[bad, good]);
        bench.options.hosts.try_next_host_on_transport_error = wanted;
        bench.options.hosts.reconnect_strategy = ReconnectStrategy::TerminateSession;
        let store = bench.store.clone();
        let ticket = store.add(&["a@b.test"], "x\r\n");
        let end = bench.run(vec![ticket]).await;
        assert_eq!((end.verdicts(), store.kinds()), (verdicts.to_vec(), kinds));
    }
}

#[tokio::test]
async fn a_message_that_no_address_could_take_has_one_attempt_and_one_end() {
    let breaks = || script(&[greeting(), vec![Hear, Hear, Hear, Say("250 a\r\n"), Reset]]);
    let (one, _) = serve("127.0.0.1:0", vec![breaks()]).await;
    let (other, _) = serve("127.0.0.1:0", vec![vec![Say("554 5.7.1 not you\r\n")]]).await;
    let mut bench = bench(&[one, other]);
    bench.options.hosts.try_next_host_on_transport_error = true;
    let store = bench.store.clone();
    let ticket = store.add(&["a@b.test"], "x\r\n");
    let end = bench.run(vec![ticket]).await;
    assert_eq!((end.verdicts(), end.words()), (vec![COUNTED], "554 5.7.1 not you".to_owned()));
    assert_eq!(store.kinds(), [Kind::TransientFailure, Kind::Fault, Kind::TransientFailure]);
}

#[tokio::test]
async fn what_may_have_been_taken_is_never_offered_to_the_next_address() {
    let dies = vec![Hear, Hear, Hear, Say("250 a\r\n250 b\r\n354 go\r\n"), Content, Reset];
    let (bad, _) = serve("127.0.0.1:0", vec![script(&[greeting(), dies])]).await;
    let (good, heard) = serve("127.0.0.1:0", vec![script(&[greeting(), taken(), vec![Listen]])]).await;
    let mut bench = bench(&[bad, good]);
    bench.options.hosts.try_next_host_on_transport_error = true;
    let store = bench.store.clone();
    let ticket = store.add(&["a@b.test"], "x\r\n");
    let end = bench.run(vec![ticket]).await;
    assert_eq!((end.verdicts(), heard.lock().len()), (vec![COUNTED], 0), "{}", end.words());
    assert!(store.events.lock()[0].uncertain);
}

#[tokio::test]
async fn prohibited_hosts_bounce_and_skipped_ones_cost_nothing() {
    let (at, heard) = serve("127.0.0.1:0", vec![]).await;
    let mut prohibited = bench(&[at]);
    prohibited.options.hosts.prohibited_hosts = networks(&[at.ip()]);
    let store = prohibited.store.clone();
    let tickets = (0..2).map(|_| store.add(&["a@b.test"], "x\r\n")).collect();
    let end = prohibited.run(tickets).await;
    assert_eq!(end.verdicts(), [Verdict::Bounce, Verdict::Bounce]);
    assert!(end.words().starts_with("550 5.4.4 mx0.test [127.0.0.1] of mx.test is in prohibited_hosts"));
    assert!(end.fault.is_none() && store.kinds() == [Kind::Bounce, Kind::Bounce]);

    let mut skipped = bench(&[at]);
    skipped.options.hosts.skip_hosts = networks(&[at.ip()]);
    let store = skipped.store.clone();
    let ticket = store.add(&["a@b.test"], "x\r\n");
    let end = skipped.run(vec![ticket]).await;
    let fault = end.fault.expect("a fault");
    assert_eq!((fault.reason, fault.party()), (Reason::PathMisconfigured, Party::Source));
    assert_eq!((end.returned.len(), store.kinds()), (1, vec![Kind::Fault]));
    assert_eq!(heard.lock().len(), 0, "neither was dialed");
}

#[tokio::test]
async fn without_rset_a_session_whose_transaction_was_given_up_ends() {
    let refused = vec![Hear, Hear, Hear, Say("250 a\r\n550 5.1.1 nobody\r\n554 none\r\n")];
    let after_reset =
        vec![Hear, Hear, Hear, Hear, Say("250 r\r\n250 a\r\n250 b\r\n354 go\r\n"), Content, Say("250 ok\r\n")];
    for (enable_rset, connections, second) in [(true, 1, after_reset), (false, 2, vec![])] {
        let scripts = vec![
            script(&[greeting(), refused.clone(), second, vec![Listen]]),
            script(&[greeting(), taken(), vec![Listen]]),
        ];
        let (at, heard) = serve("127.0.0.1:0", scripts).await;
        let mut bench = bench(&[at]);
        bench.options.smtp.enable_rset = enable_rset;
        bench.options.hosts.reconnect_strategy = ReconnectStrategy::ReconnectSameHost;
        let store = bench.store.clone();
        let tickets = (0..2).map(|_| store.add(&["a@b.test"], "x\r\n")).collect();
        let end = bench.run(tickets).await;
        assert_eq!(end.verdicts(), [Verdict::Bounce, Verdict::Delivered], "{}", end.words());
        assert_eq!(heard.lock().len(), connections);
        assert_eq!(heard.lock().iter().flatten().any(|line| line == "RSET"), enable_rset);
    }
}

#[tokio::test]
async fn a_path_names_this_host_unless_the_source_does() {
    for (names_itself, want) in [(true, "LHLO out.a.test"), (false, "LHLO path.test")] {
        let steps: Vec<Step> = vec![Say("220 x\r\n"), Hear, Say("250 x\r\n"), Listen];
        let (at, heard) = serve("127.0.0.1:0", vec![steps]).await;
        let mut bench = bench(&[at]);
        bench.names_itself = names_itself;
        bench.options.smtp.ehlo_domain = Some("path.test".into());
        bench.options.smtp.use_lmtp = true;
        bench.options.smtp.timeouts.mail_from = std::time::Duration::from_millis(20);
        let ticket = bench.store.add(&["a@b.test"], "x\r\n");
        bench.run(vec![ticket]).await;
        assert_eq!(heard.lock()[0][0], want);
    }
}

#[tokio::test]
async fn the_operators_rules_decide_what_an_answer_means_and_what_it_is_called() {
    use egret_mta::delivery::{Action, OutcomeRule, OutcomeRules};
    let rule = |response: &str, action| OutcomeRule {
        response: vec![response.parse().expect("a pattern")],
        action: Some(action),
        class: Some("Policy".into()),
        ..OutcomeRule::default()
    };
    let answers = vec![Hear, Hear, Hear, Hear, Say("250 s\r\n550 5.7.1 try later\r\n450 4.1.1 nobody\r\n554 x\r\n")];
    let (at, _) = serve("127.0.0.1:0", vec![script(&[greeting(), answers, vec![Listen]])]).await;
    let mut bench = bench(&[at]);
    bench.outcomes = OutcomeRules::new(vec![rule("550 5.7.1 *", Action::Retry), rule("* nobody", Action::Bounce)]);
    let store = bench.store.clone();
    let ticket = store.add(&["a@b.test", "c@b.test"], "x\r\n");
    let end = bench.run(vec![ticket]).await;
    assert_eq!(end.verdicts(), [COUNTED, Verdict::Bounce], "{}", end.words());
    assert_eq!(store.kinds(), [Kind::TransientFailure, Kind::Bounce]);
    assert!(store.events.lock().iter().all(|event| event.class.as_deref() == Some("Policy")));
}
