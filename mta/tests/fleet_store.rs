//! What nodes share of automation by a real Redis, one server or a cluster: counts, orders, who probes; and what each does
//! while it is away.

#[path = "../../shared/tests/limits/server.rs"]
#[expect(dead_code, reason = "the server can do more than this story wants")]
mod server;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use egret_mta::queue::control::words::{By, Control, ControlKind, Scope};
use egret_mta::shaping::automation::store::Doing;
use egret_mta::shaping::automation::{Adopts, FleetStore, Heard, Probe, Sharing, Store, Told, share};
use egret_shared::clock::{Clock, UnixMs};
use egret_shared::redis::{Redis, RedisOptions, Value};
use parking_lot::Mutex;
use server::{Server, cluster, until};
use tokio::task::JoinHandle;

const HOUR: Duration = Duration::from_secs(3_600);

fn store(redis: &RedisOptions, node: &str) -> FleetStore {
    with_clock(redis, node, &Clock::system())
}

fn with_clock(redis: &RedisOptions, node: &str, clock: &Clock) -> FleetStore {
    FleetStore::new(Redis::new(redis.clone()), node.to_owned(), clock.clone())
}

/// The story with one server, and with a cluster.
async fn with_each(story: impl AsyncFn(&RedisOptions)) {
    if !Server::is_installed() {
        return;
    }
    let server = Server::start(&[]);
    story(&server.options()).await;
    let (_servers, options) = cluster().await;
    story(&options).await;
}

fn order(site: &str, now: UnixMs, lasts: Duration) -> Told {
    let control = Control {
        id: "1a".parse().expect("an id"),
        kind: ControlKind::Suspend,
        scope: Scope { source: Some("s".into()), site: Some(site.into()), ..Scope::default() },
        reason: "mta.toml:7: /deferred/ fits 421 4.7.0 \"deferred\" ü".to_owned(),
        silent: false,
        created: now,
        expires: now.plus(lasts),
        by: By::Automation,
        setting: None,
        relapses: 1,
    };
    Told { control, is_ended: false }
}

fn path(site: &str) -> String {
    share::path(&"s".into(), &site.into())
}

fn wall() -> UnixMs {
    Clock::system().wall()
}

/// What is in force by a store, with the version.
async fn heard(store: &FleetStore) -> (u64, Vec<Told>) {
    let Heard { version, told } = store.hear(0).await.expect("Redis answers");
    (version, told.unwrap_or_default())
}

async fn told(store: &FleetStore, words: &[Told]) {
    store.tell(words, wall()).await.expect("Redis answers");
}

