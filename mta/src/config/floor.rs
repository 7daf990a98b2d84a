//! `[[floor]]`: parts of limits that are kept for tenants and priorities. Floor 5.
//! Always: what is kept of a limit that is known by its name leaves something for other mail.

use std::collections::BTreeMap;
use std::sync::Arc;

use egret_shared::config::Section;
use egret_shared::limits::{Count, Throttle};

use super::spelling::told;
use crate::message::{Priority, QueueName};
use crate::queue::floors::{Amount, Floor, Share, Whose, too_fast, too_many};
use crate::routing::label::Label;
use crate::routing::matcher::TextPattern;
use crate::shaping::blocks::Shaping;
use crate::shaping::options::PathOptions;
use crate::shaping::patch::Patch;

egret_shared::config_value_from_str!(Share => "a part of a limit");

/// With what the names of limits begin that nobody has named: those of a path, and of a provider from a source.
const UNNAMED: [&str; 3] = ["connection_limit ", "max_message_rate ", "shaping-provider-"];

/// The limits that bear names.
#[derive(Debug, Default)]
pub(super) struct Named {
    sessions: BTreeMap<Arc<str>, Count>,
    rates: BTreeMap<Arc<str>, Throttle>,
    /// Providers with limits of their own, which bear names made of theirs.
    providers: Vec<Arc<str>>,
}

impl Named {
    /// Those of `patches` and of what `shaping` says. Of one that is said twice the lower counts.
    pub fn of<'p>(patches: impl Iterator<Item = &'p Patch>, shaping: Option<&'p Shaping>) -> Self {
        let mut named = Self::default();
        for patch in patches.chain(shaping.into_iter().flat_map(Shaping::patches)) {
            let limits = patch.over(&PathOptions::default()).limits;
            for (name, limit) in &limits.additional_connection_limits {
                let known = named.sessions.entry(name.clone()).or_insert(*limit);
                known.count = known.count.min(limit.count);
            }
            named.rates.extend(limits.additional_message_rate_throttles.clone());
        }
        let providers = shaping.into_iter().flat_map(|shaping| &shaping.providers);
        let limited = providers.filter(|one| {
            one.blocks.iter().any(|block| block.connection_limit.is_some() || block.message_rate.is_some())
        });
        named.providers = limited.map(|provider| provider.name.clone()).collect();
        named
    }

    fn has(&self, limit: &TextPattern) -> bool {
        self.sessions.keys().chain(self.rates.keys()).any(|name| limit.fits(name))
    }

    fn names(&self, wanted: &str) -> String {
        let mut names: Vec<&str> = self.sessions.keys().chain(self.rates.keys()).map(|name| &**name).collect();
        names.sort_unstable();
        names.dedup();
        told(wanted, names.into_iter()).unwrap_or_else(|| {
            "there is none; add additional_connection_limits to a provider of the shaping files".to_owned()
        })
    }

    /// Whether a pattern may be for limits that nobody has named. Only what stands before its first wildcard tells.
    fn may_be_unnamed(&self, pattern: &str) -> bool {
        if pattern.starts_with('/') {
            return true;
        }
        let begin = pattern.split(['*', '?']).next().unwrap_or_default().to_ascii_lowercase();
        let is_begin_of = |one: &str| one.starts_with(&*begin) || begin.starts_with(one);
        let [of_paths @ .., of_providers] = UNNAMED;
        let mut providers = self.providers.iter().map(|name| format!("{of_providers}{}-", name.to_ascii_lowercase()));
        of_paths.into_iter().any(is_begin_of) || providers.any(|own| is_begin_of(&own))
    }
}

/// All floors, in the order of the file. Without the names of all limits none is judged.
pub(super) fn build(root: &Section<'_>, named: Option<&Named>) -> Arc<[Floor]> {
    let mut floors = Vec::new();
    for section in root.repeated("floor") {
        let Some(floor) = floor(&section) else { continue };
        let same =
            |earlier: &Floor| earlier.limit.to_string() == floor.limit.to_string() && earlier.whose == floor.whose;
        if floors.iter().any(same) {
            section.complain("limit", format!("keeps something of {} for {} a second time", floor.limit, floor.whose));
            continue;
        }
        floors.push(floor);
        if let Some(named) = named {
            check(&section, named, &floors);
        }
    }
    floors.into()
}

