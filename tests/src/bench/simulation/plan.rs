//! What goes wrong in the simulated day, and for how long that excuses what is seen. Floor 3.

use super::fleet::{Event, Fleet};
use super::{SECOND, Setup};

/// Something that goes wrong, or ends.
#[derive(Clone, Debug)]
pub enum Fault {
    /// A node dies without a word.
    Dies(usize),
    /// Nodes start.
    Start(Vec<usize>),
    /// Nodes end as they should.
    Stop(Vec<usize>),
    /// The store is away, or there again.
    Away(bool),
    /// The store loses all that it knows.
    Flush,
    /// The store was away, and has lost all that it knew.
    BackEmpty,
    /// Nodes cannot reach the store, or can again.
    Cut(Vec<usize>, bool),
}

impl Fault {
    fn name(&self) -> &'static str {
        match self {
            Self::Dies(_) => "a node dies",
            Self::Start(_) => "nodes start",
            Self::Stop(_) => "nodes end",
            Self::Away(true) => "Redis is away",
            Self::Away(false) => "Redis is back",
            Self::Flush => "Redis is flushed",
            Self::BackEmpty => "Redis is back, empty",
            Self::Cut(_, true) => "nodes are cut off",
            Self::Cut(_, false) => "nodes are back",
        }
    }
}

/// Faults and their times, in microseconds from the start.
#[derive(Clone, Debug)]
pub struct Plan {
    /// At which time what goes wrong.
    pub faults: Vec<(u64, Fault)>,
    /// How many nodes there are at most.
    pub most_nodes: usize,
    /// Nodes that nothing happened to.
    pub untouched: Vec<usize>,
    /// How long the first moments excuse what is seen.
    pub warm_up: u64,
}

/// So long after a fault what it causes may go on: a dead node is noticed in 15 seconds, then places change hands.
const AFTER: u64 = 20 * SECOND;

impl Plan {
    /// The faults of a day.
    pub fn new(setup: &Setup) -> Self {
        let day = u64::try_from(setup.day.as_micros()).unwrap_or(u64::MAX);
        let (nodes, outage) = (setup.nodes, (day / 20).min(60 * SECOND));
        let warm_up = 30 * SECOND;
        if !setup.faults {
            return Self { faults: Vec::new(), most_nodes: nodes, untouched: (0..nodes).collect(), warm_up };
        }
        let some = |from: usize, part: usize| -> Vec<usize> { (from..from + (nodes / part).max(1)).collect() };
        let (restarted, cut) = (some(1, 20), some(1 + (nodes / 20).max(1), 10));
        let first_untouched = cut.last().map_or(0, |last| last + 1);
        let at = |percent: u64| day / 100 * percent;
        let faults = vec![
            (at(10), Fault::Dies(0)),
            (at(20), Fault::Start(vec![nodes])),
            (at(30), Fault::Stop(restarted.clone())),
            (at(30) + 10 * SECOND, Fault::Start(restarted)),
            (at(45), Fault::Away(true)),
            (at(45) + outage, Fault::Away(false)),
            (at(60), Fault::Flush),
            (at(75), Fault::Cut(cut.clone(), true)),
            (at(75) + outage, Fault::Cut(cut, false)),
            (at(90), Fault::Away(true)),
            (at(90) + outage, Fault::BackEmpty),
        ];
        Self { faults, most_nodes: nodes + 1, untouched: (first_untouched..nodes).collect(), warm_up }
    }
}

impl Fleet<'_> {
    pub(super) fn fault(&mut self, fault: &Fault) -> anyhow::Result<()> {
        self.check.excuse(fault.name(), self.now, AFTER);
        match fault {
            Fault::Dies(node) => drop(self.end(*node)),
            Fault::Start(nodes) => {
                for node in nodes {
                    self.begin(*node)?;
                }
            }
            Fault::Stop(nodes) => {
                for node in nodes {
                    let Some(mut gone) = self.end(*node) else { continue };
                    let asks = gone.purse.leave();
                    let ticket = self.deliver(gone.life, asks)?;
                    self.at(self.now, Event::Answer(*node, gone.life, ticket));
                }
            }
            Fault::Away(is_away) => {
                self.is_store_away = *is_away;
                self.excuse_outage(fault, *is_away);
            }
            Fault::Flush => self.store.flush()?,
            Fault::BackEmpty => {
                self.is_store_away = false;
                self.store.flush()?;
            }
            Fault::Cut(nodes, is_cut) => {
                for node in nodes {
                    if let Some(its) = &mut self.nodes[*node] {
                        its.is_cut = *is_cut;
                    }
                }
                self.excuse_outage(fault, *is_cut);
            }
        }
        Ok(())
    }

    /// While the store is away, each goes by its share: what is seen is excused until it is back, and a while longer.
    fn excuse_outage(&mut self, fault: &Fault, begins: bool) {
        if begins {
            let day = u64::try_from(self.setup.day.as_micros()).unwrap_or(u64::MAX);
            self.check.excuse(fault.name(), self.now, (day / 20).min(60 * SECOND) + AFTER);
        }
    }
}
