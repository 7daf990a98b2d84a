//! The API over a real driver, and its page.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use bytes::Bytes;
use egret_shared::clock::Clock;
use egret_shared::http::{self, client};
use tokio_util::sync::CancellationToken;

use egret_shared::journal::Journal;

use super::*;
use crate::app::live::Paths;
use crate::app::{Defined, Live, Origin, Parts};
use crate::config::Texts;
use crate::elsewhere::Elsewhere;
use crate::intake::Signing;
use crate::message::{Content, Mark, Message, MessageId, MessageWish, Metadata, Part, Priority, QueueName, Wishes};
use crate::queue::control::words::Control;
use crate::queue::run::{Driver, Hands, Opening, Start, channel};
use crate::queue::{Admit, DelayNotice, Engine, NoSite, Notice, QueueOptions, Resolution};
use crate::routing::pool::Pool;
use crate::routing::route::{Route, Routes};
use crate::shaping::per_site::PerSite;
use crate::spool;

/// Hands that find no site, so that everything waits.
struct Idle(Keeper);

impl Hands for Idle {
    fn resolve(&self, _: &QueueName) -> impl Future<Output = Resolution> + Send + 'static {
        let why = crate::message::Response::own(451, crate::message::EnhancedCode::new(4, 4, 3), "nobody answers");
        async move { Err(NoSite::Temporary(why)) }
    }
    fn open(&self, _: Opening) {}
    fn report(&self, _: Notice) -> impl Future<Output = ()> + Send + 'static {
        std::future::ready(())
    }
    fn mark(&self, _: MessageId, _: u16, _: Mark) {}
    fn keep(&self, controls: Vec<Control>) {
        self.0.keep(controls);
    }
}

struct House {
    at: std::net::SocketAddr,
    queues: Queues,
    spool: Spool,
    _directory: tempfile::TempDir,
}