fn floor(section: &Section<'_>) -> Option<Floor> {
    let limit = section.required::<TextPattern>(
        "limit",
        "The limit of which a part is kept, by its name: one of additional_connection_limits or additional_message_rate_throttles; `connection_limit SOURCE->SITE` or `max_message_rate SOURCE->SITE`, a path's own; `shaping-provider-NAME-SOURCE-limit` or `…-rate`, a provider's. With `*` and `?` it is for all that fit.",
    );
    let tenant = section.optional::<Label>("tenant", "The tenant for whose mail it is kept. Either this or priority.");
    let priority = section.optional::<Priority>(
        "priority",
        "The priority of the mail for which it is kept: \"high\", \"normal\" or \"low\".",
    );
    let share = section.optional::<Share>(
        "share",
        "How much of the limit is kept, like \"10%\"; of sessions at least one. Either this or count.",
    );
    let count = section.optional::<u32>("count", "How many sessions are kept. Of rates nothing is, then.");
    if count == Some(0) {
        section.complain("count", "is 0, and keeps nothing; remove the floor, or write how many sessions it keeps");
    }
    let whose =
        one_of(section, ["tenant", "priority"], "for whose mail it is kept", [tenant.is_some(), priority.is_some()]);
    let amount = one_of(section, ["share", "count"], "how much is kept", [share.is_some(), count.is_some()]);
    if !whose || !amount {
        return None;
    }
    let tenant = tenant.and_then(|name| QueueName::new(None, Some(name.as_str()), "").tenant().map(Arc::from));
    let whose = tenant.map(Whose::Tenant).or(priority.map(Whose::Priority))?;
    let amount = share.map(Amount::Share).or(count.map(Amount::Count))?;
    Some(Floor { limit: limit?, whose, amount, place: section.place().into() })
}

/// Whether exactly one of two keys is there, with a value that was read.
fn one_of(section: &Section<'_>, keys: [&'static str; 2], what: &str, read: [bool; 2]) -> bool {
    let [first, second] = keys;
    match (section.holds(first), section.holds(second)) {
        (false, false) => section.complain(first, format!("is missing, and {second} too: one of them says {what}")),
        (true, true) => {
            section.complain(second, format!("stands beside {first}: only one of them says {what}; write two floors"));
        }
        _ => return read.contains(&true),
    }
    false
}

/// Whether it is one name, such as that of one limit.
pub(super) fn is_name(limit: &TextPattern) -> bool {
    !limit.to_string().contains(['*', '?', '/'])
}

/// What the last of some floors does to limits that are known by name.
fn check(section: &Section<'_>, named: &Named, floors: &[Floor]) {
    let Some(Floor { limit, amount, .. }) = floors.last() else { return };
    let pattern = limit.to_string();
    let names_one = is_name(limit);
    if !named.has(limit) && !named.may_be_unnamed(&pattern) {
        let what = if names_one { "no limit bears that name" } else { "no limit fits it" };
        section.complain("limit", format!("names {pattern:?}, and {what}; {}", named.names(&pattern)));
        return;
    }
    let key = if matches!(amount, Amount::Count(_)) { "count" } else { "share" };
    let is_rate_only = |name: &Arc<str>| limit.fits(name) && !named.sessions.contains_key(name);
    if key == "count" && names_one && named.rates.keys().any(is_rate_only) {
        section.complain(
            key,
            format!("is a number of sessions, and {pattern:?} is a rate of messages; write share = \"10%\""),
        );
    }
    // One pattern may be for large and small limits: of those that no floor names it keeps what leaves a place for others.
    let is_named = |name: &str| floors.iter().any(|floor| is_name(&floor.limit) && floor.limit.fits(name));
    let many = named.sessions.iter().filter(|(name, _)| limit.fits(name) && is_named(name));
    let many = many.filter_map(|(name, most)| too_many(name, *most, floors));
    let fast = named.rates.keys().filter(|name| limit.fits(name) && key == "share");
    if let Some(why) = many.chain(fast.filter_map(|name| too_fast(name, floors))).next() {
        section.complain(key, why);
    }
}

#[cfg(test)]
mod tests {
    use egret_shared::config::{Complaints, parse};

    use super::super::path::Form;
    use super::*;

    /// The lines of floors, behind limits that are called `google`, `small` and `pace`.
    fn read(text: &str) -> Result<Arc<[Floor]>, Complaints> {
        let limits = "additional_connection_limits = { google = 20, small = 2 }\n\
                      additional_message_rate_throttles = { google = \"10/s\", pace = \"10/s\" }\n";
        let whole = format!("{limits}{text}");
        parse("mta.toml", &whole, |root| {
            let patch = super::super::path::read(root, Form::Own);
            Some(build(root, Some(&Named::of(std::iter::once(&patch), None))))
        })
    }

