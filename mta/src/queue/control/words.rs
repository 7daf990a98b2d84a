//! What an operator says of queues: which mail, and the orders that last. Plain data. Floor 1.
//! Always: an order has a [`Target`], and a target names something unless "everything" was said.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use egret_shared::clock::UnixMs;
use serde::{Deserialize, Serialize};

use crate::message::QueueName;
use crate::shaping::automation::rule::Setting;
use crate::shaping::per_site::names_site;

/// Which mail: all that is given must fit. An empty campaign, tenant or routing means mail that has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scope {
    /// Of this campaign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign: Option<Arc<str>>,
    /// Of this tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Arc<str>>,
    /// To this domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<Arc<str>>,
    /// Led by the route of this name, or to this domain's hosts, instead of by its own domain; an empty one means mail
    /// that is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routing: Option<Arc<str>>,
    /// From this source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Arc<str>>,
    /// To this site, by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<Arc<str>>,
}

impl Scope {
    /// Just the queue of this name.
    pub fn of_queue(name: &QueueName) -> Self {
        let text = |text: Option<&str>| Some(text.unwrap_or_default().into());
        Self {
            campaign: text(name.campaign()),
            tenant: text(name.tenant()),
            domain: text(Some(name.domain())),
            routing: text(name.routing()),
            ..Self::default()
        }
    }

    /// True if nothing is given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether campaign, tenant, domain and routing fit.
    pub fn fits_name(&self, name: &QueueName) -> bool {
        let is = |wanted: &Option<Arc<str>>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| wanted == found.unwrap_or_default())
        };
        is(&self.campaign, name.campaign())
            && is(&self.tenant, name.tenant())
            && is(&self.domain, Some(name.domain()))
            && is(&self.routing, name.routing())
    }

    /// Whether source and site fit.
    pub fn fits_path(&self, source: &str, site: &str) -> bool {
        self.source.as_deref().is_none_or(|s| s == source) && self.fits_site(Some(site))
    }

    /// Whether the site fits.
    pub fn fits_site(&self, site: Option<&str>) -> bool {
        self.site.as_deref().is_none_or(|wanted| site.is_some_and(|site| names_site(wanted, site)))
    }

    /// It names a source or a site: paths, not queues as such.
    pub fn is_of_path(&self) -> bool {
        self.source.is_some() || self.site.is_some()
    }

    /// Whether it means all that goes out from a source, and nothing less.
    pub fn is_all_of(&self, source: &str) -> bool {
        self.is_of_all_mail() && self.site.is_none() && self.source.as_deref().is_none_or(|wanted| wanted == source)
    }

    /// It tells no mail from other mail: it names paths at most.
    pub fn is_of_all_mail(&self) -> bool {
        [&self.campaign, &self.tenant, &self.domain, &self.routing].iter().all(|part| part.is_none())
    }

    /// Whether `other` says all that this one says, and perhaps more.
    pub fn covers(&self, other: &Self) -> bool {
        let within = |a: &Option<Arc<str>>, b: &Option<Arc<str>>| a.is_none() || a == b;
        within(&self.campaign, &other.campaign)
            && within(&self.tenant, &other.tenant)
            && within(&self.domain, &other.domain)
            && within(&self.routing, &other.routing)
            && within(&self.source, &other.source)
            && within(&self.site, &other.site)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            ("campaign", &self.campaign),
            ("tenant", &self.tenant),
            ("domain", &self.domain),
            ("routing", &self.routing),
            ("source", &self.source),
            ("site", &self.site),
        ];
        let given: Vec<String> =
            all.iter().filter_map(|(key, value)| value.as_ref().map(|value| format!("{key}={value}"))).collect();
        f.write_str(if given.is_empty() { "everything" } else { "" })?;
        f.write_str(&given.join(" "))
    }
}

/// What an order is about: a scope that names something, or everything, said in so many words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(Scope);

impl Target {
    /// A target for `verb`.
    ///
    /// # Errors
    /// If nothing is named and "everything" is not said, or both.
    pub fn new(scope: Scope, everything: bool, verb: &'static str) -> Result<Self, Refused> {
        match (scope.is_empty(), everything) {
            (true, false) => Err(Refused::NoScope(verb)),
            (false, true) => Err(Refused::TwoScopes(verb)),
            _ => Ok(Self(scope)),
        }
    }

