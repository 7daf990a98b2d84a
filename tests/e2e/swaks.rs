//! swaks, the tool that people try an MTA with.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use egret_tests::harness::{Fleet, Options, ask, binary, eventually};
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

#[tokio::test(flavor = "multi_thread")]
async fn swaks_logs_in_as_a_user() {
    if !Path::new("/usr/bin/swaks").exists() {
        eprintln!("skipped: swaks is not installed");
        return;
    }
    let files = tempfile::tempdir().expect("a directory");
    let (certificate, key) = self_signed(&["mta.test"]).expect("a certificate");
    let named = |name: &str| files.path().join(name).display().to_string();
    let (certificate_file, key_file, users) = (named("c.pem"), named("k.pem"), named("users"));
    std::fs::write(&certificate_file, certificate).expect("written");
    std::fs::write(&key_file, key).expect("written");
    set_password(&users, "shop", "right");
    let fleet = Fleet::start(&Options {
        root_keys: format!("users_file = \"{users}\""),
        listener_keys: format!(
            "auth = \"required\"\ntls_certificate = \"{certificate_file}\"\ntls_private_key = \"{key_file}\""
        ),
        tables: "[[rule]]\nuser = \"sho?\"\nset_tenant = \"shops\"\n[[rule]]\nuser = \"-\"\nset_tenant = \"nobody\"\n"
            .to_owned(),
        ..Options::default()
    });
    let sink = sink(&fleet, Behaviour::default()).await;
    let http = |what: &str| ask(fleet.mta_admin, what, "", Duration::from_secs(20)).expect("an answer");
    let log_in = |how: &[&str], password: &str| {
        let user = ["--to", "a@d.test", "--auth-user", "shop", "--auth-password", password];
        swaks(&fleet, &[&user, how].concat())
    };
    for mechanism in ["PLAIN", "LOGIN"] {
        let (code, text) = log_in(&["--tls", "--auth", mechanism], "right");
        assert!(code == 0 && text.contains("235 2.7.0"), "{mechanism} ended with {code}:\n{text}");
    }
    for (how, password, said) in [
        (&["--tls", "--auth", "PLAIN"][..], "wrong", "535 5.7.8"),
        (&["--auth", "PLAIN"], "right", "not advertise auth"),
        (&["--tls", "--auth", "CRAM-MD5"], "right", "requested type not available"),
    ] {
        let (code, text) = log_in(how, password);
        assert!(code == 28 && text.contains(said), "{how:?} {password} ended with {code}:\n{text}");
    }
    let (code, text) = swaks(&fleet, &["--to", "a@d.test", "--tls"]);
    assert!(code != 0 && text.contains("530 5.7.0"), "{text}");
    eventually("the deliveries", || match sink.stats().received {
        2 => Ok(()),
        n => Err(format!("{n}\n{}", fleet.mta.log())),
    });
    assert!(sink.messages().iter().all(|kept| kept.content.contains("with ESMTPSA")));
    let reception = fleet.event("the reception", |event| event["type"] == "reception");
    assert_eq!((reception["user"].as_str(), reception["tenant"].as_str()), (Some("shop"), Some("shops")));
    let metrics = http("GET /metrics").1;
    for line in
        [r#"egret_mta_reception_auth_total{result="ok"} 2"#, r#"egret_mta_reception_auth_total{result="wrong"} 1"#]
    {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    // Other passwords hold after a reload; a file with a mistake changes nothing.
    set_password(&users, "shop", "other");
    assert_eq!(http("POST /v1/reload").0, 200);
    assert_eq!(log_in(&["--tls", "--auth", "PLAIN"], "other").0, 0);
    assert_eq!(log_in(&["--tls", "--auth", "PLAIN"], "right").0, 28);
    std::fs::write(&users, "shop:secret\n").expect("written");
    assert_ne!(http("POST /v1/reload").0, 200);
    assert_eq!(log_in(&["--tls", "--auth", "PLAIN"], "other").0, 0);
    let log = fleet.mta.log();
    assert!(log.contains("wrong user or password") && !log.contains("AHNob3A"), "{log}");
    for password in ["right", "other"] {
        assert!(!log.split(|c: char| !c.is_alphanumeric()).any(|word| word == password), "{password} is in\n{log}");
    }
}

/// Writes a user's password by `egret-mta user add`.
fn set_password(file: &str, user: &str, password: &str) {
    let mut command = Command::new(binary("egret-mta"));
    let mut child =
        command.args(["user", "add", user, "--file", file]).stdin(Stdio::piped()).spawn().expect("egret-mta runs");
    child.stdin.take().expect("piped").write_all(password.as_bytes()).expect("taken");
    assert!(child.wait().expect("ends").success());
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
