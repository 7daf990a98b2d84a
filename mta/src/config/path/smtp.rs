//! How a session speaks. Floor 5.

use egret_shared::config::Section;
use egret_shared::units::Span;

use crate::shaping::options::{SmtpOptions, Timeouts, Uncertain};

pub(super) fn replace(section: &Section<'_>, options: &mut SmtpOptions) {
    let hello = section.optional::<String>(
        "ehlo_domain",
        "The name told in EHLO by sources that have no `ehlo_name`; `hostname` if absent.",
    );
    if let Some(name) = hello.as_deref().filter(|name| !super::super::is_host_name(name)) {
        section.complain("ehlo_domain", format!("{name:?} is not a host name"));
    }
    options.ehlo_domain = hello.map(Into::into).or(options.ehlo_domain.take());
    section.replace(
        "use_lmtp",
        "false",
        "Whether LMTP (RFC 2033) is spoken instead of SMTP. A route's `protocol` says so for its hosts alone.",
        &mut options.use_lmtp,
    );
    section.replace(
        "enable_rset",
        "true",
        "Whether RSET may be used. Egret sends it only where a transaction was given up; with false such a session ends.",
        &mut options.enable_rset,
    );
    section.replace(
        "enable_pipelining",
        "true",
        "Whether commands are sent together where the server offers it.",
        &mut options.enable_pipelining,
    );
    section.replace(
        "enable_chunking",
        "true",
        "Whether content is sent by BDAT where the server offers it: as it is, and where it is small behind the commands at once.",
        &mut options.enable_chunking,
    );
    section.replace_with::<Span, _>(
        "remember_broken_pipelining",
        "\"1h\"",
        "For how long commands go one by one to a host that offers PIPELINING and loses or mixes up commands that come together; \"0s\" tries each time.",
        &mut options.remember_broken_pipelining,
    );
    section.replace_with::<Span, _>(
        "remember_broken_chunking",
        "\"1h\"",
        "For how long content goes by DATA to a host that offers CHUNKING and answers BDAT with 500 to 504; \"0s\" tries each time.",
        &mut options.remember_broken_chunking,
    );
    section.replace(
        "ignore_8bit_checks",
        "false",
        "Whether 8-bit content is sent also to servers that do not offer 8BITMIME; otherwise it bounces there.",
        &mut options.ignore_8bit_checks,
    );
    section.replace(
        "uncertain",
        "\"retry\"",
        "What follows when a session dies behind the content and before the answer, so that the destination may have taken it: \"retry\" (it may come twice), \"hold\" (it waits until an operator requeues or bounces it, or it expires; so does the rest of its part), \"deliver\" (it is taken for delivered, and may be lost).",
        &mut options.uncertain,
    );
    timeouts(section, &mut options.timeouts);
}

egret_shared::config_value_from_str!(Uncertain => "what follows");

fn timeouts(section: &Section<'_>, timeouts: &mut Timeouts) {
    let span = |key, default, doc, slot| section.replace_with::<Span, _>(key, default, doc, slot);
    span(
        "connect_timeout",
        "\"60s\"",
        "Reaching a host: the proxy, its handshake and the connection.",
        &mut timeouts.connect,
    );
    span("banner_timeout", "\"5m\"", "The server's greeting.", &mut timeouts.banner);
    span("ehlo_timeout", "\"5m\"", "The reply to EHLO or HELO.", &mut timeouts.ehlo);
    span("starttls_timeout", "\"30s\"", "The reply to STARTTLS and the handshake.", &mut timeouts.starttls);
    span("auth_timeout", "\"60s\"", "The reply to each step of AUTH.", &mut timeouts.auth);
    span("mail_from_timeout", "\"5m\"", "The reply to MAIL.", &mut timeouts.mail_from);
    span("rcpt_to_timeout", "\"5m\"", "The reply to RCPT.", &mut timeouts.rcpt_to);
    span("data_timeout", "\"5m\"", "The reply to DATA, and each block that is written.", &mut timeouts.data);
    span("data_dot_timeout", "\"10m\"", "The reply to the end of the message.", &mut timeouts.data_dot);
    span("rset_timeout", "\"20s\"", "The reply to RSET and QUIT.", &mut timeouts.rset);
    span("idle_timeout", "\"5s\"", "How long a session without work waits for another message.", &mut timeouts.idle);
}
