//! What is a command and what is not, by table. Floor 1.

use std::time::Duration;

use super::*;
use crate::message::{Notify, Original, Return};

fn address(text: &str) -> Address {
    Address::parse(text).expect("an address")
}

fn mail(sender: Option<&str>) -> Mail {
    Mail { sender: sender.map(address), ..Mail::default() }
}

#[test]
fn commands_are_read() {
    let hello = |name: &str, extended| Command::Hello { name: Line::new(name).expect("a line"), extended };
    let extended = |sender| Mail { extended: true, ..mail(sender) };
    let rcpt = |recipient: Option<&str>| Command::Rcpt(Rcpt { address: recipient.map(address), ..Rcpt::default() });
    let wish = |notify, original: &str| RecipientWish { notify, original: Original::new("rfc822", original) };
    for (line, want) in [
        ("EHLO a.test", hello("a.test", true)),
        ("ehlo [IPv6:::1]", hello("[IPv6:::1]", true)),
        ("HELO a_b", hello("a_b", false)),
        ("MAIL FROM:<>", Command::Mail(mail(None))),
        ("mail from:<a@b.test>", Command::Mail(mail(Some("a@b.test")))),
        ("MAIL FROM: <a@b.test> ", Command::Mail(mail(Some("a@b.test")))),
        ("MAIL FROM:<\"a>b\"@b.test>", Command::Mail(mail(Some("\"a>b\"@b.test")))),
        ("MAIL FROM:<@x.test,@[IPv6:::1]:a@b.test>", Command::Mail(mail(Some("a@b.test")))),
        (
            "MAIL FROM:<a@b.test> SIZE=12 BODY=8bitmime",
            Command::Mail(Mail { size: Some(12), ..extended(Some("a@b.test")) }),
        ),
        ("MAIL FROM:<> SIZE=99999999999999999999", Command::Mail(Mail { size: Some(u64::MAX), ..extended(None) })),
        (
            "MAIL FROM:<a@b.test> holdfor=60",
            Command::Mail(Mail { hold: Some(Hold::For(Duration::from_secs(60))), ..extended(Some("a@b.test")) }),
        ),
        ("MAIL FROM:<ü@b.test> SMTPUTF8", Command::Mail(Mail { smtputf8: true, ..extended(Some("ü@b.test")) })),
        ("RCPT TO:<c@d.test>", rcpt(Some("c@d.test"))),
        ("RCPT TO:<@a.test:c@d.test>", rcpt(Some("c@d.test"))),
        (
            "MAIL FROM:<> ret=hdrs envid=a+20b",
            Command::Mail(Mail {
                wish: MessageWish { ret: Some(Return::Hdrs), envid: Line::new("a b").ok() },
                ..extended(None)
            }),
        ),
        (
            "RCPT TO:<PostMaster> notify=delay,success ORCPT=rfc822;x+2By@d.test",
            Command::Rcpt(Rcpt {
                wish: wish(Notify::parse("SUCCESS,DELAY"), "x+y@d.test"),
                extended: true,
                ..Rcpt::default()
            }),
        ),
        ("RCPT TO:<PostMaster>", rcpt(None)),
        ("DATA", Command::Data),
        ("BDAT 0 LAST", Command::Bdat { bytes: 0, last: true }),
        ("bdat 12", Command::Bdat { bytes: 12, last: false }),
        ("BDAT 18446744073709551616 last", Command::Bdat { bytes: u64::MAX, last: true }),
        ("STARTTLS", Command::StartTls),
        ("RSET", Command::Reset),
        ("NOOP and so on", Command::Noop),
        ("HELP me", Command::Help),
        ("VRFY u", Command::Verify),
        ("quit", Command::Quit),
    ] {
        assert_eq!(parse(line.as_bytes()), Ok(want), "{line}");
    }
}

