//! The options of a path: each key is declared once, with what it replaces, so that the same reading serves a base and
//! what is said over it. Floor 5.

mod auth;
mod hosts;
mod limits;
mod smtp;
mod tls;

use std::fmt::Debug;
use std::time::Duration;

use egret_shared::config::{Section, Value};
use egret_shared::units::{Seconds, Span, Wait};

use crate::shaping::options::PathOptions;
use crate::shaping::patch::{Patch, Place, Setting};

/// Whose files they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Egret's own.
    Own,
    /// Those in KumoMTA's format, where a number is a span of so many seconds.
    Kumo,
}

/// What `section` says of a path.
pub(super) fn read(section: &Section<'_>, form: Form) -> Patch {
    let mut reader = Reader { section, form, patch: Patch::default() };
    limits::read(&mut reader);
    reader.count("max_deliveries_per_connection", "1024", "Messages that one session carries before it ends.", |o| {
        &mut o.max_deliveries_per_connection
    });
    reader.count(
        "max_recipients_per_batch",
        "100",
        "Recipients of one transaction; more are sent in further ones.",
        |o| &mut o.max_recipients_per_batch,
    );
    hosts::read(&mut reader);
    smtp::read(&mut reader);
    tls::read(&mut reader);
    auth::read(&mut reader);
    reader.patch
}

/// Reads the options of one section, and keeps what each key replaces.
struct Reader<'s, 'd> {
    section: &'s Section<'d>,
    form: Form,
    patch: Patch,
}

impl Reader<'_, '_> {
    fn place(&self, key: &str) -> Place {
        Place::new(self.section.file(), self.section.line_of(key))
    }

    fn said(&mut self, key: &'static str, apply: impl Fn(&mut PathOptions) + Send + Sync + 'static) {
        if let Some(words) = self.section.words_of(key) {
            let place = self.place(key);
            self.patch.push(Setting::new(key, &words, place, apply));
        }
    }

    /// A key that is read as a `T` and replaces what `slot` shows.
    fn option<T, S>(
        &mut self,
        key: &'static str,
        default: &'static str,
        doc: &'static str,
        slot: fn(&mut PathOptions) -> &mut S,
    ) -> S
    where
        T: Value + Into<S>,
        S: Clone + PartialEq + Debug + Send + Sync + 'static,
    {
        let mut value = slot(&mut PathOptions::default()).clone();
        self.section.replace_with::<T, S>(key, default, doc, &mut value);
        let kept = value.clone();
        self.said(key, move |options| *slot(options) = kept.clone());
        value
    }

    /// The same where it is kept as it is read.
    fn plain<T: Value + Clone + PartialEq + Debug + Send + Sync + 'static>(
        &mut self,
        key: &'static str,
        default: &'static str,
        doc: &'static str,
        slot: fn(&mut PathOptions) -> &mut T,
    ) -> T {
        self.option::<T, T>(key, default, doc, slot)
    }

    /// A span of time.
    fn span(
        &mut self,
        key: &'static str,
        default: &'static str,
        doc: &'static str,
        slot: fn(&mut PathOptions) -> &mut Duration,
    ) -> Duration {
        match self.form {
            Form::Own => self.option::<Span, _>(key, default, doc, slot),
            Form::Kumo => self.option::<Seconds, _>(key, default, doc, slot),
        }
    }

    /// A span of time that must not be 0.
    fn wait(
        &mut self,
        key: &'static str,
        default: &'static str,
        doc: &'static str,
        slot: fn(&mut PathOptions) -> &mut Duration,
    ) {
        let span = self.span(key, default, doc, slot);
        if let Err(why) = Wait::try_from(Span(span)) {
            self.section.complain(key, why);
        }
    }

    /// A key without a default.
    fn optional<T: Value + Clone + Send + Sync + 'static>(
        &mut self,
        key: &'static str,
        doc: &'static str,
        set: impl Fn(&mut PathOptions, &T) + Send + Sync + 'static,
    ) -> Option<T> {
        let value = self.section.optional::<T>(key, doc)?;
        let kept = value.clone();
        self.said(key, move |options| set(options, &kept));
        Some(value)
    }

    /// A number that must not be 0.
    fn count(
        &mut self,
        key: &'static str,
        default: &'static str,
        doc: &'static str,
        slot: fn(&mut PathOptions) -> &mut u32,
    ) {
        if self.plain(key, default, doc, slot) == 0 {
            self.section.complain(key, "is 0, with which nothing would ever be sent");
        }
    }
}
