//! `[queues]` and the files that it names, in the format of KumoMTA's queue helper. Floor 5.
//! Reads these files.
//! Always: a key that nobody knows is a complaint with file and line, and so is one whose meaning belongs elsewhere here;
//! an option of KumoMTA that is not needed is told, and does nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use egret_shared::config::{Complaint, Section};
use egret_shared::limits::Throttle;
use egret_shared::units::Span;

use super::shaping;
use super::spelling::told;
use super::texts::beside;
use crate::message::QueueName;
use crate::queue::DelayNotice;
use crate::queue::rules::{DomainBlock, QueuePatch, QueueRules, Said};
use crate::routing::label::Label;
use crate::routing::route::Pattern;

/// Options of KumoMTA that do nothing here, and why.
const NOT_NEEDED: [(&str, &str); 6] = [
    ("refresh_interval", "a reload is acted on at once"),
    ("refresh_strategy", "a reload is acted on at once"),
    ("reap_interval", "a queue without mail is forgotten by itself"),
    ("shrink_policy", "memory has limits of its own, [memory]"),
    ("strategy", "there is one kind of queue"),
    ("timerwheel_tick_interval", "each message has a timer of its own"),
];

/// Options of KumoMTA for queues whose meaning belongs elsewhere here, and where.
const ELSEWHERE: [(&str, &str); 2] = [
    ("protocol", "belongs to a [[route]] here, which names hosts and what they speak"),
    ("routing_domain", "belongs to a [[rule]] here: set_routing_domain or set_route"),
];

/// Keys of the whole file whose meaning belongs elsewhere here, and where.
const OF_ROUTING: [(&str, &str); 6] = [
    ("tenant_header", "belongs to mta.toml here: [routing] tenant_header"),
    ("remove_tenant_header", "belongs to mta.toml here: [routing] remove_headers, for both headers"),
    ("campaign_header", "belongs to mta.toml here: [routing] campaign_header"),
    ("remove_campaign_header", "belongs to mta.toml here: [routing] remove_headers, for both headers"),
    ("default_tenant", "belongs to mta.toml here: [routing] default_tenant"),
    ("scheduling_header", "has no counterpart here; a client that knows FUTURERELEASE says when a message is to leave"),
];

/// What was read, and what is worth a word.
#[derive(Clone, Debug, Default)]
pub struct Read {
    /// What the files say.
    pub rules: Arc<QueueRules>,
    /// What is ignored, and the like.
    pub notes: Vec<Complaint>,
}

/// `[queues]`; `None` only after a complaint. `pools` are those that there are, if that is known.
pub(super) fn build(root: &Section<'_>, pools: Option<&[Arc<str>]>) -> Option<Read> {
    let section = root.section("queues");
    let files = section.with_default::<Vec<PathBuf>>(
        "files",
        "[]",
        "Files with the options of queues by domain, tenant and campaign, in KumoMTA's format ([guide](../guide/queues.md)), `.toml` or `.json`, named from the directory of this file; later ones lie over earlier ones.",
    );
    let mut rules = QueueRules::default();
    let files = files.iter().map(|file| beside(section.file(), file));
    match shaping::each(files, &[], |root| whole_file(root, pools, &mut rules)) {
        Ok((texts, notes)) => Some(Read { rules: Arc::new(QueueRules { texts, ..rules }), notes }),
        Err(complaints) => {
            section.complain_of_another(complaints);
            None
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "every build function has this shape")]
fn whole_file(root: &Section<'_>, pools: Option<&[Arc<str>]>, rules: &mut QueueRules) -> Option<()> {
    refuse(root, &OF_ROUTING);
    for (name, section) in root.named("tenant") {
        tenant(&name, &section, pools, rules);
    }
    let queues = root.section("queue");
    let default = queues.section("default");
    rules.default.lay(&patch(&default, pools));
    for (name, table) in default.only_tables() {
        table.complain_here(format!(
            "is a table; what is for the tenant {name:?} everywhere belongs into [tenant.{name:?}]"
        ));
        table.leave_rest();
    }
    for (name, section) in queues.only_tables() {
        domain(&name, &section, pools, rules);
    }
    Some(())
}

/// Complains about keys that belong elsewhere.
fn refuse(section: &Section<'_>, keys: &[(&'static str, &str)]) {
    for (key, why) in keys {
        if section.skip(key) {
            section.complain(key, *why);
        }
    }
}

