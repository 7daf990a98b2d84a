//! The part of a report that people read.
//! Pure. Floor 2.
//! Always: it says what became of the message, whether something is still tried, and why.

use super::dsn::{News, Part, Report, Told, capped, date, host};
use super::mime::{Charset, paragraph, quoted_printable, words};

pub(super) fn letter(report: &Report<'_>, is_whole: bool, charset: Charset) -> Part {
    let mut text = String::new();
    say(&mut text, "", &format!("This is the mail system at {}.", host(report.hostname)));
    text.push_str("\r\n");
    for sentence in what(report.news) {
        say(&mut text, "", &sentence);
    }
    for told in report.recipients {
        text.push_str("\r\n");
        say(&mut text, "  ", &format!("<{}>", told.recipient));
        for sentence in why(report.news, told) {
            say(&mut text, "    ", &sentence);
        }
    }
    text.push_str("\r\n");
    say(&mut text, "", &format!("The message was accepted on {}.", date(report.received)));
    say(&mut text, "", &format!("Its id here is {}.", report.original.id));
    say(&mut text, "", if is_whole { "It is attached." } else { "Its headers are attached." });
    let (encoding, body) = match charset {
        _ if text.is_ascii() => ("7bit", text),
        Charset::Utf8 => ("8bit", text),
        Charset::Ascii => ("quoted-printable", quoted_printable(text.as_bytes())),
    };
    Part::new("text/plain; charset=utf-8", encoding, body)
}

fn say(text: &mut String, indent: &str, sentence: &str) {
    paragraph(text, indent, &words(sentence, Charset::Utf8));
}

fn what(news: News) -> [String; 2] {
    let [first, second] = match news {
        News::Failed | News::Expired => {
            ["Your message could not be delivered to the recipients below.", "No more attempts are made for them."]
        }
        News::Delayed { until } => {
            let first = "Your message could not yet be delivered to the recipients below.".to_owned();
            let second = format!("You need not send it again: it is tried until {}.", date(until));
            return [first, second];
        }
        News::Relayed => [
            "Your message was passed on, for the recipients below, to a mail server that does not report deliveries.",
            "Of these recipients you will hear again only if something fails there.",
        ],
        News::Delivered => ["Your message was delivered to the recipients below.", "Nothing is left to be done."],
    };
    [first.to_owned(), second.to_owned()]
}

/// What was said about a recipient, as sentences.
fn why(news: News, told: &Told<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    if news == News::Expired {
        lines.push("It waited too long: the attempts up to now did not succeed.".to_owned());
    }
    match (&told.response.command, told.remote) {
        (Some(command), Some(remote)) => lines.push(format!("The mail server {remote} answered to {command}:")),
        (Some(command), None) => lines.push(format!("The mail server answered to {command}:")),
        (None, _) => lines.push("The reason:".to_owned()),
    }
    lines.push(capped(told.response));
    lines
}