async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut is: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        if let Some(done) = is().await {
            return done;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn answers_are_counted_over_all_nodes() {
    with_each(counts).await;
}

async fn counts(redis: &RedisOptions) {
    let (a, b) = (store(redis, "a"), store(redis, "b"));
    let mut seen = Vec::new();
    for n in 0..6 {
        let node = if n % 2 == 0 { &a } else { &b };
        seen.push(node.count("rule 0 {x}\r\n", HOUR, 4, wall()).await);
    }
    assert_eq!(seen, [1, 2, 3, 4, 4, 4], "up to what is of interest");
    assert_eq!(b.count("another", HOUR, 4, wall()).await, 1);

    let short = Duration::from_millis(300);
    for _ in 0..3 {
        a.count("short", short, 100, wall()).await;
    }
    // What is out of the window does not count; the first of a look makes it one more.
    eventually("an empty window", || async {
        tokio::time::sleep(short).await;
        (b.count("short", short, 100, wall()).await == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn nodes_with_clocks_that_differ_agree_on_what_is_left() {
    with_each(clocks).await;
}

async fn clocks(redis: &RedisOptions) {
    let late = Clock::moved(UnixMs(wall().0 - 600_000));
    let (a, b) = (store(redis, "a"), with_clock(redis, "b", &late));
    assert!(heard(&a).await.1.is_empty() && heard(&b).await.1.is_empty());
    let given = order("a.test", wall(), HOUR);
    told(&a, std::slice::from_ref(&given)).await;
    let at_b = heard(&b).await.1[0].control.clone();
    let difference = given.control.expires.0 - at_b.expires.0;
    assert!((590_000..610_000).contains(&difference), "{difference}");
    assert_eq!(at_b.expires.since(at_b.created), HOUR);
    assert_eq!(heard(&a).await.1, [given], "and what it told itself it hears unchanged");
}

#[tokio::test]
async fn the_longer_order_and_the_end_of_one_win() {
    with_each(orders).await;
}

async fn orders(redis: &RedisOptions) {
    let (a, b) = (store(redis, "a"), store(redis, "b"));
    assert_eq!(a.hear(0).await.expect("an answer"), Heard { version: 0, told: None });
    let (now, long, short) = (wall(), order("a.test", wall(), 2 * HOUR), order("a.test", wall(), HOUR));
    told(&a, &[long.clone(), order("b.test", now, HOUR)]).await;
    let first = heard(&b).await;
    assert_eq!(first.1.len(), 2);
    assert_eq!(b.hear(first.0).await.expect("an answer"), Heard { version: first.0, told: None });
    told(&b, std::slice::from_ref(&short)).await;
    assert_eq!(heard(&b).await, first, "a shorter one changes nothing");

    let ended = Told { is_ended: true, ..long.clone() };
    told(&b, std::slice::from_ref(&ended)).await;
    // Node a has not heard of it.
    let longest = order("a.test", now, 3 * HOUR);
    told(&a, std::slice::from_ref(&longest)).await;
    let of_a_test = |told: Vec<Told>| told.into_iter().find(|one| one.control.scope.site.as_deref() == Some("a.test"));
    assert_eq!(of_a_test(heard(&a).await.1), Some(ended), "it does not come back");
    told(&a, std::slice::from_ref(&longest)).await;
    assert_eq!(of_a_test(heard(&b).await.1), Some(longest), "but when it is given anew");

    told(&a, &[order("c.test", wall(), Duration::from_millis(50))]).await;
    let gone = |told: Vec<Told>| told.iter().all(|one| one.control.scope.site.as_deref() != Some("c.test"));
    eventually("the end", || async { gone(heard(&b).await.1).then_some(()) }).await;
}

#[tokio::test]
async fn one_node_probes_until_the_path_is_suspended_again() {
    with_each(probes).await;
}

async fn probes(redis: &RedisOptions) {
    let (a, b, c) = (store(redis, "a"), store(redis, "b"), store(redis, "c"));
    let path = path("a.test");
    assert_eq!(
        (a.probe(&path).await, b.probe(&path).await, a.probe(&path).await),
        (Probe::Own, Probe::Other, Probe::Own)
    );
    a.prove(&path).await;
    assert_eq!((b.probe(&path).await, c.probe(&path).await), (Probe::Proven, Probe::Proven));

    let again = order("a.test", wall(), Duration::from_millis(400));
    told(&a, &[again]).await;
    assert_eq!(b.probe(&path).await, Probe::Other, "it is suspended");
    a.prove(&path).await;
    let first = eventually("its end", || async { Some(b.probe(&path).await).filter(|probe| *probe != Probe::Other) });
    assert_eq!((first.await, c.probe(&path).await), (Probe::Own, Probe::Other), "what was proven before is forgotten");
    assert_eq!(a.probe("source=s site=b.test").await, Probe::Own);
}

/// The orders of a node, as its queues have them.
#[derive(Clone)]
struct Queues {
    sharing: Sharing,
    orders: Arc<Mutex<Vec<Control>>>,
}

impl Adopts for Queues {
    fn adopt(&self, told: Told) -> Doing<'_, Result<(), String>> {
        self.change(|orders| {
            orders.retain(|own| !own.is_like(&told.control));
            orders.extend((!told.is_ended).then_some(told.control));
        });
        Box::pin(std::future::ready(Ok(())))
    }
    fn probes(&self) -> Doing<'_, [Vec<share::Way>; 2]> {
        Box::pin(std::future::ready([Vec::new(), Vec::new()]))
    }
    fn allow(&self, _: share::Way, _: bool) -> Doing<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

impl Queues {
    fn change(&self, how: impl FnOnce(&mut Vec<Control>)) {
        let mut orders = self.orders.lock();
        how(&mut orders);
        self.sharing.set(&orders);
    }

    fn sites(&self) -> Vec<String> {
        let orders = self.orders.lock();
        let mut sites: Vec<String> =
            orders.iter().filter_map(|one| Some(one.scope.site.as_deref()?.to_owned())).collect();
        sites.sort();
        sites
    }

    async fn have(&self, sites: &[&str]) {
        until(&format!("{sites:?}"), || (self.sites() == sites).then_some(())).await;
    }
}

/// A node that shares.
struct Node {
    store: Arc<FleetStore>,
    queues: Queues,
    task: JoinHandle<()>,
}

impl Node {
    fn start(redis: &RedisOptions, name: &str) -> Self {
        let store = Arc::new(store(redis, name));
        let sharing = Sharing::new(store.clone(), Clock::system());
        let queues = Queues { sharing: sharing.clone(), orders: Arc::default() };
        let task = tokio::spawn(sharing.run(Arc::new(queues.clone())));
        Self { store, queues, task }
    }

    fn gives(&self, site: &str) {
        self.queues.change(|orders| orders.push(order(site, wall(), HOUR).control));
    }

    fn ends(&self, site: &str) {
        self.queues.change(|orders| orders.retain(|own| own.scope.site.as_deref() != Some(site)));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn orders_reach_all_nodes_and_survive_a_redis_that_dies_and_forgets() {
    if !Server::is_installed() {
        return;
    }
    let server = Server::start(&[]);
    let redis = server.options();
    orders_survive(&redis, vec![server]).await;
}

#[tokio::test]
async fn orders_survive_the_server_of_a_cluster_that_has_them() {
    if !Server::is_installed() {
        return;
    }
    let (servers, redis) = cluster().await;
    orders_survive(&redis, servers).await;
}

/// The one that has the orders, and the others.
async fn keeper(servers: &mut Vec<Server>) -> Server {
    for at in 0..servers.len() {
        if let Value::Array(keys) = servers[at].say(&["KEYS", "*{automation}*"]).await
            && !keys.is_empty()
        {
            return servers.swap_remove(at);
        }
    }
    panic!("no server has orders");
}

async fn orders_survive(redis: &RedisOptions, mut servers: Vec<Server>) {
    let (a, b) = (Node::start(redis, "a"), Node::start(redis, "b"));
    a.gives("a.test");
    b.gives("b.test");
    for node in [&a, &b] {
        node.queues.have(&["a.test", "b.test"]).await;
    }
    let late = Node::start(redis, "late");
    late.queues.have(&["a.test", "b.test"]).await;
    late.ends("a.test");
    for node in [&a, &b, &late] {
        node.queues.have(&["b.test"]).await;
    }

    for n in 1..=3 {
        assert_eq!(a.store.count("rule", HOUR, 10, wall()).await, n);
    }
    let mut server = keeper(&mut servers).await;
    server.kill();
    let counts = [a.store.count("rule", HOUR, 10, wall()).await, b.store.count("rule", HOUR, 10, wall()).await];
    // In a cluster the count may lie on a server that lives, and be had for as long as the others take to notice.
    let is_shared = !servers.is_empty() && counts == [4, 5];
    assert!(is_shared || counts == [4, 1], "each node by what it has seen itself: {counts:?}");
    assert_eq!(a.store.probe(&path("b.test")).await, Probe::Own);
    a.gives("c.test");
    b.ends("b.test");
    a.queues.have(&["b.test", "c.test"]).await;
    server.again();
    for node in [&a, &b, &late] {
        node.queues.have(&["c.test"]).await;
    }
    let latest = Node::start(redis, "latest");
    latest.queues.have(&["c.test"]).await;
    let (names, stores) = (std::cell::Cell::new(0), (&a.store, &b.store));
    let counts = || async {
        // A name of its own each time, which the node that is asked has not counted before.
        names.set(names.get() + 1);
        let key = format!("rule {}", names.get());
        stores.0.count(&key, HOUR, 10, wall()).await;
        (stores.1.count(&key, HOUR, 10, wall()).await == 2).then_some(())
    };
    eventually("counts together", counts).await;
}