/// The name of a tenant or campaign as queues bear it.
fn label(name: &str, what: &str, section: &Section<'_>) -> Option<Arc<str>> {
    if let Err(why) = name.parse::<Label>() {
        section.complain_here(format!("is for a {what} that cannot be: {why}"));
        section.leave_rest();
        return None;
    }
    QueueName::new(None, Some(name), "").tenant().map(Into::into)
}

fn tenant(name: &str, section: &Section<'_>, pools: Option<&[Arc<str>]>, rules: &mut QueueRules) {
    let Some(name) = label(name, "tenant", section) else { return };
    refuse(
        section,
        &[(
            "require_authz",
            "has no counterpart for single tenants; a [[rule]] with user and set_tenant says whose mail a user's is",
        )],
    );
    let overall = said::<Throttle, _>(section, "overall_max_message_rate", |rate| rate);
    let patch = patch(section, pools);
    let block = rules.tenants.entry(name).or_default();
    block.patch.lay(&patch);
    block.overall_max_message_rate = overall.or(block.overall_max_message_rate.take());
}

fn domain(name: &str, section: &Section<'_>, pools: Option<&[Arc<str>]>, rules: &mut QueueRules) {
    let block = match name.parse::<Pattern>() {
        Ok(Pattern::Domain(_)) if name.eq_ignore_ascii_case("default") => {
            section
                .complain_here("is no domain; write [queue.default], in small letters, for what holds for all queues");
            section.leave_rest();
            return;
        }
        Ok(Pattern::Domain(domain)) => rules.domains.entry(domain).or_default(),
        Ok(Pattern::Below(domain)) => rules.below.entry(domain).or_default(),
        Ok(Pattern::Any) => {
            section.complain_here("is for all domains; write [queue.default]");
            section.leave_rest();
            return;
        }
        Err(error) => {
            section.complain_here(format!("is no domain: {error}"));
            section.leave_rest();
            return;
        }
    };
    let said = patch(section, pools);
    let tenants = section.only_tables();
    if let Some((within, _)) = tenants.first().filter(|_| !name.contains('.') && !name.starts_with('[')) {
        section.complain_here(format!(
            "holds a table {within:?}: names of domains belong in quotes, as in [queue.\"{name}.{within}\"]"
        ));
        for (_, tenant) in &tenants {
            tenant.leave_rest();
        }
        return;
    }
    block.patch.lay(&said);
    for (name, section) in tenants {
        of_tenant(&name, &section, pools, block);
    }
}

fn of_tenant(name: &str, section: &Section<'_>, pools: Option<&[Arc<str>]>, domain: &mut DomainBlock) {
    let Some(name) = label(name, "tenant", section) else { return };
    refuse(section, &[("overall_max_message_rate", "is for all queues of a tenant and belongs to [tenant.'name']")]);
    let block = domain.tenants.entry(name).or_default();
    block.patch.lay(&patch(section, pools));
    for (name, section) in section.only_tables() {
        if let Some(name) = label(&name, "campaign", &section) {
            block.campaigns.entry(name).or_default().lay(&patch(&section, pools));
        }
    }
}

/// The options that a table holds.
fn patch(section: &Section<'_>, pools: Option<&[Arc<str>]>) -> QueuePatch {
    let span = |key| said::<Span, _>(section, key, |span| span.0);
    let pool = section.optional::<String>("egress_pool", "");
    let pool = pool.and_then(|pool| known(section, &pool, pools));
    let patch = QueuePatch {
        retry_interval: span("retry_interval"),
        max_retry_interval: span("max_retry_interval"),
        max_age: span("max_age"),
        delay_notice: delay_notice(section),
        max_message_rate: said::<Throttle, _>(section, "max_message_rate", |rate| rate),
        egress_pool: pool.and_then(|pool| said_of(section, "egress_pool", pool)),
    };
    let value = |said: &Option<Said<Duration>>| said.as_ref().map(|said| said.value);
    if value(&patch.retry_interval).is_some_and(|wait| wait < Duration::from_millis(100)) {
        section.complain("retry_interval", "is under 100ms, which would hammer destinations");
    }
    if value(&patch.max_retry_interval).zip(value(&patch.retry_interval)).is_some_and(|(most, first)| most < first) {
        section.complain("max_retry_interval", "is shorter than retry_interval");
    }
    if value(&patch.max_age).is_some_and(|age| age.is_zero()) {
        section.complain("max_age", "is no time at all: nothing would ever be sent");
    }
    refuse(section, &ELSEWHERE);
    for (key, why) in NOT_NEEDED {
        if section.skip(key) {
            section.note(key, format!("does nothing here: {why}"));
        }
    }
    patch
}

