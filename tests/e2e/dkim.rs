//! Signatures, verified by other people's software: aiosmtpd takes the mail, dkimpy judges it.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use egret_tests::harness::{Fleet, Options, Program, eventually};
use rcgen::KeyPair;

use crate::support::smtp;

/// A server that keeps what it takes, in files 0, 1, 2 …
const SERVER: &str = r"
import sys, time
from aiosmtpd.controller import Controller
class Keep:
    count = 0
    async def handle_DATA(self, server, session, envelope):
        with open(f'{sys.argv[3]}/taken-{self.count}', 'wb') as file:
            file.write(envelope.original_content)
        Keep.count += 1
        return '250 2.0.0 kept'
controller = Controller(Keep(), hostname=sys.argv[1], port=int(sys.argv[2]), enable_SMTPUTF8=True, decode_data=False)
controller.start()
while True:
    time.sleep(3600)
";

/// Verifies each signature of each file; prints one line a file: good or bad for each signature.
const JUDGE: &str = r"
import sys, dkim
keys = dict(line.rstrip('\n').split(' ', 1) for line in open(sys.argv[1]))
def txt(name, timeout=5):
    return keys.get(name.decode().rstrip('.'), '').encode()
for name in sys.argv[2:]:
    message = open(name, 'rb').read()
    signatures = sum(1 for header, _ in dkim.rfc822_parse(message)[0] if header.lower() == b'dkim-signature')
    print(' '.join('good' if dkim.DKIM(message).verify(idx=i, dnsfunc=txt) else 'bad' for i in range(signatures)))
";

fn python(script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.arg("-c").arg(script).args(arguments);
    command
}

/// Writes a private key; its DNS record.
fn make_key(algorithm: &'static rcgen::SignatureAlgorithm, kind: &str, file: &Path) -> String {
    let key = KeyPair::generate_for(algorithm).expect("a key");
    std::fs::write(file, key.serialize_pem()).expect("written");
    let pem: String = key.public_key_pem().lines().filter(|line| !line.starts_with("-----")).collect();
    // RFC 8463 wants the 32 bytes of an Ed25519 key without the 12 of their wrapping: 16 characters of base64.
    let public = if kind == "ed25519" { &pem[16..] } else { &pem };
    format!("v=DKIM1; k={kind}; p={public}")
}

fn offer(to: SocketAddr, content: &str) {
    let lines = ["EHLO x", "MAIL FROM:<s@a.test> BODY=8BITMIME", "RCPT TO:<r@b.test>", "DATA", content, "QUIT"];
    let answers = smtp(to, &lines);
    assert!(answers[5].starts_with("250 "), "{answers:?}");
}

