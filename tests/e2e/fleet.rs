//! Proxies announce themselves in Redis and carry mail without an edit; they drain, die and hand addresses on; Redis
//! stops, and mail goes on.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use egret_tests::harness::{Fleet, Options, Program, Redis, addresses, ask, binary, eventually};
use egret_tests::peer::sink::Behaviour;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{get, is_used_again, nothing_counted, offer, sink};

const PATIENCE: Duration = Duration::from_secs(30);

/// A fleet that delivers by what it finds, with one proxy, `north`, that holds all sources.
fn fleet(redis: &Redis) -> Fleet {
    let tables = format!(
        "[delivery]\nidle_timeout = \"200ms\"\n[pool.found]\ndiscover = {{ tag = \"warm\" }}\n\
         [discover]\nehlo_name = \"{{address}}.out.test\"\n{}",
        redis.table()
    );
    let proxy_toml = format!("[announce]\nname = \"north\"\ntags = [\"warm\", \"eu\"]\n{}", redis.table());
    Fleet::start(&Options { dialect: Some("socks5"), tables, proxy_toml, ..Options::default() })
}

/// One more proxy, which announces itself with `sources`.
struct More {
    name: &'static str,
    at: IpAddr,
    file: PathBuf,
}

impl More {
    fn new(fleet: &Fleet, redis: &Redis, name: &'static str, sources: &[IpAddr]) -> Self {
        let (at, file) = (addresses(1)[0].into(), fleet.file(&format!("{name}.toml")));
        let more = Self { name, at, file };
        more.write(redis, sources);
        more
    }

    fn write(&self, redis: &Redis, sources: &[IpAddr]) {
        let (at, name) = (self.at, self.name);
        let list = sources.iter().map(|ip| format!("\"{ip}\"")).collect::<Vec<_>>().join(", ");
        let text = format!(
            "[[listener]]\naddress = \"{at}:1080\"\nprotocol = \"auto\"\n[sources]\naddresses = [{list}]\n\
             [access]\nallow_special_destinations = [\"127.0.0.0/8\"]\n[admin]\naddress = \"{at}:9180\"\n\
             [announce]\nname = \"{name}\"\ntags = [\"warm\"]\n{}",
            redis.table()
        );
        std::fs::write(&self.file, text).expect("written");
    }

    fn start(&self, fleet: &Fleet) -> Program {
        let mut command = Command::new(binary("egret-proxy"));
        command.args(["serve", "--config"]).arg(&self.file);
        Program::spawn(&mut command, &fleet.file(&format!("{}.log", self.name)))
    }
}

fn shown(fleet: &Fleet) -> Value {
    let (_, answer) = get(fleet.mta_admin, "/v1/fleet");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    serde_json::from_str(body).expect("JSON")
}

/// Waits until the fleet is seen as it should be.
fn until(fleet: &Fleet, what: &str, fits: impl Fn(&Value) -> bool) {
    eventually(what, || {
        let shown = shown(fleet);
        if fits(&shown) { Ok(()) } else { Err(format!("{shown:#}\n{}", fleet.mta.log())) }
    });
}

