//! Every `fuzz_…` function on its corpus and on random bytes, by the stable compiler. A panic is a
//! defect; the input that found it joins the corpus. The list here, the functions in the code and the
//! targets of `tests/fuzz` are the same.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// A name and what it runs.
type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 15] = [
    ("claim", egret_shared::sockets::claim::fuzz_claim),
    ("client", egret_shared::socks5::client::fuzz_client),
    ("dialogue", egret_mta::delivery::dialogue::fuzz_dialogue),
    ("document", egret_mta::elsewhere::json::fuzz_document),
    ("header", egret_shared::proxy_protocol::frame::fuzz_header),
    ("notification", egret_mta::reception::fuzz_notification),
    ("record", egret_shared::registry::record::fuzz_record),
    ("records", egret_mta::spool::fuzz_records),
    ("replies", egret_mta::delivery::reply::fuzz_replies),
    ("reply", egret_shared::socks5::frame::fuzz_reply),
    ("report", egret_mta::bounce::fuzz_report),
    ("session", egret_mta::reception::fuzz_session),
    ("shaping", egret_mta::config::fuzz_shaping),
    ("socks5", egret_proxy::handshake::socks5::fuzz_socks5),
    ("sts", egret_mta::dns::sts::policy::fuzz_sts),
];
/// Random inputs for each target, half of them made from the corpus.
const CASES: u32 = 512;
/// The longest random input.
const MAX_BYTES: usize = 2048;

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = fuzz_folder().join("corpus").join(name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("a folder that can be listed").path());
    let read = |path: PathBuf| {
        let bytes = std::fs::read(&path).expect("a file that can be read");
        (path, bytes)
    };
    paths.map(read).collect()
}

#[test]
fn the_corpus_is_survived() {
    for (name, run) in TARGETS {
        let inputs = corpus(name);
        assert!(!inputs.is_empty(), "{name} has no corpus");
        for (path, bytes) in inputs {
            let survived = std::panic::catch_unwind(|| run(&bytes));
            assert!(survived.is_ok(), "{name} fails on {}", path.display());
        }
    }
}

#[test]
fn random_and_damaged_bytes_are_survived() {
    for (name, run) in TARGETS {
        let seeds: Vec<Vec<u8>> = corpus(name).into_iter().map(|(_, bytes)| bytes).collect();
        let any_bytes = prop::collection::vec(any::<u8>(), 0..MAX_BYTES);
        let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8);
        let damaged = (prop::sample::select(seeds), damage, any::<prop::sample::Index>()).prop_map(spoil);
        let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
        let outcome = runner.run(&prop_oneof![any_bytes, damaged], |bytes| {
            run(&bytes);
            Ok(())
        });
        assert!(outcome.is_ok(), "{name}: {outcome:?}");
    }
}

/// Some bytes replaced, and the end cut off at some place.
fn spoil((mut bytes, damage, cut): (Vec<u8>, Vec<(prop::sample::Index, u8)>, prop::sample::Index)) -> Vec<u8> {
    for (at, byte) in damage {
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
    }
    bytes.truncate(cut.index(bytes.len() + 1));
    bytes
}

#[test]
fn each_entry_in_the_code_is_run_here_and_is_a_target() {
    let here: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(entries_in_code(), here, "functions in the code, and the list here");
    let targets = std::fs::read_dir(fuzz_folder().join("fuzz_targets")).expect("the folder of targets");
    let stem = |path: PathBuf| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let targets: BTreeSet<String> = targets.flatten().filter_map(|entry| stem(entry.path())).collect();
    assert_eq!(targets, here, "files in fuzz_targets, and the list here");
    let manifest = std::fs::read_to_string(fuzz_folder().join("Cargo.toml")).expect("the manifest");
    for name in &here {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} is not in the manifest");
    }
}

/// Names of `pub fn fuzz_NAME` in the sources of the three crates.
fn entries_in_code() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace");
    let mut folders: Vec<PathBuf> = ["shared/src", "proxy/src", "mta/src"].iter().map(|f| root.join(f)).collect();
    let mut names = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of sources").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("a source file");
            let found = text.lines().filter_map(|line| line.trim().strip_prefix("pub fn fuzz_"));
            names.extend(found.filter_map(|rest| rest.split('(').next()).map(str::to_owned));
        }
    }
    names
}
