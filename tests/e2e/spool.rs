//! Looking into a stopped spool.

use std::process::Command;

use egret_tests::harness::{Fleet, Options, binary};
use serde_json::Value;

use crate::support::offer;

/// Runs `egret-mta spool …` on the fleet's spool; exit code, standard output, standard error.
fn spool(fleet: &Fleet, arguments: &[&str]) -> (Option<i32>, String, String) {
    let path = fleet.file("spool").display().to_string();
    let output = Command::new(binary("egret-mta")).arg("spool").args(arguments).args(["--path", &path]).output();
    let output = output.expect("runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_stopped_spool_can_be_looked_into_and_is_not_changed() {
    let mut fleet = Fleet::start(&Options::default());
    // Nobody takes the mail: it stays.
    let ids: Vec<String> = (0..3)
        .map(|n| {
            let answer = offer(fleet.smtp, "s@sender.example", &format!("r@d{n}.example"));
            answer.rsplit(' ').next().expect("an id").to_owned()
        })
        .collect();
    let (code, _, why) = spool(&fleet, &["verify"]);
    assert!(code == Some(1) && why.contains("in use by another process"), "{why}");
    assert!(fleet.mta.terminate().success());
    let listing = || {
        let mut all: Vec<_> = std::fs::read_dir(fleet.file("spool"))
            .expect("a directory")
            .map(|entry| entry.expect("an entry").path())
            .map(|path| (std::fs::read(&path).unwrap_or_default(), path))
            .collect();
        all.sort();
        all
    };
    let before = listing();

    assert_eq!(spool(&fleet, &["verify"]).0, Some(0));
    let (_, stat, _) = spool(&fleet, &["stat", "--json"]);
    let stat: Value = serde_json::from_str(&stat).expect("JSON");
    assert_eq!(
        (stat["messages"].as_u64(), stat["queues"]["@d1.example"]["parts"].as_u64()),
        (Some(3), Some(1)),
        "{stat}"
    );
    let (_, shown, _) = spool(&fleet, &["stat"]);
    assert!(shown.starts_with("3 messages, 3 parts, 0 damaged places\n") && shown.contains("@d2.example"), "{shown}");
    let (code, mail, _) = spool(&fleet, &["dump", &ids[0]]);
    assert!(
        code == Some(0) && mail.starts_with("Received: ") && mail.ends_with("Subject: hello\r\n\r\nworld\r\n"),
        "{mail}"
    );
    let (_, meta, _) = spool(&fleet, &["dump", "--meta", &ids[0]]);
    let meta: Value = serde_json::from_str(&meta).expect("JSON");
    assert_eq!(meta["meta"]["sender"], "s@sender.example", "{meta}");
    let (code, _, why) = spool(&fleet, &["dump", "0123456789abcdef0123456789abcdef"]);
    assert!(code == Some(1) && why.contains("is not in the spool"), "{why}");
    let (code, _, why) = spool(&fleet, &["dump", "nonsense"]);
    assert!(code == Some(1) && why.contains("is not a message id"), "{why}");
    let to = fleet.file("export").display().to_string();
    let (code, shown, _) = spool(&fleet, &["export", &to]);
    assert_eq!((code, shown), (Some(0), format!("3 messages in {to}\n")));
    assert_eq!(std::fs::read(fleet.file(&format!("export/{}.eml", ids[0]))).expect("a file"), mail.as_bytes());
    assert_eq!(listing(), before, "nothing was changed");

    let segment = fleet.file("spool/0000000001.seg");
    let mut bytes = std::fs::read(&segment).expect("a segment");
    let at = bytes.windows(10).position(|word| word == b"d1.example").expect("its metadata");
    bytes[at] ^= 0xFF;
    std::fs::write(&segment, bytes).expect("written");
    std::fs::write(fleet.file("spool/0000000009.seg"), b"something else").expect("written");
    let (code, told, _) = spool(&fleet, &["verify"]);
    assert_eq!(code, Some(2));
    assert!(told.contains("0000000001.seg: byte ") && told.contains(&ids[1]), "{told}");
    assert!(
        told.contains("0000000009.seg: byte 0: ") && told.contains("the next start moves it to quarantine/"),
        "{told}"
    );
    assert!(told.ends_with("2 messages are good, 2 places are damaged\n"), "{told}");
    assert!(fleet.file("spool/0000000009.seg").exists());
}
