//! Opening a session: host after host of the site until one is connected, greeted and, where it is
//! to be, in TLS.
//! Floor 4. Touches sockets through `way` and `connection` only.
//! Always: a fault that is not the destination's ends it at once; each failed dial is told once.

use std::net::SocketAddr;

use egret_shared::clock::UnixMs;
use egret_shared::fault::{Fault, Party, Reason};
use egret_shared::net::tls_client::{Check, ClientTls};

use super::broken_tls::BrokenTls;
use super::connection::{Connection, NoTls};
use super::dialogue::{Act, Dialogue, Manner, Refused};
use super::inquiry;
use super::outcome::{Judgement, Seen, Stage, judge};
use super::report::{Metrics, Wire};
use super::session::Path;
use super::trace::{Tap, What};
use super::way::{dial, examine};
use crate::dns::site::MxHost;
use crate::message::{EnhancedCode, Response};
use crate::shaping::options::Tls;

/// A session that can carry messages.
pub(super) struct Opened {
    pub connection: Connection,
    pub wire: Wire,
}

/// What opening needs for TLS.
#[derive(Clone, Copy)]
pub(super) struct Secure<'a> {
    pub tls: &'a ClientTls,
    pub broken: &'a BrokenTls,
    pub now: UnixMs,
}

impl Secure<'_> {
    /// What is asked of an address: nothing, if its handshake failed of late and clear text will do.
    fn mode(&self, path: &Path, address: SocketAddr, metrics: &Metrics) -> Tls {
        let (wanted, span) = (path.options.tls.enable_tls, path.options.tls.remember_broken_tls);
        if wanted.is_required() || span.is_zero() || !self.broken.knows(address, self.now) {
            return wanted;
        }
        metrics.tls_skipped();
        Tls::Disabled
    }

    fn remember(&self, path: &Path, address: SocketAddr, fault: &Fault) {
        let options = &path.options.tls;
        if options.remember_broken_tls.is_zero() || options.enable_tls.is_required() {
            return;
        }
        let until = self.now.plus(options.remember_broken_tls);
        if self.broken.remember(address, until, self.now) {
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

/// Tries the addresses of the site in order. `tell` hears of each failed dial.
pub(super) async fn open(
    path: &Path,
    secure: Secure<'_>,
    metrics: &Metrics,
    tap: &Tap,
    tell: impl Fn(&Fault, &Wire),
) -> Result<Opened, Unopened> {
    let mut last = None;
    for (host, address) in targets(path) {
        let mut wire = Wire::to(&host.name, address);
        let tap = tap.towards(&host.name, address);
        let mut tried = attempt(path, secure.tls, &tap, host, address, secure.mode(path, address, metrics)).await;
        if let Err(failed) = &tried
            && failed.in_handshake
        {
            metrics.tls_failed();
            secure.remember(path, address, &failed.fault);
            let options = &path.options.tls;
            if options.opportunistic_tls_reconnect_on_failed_handshake && !options.enable_tls.is_required() {
                tell(&failed.fault, &wire);
                tried = attempt(path, secure.tls, &tap, host, address, Tls::Disabled).await;
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
        let detail = format!("{} has no address that source {} can reach", path.site.name, path.source.name);
        let fault = Fault::new(Reason::FamilyMismatch, detail);
        tell(&fault, &Wire::default());
        Unopened { fault, response: None, wire: Wire::default() }
    }))
}

/// The addresses that the source can reach by family, in order.
fn targets(path: &Path) -> impl Iterator<Item = (&MxHost, SocketAddr)> {
    let from = path.source.address;
    let fits = move |to: &std::net::IpAddr| from.is_none_or(|from| from.is_ipv4() == to.is_ipv4());
    let each = |host: &'_ MxHost, n: usize| host.addresses.get(n).map(|ip| SocketAddr::new(*ip, host.port));
    let hosts = path.site.hosts.iter();
    hosts
        .flat_map(move |host| (0..host.addresses.len()).filter_map(move |n| Some((host, each(host, n)?))))
        .filter(move |(_, address)| fits(&address.ip()))
}

/// The words for a fault of the destination; none for any other party's.
fn words(fault: &Fault, response: Option<Response>) -> Option<Response> {
    if fault.party() != Party::Remote {
        return None;
    }
    let status = EnhancedCode::parse(fault.reason.enhanced_status()).unwrap_or(EnhancedCode::new(4, 4, 1));
    Some(response.unwrap_or_else(|| Response::own(421, status, &fault.detail)))
}

async fn attempt(
    path: &Path,
    tls: &ClientTls,
    tap: &Tap,
    host: &MxHost,
    address: SocketAddr,
    mode: Tls,
) -> Result<Connection, Failed> {
    let options = &path.options;
    tap.tell(What::Dial, || via(path));
    let dialed = dial(&path.source, &path.way, address, options.smtp.timeouts.connect).await;
    let dialed = dialed.inspect_err(|fault| tap.tell(What::Fault, || fault.to_string()))?;
    tap.tell(What::Connected, String::new);
    let manner = Manner {
        protocol: path.site.protocol,
        tls: mode,
        may_pipeline: options.smtp.enable_pipelining,
        may_chunk: options.smtp.enable_chunking,
        ignore_8bit_checks: options.smtp.ignore_8bit_checks,
    };
    let dialogue = Dialogue::new(&path.source.ehlo_name, manner);
    let local = dialed.local;
    let mut connection = Connection::new(dialed.stream, dialed.input, dialogue, options.smtp.timeouts, tap.clone());
    loop {
        match connection.next().await {
            Act::Ready => return Ok(connection),
            Act::Upgrade => {
                let check = if mode.checks_certificate() { Check::Certificate } else { Check::Nothing };
                if let Err(error) = connection.upgrade(tls, check, &host.name).await {
                    tap.tell(What::Tls, || &error.text);
                    return Err(handshake_failed(path, &error).await);
                }
            }
            Act::Refused(refused) => {
                let is_broken = connection.dialogue.is_broken();
                return Err(refusal(path, host, address, local, is_broken, refused).await);
            }
            act => {
                let detail = format!("{} [{address}]: {act:?} before it was greeted", host.name);
                return Err(Fault::new(Reason::Internal, detail).into());
            }
        }
    }
}

/// From where, for people.
fn via(path: &Path) -> String {
    let from = path.source.address.map_or_else(|| "any address".to_owned(), |address| address.to_string());
    match path.way.proxy() {
        None => format!("from {from}"),
        Some(proxy) => format!("from {from} through proxy {}", proxy.name),
    }
}

/// A handshake that broke, or whose certificate did not pass: where that is asked for, clear text is no way round it.
async fn handshake_failed(path: &Path, error: &NoTls) -> Failed {
    if !error.is_certificate
        && let Some(fault) = examine(&path.source, &path.way).await
    {
        return fault.into();
    }
    let response = Response::own(451, EnhancedCode::new(4, 7, 5), &error.text);
    let fault = Fault::new(Reason::RemoteClosed, &*error.text);
    Failed { fault, response: Some(response), in_handshake: !error.is_certificate }
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
    if is_broken && let Some(fault) = examine(&path.source, &path.way).await {
        return fault.into();
    }
    let detail = format!("{} [{address}]: {}", host.name, refused.response);
    Failed { fault: Fault::new(refused.reason, detail), response: Some(refused.response), in_handshake: false }
}