/// The pool of that name, or a complaint that tells which there are; nothing where that was complained about.
fn known(section: &Section<'_>, wanted: &str, pools: Option<&[Arc<str>]>) -> Option<Arc<str>> {
    let pools = pools?;
    let found = pools.iter().find(|pool| ***pool == *wanted).cloned();
    if found.is_none() {
        let known = told(wanted, pools.iter().map(|name| &**name)).unwrap_or_else(|| "there is none".to_owned());
        section.complain("egress_pool", format!("names the pool {wanted:?}, which mta.toml does not have ({known})"));
    }
    found
}

fn delay_notice(section: &Section<'_>) -> Option<Said<DelayNotice>> {
    let waits = section.optional::<Vec<Span>>("delay_notice", "")?;
    let waits: Vec<_> = waits.into_iter().map(|wait| wait.0).collect();
    if waits.len() > DelayNotice::MOST {
        section.complain("delay_notice", format!("holds {} waits; {} are the most", waits.len(), DelayNotice::MOST));
    }
    if waits.iter().any(|wait| *wait < Duration::from_secs(1)) {
        section.complain("delay_notice", "holds a wait under 1s, before which nothing is late");
    }
    said_of(section, "delay_notice", DelayNotice::after(&waits))
}

/// A key with where it stands.
fn said<T: egret_shared::config::Value, V>(
    section: &Section<'_>,
    key: &'static str,
    value: impl FnOnce(T) -> V,
) -> Option<Said<V>> {
    let found = section.optional::<T>(key, "")?;
    said_of(section, key, value(found))
}

