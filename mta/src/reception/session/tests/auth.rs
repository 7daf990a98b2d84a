//! AUTH: when it is taken, what it leads to, and that nothing else makes a user. Floor 1.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::reception::{Auth, Verdict};

/// `\0u\0p`, and with a wrong password.
const RIGHT: &str = "AUTH PLAIN AHUAcA==\r\n";
const WRONG: &str = "AUTH PLAIN AHUAcQ==\r\n";
const MAIL: &str = "MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n";

fn house(auth: Auth, relay: bool) -> Settings {
    let mut settings = settings();
    settings.auth.auth = auth;
    if !relay {
        settings.relay_networks = egret_shared::address::Networks::default();
    }
    settings
}

/// A session in TLS.
fn secured(auth: Auth, relay: bool) -> Session {
    Session::new(Arc::new(house(auth, relay)), ([127, 0, 0, 1], 9).into(), Some("TLSv1_3".to_owned()))
}

/// Feeds all of `wire`; the user is `u`, the password `p`. The replies, the offers and what was to be done last.
fn talk(session: &mut Session, wire: &str) -> (Vec<String>, Vec<Offered>, Act) {
    let (mut out, mut offers, mut rest) = (Vec::new(), Vec::new(), wire.as_bytes());
    loop {
        let step = session.step(rest, open(), &mut out);
        rest = &rest[step.used..];
        match step.act {
            Act::Flush => {}
            Act::Authenticate(shown) => {
                let is_right = shown.user.as_str() == "u" && shown.password == "p";
                session.authenticated(if is_right { Verdict::Right } else { Verdict::Wrong }, &mut out);
            }
            Act::Offer(offer) => {
                offers.push(*offer);
                session.answered(Ok(Taken::new(MessageId::from_bytes([1; 16]))), &mut out);
            }
            end => return (codes(&out), offers, end),
        }
    }
}

fn ehlo(mut session: Session) -> String {
    let mut out = Vec::new();
    session.step(b"EHLO c.test\r\n", open(), &mut out);
    String::from_utf8(out).expect("ASCII")
}

#[test]
fn auth_is_offered_only_where_a_password_may_be_told() {
    let offers = |session| ehlo(session).contains("250-AUTH PLAIN LOGIN\r\n");
    assert!(offers(secured(Auth::Optional, true)) && offers(secured(Auth::Required, true)));
    assert!(!offers(secured(Auth::None, true)) && !offers(session(house(Auth::Required, true))));
    let mut trusting = house(Auth::Optional, true);
    trusting.auth.in_clear = private_networks();
    let stranger = Session::new(Arc::new(trusting.clone()), ([192, 0, 2, 1], 9).into(), None);
    assert!(offers(session(trusting)) && !offers(stranger));
}

#[test]
fn a_user_may_relay_and_its_mail_says_so() {
    for (plain, secure, utf8) in [("", "ESMTPSA", "UTF8SMTPSA"), ("clear", "ESMTPA", "UTF8SMTPA")] {
        let mut settings = house(Auth::Required, false);
        settings.auth.in_clear = private_networks();
        let tls = plain.is_empty().then(|| "TLSv1_3".to_owned());
        let mut session = Session::new(Arc::new(settings), ([127, 0, 0, 1], 9).into(), tls);
        let wire = format!(
            "EHLO c.test\r\n{RIGHT}{MAIL}DATA\r\n.\r\nMAIL FROM:<a@b.test> SMTPUTF8 AUTH=<>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n.\r\n"
        );
        let (codes, offers, _) = talk(&mut session, &wire);
        assert_eq!(codes[1..4], ["235 2.7.0", "250 2.1.0", "250 2.1.5"]);
        let told: Vec<_> = offers.iter().map(|o| (o.protocol, o.user.as_ref().map(Line::as_str))).collect();
        assert_eq!(told, [(secure, Some("u")), (utf8, Some("u"))]);
    }
}

