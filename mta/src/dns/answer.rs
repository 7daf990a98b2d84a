//! What an answer of the DNS says: records, a definite no, or nothing definite; and how far DNSSEC vouches for it.
//! Floor 3. Touches nothing but the answers that it is given, and counters.
//! Always: what DNSSEC does not vouch for as a whole is not vouched for; a bogus answer is no answer.

use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use metrics::Counter;

use super::resolver::MAX_LIFE;

/// What the DNS says definitely.
pub(super) enum Answer {
    Records(Found),
    /// The name has no record of this kind; proven by the zone's SOA.
    NoData {
        proven: bool,
    },
    NoDomain,
}

/// Records of the wanted kind.
pub(super) struct Found {
    pub records: Vec<RData>,
    pub life: Duration,
    pub vouched: Vouched,
}

/// How far DNSSEC vouches for an answer; not at all where it is not checked.
#[derive(Clone, Debug, Default)]
pub(super) struct Vouched {
    /// For what stands under the name that was asked: the records, or the first alias.
    pub first: bool,
    /// For every record, and every alias on the way to them.
    pub all: bool,
    /// Where the records stand, if the name is an alias; without the final dot.
    pub end: Option<String>,
}

/// The DNS gave no definite answer.
pub(super) struct Trouble(pub String);

impl Answer {
    /// The records of the wanted kind: an answer may hold the aliases that led to them.
    pub fn of(lookup: &Lookup, name: &Name, kind: RecordType) -> Self {
        let life = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or_default();
        let wanted = || lookup.answers().iter().filter(|record| record.record_type() == kind);
        let records: Vec<_> = wanted().map(|record| record.data.clone()).collect();
        if records.is_empty() {
            return Self::NoData { proven: false };
        }
        let vouched = Vouched::of(lookup.answers(), name, wanted().next());
        Self::Records(Found { records, life: Duration::from_secs(life.into()), vouched })
    }

    /// Tells a definite no from trouble.
    pub fn negative(name: &Name, error: &NetError) -> Result<Self, Trouble> {
        match error {
            NetError::Dns(DnsError::NoRecordsFound(_)) if error.is_nx_domain() => Ok(Self::NoDomain),
            NetError::Dns(DnsError::NoRecordsFound(none)) => Ok(Self::NoData { proven: none.soa.is_some() }),
            // A denial that nobody vouches for, in a zone of which it is proven that nobody does.
            NetError::Dns(DnsError::Nsec { response, proof, .. }) if proof.is_insecure() => {
                if response.response_code == ResponseCode::NXDomain {
                    return Ok(Self::NoDomain);
                }
                Ok(Self::NoData { proven: true })
            }
            _ => Err(Trouble(format!("{name} {error}"))),
        }
    }

    pub fn found(self) -> Option<Found> {
        match self {
            Self::Records(found) => Some(found),
            Self::NoData { .. } | Self::NoDomain => None,
        }
    }

    pub fn records(self) -> (Vec<RData>, Duration) {
        match self {
            Self::Records(found) => (found.records, found.life),
            Self::NoData { .. } | Self::NoDomain => (Vec::new(), MAX_LIFE),
        }
    }
}

impl Vouched {
    fn of(answers: &[Record], name: &Name, record: Option<&Record>) -> Self {
        // Of the signatures only the one that was used is marked.
        let signed = || answers.iter().filter(|record| record.record_type() != RecordType::RRSIG);
        let all = signed().all(|record| record.proof.is_secure());
        let first = || signed().filter(|record| record.name == *name);
        let end = record.filter(|record| record.name != *name).map(|record| plain(&record.name));
        Self { first: first().next().is_some() && first().all(|record| record.proof.is_secure()), all, end }
    }

    /// What holds of both.
    pub fn and(self, other: Self) -> Self {
        Self { first: self.first && other.first, all: self.all && other.all, end: self.end.or(other.end) }
    }
}

fn plain(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

/// How many questions came to what.
pub(super) struct Counters {
    answered: Counter,
    absent: Counter,
    failed: Counter,
}

impl Counters {
    pub fn new() -> Self {
        let of = |result| metrics::counter!("egret_mta_dns_questions_total", "result" => result);
        Self { answered: of("answered"), absent: of("absent"), failed: of("failed") }
    }

    pub fn count(&self, answer: &Result<Answer, Trouble>) {
        match answer {
            Ok(Answer::Records(..)) => self.answered.increment(1),
            Ok(Answer::NoData { .. } | Answer::NoDomain) => self.absent.increment(1),
            Err(_) => self.failed.increment(1),
        }
    }
}

/// Both families in turn, so that a cap never cuts off one of them.
pub(super) fn interleave(v4: &[RData], v6: &[RData]) -> Vec<IpAddr> {
    let ip = |record: &RData| match record {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
        _ => None,
    };
    let longest = v4.len().max(v6.len());
    (0..longest).flat_map(|at| [v4.get(at), v6.get(at)]).flatten().filter_map(ip).collect()
}
