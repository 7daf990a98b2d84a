//! Opening a session: host after host of the site until one is connected, greeted and, where it is
//! to be, in TLS.
//! Floor 4. Touches sockets through `way` and `connection` only, and the file of a password.
//! Always: a fault that is not the destination's ends it at once; each failed dial is told once.

use std::net::SocketAddr;

use egret_shared::clock::UnixMs;
use egret_shared::fault::{Fault, Party, Reason};
use egret_shared::net::tls_client::ClientTls;

use super::auth::Login;
use super::claims::{Claims, blame};
use super::connection::{Connection, NoTls};
use super::dialogue::{Act, Dialogue, Manner, Refused};
use super::hosts::{Habit, HostMemory};
use super::inquiry;
use super::learn::Known;
use super::outcome::{Judgement, Seen, Stage, judge};
use super::plan::{Plan, Target};
use super::policy::{Demand, Policing, ends, result_of};
use super::report::{Metrics, Wire};
use super::session::Path;
use super::trace::{Tap, What};
use super::way::{dial, examine};
use crate::dns::site::{HostPolicy, MxHost, Protocol};
use crate::event::tls::TlsResult;
use crate::message::{EnhancedCode, Response};
use crate::shaping::options::{AuthOptions, Secret, Tls};

/// There is no TLS as it must be (RFC 3463: cryptographic failure).
const NO_TLS: EnhancedCode = EnhancedCode::new(4, 7, 5);

/// A session that can carry messages.
pub(super) struct Opened {
    pub connection: Connection,
    pub wire: Wire,
}

/// What opening needs for TLS, and what is remembered of hosts.
#[derive(Clone, Copy)]
pub(super) struct Secure<'a> {
    pub tls: &'a ClientTls,
    pub hosts: &'a HostMemory,
    pub claims: &'a Claims,
    pub now: UnixMs,
    pub policing: &'a Policing,
    /// Whose mail the session is opened for.
    pub domain: &'a str,
}

impl Secure<'_> {
    /// What is asked of an address: nothing, if its handshake failed of late and clear text will do.
    fn mode(&self, path: &Path, host: &MxHost, address: SocketAddr, metrics: &Metrics) -> Tls {
        let (wanted, span) = (path.options.tls_wanted(), path.options.tls.remember_broken_tls);
        let is_free = !wanted.is_required() && host.policy == HostPolicy::None;
        if !is_free || span.is_zero() || !self.hosts.knows(address, Habit::BreaksTls, self.now) {
            return wanted;
        }
        metrics.tls_skipped();
        Tls::Disabled
    }

    fn remember(&self, path: &Path, address: SocketAddr, fault: &Fault) {
        let options = &path.options.tls;
        if options.remember_broken_tls.is_zero() || path.options.tls_wanted().is_required() {
            return;
        }
        let until = self.now.plus(options.remember_broken_tls);
        if self.hosts.remember(address, Habit::BreaksTls, until, self.now) {
            let for_s = options.remember_broken_tls.as_secs();
            tracing::warn!(%address, site = %path.site.name, why = %fault.detail, for_s, "TLS is broken there; it is used in clear");
        }
    }
}

/// A session that could not be opened.
pub(super) struct Unopened {
    pub fault: Fault,
    /// The words of the destination, or about it, if it was the destination's fault.
    pub response: Option<Response>,
    pub wire: Wire,
}

/// One address that failed.
struct Failed {
    fault: Fault,
    response: Option<Response>,
    /// The handshake broke: in clear it may work.
    in_handshake: bool,
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self { fault, response: None, in_handshake: false }
    }
}