    /// The scope; an empty one is everything.
    pub fn scope(&self) -> &Scope {
        &self.0
    }
}

/// Names an order. Later orders have higher ids, also after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ControlId(pub(super) u64);

impl fmt::Display for ControlId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl FromStr for ControlId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
        let read = plain.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        read.map(Self).ok_or_else(|| format!("{text:?} is not the id of a control; `controls` lists them"))
    }
}

impl Serialize for ControlId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ControlId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What a lasting order does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlKind {
    /// What matches does not go out.
    Suspend,
    /// What matches fails, also what comes.
    Bounce,
    /// Sessions of the paths have another option.
    Set,
}

/// Who gave an order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// A person, or a program of theirs.
    #[default]
    Operator,
    /// A rule over the answers of destinations.
    Automation,
}

/// An order that lasts until it expires or is taken back; kept over a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// Its id.
    pub id: ControlId,
    /// What it does.
    pub kind: ControlKind,
    /// To which mail.
    pub scope: Scope,
    /// Why, in the operator's words.
    pub reason: String,
    /// For a bounce: senders are not told.
    #[serde(default)]
    pub silent: bool,
    /// When it was given.
    pub created: UnixMs,
    /// When it ends by itself.
    pub expires: UnixMs,
    /// Who gave it.
    #[serde(default)]
    pub by: By,
    /// For a setting: which option, and its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setting: Option<Setting>,
    /// How many times in a row the path went wrong again on its way back from a suspension.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub relapses: u32,
}

impl Control {
    /// Whether `other` is the same order of automation, perhaps of another node, whatever its times.
    pub fn is_like(&self, other: &Self) -> bool {
        (self.by, self.kind, &self.scope, &self.setting) == (By::Automation, other.kind, &other.scope, &other.setting)
            && other.by == By::Automation
    }

    /// A name that orders have in common which are alike.
    pub fn common_name(&self) -> String {
        let setting = self.setting.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("{:?} {} {setting}", self.kind, self.scope).trim_end().to_owned()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What automation wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// What.
    pub kind: ControlKind,
    /// To which mail.
    pub scope: Scope,
    /// For a setting: which option, and its value.
    pub setting: Option<Setting>,
    /// The rule and the answer.
    pub reason: String,
    /// For how long.
    pub lasts: Duration,
    /// Its threshold is not reached: it counts only for a path that is on its way back from a suspension.
    pub is_weak: bool,
}

/// What became of an order of automation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is in force.
    New(Control),
    /// One like it was in force, and lasts longer now.
    Prolonged(Control),
    /// It was weak, and the path is not on its way back.
    Ignored,
}

/// Where mail is moved: what is given replaces that part of the queue's name, an empty campaign, tenant or routing
/// takes it away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Move {
    /// The campaign.
    pub campaign: Option<String>,
    /// The tenant.
    pub tenant: Option<String>,
    /// The domain that it is routed to, unless a routing leads it; recipients stay as they are.
    pub domain: Option<String>,
    /// The route or the domain that leads it.
    pub routing: Option<String>,
    /// The pool.
    pub pool: Option<Arc<str>>,
    /// Be due at once.
    pub requeue: bool,
}

impl Move {
    /// The name that a queue's mail has after the move.
    pub fn name(&self, old: &QueueName) -> QueueName {
        fn piece<'a>(new: Option<&'a str>, old: Option<&'a str>) -> Option<&'a str> {
            new.or(old).filter(|text| !text.is_empty())
        }
        let campaign = piece(self.campaign.as_deref(), old.campaign());
        let tenant = piece(self.tenant.as_deref(), old.tenant());
        let routing = piece(self.routing.as_deref(), old.routing());
        let domain = self.domain.as_deref().unwrap_or_else(|| old.domain());
        QueueName::new(campaign, tenant, domain).led_by(routing)
    }

    /// True if it moves nothing.
    pub fn is_empty(&self) -> bool {
        self.campaign.is_none()
            && self.tenant.is_none()
            && self.domain.is_none()
            && self.routing.is_none()
            && self.pool.is_none()
    }
}

