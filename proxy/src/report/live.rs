//! Sessions that can be asked for: those that run, and those that ended in the last minutes. Floor 2.
//! Always: bounded in number and in age; sessions that failed are not pushed out by those that did not.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use egret_shared::sockets::watch::Open;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::record::{Record, SessionId};
use super::traffic::Traffic;

/// A session that runs.
pub struct Running {
    /// What is known so far.
    pub record: Mutex<Record>,
    /// What has gone over.
    pub traffic: Traffic,
    /// Told when nobody claims the session any more.
    pub orphaned: Notify,
    client: SocketAddr,
    why_orphaned: OnceLock<String>,
    began: Instant,
}

impl Running {
    /// Why nobody claims the session any more; empty while that is not so.
    pub fn why_orphaned(&self) -> &str {
        self.why_orphaned.get().map_or("", String::as_str)
    }

    fn snapshot(&self, now: Instant) -> Record {
        let mut record = self.record.lock().clone();
        (record.bytes_up, record.bytes_down) = (self.traffic.up.get(), self.traffic.down.get());
        let age = now.saturating_duration_since(self.began);
        record.duration_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        record
    }
}

/// Ended sessions, oldest first.
type Ended = VecDeque<(Instant, Arc<Record>)>;

#[derive(Default)]
struct Table {
    running: HashMap<SessionId, Arc<Running>>,
    well: Ended,
    failed: Ended,
}

/// All of them. Cheap to clone.
#[derive(Clone)]
pub struct Sessions {
    table: Arc<Mutex<Table>>,
    keep: Duration,
    keep_max: usize,
}

impl Sessions {
    /// Remembers ended sessions for `keep`, and at most `keep_max` of those that went well and as many
    /// that failed.
    pub fn new(keep: Duration, keep_max: usize) -> Self {
        Self { table: Arc::default(), keep, keep_max }
    }

    /// A session has a destination. It is listed until [`Sessions::ended`].
    pub fn began(&self, record: Record, traffic: Traffic, began: Instant) -> Arc<Running> {
        let (id, client, orphaned) = (record.id, record.client, Notify::new());
        let record = Mutex::new(record);
        let running = Arc::new(Running { record, traffic, orphaned, client, why_orphaned: OnceLock::new(), began });
        self.table.lock().running.insert(id, running.clone());
        running
    }

    /// A session is over.
    pub fn ended(&self, record: Arc<Record>, now: Instant) {
        let mut table = self.table.lock();
        table.running.remove(&record.id);
        let keep_max = self.keep_max;
        let ended = if record.reason.is_some() { &mut table.failed } else { &mut table.well };
        let is_over = |at: Instant| now.saturating_duration_since(at) > self.keep;
        while ended.front().is_some_and(|(at, _)| is_over(*at)) || ended.len() >= keep_max.max(1) {
            ended.pop_front();
        }
        if keep_max > 0 {
            ended.push_back((now, record));
        }
    }

    /// The sessions that run and fit.
    pub fn running(&self, fits: impl Fn(&Record) -> bool, now: Instant) -> Vec<Record> {
        let running: Vec<_> = self.table.lock().running.values().cloned().collect();
        let mut records: Vec<_> = running.iter().map(|session| session.snapshot(now)).filter(fits).collect();
        records.sort_by_key(|record| (record.time_ms, record.id.0));
        records
    }

    /// The sessions that have ended and fit, the last ones first, `most` at most.
    pub fn recent(&self, fits: impl Fn(&Record) -> bool, most: usize, now: Instant) -> Vec<Record> {
        let table = self.table.lock();
        let fresh = |(at, _): &&(Instant, Arc<Record>)| now.saturating_duration_since(*at) <= self.keep;
        let mut found: Vec<_> = table.well.iter().chain(&table.failed).filter(fresh).collect();
        found.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        found
            .into_iter()
            .map(|(_, record)| record)
            .filter(|record| fits(record))
            .take(most)
            .map(|r| Record::clone(r))
            .collect()
    }

