//! A proxy's side: which of its sessions nodes have claimed, and which of those nobody claims any more.
//! Pure: told the time, what Redis holds and what is open. Floor 1.
//! Always: a session is ended only if a node had claimed it, and that node, while Redis answered all the time and no byte
//! of it came, was not heard of for its whole life, or left the session out of two claims in a row.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::claim::{Claim, end};
use super::{LIFE, MISSES};

/// Who was not able to ask for so long has missed what was said meanwhile.
const GAP: Duration = Duration::from_secs(4);
/// Nodes that are followed.
const MAX_NODES: usize = 10_000;

/// A session that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// Its number: never used again.
    pub session: u64,
    /// The client's end.
    pub client: SocketAddr,
    /// Bytes that the client has sent.
    pub sent: u64,
}

/// Why a session is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// Its node is not heard of.
    Silent,
    /// Its node has it no more.
    Disowned,
}

impl Why {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Silent, Self::Disowned];

    /// The name used in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Disowned => "disowned",
        }
    }
}

/// A session that is to be ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// Its number.
    pub session: u64,
    /// The node that had claimed it.
    pub node: Arc<str>,
    /// Why.
    pub why: Why,
}

/// What is told to a node of its last claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The node.
    pub node: Arc<str>,
    /// The claim.
    pub number: u64,
    /// What of it is not open here, in no order.
    pub missing: Vec<SocketAddr>,
}

#[derive(Debug)]
struct Node {
    number: u64,
    ends: HashSet<SocketAddr>,
    /// When it was last heard of: by a new claim, or by bytes.
    heard: Instant,
    /// Its last claim is new.
    is_fresh: bool,
}

#[derive(Debug)]
struct Claimed {
    node: Arc<str>,
    missed: u8,
    sent: u64,
}

/// What a proxy knows of claims.
#[derive(Debug, Default)]
pub struct Watch {
    nodes: HashMap<Arc<str>, Node>,
    claimed: HashMap<u64, Claimed>,
    /// When Redis last answered, and its epoch.
    asked: Option<(Instant, String)>,
}

impl Watch {
    /// Redis could not be asked: whatever was not heard counts anew.
    pub fn away(&mut self) {
        self.asked = None;
    }

    /// Sessions that a node claims.
    pub fn claimed(&self) -> usize {
        self.claimed.len()
    }

    /// Nodes that claim.
    pub fn nodes(&self) -> Vec<Arc<str>> {
        self.nodes.keys().cloned().collect()
    }

    /// What nodes are told: of their last claims, what is not open.
    pub fn answers(&self, open: &[Open]) -> Vec<Answer> {
        if self.nodes.is_empty() {
            return Vec::new();
        }
        let clients: HashSet<SocketAddr> = open.iter().map(|open| end(open.client)).collect();
        let missing = |node: &Node| node.ends.difference(&clients).copied().collect();
        let answer = |(name, node): (&Arc<str>, &Node)| Answer {
            node: name.clone(),
            number: node.number,
            missing: missing(node),
        };
        self.nodes.iter().map(answer).collect()
    }

    /// A beat: what Redis holds now, in its `epoch`, which is another one after it lost its data; and what is open.
    /// Returns what is to be ended.
    pub fn heard(&mut self, epoch: &str, claims: Vec<Claim>, open: &[Open], now: Instant) -> Vec<Orphan> {
        let is_continuous =
            self.asked.as_ref().is_some_and(|(at, old)| old == epoch && now.saturating_duration_since(*at) < GAP);
        self.asked = Some((now, epoch.to_owned()));
        if !is_continuous {
            self.nodes.values_mut().for_each(|node| node.heard = now);
            self.claimed.values_mut().for_each(|claimed| claimed.missed = 0);
        }
        self.learn(claims, now);
        self.hear_bytes(open, now);
        let orphans = self.compare(open, now);
        let silent = |node: &Node| now.saturating_duration_since(node.heard) >= LIFE;
        self.nodes.retain(|_, node| !silent(node));
        orphans
    }

    fn learn(&mut self, claims: Vec<Claim>, now: Instant) {
        self.nodes.values_mut().for_each(|node| node.is_fresh = false);
        for Claim { node, number, ends } in claims {
            let known = self.nodes.get(node.as_str()).map(|known| known.number);
            // An older one is from a Redis that has not heard all yet.
            let is_new = known.map_or(self.nodes.len() < MAX_NODES, |known| number > known);
            if is_new {
                self.nodes.insert(node.into(), Node { number, ends, heard: now, is_fresh: true });
            }
        }
    }

    /// A node that sends bytes lives, whether or not it reaches Redis.
    fn hear_bytes(&mut self, open: &[Open], now: Instant) {
        for open in open {
            if let Some(claimed) = self.claimed.get_mut(&open.session)
                && claimed.sent != open.sent
            {
                claimed.sent = open.sent;
                if let Some(node) = self.nodes.get_mut(&claimed.node) {
                    node.heard = now;
                }
            }
        }
    }

    fn compare(&mut self, open: &[Open], now: Instant) -> Vec<Orphan> {
        let (claimants, mut before) = (self.claimants(now), std::mem::take(&mut self.claimed));
        let mut orphans = Vec::new();
        for Open { session, client, sent } in open.iter().copied() {
            let last = before.remove(&session);
            match (claimants.get(&end(client)), last) {
                (Some(Some(node)), _) => {
                    self.claimed.insert(session, Claimed { node: node.clone(), missed: 0, sent });
                }
                // Two nodes behind different networks may have one address: whose it is cannot be known.
                (Some(None), _) | (None, None) => {}
                (None, Some(mut last)) => match self.nodes.get(&last.node) {
                    Some(node) if now.saturating_duration_since(node.heard) < LIFE => {
                        last.missed += u8::from(node.is_fresh);
                        if last.missed >= MISSES {
                            orphans.push(Orphan { session, node: last.node, why: Why::Disowned });
                        } else {
                            self.claimed.insert(session, last);
                        }
                    }
                    _ => orphans.push(Orphan { session, node: last.node, why: Why::Silent }),
                },
            }
        }
        orphans
    }

    /// Who claims each end; `None` where more than one does.
    fn claimants(&self, now: Instant) -> HashMap<SocketAddr, Option<Arc<str>>> {
        let mut claimants = HashMap::new();
        for (name, node) in &self.nodes {
            if now.saturating_duration_since(node.heard) < LIFE {
                for end in &node.ends {
                    let of_one = |claimant: &mut Option<Arc<str>>| *claimant = None;
                    claimants.entry(*end).and_modify(of_one).or_insert_with(|| Some(name.clone()));
                }
            }
        }
        claimants
    }
}