/// Why an order is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nothing is named.
    #[error(
        "say what to {0}: a campaign, tenant, domain, routing, source or site; to mean everything, use --everything (in the API, \"everything\": true)"
    )]
    NoScope(&'static str),
    /// Something and everything.
    #[error("a scope and everything at once: say either what to {0}, or everything")]
    TwoScopes(&'static str),
    /// Only suspensions know paths.
    #[error("to {0} works on what waits, which has no source yet: leave out the source")]
    Source(&'static str),
    /// The site of what comes is not known when it comes.
    #[error("a bounce that lasts cannot name a site: name domains, or leave out how long it lasts")]
    LastingSite,
    /// The pool is not in the configuration.
    #[error("there is no pool {0:?} in the configuration; it has {1}")]
    UnknownPool(Arc<str>, String),
    /// No pool has the source.
    #[error("no pool has a source {0:?}; there are {1}")]
    UnknownSource(Arc<str>, String),
    /// Nothing would change.
    #[error("say where to: a campaign, tenant, domain, routing or pool")]
    NoMove,
    /// No control has that id.
    #[error("there is no control {0}; it may have ended, `controls` lists those that last")]
    Unknown(ControlId),
    /// No suspension is within that scope.
    #[error("nothing within {0} is suspended")]
    NothingSuspended(Scope),
    /// There is a limit, so that a loop in a script is noticed.
    #[error("there are {0} already, the most that there may be; end some first")]
    TooMany(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_fits_what_has_all_that_it_names() {
        let name = QueueName::new(Some("c"), Some("t"), "a.test");
        let scope = |tenant: Option<&str>, domain: Option<&str>| Scope {
            tenant: tenant.map(Into::into),
            domain: domain.map(Into::into),
            ..Scope::default()
        };
        assert!(scope(Some("t"), None).fits_name(&name) && scope(Some("t"), Some("a.test")).fits_name(&name));
        assert!(!scope(Some("t"), Some("b.test")).fits_name(&name) && !scope(Some(""), None).fits_name(&name));
        assert!(scope(Some(""), None).fits_name(&QueueName::of_domain("a.test")));
        assert!(
            scope(Some("t"), None).covers(&scope(Some("t"), Some("x")))
                && !scope(Some("t"), None).covers(&scope(None, None))
        );
        assert!(
            Scope::of_queue(&name).fits_name(&name)
                && !Scope::of_queue(&name).fits_name(&QueueName::new(None, Some("t"), "a.test"))
        );
        let led = name.clone().led_by(Some("relay"));
        assert!(scope(None, Some("a.test")).fits_name(&led) && !Scope::of_queue(&name).fits_name(&led));
        assert!(Scope::of_queue(&led).fits_name(&led) && !Scope::of_queue(&led).fits_name(&name));
        assert_eq!(scope(Some("t"), Some("x")).to_string(), "tenant=t domain=x");
    }

    #[test]
    fn nothing_and_everything_must_be_said() {
        assert_eq!(Target::new(Scope::default(), false, "bounce"), Err(Refused::NoScope("bounce")));
        assert!(Target::new(Scope::default(), true, "bounce").is_ok());
        let scope = Scope { domain: Some("x".into()), ..Scope::default() };
        assert_eq!(Target::new(scope, true, "bounce"), Err(Refused::TwoScopes("bounce")));
    }

    #[test]
    fn a_move_replaces_what_it_names() {
        let old = QueueName::new(Some("c"), Some("t"), "a.test");
        let to = Move { tenant: Some("u".into()), campaign: Some(String::new()), ..Move::default() };
        assert_eq!(to.name(&old).as_str(), "u@a.test");
        assert_eq!(Move::default().name(&old), old);
        let led = old.clone().led_by(Some("relay"));
        assert_eq!(Move::default().name(&led), led);
        let to = |routing: &str| Move { routing: Some(routing.to_owned()), ..Move::default() };
        assert_eq!((to("b.test").name(&led).as_str(), to("").name(&led)), ("c:t@a.test!b.test", old));
    }

    #[test]
    fn ids_survive_printing() {
        let id = ControlId(0x0019_aabb_ccdd);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("".parse::<ControlId>().is_err() && "+1".parse::<ControlId>().is_err());
    }
}