#[test]
fn what_is_not_understood_whole_is_refused_with_its_code() {
    for (line, code, enhanced) in [
        ("", 500, "5.5.2"),
        (" NOOP", 500, "5.5.2"),
        ("XYZZY", 500, "5.5.2"),
        ("MAILFROM:<a@b.test>", 500, "5.5.2"),
        ("EXPN list", 502, "5.5.1"),
        ("AUTH", 501, "5.5.4"),
        ("AUTH PLAIN AAAA AAAA", 501, "5.5.4"),
        ("AUTH PLA!N", 501, "5.5.4"),
        ("GET / HTTP/1.1", 421, "4.7.0"),
        ("DATA now", 501, "5.5.4"),
        ("STARTTLS x", 501, "5.5.4"),
        ("EHLO", 501, "5.5.4"),
        ("EHLO a b", 501, "5.5.4"),
        ("EHLO a(b)", 501, "5.5.4"),
        ("EHLO ü.test", 501, "5.5.4"),
        ("MAIL", 501, "5.5.4"),
        ("MAIL TO:<a@b.test>", 501, "5.5.4"),
        ("MAIL FROM:a@b.test", 501, "5.5.4"),
        ("MAIL FROM:<a@b.test", 501, "5.5.4"),
        ("MAIL FROM:<a@b.test>SIZE=1", 501, "5.5.4"),
        ("MAIL FROM:<<a@b.test>>", 501, "5.5.4"),
        ("MAIL FROM:<a@b.test> SIZE=-1", 501, "5.5.4"),
        ("MAIL FROM:<a@b.test> SIZE", 501, "5.5.4"),
        ("MAIL FROM:<a@b.test> SIZE=1 SIZE=1", 501, "5.5.4"),
        ("MAIL FROM:<a@b.test> BODY=BINARYMIME", 501, "5.5.4"),
        ("MAIL FROM:<a@b.test> SMTPUTF8=yes", 501, "5.5.4"),
        ("MAIL FROM:<a@b.test> HOLDFOR", 501, "5.5.4"),
        ("MAIL FROM:<a@b.test> HOLDFOR=60;R", 501, "5.5.4"),
        ("MAIL FROM:<a@b.test> HOLDFOR=60 HOLDFOR=60", 501, "5.5.4"),
        ("MAIL FROM:<a@b.test> HOLDUNTIL=2023-11-14T22:13:20Z HOLDFOR=60", 501, "5.5.4"),
        ("MAIL FROM:<a@b.test> HOLDUNTIL=noon", 501, "5.5.4"),
        ("MAIL FROM:<a@b.test> RET=ALL", 501, "5.5.4"),
        ("MAIL FROM:<a@b.test> RET", 501, "5.5.4"),
        ("MAIL FROM:<a@b.test> RET=FULL RET=FULL", 501, "5.5.4"),
        ("MAIL FROM:<a@b.test> ENVID=", 501, "5.5.4"),
        ("MAIL FROM:<a@b.test> ENVID=a+0A", 501, "5.5.4"),
        ("MAIL FROM:<a@b.test> ENVID=a+g0", 501, "5.5.4"),
        ("MAIL FROM:<a@b.test> ENVID=a ENVID=b", 501, "5.5.4"),
        ("MAIL FROM:<a@b.test> NOTIFY=NEVER", 555, "5.5.4"),
        ("MAIL FROM:<ü@b.test>", 553, "5.6.7"),
        ("MAIL FROM:<postmaster>", 501, "5.1.3"),
        ("MAIL FROM:<a@b.test,c@d.test>", 501, "5.1.3"),
        ("MAIL FROM:< a@b.test >", 501, "5.1.3"),
        ("MAIL FROM:<@a@b.test>", 501, "5.5.4"),
        ("MAIL FROM:<@:a@b.test>", 501, "5.5.4"),
        ("MAIL FROM:<@a.test,a@b.test>", 501, "5.5.4"),
        ("RCPT TO:<>", 501, "5.1.3"),
        ("RCPT TO:u@t.test", 501, "5.5.4"),
        ("RCPT TO:<u@o.test><u@t.test>", 501, "5.5.4"),
        ("RCPT TO:<u@t.test:25>", 501, "5.1.3"),
        ("RCPT TO:<u>", 501, "5.1.3"),
        ("RCPT TO:<u@t.test> NOTIFY", 501, "5.5.4"),
        ("RCPT TO:<u@t.test> NOTIFY=ALWAYS", 501, "5.5.4"),
        ("RCPT TO:<u@t.test> NOTIFY=NEVER,SUCCESS", 501, "5.5.4"),
        ("RCPT TO:<u@t.test> NOTIFY=DELAY NOTIFY=DELAY", 501, "5.5.4"),
        ("RCPT TO:<u@t.test> ORCPT=u@t.test", 501, "5.5.4"),
        ("RCPT TO:<u@t.test> ORCPT=rfc822;u+0D+0A@t.test", 501, "5.5.4"),
        ("RCPT TO:<u@t.test> ORCPT=rfc822;a ORCPT=rfc822;a", 501, "5.5.4"),
        ("RCPT TO:<u@t.test> RET=FULL", 555, "5.5.4"),
        ("RCPT TO:<u@t.test> SIZE=1", 555, "5.5.4"),
        ("BDAT", 501, "5.5.4"),
        ("BDAT -1", 501, "5.5.4"),
        ("BDAT 1x", 501, "5.5.4"),
        ("BDAT 1 FIRST", 501, "5.5.4"),
        ("BDAT 1 LAST LAST", 501, "5.5.4"),
        ("VRFY", 501, "5.5.4"),
    ] {
        let bad = parse(line.as_bytes()).expect_err(line);
        let refusal = bad.refusal();
        assert_eq!((refusal.code, refusal.enhanced.to_string()), (code, enhanced.to_owned()), "{line}: {bad}");
        assert_eq!(bad.is_fatal(), line.starts_with("BDAT") || line.starts_with("GET"), "{line}");
    }
    assert_eq!(parse(b"NOOP \xff"), Err(Bad::NotUtf8));
}