#[test]
fn each_form_of_auth_is_answered_as_the_rfcs_say() {
    let long = STANDARD.encode(format!("\0u\0{}", "p".repeat(9_000)));
    for (wire, want) in [
        ("AUTH PLAIN\r\nAHUAcA==\r\n", vec!["334", "235 2.7.0"]),
        ("auth plain AHUAcA==\r\n", vec!["235 2.7.0"]),
        ("AUTH PLAIN dQB1AHA=\r\n", vec!["235 2.7.0"]),
        ("AUTH LOGIN\r\ndQ==\r\ncA==\r\n", vec!["334", "334", "235 2.7.0"]),
        ("AUTH LOGIN dQ==\r\ncA==\r\n", vec!["334", "235 2.7.0"]),
        ("AUTH LOGIN dQ==\r\ncQ==\r\n", vec!["334", "535 5.7.8"]),
        ("AUTH PLAIN\r\n*\r\nNOOP\r\n", vec!["334", "501 5.7.0", "250 2.0.0"]),
        ("AUTH LOGIN\r\ndQ==\r\n*\r\nNOOP\r\n", vec!["334", "334", "501 5.7.0", "250 2.0.0"]),
        ("AUTH PLAIN *\r\n", vec!["501 5.7.0"]),
        ("AUTH PLAIN =\r\n", vec!["501 5.5.2"]),
        ("AUTH PLAIN %%%\r\n", vec!["501 5.5.2"]),
        ("AUTH PLAIN\r\nAHUA\ncA==\r\nNOOP\r\n", vec!["334", "501 5.5.2", "250 2.0.0"]),
        ("AUTH PLAIN AHUAcAA=\r\n", vec!["501 5.5.2"]),
        ("AUTH PLAIN AHUAcA== x\r\n", vec!["501 5.5.4"]),
        ("AUTH\r\n", vec!["501 5.5.4"]),
        ("AUTH CRAM-MD5\r\n", vec!["504 5.5.4"]),
        ("AUTH PLAIN eAB1AHA=\r\n", vec!["535 5.7.8"]),
        (&format!("AUTH PLAIN {long}\r\n"), vec!["535 5.7.8"]),
        (&format!("AUTH PLAIN {long}{long}\r\nNOOP\r\n"), vec!["500 5.5.2", "250 2.0.0"]),
        (&format!("AUTH PLAIN\r\n{long}{long}\r\nNOOP\r\n"), vec!["334", "500 5.5.2", "250 2.0.0"]),
        (&format!("{RIGHT}{RIGHT}"), vec!["235 2.7.0", "503 5.5.1"]),
        (&format!("{RIGHT}EHLO d.test\r\n{RIGHT}"), vec!["235 2.7.0", "250", "503 5.5.1"]),
        (&format!("{MAIL}{RIGHT}"), vec!["250 2.1.0", "250 2.1.5", "503 5.5.1"]),
    ] {
        let mut session = secured(Auth::Optional, true);
        let (codes, ..) = talk(&mut session, &format!("EHLO c.test\r\n{wire}"));
        assert_eq!(codes[1..], want, "{wire:.40}");
    }
    for (mut session, wire, want) in [
        (secured(Auth::None, true), "EHLO c.test\r\nAUTH PLAIN AHUAcA==\r\n", "502 5.5.1"),
        (session(house(Auth::Optional, true)), "EHLO c.test\r\nAUTH PLAIN AHUAcA==\r\n", "538 5.7.11"),
        (session(house(Auth::Optional, true)), "EHLO c.test\r\nAUTH LOGIN\r\n", "538 5.7.11"),
        (session(house(Auth::Optional, true)), "EHLO c.test\r\nAUTH X\r\n", "504 5.5.4"),
        (secured(Auth::Optional, true), "AUTH PLAIN AHUAcA==\r\n", "503 5.5.1"),
        (secured(Auth::Optional, true), "HELO c.test\r\nAUTH PLAIN AHUAcA==\r\n", "503 5.5.1"),
    ] {
        let (codes, ..) = talk(&mut session, wire);
        assert_eq!(codes.last().map(String::as_str), Some(want), "{wire}");
    }
}

#[test]
fn three_wrong_passwords_close_the_session() {
    let mut session = secured(Auth::Optional, true);
    let (codes, _, act) = talk(&mut session, &format!("EHLO c.test\r\n{WRONG}{WRONG}AUTH PLAIN %\r\n{WRONG}{RIGHT}"));
    assert_eq!(codes[1..], ["535 5.7.8", "535 5.7.8", "501 5.5.2", "535 5.7.8", "421 4.7.0"]);
    assert_eq!(act, Act::Close);
}

