//! Power cuts before any call: random work on a disk that fails and forgets; what each cut leaves is
//! recovered, worked on, and cut again.

use std::collections::HashMap;
use std::io::ErrorKind;

use super::sim::Call;
use super::*;

/// Workloads; each is cut before every call that it makes of the disk.
const WORKLOADS: u32 = 250;
/// Power cuts that must have been survived in one run.
const MIN_CUTS: usize = 10_000;

#[derive(Clone, Debug)]
enum Work {
    /// Several messages at once, of these lengths.
    Store(Vec<usize>),
    /// A mark for a part that is known.
    Mark(prop::sample::Index, Option<u16>),
    /// A call fails: which, after how many, and whether because the disk is full.
    Fail(u8, u32, bool),
}

fn work() -> impl Strategy<Value = Work> {
    let lengths = prop::collection::vec(prop_oneof![5 => 0usize..50, 5 => 300usize..1500, 1 => 3000usize..9000], 1..4);
    prop_oneof![
        5 => lengths.prop_map(Work::Store),
        7 => (any::<prop::sample::Index>(), prop::option::weighted(0.3, any::<u16>()))
            .prop_map(|(which, attempts)| Work::Mark(which, attempts)),
        1 => (0u8..6, 0u32..4, any::<bool>()).prop_map(|(call, nth, full)| Work::Fail(call, nth, full)),
    ]
}

/// What the test did, in its order.
#[derive(Clone, Debug)]
enum Event {
    Offered(u16, usize),
    Acknowledged(u16),
    Marked(u16, u16, Mark),
    /// All marks before the event of this number are durable.
    Sure(usize),
}

/// What is known of a part: its marks in their order, of which the first `sure` are durable.
#[derive(Clone, Debug, Default)]
struct Part {
    marks: Vec<(usize, Mark)>,
}

#[derive(Clone, Debug, Default)]
struct Known {
    length: usize,
    is_acknowledged: bool,
    parts: [Part; 2],
}

/// What a disk may hold after `events`.
fn model(events: &[Event]) -> (HashMap<u16, Known>, usize) {
    let (mut known, mut sure): (HashMap<u16, Known>, _) = (HashMap::new(), 0);
    for (at, event) in events.iter().enumerate() {
        match event {
            Event::Offered(n, length) => drop(known.insert(*n, Known { length: *length, ..Known::default() })),
            Event::Acknowledged(n) => known.get_mut(n).expect("offered").is_acknowledged = true,
            Event::Marked(n, part, mark) => {
                known.get_mut(n).expect("offered").parts[usize::from(*part)].marks.push((at, mark.clone()));
            }
            Event::Sure(before) => sure = *before,
        }
    }
    (known, sure)
}

impl Part {
    /// Whether a start may find it like this; `None` is that it is not there.
    fn may_be(&self, found: Option<&Recovered>, sure: usize) -> bool {
        let durable = self.marks.iter().filter(|(at, _)| *at < sure).count();
        let fresh = durable == 0 && found.is_some_and(|part| part.due.is_none() && part.attempts == 0);
        let mut candidates = self.marks.iter().skip(durable.saturating_sub(1)).map(|(_, mark)| mark);
        fresh
            || candidates.any(|mark| match (mark, found) {
                (Mark::Done, found) => found.is_none(),
                (Mark::Later { attempts, due, settled, .. }, Some(part)) => {
                    (*attempts, Some(*due), settled) == (part.attempts, part.due, &part.settled)
                }
                (Mark::Later { .. }, None) => false,
            })
    }
}

struct Run {
    disk: Arc<Sim>,
    events: Vec<Event>,
}

impl Run {
    fn tell(&mut self, event: Event) {
        self.events.push(event);
        self.disk.moment.store(self.events.len(), Ordering::SeqCst);
    }

    async fn work(&mut self, spool: &Spool, work: &Work) {
        match work {
            Work::Store(lengths) => self.store(spool, lengths).await,
            Work::Mark(which, attempts) => self.mark(spool, *which, *attempts),
            Work::Fail(call, nth, full) => {
                let calls = [Call::Create, Call::Write, Call::Sync, Call::SyncDirectory, Call::Remove, Call::Rename];
                let error = if *full { ErrorKind::StorageFull } else { ErrorKind::Other };
                self.disk.fail(calls[usize::from(*call)], *nth, error);
            }
        }
    }

    async fn store(&mut self, spool: &Spool, lengths: &[usize]) {
        let before = self.events.len();
        let first = model(&self.events).0.len() as u16;
        let offered: Vec<_> = (first..).zip(lengths.iter().copied()).collect();
        for (n, length) in &offered {
            self.tell(Event::Offered(*n, *length));
        }
        let store = |(n, length): &(u16, usize)| {
            let (spool, message) = (spool.clone(), numbered(*n, *length));
            (*n, tokio::spawn(async move { spool.store(message).await.is_ok() }))
        };
        // All are begun before the first is waited for.
        let stores: Vec<_> = offered.iter().map(store).collect();
        for (n, stored) in stores {
            if stored.await.expect("no panic") {
                self.tell(Event::Acknowledged(n));
                self.tell(Event::Sure(before));
            }
        }
    }

