//! Two nodes with one store that each of them can lose.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::queue::control::words::ControlKind;
use crate::shaping::automation::store::Heard;

/// What two nodes share.
#[derive(Default)]
struct Common {
    orders: Mutex<(u64, HashMap<String, Told>)>,
    probed: Mutex<HashMap<String, bool>>,
    is_away: AtomicBool,
}

impl Common {
    fn here<T>(&self, value: T) -> Result<T, String> {
        if self.is_away.load(Ordering::SeqCst) { Err("away".to_owned()) } else { Ok(value) }
    }
}

fn done<'a, T: Send + 'a>(value: T) -> Doing<'a, T> {
    Box::pin(std::future::ready(value))
}

impl Store for Common {
    fn is_shared(&self) -> bool {
        true
    }
    fn count<'a>(&'a self, _: &'a str, _: Duration, _: u64, _: UnixMs) -> Doing<'a, u64> {
        done(0)
    }
    fn tell<'a>(&'a self, told: &'a [Told], _: UnixMs) -> Doing<'a, Result<(), String>> {
        done(self.here(()).map(|()| {
            let mut orders = self.orders.lock();
            orders.0 += 1;
            orders.1.extend(told.iter().map(|told| (told.control.common_name(), told.clone())));
        }))
    }
    fn hear(&self, known: u64) -> Doing<'_, Result<Heard, String>> {
        let orders = self.orders.lock();
        let told = (orders.0 != known).then(|| orders.1.values().cloned().collect());
        done(self.here(Heard { version: orders.0, told }))
    }
    fn probe<'a>(&'a self, path: &'a str) -> Doing<'a, Probe> {
        let mut probed = self.probed.lock();
        done(match probed.get(path) {
            None => {
                probed.insert(path.to_owned(), false);
                Probe::Own
            }
            Some(false) => Probe::Other,
            Some(true) => Probe::Proven,
        })
    }
    fn prove<'a>(&'a self, path: &'a str) -> Doing<'a, ()> {
        self.probed.lock().insert(path.to_owned(), true);
        done(())
    }
}

/// A node: its orders are what it gave and what it took up.
struct Node {
    sharing: Sharing,
    queues: Queues,
    known: Known,
    version: u64,
}

#[derive(Clone)]
struct Queues {
    sharing: Sharing,
    is_full: Arc<AtomicBool>,
    orders: Arc<Mutex<Vec<Control>>>,
    asking: Arc<Mutex<Vec<Way>>>,
    proven: Arc<Mutex<Vec<Way>>>,
    allowed: Arc<Mutex<Vec<bool>>>,
}

impl Adopts for Queues {
    fn adopt(&self, told: Told) -> Doing<'_, Result<(), String>> {
        if self.is_full.load(Ordering::SeqCst) {
            return done(Err("full".to_owned()));
        }
        let mut orders = self.orders.lock();
        orders.retain(|own| !own.is_like(&told.control));
        if !told.is_ended {
            orders.push(told.control);
        }
        self.sharing.set(&orders);
        done(Ok(()))
    }
    fn probes(&self) -> Doing<'_, [Vec<Way>; 2]> {
        done([std::mem::take(&mut *self.asking.lock()), std::mem::take(&mut *self.proven.lock())])
    }
    fn allow(&self, _: Way, is_proven: bool) -> Doing<'_, ()> {
        self.allowed.lock().push(is_proven);
        done(())
    }
}

impl Node {
    fn new(common: &Arc<Common>) -> Self {
        let sharing = Sharing::new(common.clone(), Clock::system());
        let queues = Queues {
            sharing: sharing.clone(),
            is_full: Arc::default(),
            orders: Arc::default(),
            asking: Arc::default(),
            proven: Arc::default(),
            allowed: Arc::default(),
        };
        Self { sharing, queues, known: Known::new(), version: 0 }
    }

    async fn turn(&mut self) -> Result<(), String> {
        self.sharing.set(&self.queues.orders.lock());
        self.sharing.turn(&self.queues, &mut self.known, &mut self.version).await
    }