/// Tries the addresses that are left in the plan. `tell` hears of each failed dial.
pub(super) async fn open(
    path: &Path,
    plan: &mut Plan,
    secure: Secure<'_>,
    metrics: &Metrics,
    tap: &Tap,
    tell: impl Fn(&Fault, &Wire),
) -> Result<Opened, Unopened> {
    let mut last = None;
    let login = login(&path.options.auth).await.map_err(|fault| {
        tell(&fault, &Wire::default());
        Unopened { fault, response: None, wire: Wire::default() }
    })?;
    while let Some(Target { host, address }) = plan.take() {
        let Some(host) = path.site.hosts.get(host) else { continue };
        let known = Known::of(secure.hosts, address, &path.options.smtp, secure.now);
        let with = With { secure, mode: secure.mode(path, host, address, metrics), login: login.as_ref(), known };
        let mut wire = Wire::to(&host.name, address);
        let tap = tap.towards(&host.name, address);
        let mut tried = attempt(path, with, &tap, host, &mut wire, address).await;
        if let Err(failed) = &tried
            && failed.in_handshake
        {
            metrics.tls_failed();
            secure.remember(path, address, &failed.fault);
            let options = &path.options.tls;
            if options.opportunistic_tls_reconnect_on_failed_handshake && !path.options.tls_wanted().is_required() {
                tell(&failed.fault, &wire);
                tried = attempt(path, With { mode: Tls::Disabled, ..with }, &tap, host, &mut wire, address).await;
            }
        }
        match tried {
            Ok(connection) => {
                wire.tls.clone_from(&connection.tls);
                return Ok(Opened { connection, wire });
            }
            Err(Failed { fault, response, .. }) => {
                tell(&fault, &wire);
                let may_go_on = judge(Stage::Connect, Seen::Fault(fault.party())) == Judgement::NextHost;
                last = Some(Unopened { response: words(&fault, response), fault, wire });
                if !may_go_on {
                    break;
                }
            }
        }
    }
    Err(last.unwrap_or_else(|| {
        let fault = Fault::new(Reason::Internal, format!("no address of {} is left to be tried", path.site.name));
        Unopened { fault, response: None, wire: Wire::default() }
    }))
}

/// The words for a fault of the destination; none for any other party's.
fn words(fault: &Fault, response: Option<Response>) -> Option<Response> {
    if fault.party() != Party::Remote {
        return None;
    }
    let status = EnhancedCode::parse(fault.reason.enhanced_status()).unwrap_or(EnhancedCode::new(4, 4, 1));
    Some(response.unwrap_or_else(|| Response::own(421, status, &fault.detail)))
}

/// Who this host is to say it is. The file is read each time: a token in it may have changed.
async fn login(options: &AuthOptions) -> Result<Option<Login>, Fault> {
    let (Some(username), Some(secret)) = (&options.username, &options.password) else { return Ok(None) };
    let secret = match secret {
        Secret::Known(secret) => secret.clone(),
        Secret::File(path) => match tokio::fs::read_to_string(path).await {
            Ok(text) => text.trim_end_matches(['\r', '\n']).to_owned(),
            Err(error) => {
                let detail = format!("smtp_auth_plain_password: {} cannot be read: {error}", path.display());
                return Err(Fault::new(Reason::PathMisconfigured, detail));
            }
        },
    };
    Ok(Some(Login { username: username.clone(), secret, mechanisms: options.mechanisms.clone() }))
}

/// With what an address is tried.
#[derive(Clone, Copy)]
struct With<'a> {
    secure: Secure<'a>,
    mode: Tls,
    login: Option<&'a Login>,
    known: Known,
}

async fn attempt(
    path: &Path,
    with: With<'_>,
    tap: &Tap,
    host: &MxHost,
    wire: &mut Wire,
    address: SocketAddr,
) -> Result<Connection, Failed> {
    let options = &path.options;
    let With { secure, mode, login, known } = with;
    let Secure { policing, domain, .. } = secure;
    let demand = policing.demand(&options.tls, mode, host, domain, secure.now);
    wire.tls_policy = Some(demand.posture);
    let mut count = |result: TlsResult| {
        wire.tls_result = Some(result);
        policing.count(domain, &demand, result, ends(path.source.address, host, address));
    };
    tap.tell(What::Dial, || via(path));
    let dialed = dial(&path.source, &path.way, address, options.smtp.timeouts.connect).await;
    let dialed = dialed.inspect_err(|fault| tap.tell(What::Fault, || fault.to_string()))?;
    tap.tell(What::Connected, String::new);
    let manner = Manner {
        protocol: if options.smtp.use_lmtp { Protocol::Lmtp } else { path.site.protocol },
        tls: demand.mode,
        may_pipeline: known.may_pipeline,
        may_chunk: known.may_chunk,
        ignore_8bit_checks: options.smtp.ignore_8bit_checks,
        may_reset: options.smtp.enable_rset,
        most_ahead: if known.may_go_ahead { options.smtp.max_transactions_ahead } else { 0 },
    };
    let mut dialogue = Dialogue::new(hello(path), manner).authenticate(login.cloned());
    if known.pipelines {
        dialogue.trust_pipelining();
    }
    let (local, claim) = (dialed.local, secure.claims.open(&path.source, &path.way, dialed.local));
    let mut connection = Connection::new(dialed, claim, dialogue, options.smtp.timeouts, tap.clone());
    let mut judged = Ok(());
    loop {
        match connection.next().await {
            Act::Ready => {
                if let Some(result) = demand.result(host, connection.tls.is_some(), judged) {
                    count(result);
                }
                return Ok(connection);
            }
            Act::Upgrade => {
                match connection.upgrade(secure.tls, demand.check, &host.name, demand.wants_judgement()).await {
                    Ok(found) => judged = found,
                    Err(error) => {
                        tap.tell(What::Tls, || &error.text);
                        let known = connection.known_fault();
                        let failed = handshake_failed(path, known, local, &error, &demand, domain).await;
                        if failed.fault.party() == Party::Remote {
                            count(result_of(error.fault));
                        }
                        return Err(failed);
                    }
                }
            }
            Act::Refused(mut refused) => {
                if is_about_tls(connection.dialogue.stage(), &refused) {
                    count(TlsResult::StarttlsNotSupported);
                    explain(&mut refused.response, &demand, domain);
                }
                let is_broken = connection.dialogue.is_broken();
                if let Some(fault) = connection.known_fault().filter(|_| is_broken) {
                    return Err(fault.into());
                }
                return Err(refusal(path, host, address, local, is_broken, refused).await);
            }
            act => {
                let detail = format!("{} [{address}]: {act:?} before it was greeted", host.name);
                return Err(Fault::new(Reason::Internal, detail).into());
            }
        }
    }
}

