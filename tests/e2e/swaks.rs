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