    fn has(&self) -> Vec<UnixMs> {
        self.queues.orders.lock().iter().map(|control| control.expires).collect()
    }
}

fn order(minutes: u64) -> Control {
    let now = Clock::system().wall();
    Control {
        id: "1a".parse().expect("an id"),
        kind: ControlKind::Suspend,
        scope: Scope { source: Some("s".into()), site: Some("a.test".into()), ..Scope::default() },
        reason: "f:1".to_owned(),
        silent: false,
        created: now,
        expires: now.plus(Duration::from_secs(minutes * 60)),
        by: By::Automation,
        setting: None,
        relapses: 1,
    }
}

#[tokio::test]
async fn each_node_has_each_order_and_a_later_one_too() {
    let common = Arc::new(Common::default());
    let (mut a, mut b) = (Node::new(&common), Node::new(&common));
    let given = order(10);
    a.queues.orders.lock().push(given.clone());
    a.turn().await.expect("told");
    b.turn().await.expect("heard");
    assert_eq!(b.has(), [given.expires]);
    let version = common.orders.lock().0;
    b.turn().await.expect("nothing new");
    assert_eq!(common.orders.lock().0, version, "what was heard is not told again");

    let longer = order(30);
    *b.queues.orders.lock() = vec![longer.clone()];
    b.turn().await.expect("told");
    a.turn().await.expect("heard");
    let mut c = Node::new(&common);
    c.turn().await.expect("heard");
    assert_eq!((a.has(), c.has()), (vec![longer.expires], vec![longer.expires]));

    c.queues.orders.lock().clear();
    for node in [&mut c, &mut a, &mut b] {
        node.turn().await.expect("shared");
        assert_eq!(node.has(), [], "one that is ended is ended everywhere");
    }
    a.turn().await.expect("nothing new");
    assert_eq!(a.has(), []);
}

#[tokio::test]
async fn without_the_store_each_goes_on_and_tells_later() {
    let common = Arc::new(Common::default());
    let (mut a, mut b) = (Node::new(&common), Node::new(&common));
    common.is_away.store(true, Ordering::SeqCst);
    a.queues.orders.lock().push(order(10));
    assert!(a.turn().await.is_err() && b.turn().await.is_err());
    assert_eq!((a.has().len(), b.has().len()), (1, 0));
    common.is_away.store(false, Ordering::SeqCst);
    a.turn().await.expect("told");
    b.turn().await.expect("heard");
    assert_eq!(b.has(), a.has());
    // A store that was emptied since the last look is told anew.
    a.turn().await.expect("nothing new");
    *common.orders.lock() = (0, HashMap::new());
    a.turn().await.expect("told");
    let mut c = Node::new(&common);
    c.turn().await.expect("heard");
    assert_eq!(c.has(), a.has());
}

#[tokio::test]
async fn what_a_node_has_no_room_for_is_not_ended_by_it() {
    let common = Arc::new(Common::default());
    let (mut a, mut b) = (Node::new(&common), Node::new(&common));
    a.queues.orders.lock().push(order(10));
    a.turn().await.expect("told");
    b.queues.is_full.store(true, Ordering::SeqCst);
    b.turn().await.expect("shared");
    for node in [&mut b, &mut a] {
        node.turn().await.expect("shared");
    }
    assert_eq!((a.has().len(), b.has().len()), (1, 0));
}

#[tokio::test]
async fn one_node_probes_and_the_others_learn_what_came_of_it() {
    let common = Arc::new(Common::default());
    let (mut a, mut b) = (Node::new(&common), Node::new(&common));
    let way: Way = ("s".into(), "a.test".into());
    for node in [&mut a, &mut b] {
        node.queues.asking.lock().push(way.clone());
        node.turn().await.expect("shared");
    }
    assert_eq!((a.queues.allowed.lock().clone(), b.queues.allowed.lock().clone()), (vec![false], vec![]));
    a.queues.proven.lock().push(way.clone());
    a.turn().await.expect("shared");
    b.queues.asking.lock().push(way);
    b.turn().await.expect("shared");
    assert_eq!(*b.queues.allowed.lock(), [true]);
}