#[test]
fn signatures_are_good_for_dkimpy_and_a_reload_brings_other_keys() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    let records = [("rsa", &rcgen::PKCS_RSA_SHA256, "rsa"), ("ed", &rcgen::PKCS_ED25519, "ed25519")]
        .map(|(name, algorithm, kind)| format!("{name}._domainkey.a.test {}", make_key(algorithm, kind, &at(name))));
    std::fs::write(at("keys"), records.join("\n") + "\n").expect("written");
    let table = |canonicalization: &str| {
        let signature = |name: &str| {
            let file = at(name);
            format!(
                "[[dkim.signature]]\ndomain = \"a.test\"\nselector = \"{name}\"\nprivate_key = \"{}\"\n",
                file.display()
            )
        };
        format!(
            "[dkim]\nheader_canonicalization = \"{canonicalization}\"\nbody_canonicalization = \"{canonicalization}\"\n{}{}",
            signature("rsa"),
            signature("ed")
        )
    };
    let fleet = Fleet::start(&Options { tables: table("Relaxed"), ..Options::default() });
    let (host, port) = (fleet.sink.ip().to_string(), fleet.sink.port().to_string());
    let files = directory.path().to_str().expect("text");
    let server = Program::spawn(&mut python(SERVER, &[&host, &port, files]), &at("log"));
    eventually("aiosmtpd", || match std::net::TcpStream::connect(fleet.sink) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{error}: {}", server.log())),
    });
    let messages = [
        "From: A <a@a.test>\r\nTo: r@b.test\r\nSubject: plain\r\n\r\nhello\r\n",
        "From: a@A.test\r\nSubject: folded\r\n  and\t folded   again \r\nTo:r@b.test\r\n\r\nhello  you \t\r\n\r\n  \r\n\t\r\n",
        "From: a@a.test\r\nSubject: 8 bit \u{fc}\r\n\r\ngr\u{fc}\u{df}e\r\n..\r\n.a\r\n",
        "From: a@a.test\r\n\r\n",
        "From: a@a.test\r\nSubject: no body",
        "From: a@a.test\r\nSubject: one\r\nSubject: two\r\n\r\n \r\nx\r\n\r\n\r\n",
        "From: a@elsewhere.test\r\n\r\nnot ours\r\n",
    ];
    let mut taken = 0;
    for canonicalization in ["Relaxed", "Simple"] {
        if canonicalization == "Simple" {
            let file = fleet.file("mta.toml");
            let text = std::fs::read_to_string(&file).expect("readable").replace("\"Relaxed\"", "\"Simple\"");
            std::fs::write(&file, text).expect("written");
            let patience = std::time::Duration::from_secs(30);
            let answer =
                egret_tests::harness::ask(fleet.mta_admin, "POST /v1/reload", "", patience).expect("an answer");
            assert!(answer.0 == 200 && answer.1.contains("dkim.body_canonicalization"), "{answer:?}");
        }
        for message in messages {
            // What `smtp` writes ends each line; the dot ends the message. Dots at line starts are the client's to double.
            let stuffed = message.replace("\r\n.", "\r\n..");
            offer(fleet.smtp, &format!("{}\r\n.", stuffed.strip_suffix("\r\n").unwrap_or(&stuffed)));
            taken += 1;
            eventually("the message", || match at(&format!("taken-{}", taken - 1)).exists() {
                true => Ok(()),
                false => Err(format!("{taken}: {}\n{}", fleet.mta.log(), server.log())),
            });
        }
    }
    // Somebody adds a second Subject and a second From: what is signed once more than it is there breaks.
    for (n, header) in ["Subject: evil\r\n", "From: evil@evil.test\r\n"].iter().enumerate() {
        let message = std::fs::read(at("taken-0")).expect("readable");
        let mut forged = std::fs::File::create(at(&format!("taken-{}", taken + n))).expect("a file");
        forged.write_all(&[header.as_bytes(), &message].concat()).expect("written");
    }
    let names: Vec<String> = (0..taken + 2).map(|n| at(&format!("taken-{n}")).display().to_string()).collect();
    let mut arguments = vec![at("keys").display().to_string()];
    arguments.extend(names);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let judged = python(JUDGE, &arguments).output().expect("python3 runs");
    let told = String::from_utf8_lossy(&judged.stdout).into_owned();
    let each: Vec<&str> = vec!["good good", "good good", "good good", "good good", "good good", "good good", ""];
    let want = [each.clone(), each, vec!["bad bad", "bad bad"]].concat();
    assert_eq!(told.lines().collect::<Vec<_>>(), want, "{}", String::from_utf8_lossy(&judged.stderr));
    let metrics = crate::support::get(fleet.mta_admin, "/metrics").1;
    assert!(metrics.contains("egret_mta_dkim_messages_total{result=\"signed\"} 12"), "{metrics}");
    assert!(metrics.contains("egret_mta_dkim_messages_total{result=\"no_key\"} 2"), "{metrics}");
}

#[test]
fn a_key_that_is_not_there_is_told_with_its_place_and_a_reload_keeps_the_old() {
    let fleet = Fleet::start(&Options::default());
    let file = fleet.file("mta.toml");
    let mut text = std::fs::read_to_string(&file).expect("readable");
    text.push_str("[[dkim.signature]]\ndomain = \"a.test\"\nselector = \"s1\"\nprivate_key = \"/nowhere/key.pem\"\n");
    std::fs::write(&file, &text).expect("written");
    let line = text.lines().count();
    let patience = std::time::Duration::from_secs(30);
    let answer = egret_tests::harness::ask(fleet.mta_admin, "POST /v1/reload", "", patience).expect("an answer");
    let place = format!("mta.toml:{line}: dkim.signature.private_key: /nowhere/key.pem: ");
    assert!(answer.0 == 422 && answer.1.contains(&place), "{answer:?} lacks {place}");
}