#[test]
fn nobody_looked_is_told_and_nobody_became_a_user() {
    let mut session = secured(Auth::Required, true);
    let mut out = Vec::new();
    let step = session.step(format!("EHLO c.test\r\n{RIGHT}").as_bytes(), open(), &mut out);
    assert!(matches!(step.act, Act::Authenticate(_)));
    assert!(!session.is_idle(), "a verdict is awaited");
    session.authenticated(Verdict::Unasked(Refusal::new(454, (4, 7, 0), "not now")), &mut out);
    assert_eq!(codes(&out).last().map(String::as_str), Some("454 4.7.0"));
    assert_eq!(talk(&mut session, MAIL).0, ["530 5.7.0", "503 5.5.1"]);
}

#[test]
fn who_must_log_in_sends_nothing_before() {
    for session in [&mut secured(Auth::Required, true), &mut session(house(Auth::Required, true))] {
        let (codes, offers, _) = talk(session, &format!("EHLO c.test\r\n{MAIL}DATA\r\nNOOP\r\nRSET\r\n{WRONG}{MAIL}"));
        assert_eq!(codes[1..6], ["530 5.7.0", "503 5.5.1", "503 5.5.1", "250 2.0.0", "250 2.0.0"]);
        assert!(offers.is_empty() && codes[7..] == ["530 5.7.0", "503 5.5.1"], "{codes:?}");
    }
}

#[test]
fn who_may_log_in_and_does_not_is_as_before() {
    let may = |relay, wire: &str| talk(&mut secured(Auth::Optional, relay), &format!("EHLO c.test\r\n{wire}{MAIL}")).0;
    assert_eq!(may(true, "").last().map(String::as_str), Some("250 2.1.5"));
    assert_eq!(may(false, "").last().map(String::as_str), Some("550 5.7.1"));
    assert_eq!(may(false, WRONG).last().map(String::as_str), Some("550 5.7.1"));
    assert_eq!(may(false, RIGHT).last().map(String::as_str), Some("250 2.1.5"));
}

#[test]
fn the_parameter_of_mail_is_read_where_auth_is_offered() {
    for (auth, value, want) in [
        (Auth::Optional, "<>", "250 2.1.0"),
        (Auth::Optional, "e+3Dmc2@example.com", "250 2.1.0"),
        (Auth::Optional, "nobody", "501 5.5.4"),
        (Auth::Optional, "<> AUTH=<>", "501 5.5.4"),
        (Auth::None, "<>", "555 5.5.4"),
    ] {
        let (codes, ..) =
            talk(&mut secured(auth, true), &format!("EHLO c.test\r\nMAIL FROM:<a@b.test> AUTH={value}\r\n"));
        assert_eq!(codes[1], want, "{value}");
    }
}

proptest! {
    /// Whatever a client says: without the right password there is no user, and where one is demanded, no offer.
    #[test]
    fn only_a_right_password_makes_a_user(lines in prop::collection::vec(prop_oneof![
        Just("EHLO c.test\r\n"), Just("HELO c.test\r\n"), Just("RSET\r\n"), Just("NOOP\r\n"), Just("AUTH PLAIN\r\n"),
        Just("AUTH LOGIN\r\n"), Just("AUTH LOGIN dQ==\r\n"), Just("dQ==\r\n"), Just("cQ==\r\n"), Just("*\r\n"), Just(WRONG),
        Just(RIGHT), Just(MAIL), Just("DATA\r\nhello\r\n.\r\n"), Just("BDAT 4 LAST\r\nab\r\n"), Just("AUTH PLAIN =\r\n"),
    ], 0..14)) {
        let wire = lines.concat();
        let mut session = secured(Auth::Required, true);
        let (codes, offers, _) = talk(&mut session, &wire);
        let logged_in = codes.iter().any(|code| code == "235 2.7.0");
        prop_assert_eq!(session.user.is_some(), logged_in);
        prop_assert!(!logged_in || lines.contains(&RIGHT));
        prop_assert!(offers.is_empty() || logged_in);
        prop_assert!(offers.iter().all(|offer| offer.user.is_some()));
    }
}
