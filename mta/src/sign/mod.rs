//! DKIM signatures (RFC 6376, 8463), chosen by the domain of the From header.
//! Pure but for the clock in a signature. Floor 2. `key` reads keys, `message` finds what is signed.
//! Always: a message is never changed and never refused here; what cannot be signed goes out unsigned and is counted.

mod key;
mod message;

use bytes::{Bytes, BytesMut};
use mail_auth::common::crypto::DkimKey;
use mail_auth::common::headers::HeaderWriter as _;
use mail_auth::dkim::{self, DkimSigner, Done};
use metrics::{Counter, Histogram, counter, histogram};
use std::time::Duration;

pub use key::{BadKey, Key};
use message::{From, author, without_blank_end};

use crate::routing::pattern::Pattern;

/// Headers that are signed unless others are named (RFC 6376 section 5.4.1, and what lists of mail are told by).
pub const DEFAULT_HEADERS: &[&str] = &[
    "From",
    "Reply-To",
    "Subject",
    "Date",
    "To",
    "Cc",
    "Message-ID",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
];
/// Larger messages are hashed off the async threads.
const LARGE_BYTES: usize = 128 << 10;

/// How a signature is made; defaults as most receivers like it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Headers that are signed if they are there.
    pub headers: Vec<String>,
    /// Each of them is named once more than it is there, so that nobody can add another.
    pub over_sign: bool,
    /// How headers are made canonical.
    pub header_canonicalization: Canonicalization,
    /// How the body is made canonical.
    pub body_canonicalization: Canonicalization,
    /// After how long receivers shall not trust it any more.
    pub expiration: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            headers: DEFAULT_HEADERS.iter().map(|name| (*name).to_owned()).collect(),
            over_sign: true,
            header_canonicalization: Canonicalization::Relaxed,
            body_canonicalization: Canonicalization::Relaxed,
            expiration: None,
        }
    }
}

/// How much a message may change on its way (RFC 6376 section 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canonicalization {
    /// White space may change.
    Relaxed,
    /// Nothing may change.
    Simple,
}

impl std::str::FromStr for Canonicalization {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "Relaxed" => Ok(Self::Relaxed),
            "Simple" => Ok(Self::Simple),
            _ => Err("write \"Relaxed\" or \"Simple\"".to_owned()),
        }
    }
}

impl Canonicalization {
    fn theirs(self) -> dkim::Canonicalization {
        match self {
            Self::Relaxed => dkim::Canonicalization::Relaxed,
            Self::Simple => dkim::Canonicalization::Simple,
        }
    }
}

/// When a signature is made, beside others (as KumoMTA's additional signatures).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Whenever its domains fit.
    #[default]
    Always,
    /// Only if no signature with [`Policy::Always`] fits.
    OnlyIfMissingDomainBlock,
}

impl std::str::FromStr for Policy {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "Always" => Ok(Self::Always),
            "OnlyIfMissingDomainBlock" => Ok(Self::OnlyIfMissingDomainBlock),
            _ => Err("write \"Always\" or \"OnlyIfMissingDomainBlock\"".to_owned()),
        }
    }
}

/// One signature that may be made.
pub struct Signer {
    patterns: Vec<Pattern>,
    policy: Policy,
    relaxed_body: bool,
    is_slow: bool,
    inner: DkimSigner<DkimKey, Done>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let template = &self.inner.template;
        f.debug_struct("Signer").field("domain", &template.d).field("selector", &template.s).finish_non_exhaustive()
    }
}

impl Signer {
    /// A signature in the name of `domain`, with the public key under `selector`, for messages whose author's domain
    /// fits one of `patterns`.
    pub fn new(
        domain: &str,
        selector: &str,
        key: Key,
        patterns: Vec<Pattern>,
        policy: Policy,
        options: &Options,
    ) -> Self {
        let once = options.headers.iter().map(String::as_str);
        // A name that stands twice is told once more than it is there: so it cannot be added.
        let twice: &[String] = if options.over_sign { &options.headers } else { &[] };
        let headers: Vec<&str> = once.chain(twice.iter().map(String::as_str)).collect();
        let (is_slow, key) = (key.is_slow(), key.into_inner());
        let mut signer = DkimSigner::from_key(key)
            .domain(domain)
            .selector(selector)
            .headers(headers)
            .header_canonicalization(options.header_canonicalization.theirs())
            .body_canonicalization(options.body_canonicalization.theirs());
        if let Some(expiration) = options.expiration {
            signer = signer.expiration(expiration.as_secs());
        }
        let relaxed_body = options.body_canonicalization == Canonicalization::Relaxed;
        Self { patterns, policy, relaxed_body, is_slow, inner: signer }
    }

