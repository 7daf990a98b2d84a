//! The counters of reception, made once and kept.
//! Floor 1. `docs/reference/mta-metrics.md` has their meanings.

use metrics::{Counter, Gauge, counter, gauge};

/// Reply codes that have a counter of their own; all others share `other`.
const CODES: [(u16, &str); 17] = [
    (421, "421"),
    (450, "450"),
    (451, "451"),
    (452, "452"),
    (454, "454"),
    (500, "500"),
    (501, "501"),
    (503, "503"),
    (504, "504"),
    (530, "530"),
    (535, "535"),
    (538, "538"),
    (550, "550"),
    (552, "552"),
    (553, "553"),
    (554, "554"),
    (555, "555"),
];

/// What became of credentials.
#[derive(Clone)]
pub(super) struct Logins {
    pub right: Counter,
    pub wrong: Counter,
    pub unasked: Counter,
}

/// The counters of reception. Cheap to clone.
#[derive(Clone)]
pub struct Meters {
    pub(super) sessions: Counter,
    pub(super) active: Gauge,
    pub(super) tls_sessions: Counter,
    pub(super) tls_failures: Counter,
    pub(super) accepted: Counter,
    pub(super) bytes: Counter,
    pub(super) smuggling: Counter,
    pub(super) logins: Logins,
    refused: [Counter; CODES.len()],
    refused_other: Counter,
}

impl Meters {
    /// The counters. Those made before the process has a recorder count nothing.
    pub fn new() -> Self {
        let refused = |code: &'static str| counter!("egret_mta_reception_refused_total", "code" => code);
        let logins = |result: &'static str| counter!("egret_mta_reception_auth_total", "result" => result);
        Self {
            sessions: counter!("egret_mta_reception_sessions_total"),
            active: gauge!("egret_mta_reception_sessions_active"),
            tls_sessions: counter!("egret_mta_reception_tls_sessions_total"),
            tls_failures: counter!("egret_mta_reception_tls_failures_total"),
            accepted: counter!("egret_mta_reception_messages_total"),
            bytes: counter!("egret_mta_reception_bytes_total"),
            smuggling: counter!("egret_mta_reception_smuggling_total"),
            logins: Logins { right: logins("ok"), wrong: logins("wrong"), unasked: logins("unasked") },
            refused: CODES.map(|(_, name)| refused(name)),
            refused_other: refused("other"),
        }
    }

    /// Counts a refusal.
    pub fn refused(&self, code: u16) {
        let place = CODES.iter().position(|(known, _)| *known == code);
        place.and_then(|at| self.refused.get(at)).unwrap_or(&self.refused_other).increment(1);
    }
}

impl Default for Meters {
    fn default() -> Self {
        Self::new()
    }
}
