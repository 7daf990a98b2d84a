//! What the limits of a message's path keep for tenants and priorities. Floor 6.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::dns::site::Site;
use crate::message::Part;
use crate::queue::floors::{Divided, Floor, divide_count, divide_rate};
use crate::shaping::Shaper;

/// What is kept, of each limit once.
pub(super) fn of(floors: &[Floor], shaper: &Shaper, sources: &[Arc<str>], site: &Site, part: &Part) -> Vec<Value> {
    let mut told = Vec::new();
    if floors.is_empty() {
        return told;
    }
    for source in sources {
        let limits = shaper.effective(source, site).options.limits.clone();
        let own = |kind: &str| Arc::from(format!("{kind} {source}->{}", site.name));
        let sessions = limits.additional_connection_limits.iter().map(|(name, limit)| (name.clone(), *limit));
        for (name, limit) in std::iter::once((own("connection_limit"), limits.connection_limit)).chain(sessions) {
            tell(&divide_count(&name, limit, floors), floors, part, &mut told);
        }
        let rates = limits.additional_message_rate_throttles.iter().map(|(name, rate)| (name.clone(), *rate));
        for (name, rate) in limits.max_message_rate.map(|rate| (own("max_message_rate"), rate)).into_iter().chain(rates)
        {
            tell(&divide_rate(&name, rate, floors), floors, part, &mut told);
        }
    }
    told
}

fn tell<T: ToString>(divided: &Divided<T>, floors: &[Floor], part: &Part, told: &mut Vec<Value>) {
    for (whose, _, kept) in &divided.kept {
        let floor = floors.iter().find(|floor| floor.limit.fits(&divided.name) && floor.whose == *whose);
        let one = json!({
            "limit": divided.name,
            "of": divided.whole.to_string(),
            "part": kept.to_string(),
            "for": whose.to_string(),
            "is_its": whose.fits(part.priority, part.queue.tenant().unwrap_or_default()),
            "by": floor.map(|floor| &*floor.place),
        });
        if !told.contains(&one) {
            told.push(one);
        }
    }
}
