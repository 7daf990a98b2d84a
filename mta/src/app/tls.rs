//! TLS towards destinations, and the policies of domains over it: built together, because they share authorities,
//! cache and counters. Floor 6.

use std::sync::Arc;

use egret_shared::clock::Clock;
use egret_shared::net::tls_client::ClientTls;
use tracing::warn;

use super::StartError;
use crate::config::Config;
use crate::delivery::Policing;
use crate::dns::policed::Policed;
use crate::dns::resolver::Resolver;
use crate::dns::sts::Sts;
use crate::dns::sts::cache::PolicyCache;
use crate::shaping::options::Tls;
use crate::tls_report::TlsReports;

/// Where the servers of MTA-STS policies listen (RFC 8461 section 3.3).
const HTTPS: u16 = 443;

/// The parts.
pub(super) struct Secured {
    pub resolver: Resolver,
    pub policed: Policed,
    pub policing: Policing,
}

/// Builds them.
pub(super) fn build(config: &Config, clock: &Clock) -> Result<Secured, StartError> {
    let options = &config.path.tls;
    if options.enable_tls == Tls::Disabled && (options.enable_mta_sts || options.enable_dane) {
        warn!(
            "enable_tls is \"Disabled\": mail goes in clear, and neither MTA-STS policies nor TLSA records are asked for"
        );
    }
    let client =
        ClientTls::configured(options.own(), &options.rustls_cipher_suites, options.tls_authorities.as_deref())
            .map_err(|error| StartError::Tls(error.to_string()))?;
    let client = Arc::new(client);
    let policing = Policing { policies: PolicyCache::default(), reports: TlsReports::new(clock.clone()) };
    let Policing { policies, reports } = policing.clone();
    let resolver = Resolver::reporting(config.dns.clone(), Some(reports.clone()))?;
    let sts = options
        .asks_mta_sts()
        .then(|| Sts::new(resolver.clone(), client, HTTPS, policies, reports.clone(), clock.clone()));
    let policed = Policed::new(resolver.clone(), sts, reports);
    Ok(Secured { resolver, policed, policing })
}

/// What looks up sites as the running program does, for who asks beside it.
pub(crate) fn policed(config: &Config) -> Result<Policed, StartError> {
    build(config, &Clock::system()).map(|secured| secured.policed)
}
