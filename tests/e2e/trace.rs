//! An operator watches live sessions.

use std::process::{Child, Command, Stdio};

use egret_tests::harness::{Fleet, Options, binary, eventually};
use egret_tests::peer::sink::Behaviour;

use crate::support::{offer, sink};

/// A trace that runs, and the file that it writes to.
struct Trace(Child, std::path::PathBuf);

impl Trace {
    fn start(fleet: &Fleet, name: &str, arguments: &[&str]) -> Self {
        let file = fleet.file(name);
        let out = std::fs::File::create(&file).expect("a file");
        let err = std::fs::File::create(file.with_extension("err")).expect("a file");
        let mut command = Command::new(binary("egret-mta"));
        command.arg("trace").args(arguments).args(["--admin", &fleet.mta_admin.to_string()]);
        let child = command.stdout(out).stderr(err).stdin(Stdio::null()).spawn().expect("runs");
        let trace = Self(child, file);
        eventually("a trace", || {
            let said = std::fs::read_to_string(trace.1.with_extension("err")).expect("readable");
            if said.contains("tracing") { Ok(()) } else { Err(said) }
        });
        trace
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.1).expect("readable")
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_shown_line_by_line_and_content_on_request_only() {
    let fleet = Fleet::start(&Options { dialect: Some("socks5"), ..Options::default() });
    let destination = sink(&fleet, Behaviour::default()).await;
    let plain = Trace::start(&fleet, "plain", &["--to", "a.example"]);
    let curious = Trace::start(&fleet, "curious", &["--queue", "@a.example", "--content"]);
    let other = Trace::start(&fleet, "other", &["--to", "b.example"]);
    offer(fleet.smtp, "s@sender.example", "r@a.example");
    fleet.event("delivery", |event| event["type"] == "delivery");
    let [shown, with_content] = [&plain, &curious].map(|trace| {
        eventually("the answer to the final dot", || {
            let text = trace.text();
            let content = text.find("| ").unwrap_or(text.len());
            if text[content..].contains("< 250") { Ok(text) } else { Err(text) }
        })
    });
    let wanted =
        ["* dial from 127.", " through proxy ", "* connected", "< 220", "> EHLO ", "> MAIL FROM:<s@sender.example>"];
    for line in wanted.iter().chain(&["> RCPT TO:<r@a.example>", "< 354", " bytes\n"]) {
        assert!(shown.contains(line), "{line:?} is missing in:\n{shown}");
    }
    assert!(!shown.contains("hello") && with_content.contains("| Subject: hello"), "{shown}\n{with_content}");
    assert_eq!(other.text(), "");
    drop(destination);
}

#[test]
fn what_is_traced_must_be_said() {
    let fleet = Fleet::start(&Options::default());
    let mut command = Command::new(binary("egret-mta"));
    let output = command.args(["trace", "--admin", &fleet.mta_admin.to_string()]).output().expect("runs");
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && why.contains("say what to trace"), "{why}");
}