/// The name told in EHLO.
fn hello(path: &Path) -> &str {
    let of_path = path.options.smtp.ehlo_domain.as_deref().filter(|_| !path.source.names_itself);
    of_path.unwrap_or(&path.source.ehlo_name)
}

/// From where, for people.
fn via(path: &Path) -> String {
    let from = path.source.address.map_or_else(|| "any address".to_owned(), |address| address.to_string());
    match path.way.proxy() {
        None => format!("from {from}"),
        Some(proxy) => format!("from {from} through proxy {}", proxy.name),
    }
}

/// Whether a session was refused because there is no TLS.
fn is_about_tls(stage: Stage, refused: &Refused) -> bool {
    let is_our_word = refused.response.command.is_none() && refused.response.enhanced == Some(NO_TLS);
    is_our_word || (stage == Stage::StartTls && refused.response.command.is_some())
}

/// Says whose policy makes our own words.
fn explain(response: &mut Response, demand: &Demand<'_>, domain: &str) {
    if response.command.is_none() {
        *response = Response::own(response.code, NO_TLS, &demand.explain(domain, response.text.as_str()));
    }
}

/// A handshake that broke, or whose certificate did not pass: where that is asked for, clear text is no way round it.
async fn handshake_failed(
    path: &Path,
    known: Option<Fault>,
    local: Option<SocketAddr>,
    error: &NoTls,
    demand: &Demand<'_>,
    domain: &str,
) -> Failed {
    if !error.fault.is_certificate()
        && let Some(fault) = blame(known, &path.source, &path.way, local).await
    {
        return fault.into();
    }
    let text = demand.explain(domain, &error.text);
    let response = Response::own(451, NO_TLS, &text);
    let fault = Fault::new(Reason::RemoteClosed, text);
    let in_handshake = !error.fault.is_certificate() && !demand.is_policy();
    Failed { fault, response: Some(response), in_handshake }
}

/// A greeting of 421, or an end without a word, may be the proxy's, if it was asked by a PROXY header.
async fn refusal(
    path: &Path,
    host: &MxHost,
    address: SocketAddr,
    local: Option<SocketAddr>,
    is_broken: bool,
    refused: Refused,
) -> Failed {
    if let Some(proxy) = path.way.proxy().filter(|proxy| proxy.dialect.is_header()) {
        let said = refused.line.as_deref().and_then(Fault::from_smtp_line);
        let is_mute = matches!(refused.reason, Reason::RemoteClosedPreBanner | Reason::RemoteResetPreBanner);
        let asked = match (said, proxy.admin, local) {
            (None, Some(admin), Some(local)) if is_mute => inquiry::ask(admin, local).await,
            (said, ..) => said,
        };
        if let Some(fault) = asked {
            return fault.into();
        }
    }
    if is_broken && let Some(fault) = examine(&path.source, &path.way, local).await {
        return fault.into();
    }
    let detail = format!("{} [{address}]: {}", host.name, refused.response);
    Failed { fault: Fault::new(refused.reason, detail), response: Some(refused.response), in_handshake: false }
}