    #[test]
    fn a_floor_is_for_a_tenant_or_a_priority_by_a_share_or_a_count() {
        let text = "[[floor]]\nlimit = \"google\"\ntenant = \"ACME\"\nshare = \"10%\"\n\
                    [[floor]]\nlimit = \"*\"\npriority = \"high\"\ncount = 1\n";
        let floors = read(text).expect("good");
        let told: Vec<_> = floors.iter().map(|f| format!("{} {} {} {}", f.limit, f.whose, f.amount, f.place)).collect();
        assert_eq!(told, ["google tenant acme 10% mta.toml:3", "* priority high 1 mta.toml:7"]);
    }

    #[test]
    fn what_could_not_be_kept_is_told_where_it_stands_and_what_to_do() {
        let good = "[[floor]]\nlimit = \"google\"\ntenant = \"a\"\nshare = \"10%\"\n";
        let more = |keys: &str| format!("{good}[[floor]]\nlimit = \"google\"\n{keys}\n");
        for (text, want) in [
            (
                good.replace("\"google\"", "\"gogle\""),
                "mta.toml:4: floor.limit: names \"gogle\", and no limit bears that name; did you mean \"google\"? known: google, pace, small",
            ),
            (
                good.replace("\"google\"", "\"gogle*\""),
                "mta.toml:4: floor.limit: names \"gogle*\", and no limit fits it; did you mean \"google\"?",
            ),
            (
                good.replace("\"google\"", "\"shaping-provider-x*\""),
                "mta.toml:4: floor.limit: names \"shaping-provider-x*\", and no limit fits it; known: google, pace, small",
            ),
            (
                good.replace("\"10%\"", "\"10\""),
                "mta.toml:6: floor.share: \"10\" is not a part of a limit: write a part like \"10%\"",
            ),
            (
                good.replace("tenant = \"a\"\n", ""),
                "mta.toml:3: floor.tenant: is missing, and priority too: one of them says for whose mail it is kept",
            ),
            (
                format!("{good}priority = \"high\"\n"),
                "mta.toml:7: floor.priority: stands beside tenant: only one of them says for whose mail it is kept; write two floors",
            ),
            (format!("{good}count = 3\n"), "mta.toml:7: floor.count: stands beside share"),
            (good.replace("share = \"10%\"", "count = 0"), "mta.toml:6: floor.count: is 0, and keeps nothing"),
            (
                good.replace("share = \"10%\"", "count = 20"),
                "mta.toml:6: floor.count: would keep 20 of the 20 sessions of \"google\"",
            ),
            (
                more("priority = \"high\"\ncount = 18"),
                "mta.toml:10: floor.count: would keep 20 of the 20 sessions of \"google\" together with the floors before it",
            ),
            (
                more("priority = \"high\"\nshare = \"90%\""),
                "mta.toml:10: floor.share: would keep 20 of the 20 sessions",
            ),
            (
                more("tenant = \"a\"\nshare = \"1%\""),
                "mta.toml:8: floor.limit: keeps something of google for tenant a a second time",
            ),
            (
                good.replace("\"google\"", "\"pace\"").replace("share = \"10%\"", "count = 2"),
                "mta.toml:6: floor.count: is a number of sessions, and \"pace\" is a rate of messages; write share",
            ),
            (good.replace("tenant", "tennant"), "mta.toml:5: floor.tennant: unknown key; did you mean `tenant`?"),
        ] {
            let told = read(&text).map(|_| ()).expect_err("wrong").to_string();
            assert!(told.lines().any(|line| line.starts_with(want)), "{want}\nis not told by\n{told}");
        }
        for unnamed in ["connection_limit *", "c*", "*", "?oogle", "/^x/"] {
            assert!(read(&good.replace("google", unnamed)).is_ok(), "{unnamed}");
        }
        let fast = good.replace("\"google\"", "\"pa*\"")
            + &good.replace("\"google\"", "\"pace\"").replace("\"a\"", "\"b\"").replace("10%", "90%");
        assert!(read(&fast).is_err_and(|told| told.to_string().contains("would keep 100% of the rate \"pace\"")));
        let both = good.to_owned()
            + &good
                .replace("\"google\"", "\"goo*\"")
                .replace("\"a\"", "\"b\"")
                .replace("share = \"10%\"", "count = 18");
        assert!(read(&both).is_err_and(|told| told.to_string().starts_with("mta.toml:10: floor.count: would keep 20")));
        let wide = good.replace("\"google\"", "\"*\"").replace("share = \"10%\"", "count = 5");
        assert!(read(&wide).is_ok(), "of a small limit a pattern keeps what leaves a place");
    }
}
