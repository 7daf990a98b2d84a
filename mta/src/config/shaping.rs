//! `[shaping]` and the files that it names, in KumoMTA's format. Floor 5.
//! Reads these files.
//! Always: a key that nobody knows is a complaint with file and line; an option of KumoMTA that has no meaning here is
//! told, and does nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use egret_shared::config::{Complaint, Complaints, RawValue, Section, Value, parse_lenient, raw_string};
use egret_shared::limits::{Count, Throttle};

use super::path::{self, Form};
use super::texts::beside;
use super::{automation, vain};
use crate::routing::route::Pattern;
use crate::shaping::blocks::{Block, DomainBlock, Match, ProviderBlock, Shaping, SourceBlock};
use crate::shaping::options::TlsOptions;
use crate::shaping::patch::{Patch, Place, Setting};
use crate::shaping::resolve::PROVIDER_NAME;

/// Options of KumoMTA that do nothing here, and why.
const NOT_NEEDED: [(&str, &str); 15] = [
    ("refresh_strategy", "what changes is acted on at once"),
    ("refresh_interval", "what changes is acted on at once"),
    ("maintainer_wakeup_strategy", "what changes is acted on at once"),
    ("dispatcher_wakeup_strategy", "what changes is acted on at once"),
    ("aggressive_connection_opening", "sessions are opened as there is work"),
    ("low_memory_reduction_policy", "memory has limits of its own, [memory]"),
    ("no_memory_reduction_policy", "memory has limits of its own, [memory]"),
    ("readyq_pool_name", "there are no thread pools to choose from"),
    ("dispatcher_progress_watchdog_timeout", "every wait of a session has a limit of its own"),
    ("system_shutdown_timeout", "drain_timeout is one for the program"),
    ("max_ready", "queue.max_ready is one for all paths"),
    ("tls_prefer_openssl", "there is no OpenSSL here"),
    ("openssl_cipher_list", "there is no OpenSSL here; rustls_cipher_suites chooses"),
    ("openssl_cipher_suites", "there is no OpenSSL here; rustls_cipher_suites chooses"),
    ("openssl_options", "there is no OpenSSL here; rustls_cipher_suites chooses"),
];

/// What stands in the main file, or within a block, and where.
const NOT_HERE: [(&str, &str); 6] = [
    ("floor", MAIN_FILE),
    ("route", MAIN_FILE),
    ("rule", MAIN_FILE),
    ("outcome", MAIN_FILE),
    ("delivery", "belongs into mta.toml; here stands what is for all mail below [\"default\"]"),
    ("automation", "belongs to a block, as in [[\"default\".automation]], or into mta.toml"),
];
const MAIN_FILE: &str = "belongs into mta.toml, the file that names this one";

/// Keys of a block that may be tables.
const TABLES: [&str; 5] = [
    "sources",
    "additional_connection_limits",
    "additional_message_rate_throttles",
    "additional_source_selection_rates",
    "smtp_auth_plain_password",
];

/// What was read, and what is worth a word.
#[derive(Clone, Debug, Default)]
pub struct Read {
    /// What the files say.
    pub shaping: Shaping,
    /// What is ignored, and the like.
    pub notes: Vec<Complaint>,
    /// Keys that may be unknown.
    pub ignored: Vec<String>,
}

/// `[shaping]`; `None` only after a complaint.
pub(super) fn build(root: &Section<'_>, delivery: &TlsOptions) -> Option<Read> {
    let section = root.section("shaping");
    let files = section.with_default::<Vec<PathBuf>>(
        "files",
        "[]",
        "Files of traffic shaping in KumoMTA's format ([guide](../guide/shaping.md)), `.toml` or `.json`, named from the directory of this file; later ones lie over earlier ones.",
    );
    let ignored = section.with_default::<Vec<String>>(
        "ignore_unknown",
        "[]",
        "Keys of these files that may be unknown: they are told, and do nothing. Any other unknown key is an error.",
    );
    match read(files.iter().map(|file| beside(section.file(), file)), &ignored) {
        Ok(mut read) => {
            vain::note_policies(&mut read, delivery);
            vain::note_unused(&mut read, &section);
            Some(read)
        }
        Err(complaints) => {
            section.complain_of_another(complaints);
            None
        }
    }
}

/// Reads shaping files, the later over the earlier.
///
/// # Errors
/// Everything that is wrong in any of them.
pub fn read(files: impl IntoIterator<Item = PathBuf>, ignored: &[String]) -> Result<Read, Complaints> {
    let mut shaping = Shaping::default();
    let (texts, notes) = each(files, ignored, |root| whole_file(root, &mut shaping))?;
    shaping.texts = texts;
    Ok(Read { shaping, notes, ignored: ignored.to_vec() })
}

