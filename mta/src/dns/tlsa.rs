//! DANE (RFC 7672): which hosts of a site have TLSA records that DNSSEC vouches for. And the trust that DNSSEC rests on.
//! Floor 3. Asks through the resolver.
//! Always: TLSA records are asked only where MX and addresses are vouched for; a host whose TLSA records cannot be had
//! is left out, never used without them (RFC 7672 section 2.1.2).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use egret_shared::net::dane::{Dane, Tlsa};
use hickory_resolver::proto::dnssec::TrustAnchors;
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::task::JoinSet;
use tracing::warn;

use super::answer::{Answer, Trouble, Vouched};
use super::resolver::{Failure, MAX_LIFE, MIN_LIFE, Resolved, Resolver, absolute, resolved};
use super::site::{HostPolicy, MxHost, Protocol};
use crate::event::tls::TlsResult;
use crate::message::{EnhancedCode, Response};
use crate::tls_report::{Applied, Ends, PolicyType};

/// What is put behind the name of a site that has hosts under DANE.
const MARK: &str = "+dane";
/// Records of a host that are looked at.
const MAX_RECORDS: usize = 32;

/// A host, and how far DNSSEC vouches for its addresses.
pub(super) type Host = (MxHost, Vouched);

/// Reads DNSKEY records in the form of a zone file, or takes the keys of the root.
///
/// # Errors
/// What is wrong with the file.
pub fn trust_anchors(file: Option<&Path>) -> Result<Arc<TrustAnchors>, String> {
    let Some(file) = file else { return Ok(Arc::default()) };
    let anchors = TrustAnchors::from_file(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(Arc::new(anchors))
}

impl Resolver {
    /// The site of these hosts: each under its TLSA records, if there are any that DNSSEC vouches for.
    pub(super) async fn secured(
        &self,
        domain: &str,
        name: Arc<str>,
        hosts: Vec<Host>,
        mut life: Duration,
    ) -> Result<Resolved, Failure> {
        let mut tasks = JoinSet::new();
        for (at, (host, vouched)) in hosts.into_iter().enumerate() {
            let this = self.clone();
            tasks.spawn(async move {
                let found = this.dane(&host, &vouched).await;
                (at, host, found)
            });
        }
        let mut found = tasks.join_all().await;
        found.sort_unstable_by_key(|(at, ..)| *at);
        let (mut usable, mut is_dane, mut told) = (Vec::new(), false, None);
        for (_, host, found) in found {
            match found {
                Ok(Some((dane, dane_life))) => {
                    is_dane = true;
                    life = life.min(dane_life);
                    usable.push(MxHost { policy: HostPolicy::Dane(Arc::new(dane)), ..host });
                }
                Ok(None) => usable.push(host),
                Err(Trouble(why)) => {
                    is_dane = true;
                    life = MIN_LIFE;
                    warn!(domain, host = %host.name, %why, "left out for now: its TLSA records cannot be had");
                    self.count_unknown(domain, &host.name);
                    told = Some(format!("{}: {why}", host.name));
                }
            }
        }
        if let (true, Some(told)) = (usable.is_empty(), told) {
            let text = format!("TLSA records cannot be had, and without them {domain} gets no mail: {told}");
            return Err(Failure::Temporary { response: Response::own(451, EnhancedCode::new(4, 7, 5), &text) });
        }
        let name = if is_dane { format!("{name}{MARK}").into() } else { name };
        Ok(resolved(name, usable, life, Protocol::Smtp))
    }

    fn count_unknown(&self, domain: &str, host: &Arc<str>) {
        if let Some(reports) = self.reports() {
            let policy = Applied::new(PolicyType::Tlsa, Vec::new(), vec![host.to_string()]);
            let ends = Ends { host: Some(host.clone()), ..Ends::default() };
            reports.count(domain, &policy, TlsResult::DnssecInvalid, ends);
        }
    }

    /// What DANE asks of a host; `None` is nothing. The end of its aliases is asked first, then its own name
    /// (RFC 7672 section 2.2.3).
    async fn dane(&self, host: &MxHost, vouched: &Vouched) -> Result<Option<(Dane, Duration)>, Trouble> {
        let end = vouched.end.as_deref().filter(|_| vouched.all);
        let own = vouched.first.then_some(&*host.name);
        for base in end.into_iter().chain(own) {
            if let Some((records, life)) = self.tlsa(base, host.port).await? {
                let aliases = if base == &*host.name { Vec::new() } else { vec![host.name.clone()] };
                return Ok(Some((Dane { base: base.into(), aliases, records }, life)));
            }
        }
        Ok(None)
    }

    /// The TLSA records of a host; `None` if it is certain that it has none that DNSSEC vouches for.
    async fn tlsa(&self, host: &str, port: u16) -> Result<Option<(Vec<Tlsa>, Duration)>, Trouble> {
        let Some(name) = absolute(&format!("_{port}._tcp.{host}")) else { return Ok(None) };
        let Answer::Records(found) = self.ask(&name, RecordType::TLSA).await? else { return Ok(None) };
        if !found.vouched.all {
            return Ok(None);
        }
        let mut records: Vec<Tlsa> = found.records.iter().filter_map(record).take(MAX_RECORDS).collect();
        records.sort_unstable();
        Ok(Some((records, found.life.min(MAX_LIFE))))
    }
}

fn record(data: &RData) -> Option<Tlsa> {
    let RData::TLSA(tlsa) = data else { return None };
    Some(Tlsa {
        usage: tlsa.cert_usage.into(),
        selector: tlsa.selector.into(),
        matching: tlsa.matching.into(),
        data: tlsa.cert_data.clone(),
    })
}
