//! swaks, the tool that people try an MTA with.

use std::path::Path;
use std::process::Command;

use egret_tests::harness::{Fleet, Options, eventually};
use egret_tests::peer::sink::Behaviour;
use egret_tests::peer::tls::self_signed;

use crate::support::sink;

#[tokio::test(flavor = "multi_thread")]
async fn swaks_in_clear_and_with_starttls() {
    if !Path::new("/usr/bin/swaks").exists() {
        eprintln!("skipped: swaks is not installed");
        return;
    }
    let files = tempfile::tempdir().expect("a directory");
    let (certificate, key) = self_signed(&["mta.test"]).expect("a certificate");
    let (certificate_file, key_file) = (files.path().join("c.pem"), files.path().join("k.pem"));
    std::fs::write(&certificate_file, certificate).expect("written");
    std::fs::write(&key_file, key).expect("written");
    let listener_keys =
        format!("tls_certificate = \"{}\"\ntls_private_key = \"{}\"", certificate_file.display(), key_file.display());
    let fleet = Fleet::start(&Options { dialect: Some("socks5"), listener_keys, ..Options::default() });
    let sink = sink(&fleet, Behaviour::default()).await;
    let server = fleet.smtp.to_string();
    for (subject, more) in [("in clear", &[][..]), ("in TLS", &["--tls"][..])] {
        let output = Command::new("swaks")
            .args(["--server", &server, "--from", "you@example.com", "--to", "friend@example.net"])
            .args(["--header", &format!("Subject: {subject}"), "--body", "hello\n.leading dot\n"])
            .args(more)
            .output()
            .expect("swaks runs");
        assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), fleet.mta.log());
        let message = eventually("its arrival", || {
            let messages = sink.messages();
            let found = messages.iter().find(|kept| kept.content.contains(&format!("Subject: {subject}")));
            found.map(|kept| kept.content.clone()).ok_or_else(|| format!("{} arrived", messages.len()))
        });
        assert!(message.contains("\r\n..leading dot\r\n"), "{message}");
        let protocol = if more.is_empty() { "with ESMTP" } else { "with ESMTPS" };
        assert!(message.contains(protocol), "{message}");
    }
}

/// Runs swaks against a fleet's listener with more arguments; its exit code and what it printed.
fn swaks(fleet: &Fleet, arguments: &[&str]) -> (i32, String) {
    let server = fleet.smtp.to_string();
    let mut command = Command::new("swaks");
    let output = command.args(["--server", &server, "--from", "you@example.com"]).args(arguments).output();
    let output = output.expect("swaks runs");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.code().unwrap_or(-1), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_else_swaks_can_do() {
    if !Path::new("/usr/bin/swaks").exists() {
        eprintln!("skipped: swaks is not installed");
        return;
    }
    let files = tempfile::tempdir().expect("a directory");
    let data = files.path().join("data");
    std::fs::write(&data, "Subject: from a file\n\n.\n..\nend\n").expect("written");
    let fleet = Fleet::start(&Options::default());
    let sink = sink(&fleet, Behaviour::default()).await;
    let file = format!("@{}", data.display());
    // What it is told, its exit code, what it prints, how many deliveries follow. No code is 0 but that of success.
    let cases: [(&[&str], i32, &str, u64); 9] = [
        (&["--to", "a@d.test,b@d.test,c@d.test", "--pipeline"], 0, "PIPELINING", 3),
        (&["--to", "a@d.test", "--protocol", "SMTP"], 0, "HELO", 1),
        (&["--to", "a@d.test", "--from", "<>", "--data", &file], 0, "250 ", 1),
        (&["--to", "a@d.test", "--attach", &file, "--header", "Subject: attached"], 0, "250 ", 1),
        (&["--to", "a@d.test,not an address,b@d.test"], 0, "<** 501 ", 2),
        (
            &["--to", "a@d.test", "--auth", "PLAIN", "--auth-user", "u", "--auth-password", "p"],
            28,
            "not advertise auth",
            0,
        ),
        (&["--to", "a@d.test", "--auth-optional", "--auth-user", "u", "--auth-password", "p"], 0, "250 ", 1),
        (&["--to", "a@d.test", "--tls"], 29, "STARTTLS", 0),
        (&["--to", "a@d.test", "--quit-after", "RCPT"], 0, "221 ", 0),
    ];
    let mut wanted = 0;
    for (arguments, code, said, deliveries) in cases {
        let (ended, text) = swaks(&fleet, arguments);
        assert!(ended == code && text.contains(said), "{arguments:?} ended with {ended}:\n{text}");
        wanted += deliveries;
        eventually("the deliveries", || match sink.stats().received {
            n if n == wanted => Ok(()),
            n => Err(format!("{n} of {wanted} after {arguments:?}\n{}", fleet.mta.log())),
        });
    }
    // Gone in the middle: nothing of it is accepted, and the listener goes on.
    let (_, text) = swaks(&fleet, &["--to", "gone@d.test", "--drop-after-send", "DATA"]);
    assert!(text.contains("DATA"), "{text}");
    assert_eq!(swaks(&fleet, &["--to", "last@d.test"]).0, 0);
    eventually("the last delivery", || match sink.stats().received {
        n if n == wanted + 1 => Ok(()),
        n => Err(format!("{n}")),
    });
    let messages = sink.messages();
    let found = |what: &str| messages.iter().find(|kept| kept.content.contains(what));
    assert!(found("Subject: from a file\r\n\r\n..\r\n...\r\nend\r\n").is_some_and(|kept| kept.sender.is_empty()));
    assert!(found("Subject: attached").is_some_and(|kept| kept.content.contains("multipart/mixed")));
    assert!(!messages.iter().any(|kept| kept.recipients.iter().any(|to| to == "gone@d.test")));
}
