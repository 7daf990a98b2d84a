//! `[queue]`, `[dns]` and `[delivery]`: how long mail waits, how its way is found, how it is sent. Floor 5.

use std::path::PathBuf;
use std::time::Duration;

use egret_shared::address::{Network, Networks};
use egret_shared::config::Section;
use egret_shared::units::{Size, Span, Wait};

use super::path::{self, Form};
use crate::dns::resolver::{DnsOptions, trust_anchors};
use crate::queue::{DelayNotice, QueueOptions};
use crate::shaping::options::PathOptions;
use crate::shaping::patch::Patch;

pub(super) fn queue(root: &Section<'_>) -> QueueOptions {
    let section = root.section("queue");
    let span = |key, default, doc| section.with_default::<Wait>(key, default, doc).0;
    let options = QueueOptions {
        retry_interval: span(
            "retry_interval",
            "\"20m\"",
            "The wait after the first attempt that counts; each further one doubles it, give or take 5 %.",
        ),
        max_retry_interval: span("max_retry_interval", "\"4h\"", "The longest wait between attempts."),
        max_age: span(
            "max_age",
            "\"5d\"",
            "What waited longer expires, and is reported to its sender. What the sender has held (FUTURERELEASE) waits from the end of that time.",
        ),
        max_ready: section.with_default(
            "max_ready",
            "1000",
            "Messages that wait for a session to one site from one source; more wait in their scheduled queues.",
        ),
        delay_notice: DelayNotice::default(),
    };
    let options = QueueOptions { delay_notice: delay_notice(&section, options.max_age), ..options };
    if options.retry_interval < Duration::from_millis(100) {
        section.complain("retry_interval", "is under 100ms, which would hammer destinations");
    }
    if options.max_retry_interval < options.retry_interval {
        section.complain("max_retry_interval", "is shorter than retry_interval");
    }
    if options.max_ready == 0 {
        section.complain("max_ready", "is 0, with which nothing would ever be sent");
    }
    options
}

fn delay_notice(section: &Section<'_>, max_age: Duration) -> DelayNotice {
    let waits = section.with_default::<Vec<Span>>(
        "delay_notice",
        "[]",
        "After which waits the sender is told that its message is late and still being tried, like [\"4h\", \"2d\"]: at most four; none tells nobody. Senders that asked for other reports only (NOTIFY without DELAY) are not told.",
    );
    let waits: Vec<_> = waits.into_iter().map(|wait| wait.0).collect();
    if waits.len() > DelayNotice::MOST {
        section.complain("delay_notice", format!("holds {} waits; {} are the most", waits.len(), DelayNotice::MOST));
    }
    if waits.iter().any(|wait| *wait < Duration::from_secs(1)) {
        section.complain("delay_notice", "holds a wait under 1s, before which nothing is late");
    }
    if waits.iter().any(|wait| *wait >= max_age) {
        section.complain("delay_notice", "holds a wait that is not under max_age, at which a message is given up");
    }
    DelayNotice::after(&waits)
}

/// How much of a failed message comes back to its sender, at the most.
pub(super) fn max_returned_bytes(root: &Section<'_>) -> u64 {
    let most = root.section("report").with_default::<Size>(
        "max_returned_size",
        "\"1MiB\"",
        "With a report of failure a message up to this size is returned whole if its sender asked for that (RET=FULL), else up to 16KiB; of a larger one, or where the sender asked for that (RET=HDRS), the headers are returned.",
    );
    most.0
}

/// `[dns]` and `[delivery]` together: the port and the networks concern both.
pub(super) fn delivery(root: &Section<'_>) -> (DnsOptions, Patch) {
    let section = root.section("delivery");
    let mut dns = dns(root);
    dns.smtp_port =
        section.with_default("smtp_port", "25", "The port of mail exchangers, where a route names no other.");
    let special = section.with_default::<Vec<Network>>(
        "allow_special_destinations",
        "[]",
        "Networks of special use (loopback, private, link-local …) that mail may go to though the DNS, not a route, named them.",
    );
    dns.allow_special_destinations = Networks::new(special);
    if dns.smtp_port == 0 {
        section.complain("smtp_port", "is 0; mail exchangers listen on 25");
    }
    let said = path::read(&section, Form::Own);
    dns.enable_dane = said.over(&PathOptions::default()).tls.asks_dane();
    (dns, said)
}

fn dns(root: &Section<'_>) -> DnsOptions {
    let section = root.section("dns");
    let trust_anchor = section.optional::<PathBuf>(
        "trust_anchor",
        "The keys that DNSSEC trusts where enable_dane is set: DNSKEY records in the form of a zone file, read at the start. None are those of the root, compiled in.",
    );
    if let Err(error) = trust_anchors(trust_anchor.as_deref()) {
        section.complain("trust_anchor", error);
    }
    DnsOptions {
        servers: section.with_default(
            "servers",
            "[]",
            "Name servers as address and port; none means those of /etc/resolv.conf.",
        ),
        timeout: section.with_default::<Wait>("timeout", "\"5s\"", "How long one question may take.").0,
        concurrency: section.with_default("concurrency", "128", "Questions that are open at once."),
        trust_anchor,
        ..DnsOptions::default()
    }
}
