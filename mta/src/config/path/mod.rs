//! The options of a path: each key replaces what stood before, so that the same reading serves a base
//! and what is said over it. Floor 5.

mod auth;
mod hosts;
mod limits;
mod smtp;
mod tls;

use std::sync::Arc;

use egret_shared::config::Section;

use crate::shaping::options::PathOptions;

/// Replaces in `options` what `section` holds.
pub(super) fn replace(section: &Section<'_>, options: &mut PathOptions) {
    limits::replace(section, Arc::make_mut(&mut options.limits));
    count(
        section,
        "max_deliveries_per_connection",
        "1024",
        "Messages that one session carries before it ends.",
        &mut options.max_deliveries_per_connection,
    );
    count(
        section,
        "max_recipients_per_batch",
        "100",
        "Recipients of one transaction; more are sent in further ones.",
        &mut options.max_recipients_per_batch,
    );
    hosts::replace(section, &mut options.hosts);
    smtp::replace(section, &mut options.smtp);
    tls::replace(section, &mut options.tls);
    auth::replace(section, &mut options.auth);
}

/// A number that must not be 0.
fn count(section: &Section<'_>, key: &'static str, default: &'static str, doc: &'static str, slot: &mut u32) {
    section.replace(key, default, doc, slot);
    if *slot == 0 {
        section.complain(key, "is 0, with which nothing would ever be sent");
        *slot = 1;
    }
}
