//! Whether and how TLS is used towards the destination. Floor 5.

use egret_shared::config::Section;

use crate::shaping::options::{Tls, TlsOptions};

egret_shared::config_value_from_str!(Tls => "a use of TLS");

pub(super) fn replace(section: &Section<'_>, options: &mut TlsOptions) {
    section.replace(
        "enable_tls",
        "\"OpportunisticInsecure\"",
        "\"OpportunisticInsecure\" (STARTTLS where it is offered, any certificate), \"Opportunistic\" (where it is offered, with a valid certificate), \"Required\" (with a valid certificate or no delivery), \"RequiredInsecure\" (any certificate or no delivery), \"Disabled\".",
        &mut options.enable_tls,
    );
    section.replace(
        "opportunistic_tls_reconnect_on_failed_handshake",
        "true",
        "Whether a handshake that failed is followed by a second connection to the same address, in clear; not where TLS is required.",
        &mut options.opportunistic_tls_reconnect_on_failed_handshake,
    );
}