/// The names of files with their texts, and notes.
pub(super) type Files = (Vec<(String, String)>, Vec<Complaint>);

/// Has each file read by `take`, one after the other.
pub(super) fn each(
    files: impl IntoIterator<Item = PathBuf>,
    ignored: &[String],
    mut take: impl FnMut(&Section<'_>) -> Option<()>,
) -> Result<Files, Complaints> {
    let (mut texts, mut notes, mut wrong) = (Vec::new(), Vec::new(), Complaints::default());
    for file in files {
        let name = file.display().to_string();
        let complain = |message: String| Complaint { file: name.clone(), line: 0, key: String::new(), message };
        // A path joined to a directory may stand before it.
        if name.contains("http:/") || name.contains("https:/") {
            let message = "is a URL; only local files are read: fetch it to a file and reload (a timer can), so that what holds does not hang on another server";
            wrong.0.push(complain(message.to_owned()));
            continue;
        }
        match std::fs::read_to_string(&file) {
            Ok(text) => {
                let (done, found) = parse_lenient(&name, &text, ignored, &mut take);
                wrong.0.extend(done.err().into_iter().flat_map(|complaints| complaints.0));
                notes.extend(found);
                texts.push((name, text));
            }
            Err(error) => wrong.0.push(complain(format!("cannot be read: {error}"))),
        }
    }
    if wrong.is_empty() { Ok((texts, notes)) } else { Err(wrong) }
}

/// Any text is read, or refused, without a panic.
pub fn fuzz_shaping(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for name in ["f.toml", "f.json"] {
        let mut shaping = Shaping::default();
        let _ = parse_lenient(name, text, &[], |root| whole_file(root, &mut shaping));
    }
}

#[expect(clippy::unnecessary_wraps, reason = "every build function has this shape")]
fn whole_file(root: &Section<'_>, shaping: &mut Shaping) -> Option<()> {
    let default = root.section("default");
    if default.is_present() {
        let title = "[\"default\"]".to_owned();
        let block = block(&default, title, false);
        shaping.defaults.push(block);
    }
    for (key, why) in NOT_HERE {
        if root.skip(key) {
            root.complain(key, why);
        }
    }
    for (name, section) in root.section("provider").tables_or(no_provider) {
        let found = provider(&name, &section);
        shaping.provider(&name).blocks.push(found);
    }
    for (name, section) in root.tables_or(no_block) {
        if let Some(found) = domain(&name, &section) {
            shaping.domains.push(found);
        }
    }
    Some(())
}

/// What is wrong beside the blocks.
fn no_block(name: &str, is_list: bool) -> String {
    match is_list {
        true => format!("is a list of tables, and a block stands once; write [{name:?}]"),
        false => "stands outside of all blocks; write it below [\"default\"] if it is for all mail, or below [provider.\"NAME\"] or [\"example.com\"]".to_owned(),
    }
}

/// What is wrong beside the providers.
fn no_provider(name: &str, is_list: bool) -> String {
    match is_list {
        true => format!("is a list of tables, and a provider stands once in a file; write [provider.{name:?}]"),
        false => "stands outside of all providers; write it below [provider.\"NAME\"]".to_owned(),
    }
}

/// What is wrong beside the sources.
fn no_source(name: &str, is_list: bool) -> String {
    match is_list {
        true => format!("is a list of tables, and a source stands once in a block; write [… .sources.{name:?}]"),
        false => {
            "stands outside of all sources; write it below the block's own heading, or below that of one of its sources"
                .to_owned()
        }
    }
}

fn place(section: &Section<'_>) -> Place {
    Place::new(section.file(), section.line())
}

fn provider(name: &str, section: &Section<'_>) -> ProviderBlock {
    let at = |key: &str| Place::new(section.file(), section.line_of(key));
    let matches = section.optional::<Vec<Match>>("match", "").unwrap_or_default();
    let connection_limit = section.optional::<Count>("provider_connection_limit", "");
    let message_rate = section.optional::<Throttle>("provider_max_message_rate", "");
    ProviderBlock {
        matches,
        connection_limit: connection_limit.map(|limit| (limit, at("provider_connection_limit"))),
        message_rate: message_rate.map(|rate| (rate, at("provider_max_message_rate"))),
        block: block(section, format!("[provider.{name:?}]"), true),
    }
}

fn domain(name: &str, section: &Section<'_>) -> Option<DomainBlock> {
    let means = |word: &&&str| name.eq_ignore_ascii_case(word) || name.eq_ignore_ascii_case(&format!("{word}s"));
    if let Some(word) = ["default", "provider"].iter().find(means) {
        section.complain_here(format!("is no domain; did you mean {word:?}, in small letters and without an s?"));
        section.leave_rest();
        return None;
    }
    let rollup = section.with_default::<bool>("mx_rollup", "true", "");
    let block = block(section, format!("[{name:?}]"), false);
    let domain = match name.parse::<Pattern>() {
        Ok(Pattern::Domain(domain)) => domain,
        Ok(Pattern::Below(_) | Pattern::Any) => {
            section.complain_here("is a pattern, and blocks are for single domains; a provider with a match like { DomainSuffix = \".example.com\" } is for more");
            return None;
        }
        Err(error) => {
            section.complain_here(format!("is no domain: {error}"));
            return None;
        }
    };
    if let Some(within) = section.first_table(&TABLES).filter(|_| !domain.contains('.')) {
        section.complain_here(format!(
            "holds a table {within:?}: names of domains belong in quotes, as in [\"{name}.{within}\"]"
        ));
        return None;
    }
    if !domain.contains('.') && !domain.starts_with('[') {
        section.note("", format!("{domain:?} has no dot; write names of domains in quotes, as in [\"example.com\"]"));
    }
    Some(DomainBlock { domain: domain.into(), rollup, block })
}

fn block(section: &Section<'_>, title: String, is_provider: bool) -> Block {
    let replace_base = section.with_default::<bool>("replace_base", "false", "");
    let mut sources = BTreeMap::new();
    for (name, own) in section.section("sources").tables_or(no_source) {
        let own_title = format!("{}.sources.{name:?}]", title.trim_end_matches(']'));
        sources.insert(name.into(), source(&own, own_title, is_provider));
    }
    let rules = section.repeated("automation");
    let rules = rules.iter().filter_map(|rule| automation::read(rule, Form::Kumo)).map(Arc::new).collect();
    Block { title: title.into(), place: place(section), replace_base, patch: Arc::new(patch(section)), sources, rules }
}

fn source(section: &Section<'_>, title: String, is_provider: bool) -> SourceBlock {
    let key = "provider_source_selection_rate";
    let rate = if is_provider { section.optional::<Throttle>(key, "") } else { None };
    let selection_rate = rate.map(|rate| (rate, Place::new(section.file(), section.line_of(key))));
    SourceBlock { title: title.into(), place: place(section), patch: Arc::new(patch(section)), selection_rate }
}

/// The options that a table holds.
fn patch(section: &Section<'_>) -> Patch {
    let mut patch = path::read(section, Form::Kumo);
    if let Some(name) = section.optional::<String>(PROVIDER_NAME, "") {
        let at = Place::new(section.file(), section.line_of(PROVIDER_NAME));
        patch.push(Setting::new(PROVIDER_NAME, &name, at, |_| ()));
    }
    for (key, why) in NOT_NEEDED {
        if section.skip(key) {
            section.note(key, format!("does nothing here: {why}"));
        }
    }
    if section.skip("smtp_port") {
        section.complain("smtp_port", "cannot be said of a path; delivery.smtp_port is for all mail exchangers, and a [[route]] names hosts with ports");
    }
    patch
}

impl Value for Match {
    const KIND: &'static str = "{ DomainSuffix = \"…\" }, { MXSuffix = \"…\" } or { HostName = \"…\" }";

    fn read(value: &RawValue<'_>) -> Result<Self, String> {
        let table = value.as_table().ok_or_else(|| format!("is no table; {} belongs here", Self::KIND))?;
        let mut entries = table.iter();
        let (Some((key, entry)), None) = (entries.next(), entries.next()) else {
            return Err(format!("has not exactly one key; {} belongs here", Self::KIND));
        };
        let text = raw_string(entry.get_ref(), "a text")?.trim_end_matches('.').to_ascii_lowercase();
        if text.is_empty() {
            return Err("is empty, and would fit everything".to_owned());
        }
        match key.get_ref().as_ref() {
            "DomainSuffix" => Ok(Self::DomainSuffix(text)),
            "MXSuffix" => Ok(Self::MxSuffix(text)),
            "HostName" => Ok(Self::HostName(text)),
            other => Err(format!("has the key {other:?}; {} belongs here", Self::KIND)),
        }
    }
}
