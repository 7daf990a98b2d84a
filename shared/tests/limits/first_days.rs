//! On which day an address was there first: all nodes have the same day, whoever asks first, and whatever Redis loses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use egret_shared::clock::Clock;
use egret_shared::redis::{Redis, RedisOptions, Value};
use egret_shared::registry::agree::{Agreement, Disagreement};
use egret_shared::registry::first_days::{Day, FirstDays};
use egret_shared::registry::store::Registry;

use super::server::{Server, cluster, say};

/// A node: what it knows, and how it asks.
struct Node {
    days: FirstDays,
    agreement: Agreement,
    there: BTreeSet<IpAddr>,
}

impl Node {
    fn new(options: &RedisOptions, there: &[IpAddr]) -> Self {
        let agreement = Registry::new(Redis::new(options.clone())).agreement();
        Self { days: FirstDays::default(), agreement, there: there.iter().copied().collect() }
    }

    /// One that has known its addresses since `first`.
    fn since(options: &RedisOptions, there: &[IpAddr], first: Day) -> Self {
        let mut node = Self::new(options, there);
        node.days.see(&node.there, first);
        node.days.suppose();
        node
    }

    /// Looks once, as the MTA does.
    async fn look(&mut self) -> Result<(), Disagreement> {
        self.look_on(today()).await
    }

    async fn look_on(&mut self, today: Day) -> Result<(), Disagreement> {
        self.days.see(&self.there, today);
        let is_all = self.agreement.is_stale().await?;
        let questions = if is_all { self.days.all() } else { self.days.open() };
        for (address, first) in self.agreement.ask(&questions, is_all, today).await? {
            self.days.agree(address, first);
        }
        Ok(())
    }

    fn firsts(&self) -> BTreeSet<Option<Day>> {
        self.there.iter().map(|address| self.days.first(*address)).collect()
    }
}

fn today() -> Day {
    Day::try_from(Clock::system().wall().0 / 86_400_000).expect("a day")
}

fn addresses(count: u16) -> Vec<IpAddr> {
    (0..count).map(|at| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, at])).collect()
}

/// Looks until all nodes have that day, of all their addresses.
async fn until_all_have(nodes: &mut [&mut Node], day: Day) {
    for _ in 0..200 {
        for node in nodes.iter_mut() {
            // A connection that broke is made anew.
            let _ = node.look().await;
        }
        if nodes.iter().all(|node| node.firsts() == [Some(day)].into()) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("{:?} are not {day}", nodes.iter().map(|node| node.firsts()).collect::<Vec<_>>());
}

/// The story that is the same in each shape of Redis: more addresses than one call takes.
async fn agree(options: &RedisOptions, flush: impl AsyncFn()) {
    let (all, day) = (addresses(600), today());
    let (mut a, mut b) = (Node::new(options, &all), Node::new(options, &all));
    a.look().await.expect("an answer");
    let first = a.days.first(all[0]).expect("a day");
    assert!((day..=today()).contains(&first), "the day on which it was asked first");
    b.look().await.expect("an answer");
    assert_eq!(b.firsts(), a.firsts());
    assert!(!a.agreement.is_stale().await.expect("an answer"), "nobody knew better");

    // One that was alone, with an earlier day.
    let mut old = Node::since(options, &all, first - 5);
    (first - 4..first).for_each(|day| old.days.see(&old.there, day));
    old.look_on(first - 1).await.expect("the days of two clocks may differ by one");
    until_all_have(&mut [&mut a, &mut b, &mut old], first - 5).await;

    // A Redis that has lost everything learns it from those who know, also where one who does not was quicker.
    flush().await;
    let mut new = Node::new(options, &all);
    new.look().await.expect("an answer");
    until_all_have(&mut [&mut new, &mut a, &mut b], first - 5).await;
}

#[tokio::test]
async fn all_nodes_have_the_earliest_day_that_one_of_them_knows() {
    if !Server::is_installed() {
        return;
    }
    let server = Server::start(&[]);
    agree(&server.options(), async || drop(server.say(&["FLUSHALL"]).await)).await;
    let key = format!("egret:{{registry}}:first-day:{}", addresses(1)[0]);
    let Value::Int(life) = server.say(&["TTL", &key]).await else { panic!("a time") };
    assert!((30 * 86_400..=31 * 86_400).contains(&life), "it is forgotten if nobody sees the address for a month");
}

#[tokio::test]
async fn a_cluster_agrees_too() {
    if !Server::is_installed() {
        return;
    }
    let (servers, options) = cluster().await;
    let flush = async || {
        for server in &servers {
            say(&server.options(), &["FLUSHALL"]).await;
        }
    };
    agree(&options, flush).await;
}

#[tokio::test]
async fn nothing_is_agreed_on_between_clocks_that_differ_by_days_and_a_stale_word_makes_nothing_old() {
    if !Server::is_installed() {
        return;
    }
    let server = Server::start(&[]);
    let all = addresses(3);
    for wrong in [0, today() - 3, today() + 4_000] {
        let mut node = Node::new(&server.options(), &all);
        let refused = node.look_on(wrong).await;
        assert!(matches!(refused, Err(Disagreement::Clocks { own, .. }) if own == wrong), "{refused:?}");
        assert_eq!(node.firsts(), [None].into());
    }
    assert_eq!(server.say(&["DBSIZE"]).await, Value::Int(0), "nothing was kept");
    // Who has not seen them for a month and tells of it nevertheless.
    let mut late = Node::since(&server.options(), &all, today() - 40);
    late.there.clear();
    let questions: Vec<_> = late
        .days
        .all()
        .into_iter()
        .map(|mut question| {
            question.gone = 40;
            question
        })
        .collect();
    let agreed = late.agreement.ask(&questions, true, today()).await.expect("an answer");
    assert!(agreed.iter().all(|(_, first)| *first >= today() - 1), "{agreed:?}");
}
