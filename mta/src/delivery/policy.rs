//! What TLS towards a host must be: the options of the path, and over them the policy of the host or domain. And what
//! came of it, for events and reports.
//! Floor 4. Touches nothing but counters.
//! Always: a policy that demands TLS is never answered with less, whatever is remembered of the host; only the
//! operator's `Disabled` goes before it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use egret_shared::clock::UnixMs;
use egret_shared::net::tls_client::{Check, TlsFault};

use crate::dns::site::{HostPolicy, MxHost};
use crate::dns::sts::cache::{Kept, PolicyCache};
use crate::dns::sts::policy::Mode;
use crate::event::tls::{Posture, TlsResult};
use crate::shaping::options::{Tls, TlsOptions};
use crate::tls_report::{Applied, Ends, PolicyType, TlsReports};

/// What sessions know of policies, and where they count. Cheap to clone.
#[derive(Clone)]
pub struct Policing {
    /// MTA-STS policies that hold.
    pub policies: PolicyCache,
    /// The counters of reports.
    pub reports: TlsReports,
}

/// What is asked of TLS towards one host.
pub(super) struct Demand<'a> {
    pub mode: Tls,
    pub check: Check<'a>,
    pub posture: Posture,
    /// The policy under which it is counted; none where TLS is not wanted.
    counted: Option<Applied>,
    /// The policy that only wants to hear.
    testing: Option<Arc<Kept>>,
    /// TLSA records that nothing can match.
    is_unusable: bool,
}

impl Policing {
    /// What is asked, where the path alone would ask for `mode`.
    pub(super) fn demand<'a>(
        &self,
        options: &TlsOptions,
        mode: Tls,
        host: &'a MxHost,
        domain: &str,
        now: UnixMs,
    ) -> Demand<'a> {
        let kept = self.policies.get(domain, now).filter(|_| options.enable_mta_sts);
        let kind = |kind, lines, hosts| Some(Applied::new(kind, lines, hosts));
        let is_off = options.enable_tls == Tls::Disabled;
        let (mode, check, posture, counted) = match &host.policy {
            HostPolicy::Dane(dane) if options.enable_dane && !is_off => {
                let lines = dane.records.iter().map(ToString::to_string).collect();
                let counted = kind(PolicyType::Tlsa, lines, vec![host.name.to_string()]);
                let (mode, check) = match (dane.is_usable(), mode) {
                    (true, _) => (Tls::Required, Check::Dane(dane)),
                    // Nothing vouches for the host but what the operator asks for.
                    (false, Tls::Required) => (Tls::Required, Check::Certificate),
                    (false, _) => (Tls::RequiredInsecure, Check::Nothing),
                };
                (mode, check, Posture::Dane, counted)
            }
            HostPolicy::Sts if options.enable_mta_sts && !is_off => {
                let counted = kept.as_ref().map(|kept| kept.applied.clone());
                let counted = counted.or_else(|| kind(PolicyType::Sts, Vec::new(), Vec::new()));
                (Tls::Required, Check::Certificate, Posture::StsEnforce, counted)
            }
            _ => {
                let check = if mode.checks_certificate() { Check::Certificate } else { Check::Nothing };
                let posture = match mode {
                    Tls::Disabled => Posture::None,
                    mode if mode.is_required() => Posture::Required,
                    _ => Posture::Opportunistic,
                };
                let counted = kept.as_ref().map_or_else(Applied::none, |kept| kept.applied.clone());
                (mode, check, posture, Some(counted).filter(|_| mode != Tls::Disabled))
            }
        };
        let is_open = matches!(posture, Posture::Required | Posture::Opportunistic);
        let testing = kept.filter(|kept| is_open && kept.policy.mode == Mode::Testing);
        let posture = if testing.is_some() { Posture::StsTesting } else { posture };
        let is_unusable = posture == Posture::Dane && !matches!(check, Check::Dane(_));
        Demand { mode, check, posture, counted, testing, is_unusable }
    }

    /// Counts what came of a session.
    pub(super) fn count(&self, domain: &str, demand: &Demand<'_>, result: TlsResult, ends: Ends) {
        if let Some(policy) = &demand.counted {
            self.reports.count(domain, policy, result, ends);
        }
    }
}

impl Demand<'_> {
    /// Whether a policy demands TLS, so that clear text is no way round a failure.
    pub fn is_policy(&self) -> bool {
        matches!(self.posture, Posture::Dane | Posture::StsEnforce)
    }

    /// Whether the certificate is to be judged although it decides nothing.
    pub fn wants_judgement(&self) -> bool {
        self.testing.is_some()
    }

    /// What an opened session is to the policy; `None` where TLS is not wanted.
    pub fn result(&self, host: &MxHost, is_tls: bool, judged: Result<(), TlsFault>) -> Option<TlsResult> {
        self.counted.as_ref()?;
        Some(match judged {
            _ if !is_tls => TlsResult::StarttlsNotSupported,
            _ if self.is_unusable => TlsResult::TlsaInvalid,
            _ if self.testing.as_ref().is_some_and(|kept| !kept.policy.allows(&host.name)) => {
                TlsResult::ValidationFailure
            }
            Ok(()) => TlsResult::Success,
            Err(fault) => result_of(fault),
        })
    }

    /// Words with the policy that made them, if one did.
    pub fn explain(&self, domain: &str, text: &str) -> String {
        match self.posture {
            Posture::Dane => format!("{text}; the TLSA records of the host (DANE) demand it"),
            Posture::StsEnforce => format!("{text}; the MTA-STS policy of {domain} demands it"),
            _ => text.to_owned(),
        }
    }
}