fn said_of<V>(section: &Section<'_>, key: &str, value: V) -> Option<Said<V>> {
    let (words, place) = (section.words_of(key)?, format!("{}:{}", section.file(), section.line_of(key)));
    Some(Said { value, words: words.into(), place: place.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[&str]) -> Result<Read, Vec<String>> {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |(n, text): (usize, &&str)| {
            let file = directory.path().join(format!("{n}.toml"));
            std::fs::write(&file, text).expect("written");
            file
        };
        let files: Vec<_> = texts.iter().enumerate().map(write).collect();
        let (mut rules, pools) = (QueueRules::default(), ["main".into(), "warm".into()]);
        let read = shaping::each(files, &[], |root| whole_file(root, Some(&pools), &mut rules));
        let own = format!("{}/", directory.path().display());
        let told = |complaint: &Complaint| complaint.to_string().replace(&own, "");
        let notes = |notes| Read { rules: Arc::new(rules), notes };
        read.map(|(_, found)| notes(found)).map_err(|wrong| wrong.0.iter().map(told).collect())
    }

    fn told(read: &Read, campaign: Option<&str>, tenant: Option<&str>, domain: &str) -> Vec<String> {
        let patch = read.rules.of(&QueueName::new(campaign, tenant, domain));
        let line = |place: &str| place.rsplit('/').next().expect("a name").to_owned();
        patch.told().iter().map(|(key, value, place)| format!("{key} = {value} ({})", line(place))).collect()
    }

    #[test]
    fn the_sample_of_kumomta_is_read_and_later_files_lie_over_earlier_ones() {
        let first = "[tenant.'Acme']\negress_pool = 'warm'\nmax_age = '10 hours'\noverall_max_message_rate = '100/min'\n\
                     [queue.default]\nmax_age = '24 hours'\nrefresh_interval = '1m'\n\
                     [queue.'Gmail.com']\nmax_age = '22 hours'\nretry_interval = '17 mins'\n\
                     [queue.'gmail.com'.'acme']\nmax_message_rate = 'local:5/s'\n\
                     [queue.'gmail.com'.'acme'.'welcome']\negress_pool = 'main'\n";
        let second = "[queue.'gmail.com']\nretry_interval = '5m'\n[queue.'*.gmail.com']\ndelay_notice = ['4h']\n";
        let read = read(&[first, second]).expect("good");
        let all = ["retry_interval = 5m (1.toml:2)", "max_age = 10 hours (0.toml:3)"];
        let acme = |campaign| told(&read, campaign, Some("acme"), "gmail.com");
        let rate = "max_message_rate = local:5/s (0.toml:12)";
        assert_eq!(acme(None), ["egress_pool = warm (0.toml:2)", all[0], all[1], rate]);
        assert_eq!(acme(Some("welcome")), ["egress_pool = main (0.toml:14)", all[0], all[1], rate]);
        assert_eq!(
            told(&read, None, None, "x.gmail.com"),
            ["max_age = 24 hours (0.toml:6)", "delay_notice = [4h] (1.toml:4)"]
        );
        assert_eq!(
            read.rules.overall(&QueueName::new(None, Some("ACME"), "z")).map(|said| &*said.words),
            Some("100/min")
        );
        let note: Vec<_> =
            read.notes.iter().map(|note| (note.line, note.key.as_str(), note.message.as_str())).collect();
        assert_eq!(note, [(7, "queue.default.refresh_interval", "does nothing here: a reload is acted on at once")]);
    }

    #[test]
    fn each_mistake_says_where_it_is_and_what_to_do() {
        for (text, expected) in [
            ("tenant_header = 'X-T'\n", "0.toml:1: tenant_header: belongs to mta.toml here: [routing] tenant_header"),
            ("tennant = 'X-T'\n", "0.toml:1: tennant: unknown key; did you mean `tenant`?"),
            (
                "[queue.'a.test']\nretry_intervall = '5m'\n",
                "0.toml:2: queue.a.test.retry_intervall: unknown key; did you mean `retry_interval`?",
            ),
            (
                "[queue.'a.test']\nretry_interval = 'soon'\n",
                "0.toml:2: queue.a.test.retry_interval: \"soon\" is not a time span: expected number at 0; write a time span like \"30s\", \"15m\" or \"5d\"",
            ),
            (
                "[queue.default]\nretry_interval = '1h'\nmax_retry_interval = '5m'\n",
                "0.toml:3: queue.default.max_retry_interval: is shorter than retry_interval",
            ),
            (
                "[queue.default]\negress_pool = 'cold'\n",
                "0.toml:2: queue.default.egress_pool: names the pool \"cold\", which mta.toml does not have (known: main, warm)",
            ),
            (
                "[queue.gmail.com]\nmax_age = '1h'\n",
                "0.toml:1: queue.gmail: holds a table \"com\": names of domains belong in quotes, as in [queue.\"gmail.com\"]",
            ),
            ("[queue.'*']\nmax_age = '1h'\n", "0.toml:1: queue.*: is for all domains; write [queue.default]"),
            (
                "[queue.default.t]\nmax_age = '1h'\n",
                "0.toml:1: queue.default.t: is a table; what is for the tenant \"t\" everywhere belongs into [tenant.\"t\"]",
            ),
            (
                "[queue.'a.test'.'a b']\nmax_age = '1h'\n",
                "0.toml:1: queue.a.test.a b: is for a tenant that cannot be: 1 to 64 letters, digits or . _ - + = are allowed",
            ),
            (
                "[queue.'a.test']\nrouting_domain = 'b.test'\n",
                "0.toml:2: queue.a.test.routing_domain: belongs to a [[rule]] here: set_routing_domain or set_route",
            ),
            (
                "[queue.'a.test']\nprotocol = { smtp = { mx_list = ['b.test'] } }\n",
                "0.toml:2: queue.a.test.protocol: belongs to a [[route]] here, which names hosts and what they speak",
            ),
            (
                "[queue.'a.test'.'t']\noverall_max_message_rate = '1/s'\n",
                "0.toml:2: queue.a.test.t.overall_max_message_rate: is for all queues of a tenant and belongs to [tenant.'name']",
            ),
            (
                "[tenant.'t']\nrequire_authz = ['scott']\n",
                "0.toml:2: tenant.t.require_authz: has no counterpart for single tenants; a [[rule]] with user and set_tenant says whose mail a user's is",
            ),
        ] {
            assert_eq!(read(&[text]).map(|_| ()), Err(vec![expected.to_owned()]), "{text}");
        }
    }
}
