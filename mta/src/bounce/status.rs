//! The part of a report that programs read: message/delivery-status (RFC 3464 section 2, RFC 6533 section 4).
//! Pure. Floor 2.
//! Always: what the sender said of its message and recipients is told in the words that it used.

use super::dsn::{News, Part, Report, Told, capped, date, host, whole};
use super::mime::{Charset, MAX_WORD_BYTES, field, words};
use crate::message::{Address, EnhancedCode, Original, xtext};

/// Our own words, where a reply of the destination would be `smtp` (RFC 3464 section 2.1.1).
const OWN_DIAGNOSTIC: &str = "x-egret;";

pub(super) fn delivery_status(report: &Report<'_>, charset: Charset) -> Part {
    let mut out = String::new();
    let own = |text: &str| words(text, Charset::Ascii);
    if let Some(envid) = &report.original.meta.wish.envid {
        field(&mut out, "Original-Envelope-Id", &in_one(envid.as_str(), charset));
    }
    field(&mut out, "Reporting-MTA", &own(&format!("dns; {}", host(report.hostname))));
    field(&mut out, "Arrival-Date", &own(&date(report.received)));
    for told in report.recipients {
        out.push_str("\r\n");
        group(&mut out, report, told, charset);
    }
    match charset {
        Charset::Ascii => Part::new("message/delivery-status", "7bit", out),
        Charset::Utf8 => Part::new("message/global-delivery-status", "8bit", out),
    }
}

/// The fields about one recipient.
fn group(out: &mut String, report: &Report<'_>, told: &Told<'_>, charset: Charset) {
    let own = |text: &str| words(text, Charset::Ascii);
    if let Some(original) = told.wish.and_then(|wish| wish.original.as_ref()) {
        field(out, "Original-Recipient", &original_recipient(original, charset));
    }
    field(out, "Final-Recipient", &final_recipient(told.recipient, charset));
    field(out, "Action", &own(report.news.action()));
    field(out, "Status", &own(&status(report.news, told).to_string()));
    if let Some(remote) = told.remote {
        field(out, "Remote-MTA", &own(&format!("dns; {remote}")));
    }
    let kind = if told.response.command.is_some() { "smtp;" } else { OWN_DIAGNOSTIC };
    field(out, "Diagnostic-Code", &words(&format!("{kind} {}", capped(told.response)), charset));
    // The field may be left out, and must be where no attempt was made now.
    if let Some(at) = told.last_attempt {
        field(out, "Last-Attempt-Date", &own(&date(at)));
    }
    field(out, "Final-Log-Id", &own(&report.original.id.to_string()));
    if let News::Delayed { until } = report.news {
        field(out, "Will-Retry-Until", &own(&date(until)));
    }
}

/// Address type and address: `rfc822` where ASCII suffices, else `utf-8`, in a report that is ASCII by
/// RFC 6533's escapes.
fn final_recipient(recipient: &Address, charset: Charset) -> Vec<String> {
    let text = recipient.as_str();
    if text.is_ascii() {
        return vec!["rfc822;".to_owned(), whole(text, charset)];
    }
    if charset == Charset::Utf8 {
        return vec!["utf-8;".to_owned(), whole(text, charset)];
    }
    let (local, domain) = (recipient.local(), recipient.canonical_domain());
    let (kind, local) = match local.is_ascii() {
        true => ("rfc822;", local.to_owned()),
        false => ("utf-8;", xtext::escape(local)),
    };
    vec![kind.to_owned(), format!("{}@{}", whole(&local, charset), whole(&domain, charset))]
}

/// As the sender wrote it, its xtext decoded (RFC 3461 section 6.3).
fn original_recipient(original: &Original, charset: Charset) -> Vec<String> {
    let address = match (original.is_utf8(), charset) {
        (false, _) => original.address().to_owned(),
        (true, Charset::Utf8) => xtext::escape_ascii(original.address()),
        (true, Charset::Ascii) => xtext::escape(original.address()),
    };
    [in_one(&format!("{};", original.kind()), charset), in_one(&address, charset)].concat()
}

/// A text as one word, unless no line has room for that: escapes are longer than what they stand for.
fn in_one(text: &str, charset: Charset) -> Vec<String> {
    let one = whole(text, charset);
    if one.len() <= MAX_WORD_BYTES { vec![one] } else { words(text, charset) }
}

/// The status of a recipient: what the response says, or what follows from its reply code.
pub(super) fn status(news: News, told: &Told<'_>) -> EnhancedCode {
    let said = |class| told.response.enhanced.filter(|code| code.class == class);
    match news {
        News::Delayed { .. } => said(4).unwrap_or(EnhancedCode::new(4, 0, 0)),
        News::Relayed | News::Delivered => said(2).unwrap_or(EnhancedCode::new(2, 0, 0)),
        News::Expired => said(5).unwrap_or(EnhancedCode::new(5, 4, 7)),
        News::Failed if (400..500).contains(&told.response.code) => {
            said(5).or(said(4)).unwrap_or(EnhancedCode::new(4, 0, 0))
        }
        News::Failed => said(5).or(said(4)).unwrap_or(EnhancedCode::new(5, 0, 0)),
    }
}
