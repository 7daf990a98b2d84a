//! `[dkim]`: which messages are signed, by which keys. Floor 5. Reads the keys.

use std::path::PathBuf;

use egret_shared::config::Section;
use egret_shared::units::Span;

use crate::routing::pattern::Pattern;
use crate::sign::{Canonicalization, Key, Options, Policy, Signer, Signers};

egret_shared::config_value_from_str!(Canonicalization => "a canonicalization", Policy => "a policy");

pub(super) fn build(root: &Section<'_>) -> Option<Signers> {
    let section = root.section("dkim");
    let options = options(&section);
    let signers: Vec<_> = section.repeated("signature").iter().map(|section| signer(section, &options)).collect();
    signers.into_iter().collect::<Option<_>>().map(Signers::new)
}

fn options(section: &Section<'_>) -> Options {
    let mut options = Options::default();
    let headers = section.optional::<Vec<String>>(
        "headers",
        "Headers that are signed where they stand; if absent, From, Reply-To, Subject, Date, To, Cc, Message-ID, In-Reply-To, References, MIME-Version, Content-Type, Content-Transfer-Encoding, List-Unsubscribe and List-Unsubscribe-Post.",
    );
    if let Some(headers) = headers {
        if !headers.iter().any(|name| name.eq_ignore_ascii_case("from")) {
            section.complain("headers", "lacks From, which must be signed (RFC 6376 section 5.4)");
        }
        let is_name = |name: &&String| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b':');
        if let Some(bad) = headers.iter().find(|name| !is_name(name)) {
            section.complain("headers", format!("holds {bad:?}, which is no header's name"));
        }
        options.headers = headers;
    }
    section.replace(
        "over_sign",
        "true",
        "Whether each of the headers is signed once more than it is there, so that nobody can add another.",
        &mut options.over_sign,
    );
    options.header_canonicalization = section.with_default(
        "header_canonicalization",
        "\"Relaxed\"",
        "\"Relaxed\": white space in headers may change on the way; \"Simple\": nothing may.",
    );
    options.body_canonicalization = section.with_default(
        "body_canonicalization",
        "\"Relaxed\"",
        "\"Relaxed\": white space in the body may change on the way; \"Simple\": nothing may.",
    );
    let expiration = section
        .optional::<Span>("expiration", "After how long a signature shall not be trusted any more; never if absent.");
    options.expiration = expiration.map(|span| span.0);
    if options.expiration.is_some_and(|span| span.as_secs() == 0) {
        section.complain("expiration", "is under a second; deliveries alone may take days");
    }
    options
}

fn signer(section: &Section<'_>, options: &Options) -> Option<Signer> {
    let domain = section.required::<String>("domain", "In whose name it is signed: where the public key is published.");
    let selector = section.required::<String>(
        "selector",
        "The name of the key: the public one is the TXT record of `SELECTOR._domainkey.DOMAIN`.",
    );
    let file = section.required::<PathBuf>(
        "private_key",
        "The private key (PEM): RSA of at least 2048 bits, or Ed25519. Read again at each reload.",
    );
    let patterns = section.optional::<Vec<Pattern>>(
        "from",
        "Messages that are signed, by the domain of their From header: `example.com`, `*.example.com` (all below it), `*` (all). The domain itself if absent.",
    );
    let policy = section.with_default(
        "policy",
        "\"Always\"",
        "\"Always\": whenever `from` fits, beside other signatures; \"OnlyIfMissingDomainBlock\": only if no signature with \"Always\" fits.",
    );
    let (domain, selector, file) = (domain?, selector?, file?);
    let domain = match domain.parse::<Pattern>() {
        Ok(Pattern::Domain(domain)) if !domain.starts_with('[') => domain,
        _ => {
            section.complain("domain", format!("{domain:?} is not a domain; write it like \"example.com\""));
            return None;
        }
    };
    if !super::is_host_name(&selector) || selector.starts_with('[') {
        section.complain("selector", format!("{selector:?} cannot stand in a DNS name; write it like \"s2026\""));
        return None;
    }
    let patterns = patterns.unwrap_or_else(|| vec![Pattern::Domain(domain.clone())]);
    match Key::read(&file) {
        Ok(key) => Some(Signer::new(&domain, &selector, key, patterns, policy, options)),
        Err(error) => {
            section.complain("private_key", error.to_string());
            None
        }
    }
}