    fn fits(&self, domain: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.fits(domain))
    }

    /// Appends the header.
    fn sign(&self, message: &[u8], out: &mut BytesMut) -> Result<(), mail_auth::Error> {
        // The library's relaxed form of a body keeps blank lines of white space at its end, which RFC 6376 section
        // 3.4.4 ignores.
        let message = if self.relaxed_body { without_blank_end(message) } else { message };
        let signature = self.inner.sign(message)?;
        let mut header = Vec::with_capacity(512);
        signature.write_header(&mut header);
        out.extend_from_slice(&header);
        Ok(())
    }
}

/// All signatures that may be made.
#[derive(Debug, Default)]
pub struct Signers(Vec<Signer>);

/// What became of signing a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has so many signatures.
    Signed(usize),
    /// No signature is for its author's domain.
    NotOurs,
    /// It has no author, or several of different domains.
    NoAuthor,
    /// A signature could not be made.
    Failed,
}

impl Signers {
    /// These.
    pub fn new(signers: Vec<Signer>) -> Self {
        Self(signers)
    }

    /// True if nothing is ever signed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The signatures that are made for an author's domain, as `selector._domainkey.domain` names their keys.
    pub fn names(&self, domain: &str) -> Vec<String> {
        self.of(domain).map(|s| format!("{}._domainkey.{}", s.inner.template.s, s.inner.template.d)).collect()
    }

    /// The signatures that a message would have, likewise.
    pub fn of_message(&self, message: &[u8]) -> Vec<String> {
        match author(message) {
            From::One(domain) => self.names(&domain),
            From::NoneOrSeveral => Vec::new(),
        }
    }

    fn of<'a>(&'a self, domain: &'a str) -> impl Iterator<Item = &'a Signer> {
        let fits = move |policy: Policy| self.0.iter().filter(move |s| s.policy == policy && s.fits(domain));
        let is_covered = fits(Policy::Always).next().is_some();
        let policy = if is_covered { Policy::Always } else { Policy::OnlyIfMissingDomainBlock };
        fits(policy)
    }

    /// Signs a message as it was offered: the headers that are to stand in front of it.
    pub fn sign(&self, message: &[u8]) -> (Bytes, Outcome) {
        let domain = match author(message) {
            From::One(domain) => domain,
            From::NoneOrSeveral => return (Bytes::new(), Outcome::NoAuthor),
        };
        let (mut headers, mut count) = (BytesMut::new(), 0);
        for signer in self.of(&domain) {
            if let Err(error) = signer.sign(message, &mut headers) {
                tracing::error!(%error, ?signer, "a message could not be signed and goes out without that signature");
                return (headers.freeze(), Outcome::Failed);
            }
            count += 1;
        }
        (headers.freeze(), if count == 0 { Outcome::NotOurs } else { Outcome::Signed(count) })
    }

    /// Signing takes long enough to be done off the async threads: RSA does, and hashing much does.
    pub fn is_slow(&self, message: &[u8]) -> bool {
        message.len() > LARGE_BYTES || self.0.iter().any(|signer| signer.is_slow)
    }
}

/// What is counted of signing. Cheap to clone.
#[derive(Clone)]
pub struct Meters {
    signed: Counter,
    not_ours: Counter,
    no_author: Counter,
    failed: Counter,
    seconds: Histogram,
}

impl Default for Meters {
    /// The handles of the installed recorder.
    fn default() -> Self {
        let of = |result: &'static str| counter!("egret_mta_dkim_messages_total", "result" => result);
        Self {
            signed: of("signed"),
            not_ours: of("no_key"),
            no_author: of("no_author"),
            failed: of("failed"),
            seconds: histogram!("egret_mta_dkim_sign_seconds"),
        }
    }
}

impl Meters {
    /// Counts one message.
    pub fn count(&self, outcome: Outcome, took: Duration) {
        match outcome {
            Outcome::Signed(_) => self.signed.increment(1),
            Outcome::NotOurs => self.not_ours.increment(1),
            Outcome::NoAuthor => self.no_author.increment(1),
            Outcome::Failed => self.failed.increment(1),
        }
        self.seconds.record(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests;