    /// The session with this number, or the last one of this client address and port.
    pub fn find(&self, key: &str, now: Instant) -> Option<Record> {
        let id = u64::from_str_radix(key, 16).ok().map(SessionId);
        let client = key.parse::<SocketAddr>().ok();
        let fits = |record: &Record| Some(record.id) == id || Some(record.client) == client;
        self.running(fits, now).pop().or_else(|| self.recent(fits, 1, now).pop())
    }

    /// The sessions that run, as they are compared with claims.
    pub fn open(&self) -> Vec<Open> {
        let table = self.table.lock();
        let open = |(id, running): (&SessionId, &Arc<Running>)| Open {
            session: id.0,
            client: running.client,
            sent: running.traffic.up.get(),
        };
        table.running.iter().map(open).collect()
    }

    /// Ends a session that nobody claims any more, if it still runs.
    pub fn orphan(&self, session: SessionId, why: String) {
        if let Some(running) = self.table.lock().running.get(&session)
            && running.why_orphaned.set(why).is_ok()
        {
            running.orphaned.notify_one();
        }
    }

    /// How many run.
    pub fn count(&self) -> usize {
        self.table.lock().running.len()
    }
}

#[cfg(test)]
mod tests {
    use egret_shared::clock::UnixMs;
    use egret_shared::fault::{Fault, Reason};

    use super::*;

    fn record(id: u64) -> Record {
        let client = SocketAddr::from(([10, 0, 0, 1], 1000 + id as u16));
        Record::begin(SessionId(id), UnixMs(id), SocketAddr::from(([10, 0, 0, 9], 1080)), client)
    }

    #[test]
    fn sessions_are_found_by_number_and_by_client_while_they_run_and_after() {
        let (sessions, now) = (Sessions::new(Duration::from_secs(60), 10), Instant::now());
        sessions.began(record(0xa), Traffic::default(), now);
        assert_eq!(sessions.find("a", now).map(|r| r.id), Some(SessionId(0xa)));
        assert_eq!(sessions.find("10.0.0.1:1010", now).map(|r| r.id), Some(SessionId(0xa)));
        sessions.ended(Arc::new(record(0xa)), now);
        assert_eq!(sessions.count(), 0);
        assert!(sessions.find("10.0.0.1:1010", now).is_some());
        assert!(sessions.find("10.0.0.1:1011", now).is_none() && sessions.find("nonsense", now).is_none());
        assert!(sessions.find("a", now + Duration::from_secs(61)).is_none(), "it is forgotten in time");
    }

    #[tokio::test]
    async fn a_session_that_nobody_claims_is_told_so_once() {
        let (sessions, now) = (Sessions::new(Duration::from_secs(60), 10), Instant::now());
        let running = sessions.began(record(0xa), Traffic::default(), now);
        running.traffic.up.add(7);
        let open = Open { session: 0xa, client: SocketAddr::from(([10, 0, 0, 1], 1010)), sent: 7 };
        assert_eq!((sessions.open(), running.why_orphaned()), (vec![open], ""));
        sessions.orphan(SessionId(0xb), "another".to_owned());
        sessions.orphan(SessionId(0xa), "it is gone".to_owned());
        sessions.orphan(SessionId(0xa), "again".to_owned());
        running.orphaned.notified().await;
        assert_eq!(running.why_orphaned(), "it is gone");
    }

    #[test]
    fn failures_are_not_pushed_out_by_what_went_well() {
        let (sessions, now) = (Sessions::new(Duration::from_secs(60), 3), Instant::now());
        let mut failed = record(1);
        failed.failed(Fault::new(Reason::ConnectionRefused, "x"));
        sessions.ended(Arc::new(failed), now);
        for id in 2..100 {
            sessions.ended(Arc::new(record(id)), now);
        }
        assert!(sessions.find("1", now).is_some());
        assert_eq!(sessions.recent(|_| true, 100, now).len(), 4);
        assert!(sessions.find("63", now).is_some() && sessions.find("10", now).is_none());
    }
}
