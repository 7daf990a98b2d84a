//! `[queue]`, `[dns]` and `[delivery]`: how long mail waits, how its way is found, how it is sent. Floor 5.

use std::time::Duration;

use egret_shared::address::{Network, Networks};
use egret_shared::config::Section;
use egret_shared::units::Span;

use crate::dns::resolver::DnsOptions;
use crate::queue::QueueOptions;
use crate::shaping::options::{PathOptions, Timeouts, Tls};

egret_shared::config_value_from_str!(Tls => "a use of TLS");

pub(super) fn queue(root: &Section<'_>) -> QueueOptions {
    let section = root.section("queue");
    let span = |key, default, doc| section.with_default::<Span>(key, default, doc).0;
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
    };
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

/// `[dns]` and `[delivery]` together: the port and the networks concern both.
pub(super) fn path(root: &Section<'_>) -> (DnsOptions, PathOptions) {
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
    (dns, options(&section))
}

fn dns(root: &Section<'_>) -> DnsOptions {
    let section = root.section("dns");
    DnsOptions {
        servers: section.with_default(
            "servers",
            "[]",
            "Name servers as address and port; none means those of /etc/resolv.conf.",
        ),
        timeout: section.with_default::<Span>("timeout", "\"5s\"", "How long one question may take.").0,
        concurrency: section.with_default("concurrency", "128", "Questions that are open at once."),
        ..DnsOptions::default()
    }
}

fn options(section: &Section<'_>) -> PathOptions {
    let count = |key, default, doc| match section.with_default(key, default, doc) {
        0 => {
            section.complain(key, "is 0, with which nothing would ever be sent");
            1
        }
        count => count,
    };
    PathOptions {
        connection_limit: count("connection_limit", "32", "Sessions at once to one site from one source."),
        max_deliveries_per_connection: count(
            "max_deliveries_per_connection",
            "1024",
            "Messages that one session carries before it ends.",
        ),
        max_recipients_per_batch: count(
            "max_recipients_per_batch",
            "100",
            "Recipients of one transaction; more are sent in further ones.",
        ),
        tls: section.with_default(
            "tls",
            "\"opportunistic\"",
            "\"opportunistic\" (STARTTLS where offered, any certificate), \"required\" (a valid certificate or no delivery), \"required_insecure\" (any certificate or no delivery), \"disabled\".",
        ),
        pipelining: section.with_default("pipelining", "true", "Whether commands are sent together where the server offers it."),
        timeouts: timeouts(&section.section("timeouts")),
    }
}

fn timeouts(section: &Section<'_>) -> Timeouts {
    let span = |key, default, doc| section.with_default::<Span>(key, default, doc).0;
    Timeouts {
        connect: span("connect", "\"60s\"", "Reaching a host: the proxy, its handshake and the connection."),
        banner: span("banner", "\"5m\"", "The server's greeting."),
        ehlo: span("ehlo", "\"5m\"", "The reply to EHLO or HELO."),
        starttls: span("starttls", "\"30s\"", "The reply to STARTTLS and the handshake."),
        mail_from: span("mail_from", "\"5m\"", "The reply to MAIL."),
        rcpt_to: span("rcpt_to", "\"5m\"", "The reply to RCPT."),
        data: span("data", "\"5m\"", "The reply to DATA, and each block that is written."),
        data_dot: span("data_dot", "\"10m\"", "The reply to the end of the message."),
        rset: span("rset", "\"20s\"", "The reply to RSET and QUIT."),
        idle: span("idle", "\"5s\"", "How long a session without work waits for another message."),
    }
}