    fn mark(&mut self, spool: &Spool, which: prop::sample::Index, attempts: Option<u16>) {
        let (known, _) = model(&self.events);
        let is_open = |part: &Part| part.marks.last().is_none_or(|(_, mark)| *mark != Mark::Done);
        let live = known.iter().filter(|(_, known)| known.is_acknowledged);
        let mut parts: Vec<(u16, u16)> = live
            .flat_map(|(n, known)| (0..).zip(&known.parts).filter(|(_, p)| is_open(p)).map(|(part, _)| (*n, part)))
            .collect();
        parts.sort_unstable();
        if parts.is_empty() {
            return;
        }
        let (n, part) = parts[which.index(parts.len())];
        let later = |attempts: u16| Mark::Later {
            attempts,
            due: UnixMs(u64::from(attempts) * 1000),
            settled: (0..attempts % 3).collect(),
            moved: None,
        };
        let mark = attempts.map_or(Mark::Done, later);
        self.tell(Event::Marked(n, part, mark.clone()));
        spool.mark(numbered(n, 0).id, part, mark);
    }
}

/// Recovers a disk; compares with what may be there after `events`.
async fn check(disk: &Arc<Sim>, events: &[Event]) -> Result<(Spool, Vec<Recovered>), TestCaseError> {
    // Small segments, so that much is copied and removed.
    let options = Options { segment_bytes: 800, ..options(PathBuf::from("/spool")) };
    let (spool, report, found) = open_with(disk, options);
    let missing = report.damaged.iter().find(|damage| damage.why.contains("missing"));
    prop_assert!(missing.is_none(), "{missing:?}");
    let (known, sure) = model(events);
    let by_part: HashMap<_, _> = found.iter().map(|part| ((number(part.id), part.part), part)).collect();
    prop_assert_eq!(by_part.len(), found.len(), "a part came twice");
    for (n, known) in &known {
        let parts = [by_part.get(&(*n, 0)).copied(), by_part.get(&(*n, 1)).copied()];
        let is_live = parts.iter().any(Option::is_some);
        if is_live {
            let read = spool.read(numbered(*n, 0).id).await;
            prop_assert_eq!(&*read.expect("what is live can be read"), &*numbered(*n, known.length));
        }
        for (part, found) in known.parts.iter().zip(parts).filter(|_| known.is_acknowledged) {
            prop_assert!(part.may_be(found, sure), "message {n}: found {found:?}, known {part:?}, sure {sure}");
        }
    }
    prop_assert!(by_part.keys().all(|(n, _)| known.contains_key(n)), "an invented message");
    Ok((spool, found))
}

/// What a start has found is what is known from then on.
fn known_from(found: &[Recovered], events: &[Event]) -> Vec<Event> {
    let (known, _) = model(events);
    let mut now = Vec::new();
    for (n, known) in known.iter().collect::<std::collections::BTreeMap<_, _>>() {
        now.push(Event::Offered(*n, known.length));
        now.push(Event::Acknowledged(*n));
        for part in 0..2 {
            let mark = match found.iter().find(|f| number(f.id) == *n && f.part == part) {
                None => Mark::Done,
                Some(Recovered { due: None, .. }) => continue,
                Some(Recovered { attempts, due: Some(due), settled, .. }) => {
                    Mark::Later { attempts: *attempts, due: *due, settled: settled.clone(), moved: None }
                }
            };
            now.push(Event::Marked(*n, part, mark));
        }
    }
    now.push(Event::Sure(now.len()));
    now
}

/// Works, cutting the power before each call; tells how many cuts there were.
async fn play(disk: Arc<Sim>, rounds: &[Vec<Work>], closes: bool) -> Result<usize, TestCaseError> {
    let (mut disk, mut events, mut cuts) = (disk, Vec::new(), 0);
    for work in rounds {
        let (spool, found) = check(&disk, &events).await?;
        let mut run = Run { disk: disk.clone(), events: known_from(&found, &events) };
        disk.moment.store(run.events.len(), Ordering::SeqCst);
        disk.keep_cuts();
        for work in work {
            run.work(&spool, work).await;
        }
        if closes {
            disk.heal();
            spool.clone().close().await;
            let end = run.events.len();
            run.tell(Event::Sure(end));
        }
        let left = disk.take_cuts();
        let now = disk.after_power_cut();
        spool.close().await;
        cuts += left.len();
        for (moment, left) in &left {
            check(left, &run.events[..*moment]).await?.0.close().await;
        }
        // The next round goes on from one of them.
        let next = left.get(left.len() * 2 / 3).map(|(moment, left)| (run.events[..*moment].to_vec(), left.clone()));
        (events, disk) = next.unwrap_or((run.events, now));
    }
    check(&disk, &events).await?;
    Ok(cuts)
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_before_any_call() {
    let cuts = std::cell::Cell::new(0);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(WORKLOADS));
    let rounds = prop::collection::vec(prop::collection::vec(work(), 1..25), 1..4);
    let outcome = runner.run(&(rounds, any::<u64>(), any::<bool>()), |(rounds, seed, closes)| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        cuts.set(cuts.get() + runtime.block_on(play(Sim::new(seed), &rounds, closes))?);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(cuts.get() >= MIN_CUTS, "only {} power cuts", cuts.get());
}
