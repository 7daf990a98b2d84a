//! Nodes and a proxy in disorder: whatever is away, slow, flushed or stands still, only what one side alone has is ended;
//! and when all is well again, both sides have the same.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::claim::{Claim, Report};
use super::super::ledger::{Announced, Key, Ledger};
use super::super::watch::{Open, Watch, Why};
use super::super::{BEAT, LIFE};
use super::at;

const NODES: usize = 2;
/// Few, so that they are used again and again.
const PORTS: u16 = 6;
/// Beats in which all is well, after which both sides must know of a session.
const KNOWN: u32 = 4;

#[derive(Clone, Debug)]
enum Step {
    /// A second passes; the bits are the order of who beats, and who comes too late.
    Beat(u8),
    Open(usize, u16),
    /// Both sides, the node, the proxy end it.
    End(usize),
    EndAtNode(usize),
    EndAtProxy(usize),
    Send(usize),
    Pause(usize, bool),
    Cut(usize, bool),
    Redis(bool),
    Flush,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        60 => any::<u8>().prop_map(Step::Beat),
        20 => (0..NODES, 0..PORTS).prop_map(|(node, port)| Step::Open(node, port)),
        6 => any::<usize>().prop_map(Step::End),
        4 => any::<usize>().prop_map(Step::EndAtNode),
        4 => any::<usize>().prop_map(Step::EndAtProxy),
        6 => any::<usize>().prop_map(Step::Send),
        2 => (0..NODES, any::<bool>()).prop_map(|(node, is)| Step::Pause(node, is)),
        2 => (0..NODES, any::<bool>()).prop_map(|(node, is)| Step::Cut(node, is)),
        3 => any::<bool>().prop_map(Step::Redis),
        1 => Just(Step::Flush),
    ];
    prop::collection::vec(step, 1..400)
}

struct Session {
    node: usize,
    end: SocketAddr,
    number: u64,
    opened: Instant,
    at_node: Option<Key>,
    at_proxy: bool,
    sent: u64,
    /// Beats in a row that both sides had it while all was well, up to [`KNOWN`].
    together: u32,
}

#[derive(Default)]
struct Peer {
    ledger: Ledger,
    is_paused: bool,
    is_cut: bool,
    /// When it ran last, and when a claim of it was stored last.
    beat: Option<Instant>,
    heard: Option<Instant>,
}

/// All sides, and what Redis holds.
struct World {
    now: Instant,
    peers: [Peer; NODES],
    watch: Watch,
    sessions: Vec<Session>,
    next: u64,
    is_up: bool,
    epoch: u64,
    claims: HashMap<String, (Instant, Claim)>,
    reports: HashMap<String, (Instant, Report)>,
    announced: Announced,
}

impl World {
    fn new() -> Self {
        Self {
            now: Instant::now(),
            peers: Default::default(),
            watch: Watch::default(),
            sessions: Vec::new(),
            next: 0,
            is_up: true,
            epoch: 0,
            claims: HashMap::new(),
            reports: HashMap::new(),
            announced: [(at(9, 1080), vec![Arc::from("p")])].into(),
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Beat(bits) => self.beat(bits),
            Step::Open(node, port) => self.open(node, port),
            Step::End(nth) => self.end(nth, true, true),
            Step::EndAtNode(nth) => self.end(nth, true, false),
            Step::EndAtProxy(nth) => self.end(nth, false, true),
            Step::Send(nth) => {
                let running = self.peers.each_ref().map(|peer| !peer.is_paused);
                let both = |session: &&mut Session| session.at_node.is_some() && running[session.node];
                let count = self.sessions.len().max(1);
                if let Some(session) = self.sessions.iter_mut().skip(nth % count).find(both) {
                    session.sent += 1;
                }
            }
            Step::Pause(node, is) => self.peers[node].is_paused = is,
            Step::Cut(node, is) => self.peers[node].is_cut = is,
            Step::Redis(is) => {
                if is && !self.is_up {
                    self.flush();
                }
                self.is_up = is;
            }
            Step::Flush => self.flush(),
        }
    }

    fn flush(&mut self) {
        self.epoch += 1;
        self.claims.clear();
        self.reports.clear();
        // What was said and not heard yet is gone, too.
        self.sessions.iter_mut().filter(|session| session.together < KNOWN).for_each(|session| session.together = 0);
    }

    fn open(&mut self, node: usize, port: u16) {
        let own = at(node as u8, port);
        let is_used = |session: &Session| session.end == own && session.at_node.is_some();
        if self.peers[node].is_paused || self.sessions.iter().any(is_used) {
            return;
        }
        // A new connection from the same port resets what the proxy still had.
        self.sessions.iter_mut().filter(|session| session.end == own).for_each(|session| session.at_proxy = false);
        self.next += 1;
        let at_node = Some(self.peers[node].ledger.opened(at(9, 1080), own));
        let (number, together, opened) = (self.next, 0, self.now);
        self.sessions.push(Session { node, end: own, number, opened, at_node, at_proxy: true, sent: 0, together });
    }

