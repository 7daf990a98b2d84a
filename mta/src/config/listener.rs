//! `[[listener]]`: where mail comes in, from whom, and how much. Floor 5.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use egret_shared::address::{Network, Networks};
use egret_shared::config::Section;
use egret_shared::units::{Size, Span, Wait};

use crate::reception::{Auth, AuthSettings, MAX_HOLD};

/// One listener.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// Where it listens.
    pub address: SocketAddr,
    /// Who may send mail through it to anywhere.
    pub relay_networks: Networks,
    /// What STARTTLS needs; `None` does not offer it.
    pub tls: Option<TlsFiles>,
    /// Who can and who must log in.
    pub auth: AuthSettings,
    /// The largest message.
    pub max_message_bytes: u64,
    /// The most recipients of a message.
    pub max_recipients: u16,
    /// Received headers beyond which a message is refused as looping.
    pub max_hops: usize,
    /// The most sessions at once.
    pub max_sessions: usize,
    /// How long a client may have a message held.
    pub max_future_release: Duration,
    /// Whether delivery status notifications are offered.
    pub dsn: bool,
    /// How long a client may be silent between commands.
    pub command_timeout: Duration,
    /// How long a client may be silent within a message.
    pub data_timeout: Duration,
}

/// A certificate chain and its key, in PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, the host's own certificate first.
    pub certificate: PathBuf,
    /// The private key.
    pub private_key: PathBuf,
}

/// Who may relay when nothing is said: this host only.
const RELAY_DEFAULT: &str = "[\"127.0.0.0/8\", \"::1\"]";

pub(super) fn build(section: &Section<'_>) -> Option<ListenerConfig> {
    let address = section.required("address", "Where SMTP is listened for, like \"0.0.0.0:25\" or \"[::]:25\".");
    let networks = section.with_default::<Vec<Network>>(
        "relay_networks",
        RELAY_DEFAULT,
        "Clients that may send mail to anywhere. All others but users are refused: there are no local mailboxes.",
    );
    let tls = tls(section);
    let auth = auth(section, tls.is_some());
    let size = section.with_default::<Size>(
        "max_message_size",
        "\"50MiB\"",
        "The largest message; it is told in EHLO (SIZE).",
    );
    let recipients = section.with_default::<u16>(
        "max_recipients",
        "1000",
        "The most recipients of one message; more get 452 and may be sent again.",
    );
    let hops = section.with_default::<usize>(
        "max_hops",
        "50",
        "A message with more Received headers is refused: it goes round in a circle.",
    );
    if hops < 5 {
        section.complain("max_hops", "is under 5, which honest mail passes, too");
    }
    let sessions = section.with_default::<usize>("max_sessions", "5000", "The most sessions at once; more get 421.");
    let hold = section.with_default::<Span>(
        "max_future_release",
        "\"0s\"",
        "How long a client may have a message held before its first attempt (SMTP FUTURERELEASE, RFC 4865: HOLDFOR and HOLDUNTIL of MAIL); more is refused. \"0s\" does not offer it.",
    );
    let dsn = section.with_default::<bool>(
        "dsn",
        "true",
        "Whether senders may say which reports they want (SMTP DSN, RFC 3461: RET, ENVID, NOTIFY, ORCPT). Without it these parameters are refused.",
    );
    let command =
        section.with_default::<Wait>("command_timeout", "\"5m\"", "How long a client may be silent between commands.");
    let data =
        section.with_default::<Wait>("data_timeout", "\"3m\"", "How long a client may be silent within a message.");
    if recipients < 100 {
        section.complain("max_recipients", "is under 100, which RFC 5321 section 4.5.3.1.8 does not allow");
    }
    if size.0 < 64 << 10 || size.0 > 2 << 30 {
        section.complain("max_message_size", "is not between 64KiB and 2GiB");
    }
    if hold.0 > MAX_HOLD || (hold.0 > Duration::ZERO && hold.0 < Duration::from_secs(1)) {
        section.complain("max_future_release", "is not between 1s and 999999999s, nor \"0s\" for off");
    }
    Some(ListenerConfig {
        address: address?,
        relay_networks: Networks::new(networks),
        tls,
        auth,
        max_message_bytes: size.0,
        max_recipients: recipients,
        max_hops: hops,
        max_sessions: sessions,
        max_future_release: hold.0,
        dsn,
        command_timeout: command.0,
        data_timeout: data.0,
    })
}

/// How `auth` is written.
struct AuthName(Auth);

impl FromStr for AuthName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(Auth::None)),
            "optional" => Ok(Self(Auth::Optional)),
            "required" => Ok(Self(Auth::Required)),
            other => Err(format!("{other:?} is not \"none\", \"optional\" or \"required\"")),
        }
    }
}

egret_shared::config_value_from_str!(AuthName => "whether to log in");

fn auth(section: &Section<'_>, has_tls: bool) -> AuthSettings {
    let AuthName(auth) = section.with_default(
        "auth",
        "\"none\"",
        "Whether users of users_file can log in (SMTP AUTH, RFC 4954: PLAIN and LOGIN, in TLS). \"none\" does not offer it; \"optional\": a user may send mail to anywhere, as clients in relay_networks may without; \"required\": nobody but users may send, whatever relay_networks says.",
    );
    let clear = section.with_default::<Vec<Network>>(
        "auth_without_tls_networks",
        "[]",
        "Clients that may tell their password in clear, like \"127.0.0.0/8\"; nobody else can log in without TLS.",
    );
    match auth {
        Auth::None if !clear.is_empty() => {
            section.complain("auth_without_tls_networks", "stands without auth = \"optional\" or \"required\"");
        }
        Auth::Optional | Auth::Required if !has_tls && clear.is_empty() => {
            section.complain(
                "auth",
                "lets nobody log in: passwords are taken in TLS only, which needs tls_certificate and tls_private_key",
            );
        }
        _ => {}
    }
    AuthSettings { auth, in_clear: Networks::new(clear) }
}

fn tls(section: &Section<'_>) -> Option<TlsFiles> {
    let certificate =
        section.optional("tls_certificate", "A PEM file with the certificate chain: STARTTLS is offered.");
    let private_key = section.optional("tls_private_key", "A PEM file with the key of the certificate.");
    match (certificate, private_key) {
        (Some(certificate), Some(private_key)) => Some(TlsFiles { certificate, private_key }),
        (Some(_), None) => {
            section.complain("tls_certificate", "stands alone; tls_private_key belongs to it");
            None
        }
        (None, Some(_)) => {
            section.complain("tls_private_key", "stands alone; tls_certificate belongs to it");
            None
        }
        (None, None) => None,
    }
}
