//! How a session speaks. Floor 5.

use std::time::Duration;

use super::Reader;
use crate::shaping::options::{MOST_AHEAD, PathOptions, Uncertain};

pub(super) fn read(reader: &mut Reader<'_, '_>) {
    let hello = reader.optional::<String>(
        "ehlo_domain",
        "The name told in EHLO by sources that have no `ehlo_name`; `hostname` if absent.",
        |options, name| options.smtp.ehlo_domain = Some(name.as_str().into()),
    );
    if let Some(name) = hello.filter(|name| !super::super::is_host_name(name)) {
        reader.section.complain("ehlo_domain", format!("{name:?} is not a host name"));
    }
    reader.plain(
        "use_lmtp",
        "false",
        "Whether LMTP (RFC 2033) is spoken instead of SMTP. A route's `protocol` says so for its hosts alone.",
        |o| &mut o.smtp.use_lmtp,
    );
    reader.plain(
        "enable_rset",
        "true",
        "Whether RSET may be used. Egret sends it where a transaction was given up, and between messages that are sent behind one another; with false a session ends at the one, and does not do the other.",
        |o| &mut o.smtp.enable_rset,
    );
    reader.plain("enable_pipelining", "true", "Whether commands are sent together where the server offers it.", |o| {
        &mut o.smtp.enable_pipelining
    });
    reader.plain(
        "enable_chunking",
        "true",
        "Whether content is sent by BDAT where the server offers it: as it is, and where it is small behind the commands at once.",
        |o| &mut o.smtp.enable_chunking,
    );
    let ahead = reader.plain(
        "max_transactions_ahead",
        "0",
        "Messages that may be sent behind one that is not answered yet, so that a connection over a long way need not wait between them; 0 to 1, 0 is none. It is done where the server offers PIPELINING and CHUNKING and has shown how it answers, for content up to 64 KiB, with an RSET between them; not with `enable_rset = false`. If the connection breaks, two messages are uncertain instead of one.",
        |o| &mut o.smtp.max_transactions_ahead,
    );
    if ahead > MOST_AHEAD {
        reader.section.complain("max_transactions_ahead", format!("is {ahead}; {MOST_AHEAD} is the most"));
    }
    reader.span(
        "remember_broken_pipelining",
        "\"1h\"",
        "For how long commands go one by one to a host that offers PIPELINING and loses or mixes up commands that come together; \"0s\" tries each time.",
        |o| &mut o.smtp.remember_broken_pipelining,
    );
    reader.span(
        "remember_broken_chunking",
        "\"1h\"",
        "For how long content goes by DATA to a host that offers CHUNKING and answers BDAT with 500 to 504; \"0s\" tries each time.",
        |o| &mut o.smtp.remember_broken_chunking,
    );
    reader.plain(
        "ignore_8bit_checks",
        "false",
        "Whether 8-bit content is sent also to servers that do not offer 8BITMIME; otherwise it bounces there.",
        |o| &mut o.smtp.ignore_8bit_checks,
    );
    reader.plain(
        "uncertain",
        "\"retry\"",
        "What follows when a session dies behind the content and before the answer, so that the destination may have taken it: \"retry\" (it may come twice), \"hold\" (it waits until an operator requeues or bounces it, or it expires; so does the rest of its part), \"deliver\" (it is taken for delivered, and may be lost).",
        |o| &mut o.smtp.uncertain,
    );
    timeouts(reader);
}

egret_shared::config_value_from_str!(Uncertain => "what follows");

fn timeouts(reader: &mut Reader<'_, '_>) {
    let mut wait = |key, default, doc, slot: fn(&mut PathOptions) -> &mut Duration| {
        reader.wait(key, default, doc, slot);
    };
    wait("connect_timeout", "\"60s\"", "Reaching a host: the proxy, its handshake and the connection.", |o| {
        &mut o.smtp.timeouts.connect
    });
    wait("banner_timeout", "\"5m\"", "The server's greeting.", |o| &mut o.smtp.timeouts.banner);
    wait("ehlo_timeout", "\"5m\"", "The reply to EHLO or HELO.", |o| &mut o.smtp.timeouts.ehlo);
    wait("starttls_timeout", "\"30s\"", "The reply to STARTTLS and the handshake.", |o| &mut o.smtp.timeouts.starttls);
    wait("auth_timeout", "\"60s\"", "The reply to each step of AUTH.", |o| &mut o.smtp.timeouts.auth);
    wait("mail_from_timeout", "\"5m\"", "The reply to MAIL.", |o| &mut o.smtp.timeouts.mail_from);
    wait("rcpt_to_timeout", "\"5m\"", "The reply to RCPT.", |o| &mut o.smtp.timeouts.rcpt_to);
    wait("data_timeout", "\"5m\"", "The reply to DATA, and each block that is written.", |o| &mut o.smtp.timeouts.data);
    wait("data_dot_timeout", "\"10m\"", "The reply to the end of the message.", |o| &mut o.smtp.timeouts.data_dot);
    wait("rset_timeout", "\"20s\"", "The reply to RSET and QUIT.", |o| &mut o.smtp.timeouts.rset);
    let doc = "How long a session without work waits for another message; with \"0s\" it ends at once.";
    reader.span("idle_timeout", "\"5s\"", doc, |o| &mut o.smtp.timeouts.idle);
}