impl House {
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let options = spool::Options {
            path: directory.path().to_owned(),
            segment_bytes: 1 << 20,
            min_free_bytes: 0,
            body_cache_bytes: 1 << 20,
            max_unsynced_mark: Duration::from_millis(5),
            outline_after: Duration::ZERO,
        };
        let (spool, recovery) = Spool::open(options, Clock::system()).expect("a spool");
        recovery.run(|_| ControlFlow::Continue(())).expect("an empty spool");
        let (keeper, _) = Keeper::open(directory.path()).expect("a keeper");
        let minute = Duration::from_secs(60);
        let options = QueueOptions {
            retry_interval: minute,
            max_retry_interval: minute,
            max_age: minute * 60,
            max_ready: 9,
            delay_notice: DelayNotice::default(),
        };
        let pools = ["p", "warm"].map(|name| Pool { name: name.into(), members: Vec::new() });
        let start = Start::now_of(&Clock::system());
        let engine = Engine::new(
            options,
            1,
            start.meter(egret_shared::limits::Limits::memory(), false),
            pools.into(),
            "p".into(),
            7,
        );
        let (queues, inbox) = channel();
        tokio::spawn(Driver::new(engine, Arc::new(Idle(keeper.clone())), start, inbox).run());
        let listener = http::bind(([127, 0, 0, 1], 0).into()).await.expect("loopback");
        let at = listener.local_addr().expect("bound");
        let events = Journal::open(&directory.path().join("events"), "event_log.path").expect("a journal");
        let origin = Origin { file: directory.path().join("mta.toml"), texts: Texts::default() };
        let relay = Route { name: Some("relay".into()), ..Route::default() };
        let mut routes = Routes::default();
        assert!(routes.add_named(Arc::new(relay)));
        let ways = Ways { routes, ..Ways::default() };
        let paths = Paths::new(Arc::default(), Arc::default(), PerSite::default()).expect("TLS");
        let live = Live::build(ways, paths, 25);
        let passwords = egret_shared::users::Passwords::new(std::collections::HashMap::new()).expect("random numbers");
        let logins = crate::users::Logins::new(Arc::new(passwords), Clock::system());
        let (signing, elsewhere, defined) = (Signing::new(Arc::default()), Elsewhere::default(), Defined::default());
        let parts = Parts { queues: queues.clone(), events, signing, logins, live: live.clone() };
        let reloader = Reloader::new(origin, parts, elsewhere, defined);
        let tracer = Tracer::default();
        let reports = crate::tls_report::TlsReports::new(Clock::system());
        let (ways, hostname) = (live.ways, "mail.us.test".into());
        let api = Api {
            queues: queues.clone(),
            spool: spool.clone(),
            keeper,
            reloader,
            tracer,
            ways,
            reports,
            redis: None,
            hostname,
        };
        tokio::spawn(http::serve(listener, router(api), CancellationToken::new()));
        Self { at, queues, spool, _directory: directory }
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let (status, text) = client::request(Method::GET, self.at, path).await.expect("an answer");
        (status.as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let body = Bytes::from(body.to_string());
        let (status, text) = client::send(Method::POST, self.at, path, body).await.expect("an answer");
        (status.as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn take(&self, queue: QueueName) -> MessageId {
        let (id, received) = (MessageId::generate(), Clock::system().wall());
        let recipients = vec![Address::parse("r@a.test").expect("an address")];
        let (priority, wishes) = (Priority::Normal, Wishes::default());
        let part = Part { queue: queue.clone(), pool: "p".into(), priority, recipients, wishes };
        let sender = Some(Address::parse("s@b.test").expect("an address"));
        let parts = vec![part];
        let wish = MessageWish::default();
        let meta = Metadata { received, sender, eight_bit: false, smtputf8: false, not_before: None, wish, parts };
        let content = Content { added: Bytes::from_static(b"X: y\r\n"), body: Bytes::from_static(b"\r\nhello\r\n") };
        let stored = self.spool.store(Arc::new(Message { id, meta, content })).await.expect("stored");
        let (pool, settled, hears_of_delay) = ("p".into(), Vec::new(), false);
        let (part, recipients, attempts, due) = (0, 1, 0, None);
        let admit =
            Admit { id, part, queue, pool, priority, recipients, received, attempts, due, settled, hears_of_delay };
        self.queues.admit(vec![admit]).await.expect("running");
        stored.id()
    }

    /// Waits until a job has nothing left to do.
    async fn job(&self, id: &Value) -> Value {
        loop {
            let (_, jobs) = self.get("/v1/jobs").await;
            let job = jobs.as_array().and_then(|jobs| jobs.iter().find(|job| job["id"] == *id)).cloned();
            if let Some(job) = job.filter(|job| job["running"] == false) {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn queues_are_shown_and_ordered_about() {
    let house = House::start().await;
    let id = house.take(QueueName::new(Some("c"), Some("t"), "a.test")).await;
    house.take(QueueName::of_domain("b.test")).await;
    let (status, rows) = house.get("/v1/queues?tenant=T").await;
    assert!(status == 200 && rows.as_array().map(Vec::len) == Some(1) && rows[0]["queue"] == "c:t@a.test", "{rows}");
    let (_, summary) = house.get("/v1/summary").await;
    assert!(summary["held"] == 2 && summary["tenants"].as_array().map(Vec::len) == Some(2), "{summary}");
    let (_, message) = house.get(&format!("/v1/messages/{id}")).await;
    assert!(message["sender"] == "s@b.test" && message["size"] == 15, "{message}");
    assert_eq!(message["queued"][0]["queue"], "c:t@a.test");
    assert_eq!(house.get(&format!("/v1/messages/{id}?content=true")).await.1, "X: y\r\n\r\nhello\r\n");

    let order = json!({ "scope": { "tenant": "t" }, "reason": "listed", "lasts": "2h" });
    let (status, control) = house.post("/v1/suspend", order).await;
    assert!(status == 200 && control["reason"] == "listed", "{control}");
    assert_eq!(house.get("/v1/controls").await.1, json!([control]));
    let (_, message) = house.get(&format!("/v1/messages/{id}")).await;
    assert!(message["queued"][0]["waits_for"][0].as_str().is_some_and(|why| why.contains("listed")), "{message}");
    let (status, ended) = house.post("/v1/resume", json!({ "id": control["id"] })).await;
    assert_eq!((status, &ended["ended"][0]["id"]), (200, &control["id"]));

    let (_, given) = house.post("/v1/rebind", json!({ "queue": "C:t@A.test", "to": { "pool": "warm" } })).await;
    assert_eq!(house.job(&given["job"]).await["done"], 1);
    assert_eq!(house.get("/v1/queues?pool=warm").await.1[0]["held"], 1);
    for (from, routing, queue) in [
        ("c:t@a.test", "Relay", "c:t@a.test!relay"),
        ("c:t@a.test!relay", "B.Test", "c:t@a.test!b.test"),
        ("c:t@a.test!b.test", "", "c:t@a.test"),
    ] {
        let (_, given) = house.post("/v1/rebind", json!({ "queue": from, "to": { "routing": routing } })).await;
        assert_eq!(house.job(&given["job"]).await["done"], 1, "{from}");
        let (_, rows) = house.get(&format!("/v1/queues?tenant=t&routing={routing}")).await;
        assert!(rows[0]["queue"] == queue && rows[0]["priority"] == "normal", "{rows}");
    }
    let (_, given) = house.post("/v1/requeue", json!({ "everything": true })).await;
    assert_eq!(house.job(&given["job"]).await["matched"], 2);
    let (_, given) = house.post("/v1/bounce", json!({ "scope": { "domain": "A.test" }, "silent": true })).await;
    assert_eq!(house.job(&given["job"]).await["done"], 1);
    assert_eq!(house.get("/v1/ready").await, (200, json!([])));
}

#[tokio::test]
async fn mistakes_are_told_with_a_sentence_and_a_status() {
    let house = House::start().await;
    let nobody = MessageId::generate();
    for (path, status, says) in [
        ("/v1/queues?tennant=t", 400, "tennant"),
        ("/v1/queues?limit=many", 400, "limit"),
        ("/v1/queues?source=s", 400, "source"),
        ("/v1/messages/nonsense", 400, "is not a message id"),
        (&format!("/v1/messages/{nobody}"), 404, "is not in the spool"),
    ] {
        let (found, answer) = house.get(path).await;
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(found == status && error.contains(says), "{path}: {found} {answer}");
    }
    for (path, body, status, says) in [
        ("/v1/suspend", json!({}), 400, "everything"),
        ("/v1/suspend", json!({ "scope": { "tenat": "t" } }), 400, "tenat"),
        ("/v1/suspend", json!({ "everything": true, "lasts": "soon" }), 400, "time span"),
        ("/v1/suspend", json!({ "everything": true, "silent": true }), 400, "knows no field \"silent\""),
        ("/v1/resume", json!({ "id": "1f" }), 404, "no control 1f"),
        ("/v1/resume", json!({ "everything": true }), 404, "suspended"),
        ("/v1/bounce", json!({ "scope": { "source": "s" } }), 400, "source"),
        ("/v1/rebind", json!({ "everything": true }), 400, "where to"),
        ("/v1/rebind", json!({ "everything": true, "to": { "pool": "x" } }), 400, "p, warm"),
        (
            "/v1/rebind",
            json!({ "everything": true, "to": { "routing": "x" } }),
            400,
            "it has relay; a domain has a dot",
        ),
        ("/v1/requeue", json!({ "queue": "nowhere" }), 400, "campaign:tenant@example.com"),
        ("/v1/requeue", json!([1]), 400, "object"),
    ] {
        let (found, answer) = house.post(path, body.clone()).await;
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(found == status && error.contains(says), "{path} {body}: {found} {answer}");
    }
    house.queues.drain().await.expect("running");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(house.get("/v1/jobs").await.0, 503, "a stopped engine");
}

#[test]
fn the_reference_page_has_each_route_and_no_other() {
    let code: BTreeSet<&str> = include_str!("mod.rs").split('"').filter(|text| text.starts_with("/v1/")).collect();
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/mta-api.md"))
        .expect("the page of the API");
    let named = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let paths = named.filter_map(|line| line.split(['`', '?']).next()?.split_once(' ').map(|(_, path)| path));
    let page: BTreeSet<&str> = paths.filter(|path| path.starts_with("/v1/")).collect();
    assert_eq!(code, page);
}