    fn end(&mut self, nth: usize, by_node: bool, by_proxy: bool) {
        let count = self.sessions.len();
        let Some(session) = self.sessions.get_mut(nth % count.max(1)) else { return };
        if by_proxy {
            session.at_proxy = false;
        }
        if by_node
            && !self.peers[session.node].is_paused
            && let Some(key) = session.at_node.take()
        {
            self.peers[session.node].ledger.closed(key);
        }
    }

    fn beat(&mut self, bits: u8) {
        self.now += BEAT + Duration::from_millis(u64::from(bits));
        let late = (bits >> 4) & 3;
        let is_on_time = !(1..=NODES as u8).contains(&late);
        let is_well = is_on_time && self.is_up && self.peers.iter().all(|peer| !peer.is_paused && !peer.is_cut);
        for session in self.sessions.iter_mut().filter(|session| session.together < KNOWN) {
            let both = session.at_proxy && session.at_node.is_some();
            session.together = if is_well && both { session.together + 1 } else { 0 };
        }
        if bits & 1 == 0 {
            self.proxy_beat();
        }
        (0..NODES).filter(|node| late != *node as u8 + 1).for_each(|node| self.node_beat(node));
        if bits & 1 == 1 {
            self.proxy_beat();
        }
        self.sessions.retain(|session| session.at_proxy || session.at_node.is_some());
    }

    fn node_beat(&mut self, node: usize) {
        let peer = &mut self.peers[node];
        if peer.is_paused {
            return;
        }
        peer.beat = Some(self.now);
        let name = format!("n{node}");
        let drafts = peer.ledger.claims(&self.announced, self.now);
        if !self.is_up || peer.is_cut {
            return;
        }
        let mut answers = HashMap::new();
        for draft in drafts {
            let claim = Claim { node: name.clone(), number: draft.number, ends: draft.ends.into_iter().collect() };
            self.claims.insert(name.clone(), (self.now, claim));
            peer.heard = Some(self.now);
            let told = self.reports.get(&name).filter(|(at, _)| self.now - *at < Duration::from_secs(5));
            answers.insert(draft.proxy, told.map(|(_, report)| report.clone()).into_iter().collect());
        }
        for key in peer.ledger.heard(&answers) {
            let is_it = |session: &&mut Session| session.node == node && session.at_node == Some(key);
            let session = self.sessions.iter_mut().find(is_it).expect("it stands");
            assert!(!session.at_proxy, "{} was ended by its node, and the proxy had it", session.end);
            session.at_node = None;
            peer.ledger.closed(key);
        }
    }

    fn proxy_beat(&mut self) {
        if !self.is_up {
            return self.watch.away();
        }
        let all = self.sessions.iter().filter(|session| session.at_proxy);
        let open: Vec<Open> =
            all.map(|session| Open { session: session.number, client: session.end, sent: session.sent }).collect();
        for answer in self.watch.answers(&open) {
            let missing = answer.missing.into_iter().collect();
            let report = Report { run: 1, number: answer.number, missing };
            self.reports.insert(answer.node.to_string(), (self.now, report));
        }
        self.claims.retain(|_, (at, _)| self.now - *at < LIFE);
        let claims = self.claims.values().map(|(_, claim)| claim.clone()).collect();
        for orphan in self.watch.heard(&self.epoch.to_string(), claims, &open, self.now) {
            let found = self.sessions.iter_mut().find(|session| session.number == orphan.session).expect("it was open");
            let peer = &mut self.peers[found.node];
            let silence = peer.heard.map(|heard| self.now - heard);
            match orphan.why {
                Why::Disowned => assert!(found.at_node.is_none(), "{} was ended, and its node had it", found.end),
                Why::Silent => assert!(silence.is_some_and(|span| span >= LIFE), "{} {silence:?}", found.end),
            }
            found.at_proxy = false;
            if let Some(key) = found.at_node.take() {
                // Its node hears of it when it runs, and knows then whether it was its own doing.
                let has_beat = |beat: Instant| beat > found.opened && self.now - beat >= LIFE;
                let stood_still = peer.beat.is_some_and(has_beat);
                assert!(peer.ledger.is_forfeited(key, self.now) || !stood_still, "{}", found.end);
                peer.ledger.closed(key);
            }
        }
    }

    /// All is well, for long enough.
    fn recovers(&mut self) {
        self.is_up = true;
        self.peers.iter_mut().for_each(|peer| (peer.is_paused, peer.is_cut) = (false, false));
        for _ in 0..LIFE.as_secs() + 10 {
            self.beat(0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn only_what_one_side_has_is_ended_and_in_the_end_both_have_the_same(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.recovers();
        for session in &world.sessions {
            let both = session.at_proxy && session.at_node.is_some();
            // What both had only while nobody could say so may not have been known to both.
            prop_assert!(both || session.together < KNOWN, "{} {:?} {}", session.end, session.at_node, session.at_proxy);
        }
    }
}