/// A fault of a handshake as reports tell it.
pub(super) fn result_of(fault: TlsFault) -> TlsResult {
    match fault {
        TlsFault::Expired => TlsResult::CertificateExpired,
        TlsFault::WrongName => TlsResult::CertificateHostMismatch,
        TlsFault::Untrusted => TlsResult::CertificateNotTrusted,
        TlsFault::Broken => TlsResult::ValidationFailure,
    }
}

/// From where to where a session goes.
pub(super) fn ends(from: Option<IpAddr>, host: &MxHost, to: SocketAddr) -> Ends {
    Ends { from, host: Some(host.name.clone()), to: Some(to.ip()) }
}

#[cfg(test)]
mod tests {
    use egret_shared::clock::Clock;
    use egret_shared::net::dane::{Dane, Tlsa};

    use super::*;
    use crate::dns::sts::policy::Policy;

    const ALL: [Tls; 5] =
        [Tls::Opportunistic, Tls::OpportunisticInsecure, Tls::Required, Tls::RequiredInsecure, Tls::Disabled];

    fn host(policy: HostPolicy) -> MxHost {
        MxHost { name: "mx.a.test".into(), addresses: Vec::new(), port: 25, policy }
    }

    fn dane(usage: u8) -> HostPolicy {
        let record = Tlsa { usage, selector: 1, matching: 1, data: vec![0; 32] };
        HostPolicy::Dane(Arc::new(Dane { base: "mx.a.test".into(), aliases: Vec::new(), records: vec![record] }))
    }

    fn policing(mode: Mode) -> Policing {
        let policies = PolicyCache::default();
        let policy = Policy { mode, mx: vec!["mx.a.test".to_owned()], max_age_s: 1_000 };
        policies.keep("a.test", "1", policy, UnixMs(1));
        Policing { policies, reports: TlsReports::new(Clock::moved(UnixMs(1))) }
    }

    fn options(enable_tls: Tls) -> TlsOptions {
        TlsOptions { enable_tls, enable_dane: true, ..TlsOptions::default() }
    }

    #[test]
    fn a_policy_demands_tls_whatever_the_path_or_a_memory_of_broken_tls_says() {
        let policing = policing(Mode::Enforce);
        for wanted in ALL {
            // `Disabled` is what a remembered failure or a second connection after one asks for.
            for asked in [wanted, Tls::Disabled] {
                for (policy, check) in [(HostPolicy::Sts, "Certificate"), (dane(3), "Dane")] {
                    let host = host(policy);
                    let demand = policing.demand(&options(wanted), asked, &host, "a.test", UnixMs(2));
                    let is_off = wanted == Tls::Disabled;
                    assert_eq!(demand.mode.is_required(), !is_off, "{wanted:?} {asked:?}");
                    assert_eq!(format!("{:?}", demand.check).starts_with(check), !is_off, "{wanted:?} {asked:?}");
                    assert_eq!(demand.is_policy(), !is_off);
                }
            }
        }
    }

    #[test]
    fn records_that_nothing_can_match_demand_tls_with_any_certificate() {
        let (policing, host) = (policing(Mode::None), host(dane(1)));
        let demand = |wanted| policing.demand(&options(wanted), wanted, &host, "a.test", UnixMs(2));
        let loose = demand(Tls::Opportunistic);
        assert_eq!((loose.mode, loose.check), (Tls::RequiredInsecure, Check::Nothing));
        assert_eq!(loose.result(&host, true, Ok(())), Some(TlsResult::TlsaInvalid));
        assert_eq!((demand(Tls::Required).mode, demand(Tls::Required).check), (Tls::Required, Check::Certificate));
    }

    #[test]
    fn a_policy_on_trial_changes_nothing_but_what_is_told() {
        let policing = policing(Mode::Testing);
        for wanted in ALL {
            let host = host(HostPolicy::None);
            let demand = policing.demand(&options(wanted), wanted, &host, "a.test", UnixMs(2));
            assert_eq!(demand.mode, wanted);
            assert!(!demand.is_policy());
            let is_off = wanted == Tls::Disabled;
            assert_eq!(demand.posture, if is_off { Posture::None } else { Posture::StsTesting });
            let told = |host: &MxHost, is_tls, judged| demand.result(host, is_tls, judged).filter(|_| !is_off);
            let want = |result| Some(result).filter(|_| !is_off);
            assert_eq!(told(&host, false, Ok(())), want(TlsResult::StarttlsNotSupported));
            assert_eq!(told(&host, true, Ok(())), want(TlsResult::Success));
            assert_eq!(told(&host, true, Err(TlsFault::Expired)), want(TlsResult::CertificateExpired));
            let other = MxHost { name: "mx.b.test".into(), ..host.clone() };
            assert_eq!(told(&other, true, Ok(())), want(TlsResult::ValidationFailure));
        }
    }

    #[test]
    fn a_path_that_does_not_ask_for_policies_has_none() {
        let policing = policing(Mode::Enforce);
        let off = TlsOptions { enable_mta_sts: false, enable_dane: false, ..TlsOptions::default() };
        for policy in [HostPolicy::Sts, dane(3)] {
            let host = host(policy);
            let demand = policing.demand(&off, Tls::OpportunisticInsecure, &host, "a.test", UnixMs(2));
            assert_eq!((demand.mode, demand.posture), (Tls::OpportunisticInsecure, Posture::Opportunistic));
        }
    }
}
