//! What is signed is what RFC 6376 says, by a second way of making bodies canonical; whether others can verify it is
//! shown in the stories of the whole program, with dkimpy.

use std::io::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use mail_parser::decoders::base64::base64_decode;
use proptest::prelude::*;

use super::*;

/// An Ed25519 key (RFC 8410's example): quick to sign with.
const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";

fn key() -> Key {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(PEM.as_bytes()).expect("written");
    Key::read(file.path()).expect("a key")
}

fn signer(domain: &str, from: &[&str], policy: Policy, options: &Options) -> Signer {
    let patterns = from.iter().map(|text| text.parse().expect("a pattern")).collect();
    Signer::new(domain, "s1", key(), patterns, policy, options)
}

/// A tag of a signature header, without its folding.
fn tag(header: &[u8], name: &str) -> String {
    let text: String = String::from_utf8_lossy(header).chars().filter(|c| !c.is_whitespace()).collect();
    let (_, tags) = text.split_once(':').expect("a header");
    let found = tags.split(';').find_map(|tag| tag.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {name}= in {text}")).to_owned()
}

/// RFC 6376 sections 3.4.3 and 3.4.4, line by line.
fn canonical(body: &str, relaxed: bool) -> String {
    let mut lines: Vec<String> = body.split("\r\n").map(str::to_owned).collect();
    if relaxed {
        for line in &mut lines {
            let words: Vec<&str> = line.trim_end_matches([' ', '\t']).split([' ', '\t']).collect();
            let starts_blank = words.first().is_some_and(|word| word.is_empty()) && words.len() > 1;
            let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
            *line = format!("{}{}", if starts_blank { " " } else { "" }, words.join(" "));
        }
    }
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    match lines.is_empty() {
        true if relaxed => String::new(),
        true => "\r\n".to_owned(),
        false => lines.join("\r\n") + "\r\n",
    }
}

proptest! {
    #[test]
    fn the_body_hash_is_that_of_the_canonical_body(body in "([ \ta.b\u{e9}]{0,6}\r\n){0,6}", relaxed: bool) {
        let canonicalization = if relaxed { Canonicalization::Relaxed } else { Canonicalization::Simple };
        let options = Options { body_canonicalization: canonicalization, ..Options::default() };
        let signers = Signers::new(vec![signer("a.test", &["a.test"], Policy::Always, &options)]);
        let (header, outcome) = signers.sign(format!("From: x@a.test\r\n\r\n{body}").as_bytes());
        prop_assert_eq!(outcome, Outcome::Signed(1));
        let told = base64_decode(tag(&header, "bh").as_bytes()).expect("base64");
        let want = digest(&SHA256, canonical(&body, relaxed).as_bytes());
        prop_assert_eq!(&told[..], want.as_ref(), "{:?}", body);
    }

    #[test]
    fn any_bytes_are_survived(message: Vec<u8>) {
        let signers = Signers::new(vec![signer("a.test", &["*"], Policy::Always, &Options::default())]);
        let _ = signers.sign(&message);
        let _ = signers.sign(&[b"From: a@b.test\r\n".as_slice(), &message].concat());
    }
}

#[test]
fn headers_are_named_as_often_as_they_are_there_and_once_more() {
    let message = b"From: x@a.test\r\nSubject: s\r\nSubject: t\r\nX-Other: u\r\n\r\nbody\r\n";
    let names = |over_sign| {
        let headers = ["From", "Subject", "To"].map(str::to_owned).to_vec();
        let options = Options { headers, over_sign, ..Options::default() };
        let (header, _) = Signers::new(vec![signer("a.test", &["a.test"], Policy::Always, &options)]).sign(message);
        let mut names: Vec<String> = tag(&header, "h").split(':').map(str::to_ascii_lowercase).collect();
        names.sort_unstable();
        names.join(" ")
    };
    assert_eq!(names(true), "from from subject subject subject to to");
    assert_eq!(names(false), "from subject subject to");
}

#[test]
fn signatures_are_chosen_by_the_authors_domain() {
    let options = Options::default();
    let signers = Signers::new(vec![
        signer("a.test", &["a.test", "*.a.test"], Policy::Always, &options),
        signer("second.test", &["a.test"], Policy::Always, &options),
        signer("us.test", &["*"], Policy::OnlyIfMissingDomainBlock, &options),
    ]);
    for (from, want) in
        [("x@a.test", vec!["a.test", "second.test"]), ("x@b.a.test", vec!["a.test"]), ("x@nota.test", vec!["us.test"])]
    {
        let (headers, outcome) = signers.sign(format!("From: {from}\r\n\r\nx\r\n").as_bytes());
        assert_eq!(outcome, Outcome::Signed(want.len()), "{from}");
        let text = String::from_utf8_lossy(&headers).into_owned();
        let domains: Vec<String> =
            text.split("DKIM-Signature:").skip(1).map(|one| tag(format!("x:{one}").as_bytes(), "d")).collect();
        assert_eq!(domains, want, "{from}: {text}");
        assert!(text.ends_with("\r\n") && !text.replace("\r\n", "").contains(['\r', '\n']), "{text:?}");
    }
    assert_eq!(signers.sign(b"Subject: nobody's\r\n\r\nx\r\n").1, Outcome::NoAuthor);
    assert_eq!(signers.names("a.test"), ["s1._domainkey.a.test", "s1._domainkey.second.test"]);
    assert_eq!(Signers::default().sign(b"From: x@a.test\r\n\r\nx\r\n").1, Outcome::NotOurs);
}

#[test]
fn a_file_without_a_fitting_key_is_told_by_name() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let name = file.path().display().to_string();
    for text in ["", "no PEM", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
        std::fs::write(file.path(), text).expect("written");
        let error = Key::read(file.path()).expect_err("no key").to_string();
        assert!(error.starts_with(&name), "{error}");
    }
}
