//! Sites under DANE and MTA-STS, from a real DNS server with a signed zone and real HTTPS servers.

mod dane;
mod https;
mod sts;

use egret_mta::dns::resolver::{DnsOptions, Resolver};
use egret_mta::tls_report::TlsReports;
use egret_shared::address::Networks;

use crate::support::dns::DnsServer;

/// A resolver that asks the server, with DNSSEC if the zone is signed.
fn resolver(server: &DnsServer, reports: &TlsReports) -> Resolver {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), &server.anchor).expect("written");
    let options = DnsOptions {
        servers: vec![server.address],
        allow_special_destinations: Networks::new(vec!["127.0.0.0/8".parse().expect("a network")]),
        enable_dane: !server.anchor.is_empty(),
        trust_anchor: Some(file.path().to_owned()),
        ..DnsOptions::default()
    };
    Resolver::reporting(options, Some(reports.clone())).expect("servers and a key are given")
}

/// Result types and their counts in today's report to a domain.
fn failures(reports: &TlsReports, domain: &str) -> Vec<(String, u64)> {
    let report = reports.report(reports.today(), domain, "us.test").unwrap_or_default();
    let policies = report["policies"].as_array().cloned().unwrap_or_default();
    let details = policies.iter().flat_map(|policy| policy["failure-details"].as_array().cloned().unwrap_or_default());
    let told = details.map(|detail| {
        let result = detail["result-type"].as_str().expect("a result").to_owned();
        (result, detail["failed-session-count"].as_u64().expect("a count"))
    });
    told.collect()
}