/// Who holds a source, as the MTA sees it, in the order of use.
fn holders(shown: &Value, source: IpAddr) -> Vec<String> {
    let sources = shown["sources"].as_array().into_iter().flatten();
    let source = sources.clone().find(|view| view["source"] == source.to_string());
    let ways = source.and_then(|view| view["ways"].as_array()).into_iter().flatten();
    ways.filter_map(|way| way["proxy"].as_str().map(str::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_announces_itself_carries_mail_and_what_is_held_twice_goes_by_the_other() {
    let Some(mut redis) = Redis::start() else { return };
    let mut fleet = fleet(&redis);
    let _sink = sink(&fleet, Behaviour::default()).await;
    is_used_again(&fleet, "mail by the announced proxy", |event| event["proxy"] == "north");
    let first = fleet.sources[0];
    let by = |proxy: &'static str| move |event: &Value| event["proxy"] == proxy;
    let delivery = fleet.event("a delivery", |event| event["type"] == "delivery");
    let address = delivery["source"].as_str().expect("a source").to_owned();
    assert!(fleet.sources.iter().any(|source| source.to_string() == address), "{delivery}");

    // A second proxy, with the same addresses.
    let more = More::new(&fleet, &redis, "south", &fleet.sources);
    let south = more.start(&fleet);
    until(&fleet, "two ways", |shown| holders(shown, first) == ["north", "south"]);
    until(&fleet, "the alarm", |shown| shown["announced_twice"][first.to_string()][1] == "south");
    let mut killed = fleet.proxy.take().expect("a proxy");
    killed.crash();
    is_used_again(&fleet, "mail by the other", by("south"));
    until(&fleet, "the dead one to be forgotten", |shown| holders(shown, first) == ["south"]);
    nothing_counted(&fleet, &["proxy"]);

    // Redis stops; what is known stays in use, and others come when it is back.
    redis.stop();
    until(&fleet, "the news", |shown| shown["mistakes"]["registry"]["why"].is_string());
    std::thread::sleep(Duration::from_secs(5));
    is_used_again(&fleet, "mail without Redis", by("south"));
    fleet.restart_mta();
    is_used_again(&fleet, "mail of a node that was started without Redis", by("south"));
    redis.run();
    until(&fleet, "the end of it", |shown| shown["mistakes"]["registry"].is_null());
    assert_eq!(holders(&shown(&fleet), first), ["south"], "nobody is forgotten by a Redis that has lost its memory");
    fleet.restart_proxy();
    until(&fleet, "the first again", |shown| holders(shown, first) == ["north", "south"]);
    until(&fleet, "this node", |shown| shown["nodes"][0]["name"] == "mta.test");
    drop(south);
    let told = Command::new(binary("egret-mta")).args(["fleet", "--admin", &fleet.mta_admin.to_string()]).output();
    let told = String::from_utf8_lossy(&told.expect("runs").stdout).into_owned();
    for part in ["mta.test", "north", "warm eu", &first.to_string()] {
        assert!(told.contains(part), "{part} in\n{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_drains_gets_nothing_new_and_an_address_that_moves_is_followed() {
    let Some(redis) = Redis::start() else { return };
    let fleet = fleet(&redis);
    let _sink = sink(&fleet, Behaviour::default()).await;
    let (moving, staying) = (fleet.sources[0], fleet.sources[1]);
    until(&fleet, "all sources", |shown| holders(shown, staying) == ["north"]);
    let more = More::new(&fleet, &redis, "south", &[fleet.sources[7]]);
    let south = more.start(&fleet);
    until(&fleet, "the second", |shown| holders(shown, fleet.sources[7]) == ["north", "south"]);

    // The operator takes an address out at one, and gives it to the other.
    let drained = format!("POST /v1/sources/{moving}/drain");
    assert_eq!(ask(fleet.proxy_admin, &drained, "", PATIENCE).expect("an answer").0, 200);
    until(&fleet, "no holder", |shown| holders(shown, moving).is_empty());
    more.write(&redis, &[fleet.sources[7], moving]);
    south.signal(Signal::SIGHUP);
    until(&fleet, "the other holder", |shown| holders(shown, moving) == ["south"]);
    is_used_again(&fleet, "mail from it by the other", |event| {
        event["source"] == moving.to_string() && event["proxy"] == "south"
    });

    // The whole proxy drains: a session is held open so that it lives on.
    let held = std::net::TcpStream::connect(fleet.socks5).expect("connects");
    let proxy = fleet.proxy.as_ref().expect("a proxy");
    proxy.signal(Signal::SIGTERM);
    until(&fleet, "that it is not used", |shown| holders(shown, staying).is_empty());
    drop(held);
    let before = fleet.events().len();
    for _ in 0..8 {
        assert!(offer(fleet.smtp, "s@good.example", "r@good.example").starts_with("250 "));
    }
    eventually("eight deliveries", || {
        let events = fleet.events();
        let by: Vec<_> = events.iter().skip(before).filter(|event| event["type"] == "delivery").collect();
        assert!(by.iter().all(|event| event["proxy"] == "south"), "{by:?}");
        if by.len() >= 8 { Ok(()) } else { Err(fleet.mta.log()) }
    });
    nothing_counted(&fleet, &["proxy", "source"]);
}

/// What the screen says.
fn screen(fleet: &Fleet) -> String {
    let told = Command::new(binary("egret-mta")).args(["fleet", "--admin", &fleet.mta_admin.to_string()]).output();
    String::from_utf8_lossy(&told.expect("runs").stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_screen_shows_what_is_used_of_limits_and_says_when_it_cannot_know() {
    let Some(mut redis) = Redis::start() else { return };
    let tables = format!(
        "[delivery]\nidle_timeout = \"1h\"\nmax_message_rate = \"100/h,max_burst=50\"\nconnection_limit = 2\n{}",
        redis.table()
    );
    let proxy_toml = format!("[limits.source]\nconnections = 9\nrate = \"100/h,max_burst=100\"\n{}", redis.table());
    let fleet = Fleet::start(&Options { dialect: Some("socks5"), tables, proxy_toml, ..Options::default() });
    let _sink = sink(&fleet, Behaviour::default()).await;
    assert!(offer(fleet.smtp, "s@good.example", "r@good.example").starts_with("250 "));
    let delivery = fleet.event("a delivery", |event| event["type"] == "delivery");
    let source = delivery["source_address"].as_str().expect("an address").to_owned();
    let of_proxies = format!("proxy source {source}");
    until(&fleet, "the limits", |shown| {
        let used = |part: &str, kind: &str| {
            let limits = shown["limits"][part]["limits"].as_array().cloned().unwrap_or_default();
            limits.into_iter().find(|limit| limit["kind"] == kind)
        };
        let (count, rate) = (used("proxies", "count"), used("proxies", "rate"));
        let held = |count: &Value| count["nodes"][0][1].as_u64() >= Some(1);
        count.is_some_and(|count| count["name"] == *of_proxies && held(&count))
            && rate.is_some_and(|rate| rate["left"].as_u64() < Some(100))
            && used("queues", "rate").is_some_and(|rate| rate["burst"] == 50 && rate["left"].as_u64() < Some(50))
            && used("queues", "count").is_some_and(|count| held(&count))
    });
    let told = screen(&fleet);
    for part in
        ["limits of queues", "limits of proxies", &of_proxies, "1 of 9 held", "1 of 2 held", "of 50 left, one each 36s"]
    {
        assert!(told.contains(part), "{part} in\n{told}");
    }
    redis.stop();
    until(&fleet, "the news", |shown| shown["limits_unknown"].is_string() && shown["limits"].is_null());
    let told = screen(&fleet);
    assert!(
        told.contains(
            "! limits are unknown, each node goes on with its share, and nodes and proxies are those seen last: "
        ),
        "{told}"
    );
}
