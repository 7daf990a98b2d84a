//! Options of paths that orders set for a time. Floor 5.
//! Always: an option that cannot be set changes nothing, and was told when its order was given.

use std::sync::Arc;

use egret_shared::config::parse;
use tracing::error;

use super::path::{self, Form};
use crate::queue::control::words::{Control, ControlKind, Scope};
use crate::shaping::automation::rule::Setting;
use crate::shaping::options::PathOptions;

/// The orders in force that set options, the oldest first.
#[derive(Clone, Debug, Default)]
pub struct Overrides(Vec<(Scope, Setting)>);

impl Overrides {
    /// Those among `controls`.
    pub fn of(controls: &[Control]) -> Self {
        let set = controls.iter().filter(|control| control.kind == ControlKind::Set);
        let usable = |control: &&Control| {
            let Some(setting) = &control.setting else { return false };
            let set = set_option(setting, &PathOptions::default());
            if let Err(error) = &set {
                error!(control = %control.id, %setting, %error, "an order sets what no path has; it does nothing");
            }
            set.is_ok()
        };
        let each = |control: &Control| Some((control.scope.clone(), control.setting.clone()?));
        Self(set.filter(usable).filter_map(each).collect())
    }

    /// The options of a session from `source` to `site` that is opened for `domain`.
    pub fn apply(&self, source: &str, site: &str, domain: &str, options: &Arc<PathOptions>) -> Arc<PathOptions> {
        let mut options = options.clone();
        for (scope, setting) in &self.0 {
            let is_of_domain = scope.domain.as_deref().is_none_or(|wanted| wanted == domain);
            if is_of_domain
                && scope.fits_path(source, site)
                && let Ok(set) = set_option(setting, &options)
            {
                options = Arc::new(set);
            }
        }
        options
    }
}

/// The same options with one of them set.
///
/// # Errors
/// No path has that option, it takes no such value, or it cannot be set for a time.
pub(super) fn set_option(setting: &Setting, options: &PathOptions) -> Result<PathOptions, String> {
    let (text, mut set) = (format!("{} = {}\n", setting.name, setting.value), options.clone());
    let read = parse("", &text, |root| {
        // A rule may stand in a file of KumoMTA's format.
        path::read(root, Form::Kumo).apply(&mut set);
        Some(())
    });
    if let Err(complaints) = read {
        let what = complaints.0.into_iter().map(|complaint| complaint.message).collect::<Vec<_>>().join("; ");
        return Err(what);
    }
    let (old, new) = (&options.tls, &set.tls);
    let is_same = (old.own(), &old.rustls_cipher_suites, &old.tls_authorities)
        == (new.own(), &new.rustls_cipher_suites, &new.tls_authorities);
    if is_same { Ok(set) } else { Err("cannot be set for a time; set it in [delivery] or in a route".to_owned()) }
}

/// Whether it is a limit: those are of a path, whatever the domain of a session is.
pub(super) fn is_limit(setting: &Setting) -> bool {
    let options = PathOptions::default();
    // Who sets a limit makes other limits of those that are shared, also with the same value.
    set_option(setting, &options).is_ok_and(|set| !Arc::ptr_eq(&set.limits, &options.limits))
}

#[cfg(test)]
mod tests {
    use egret_shared::clock::UnixMs;

    use super::*;
    use crate::queue::control::words::By;

    fn control(scope: Scope, name: &str, value: &str) -> Control {
        let setting = Some(Setting { name: name.to_owned(), value: value.to_owned() });
        let (id, created, expires) = ("1a".parse().expect("an id"), UnixMs(1), UnixMs(2));
        let (kind, by) = (ControlKind::Set, By::Automation);
        Control { id, kind, scope, reason: String::new(), silent: false, created, expires, by, setting, relapses: 0 }
    }

    fn path(source: &str, site: Option<&str>, domain: Option<&str>) -> Scope {
        let text = |text: &str| Some(text.into());
        Scope { source: text(source), site: site.and_then(text), domain: domain.and_then(text), ..Scope::default() }
    }

    #[test]
    fn what_is_set_for_a_path_holds_there_and_the_last_one_wins() {
        let overrides = Overrides::of(&[
            control(path("s1", Some("mx.a.test"), None), "max_deliveries_per_connection", "5"),
            control(path("s1", Some("mx.a.test"), None), "max_deliveries_per_connection", "2"),
            control(path("s1", None, Some("b.test")), "max_message_rate", "\"10/min\""),
            control(path("s1", Some("mx.a.test"), None), "no_such_option", "1"),
        ]);
        let base = Arc::new(PathOptions::default());
        let of = |source, site, domain| overrides.apply(source, site, domain, &base);
        assert_eq!(of("s1", "mx.a.test", "a.test").max_deliveries_per_connection, 2);
        assert_eq!(of("s1", "mx.a.test", "a.test").limits.max_message_rate, None);
        assert!(of("s1", "mx.b.test", "b.test").limits.max_message_rate.is_some());
        assert!(Arc::ptr_eq(&of("s2", "mx.a.test", "a.test"), &base));
    }

    #[test]
    fn limits_are_known_as_such_whatever_their_value() {
        let is = |name: &str, value: &str| is_limit(&Setting { name: name.to_owned(), value: value.to_owned() });
        assert!(is("connection_limit", "32") && is("connection_limit", "1"));
        assert!(is("additional_connection_limits", "{ a = 1 }") && is("source_selection_rate", "\"1/min\""));
        assert!(is("max_message_rate", "\"1/min\"") && is("max_connection_rate", "\"1/min\""));
        assert!(is("consecutive_connection_failures_before_delay", "1"));
        assert!(!is("max_deliveries_per_connection", "1") && !is("enable_tls", "\"Disabled\""));
    }

    #[test]
    fn what_cannot_be_set_says_why() {
        let why = |name: &str, value: &str| {
            let setting = Setting { name: name.to_owned(), value: value.to_owned() };
            set_option(&setting, &PathOptions::default()).expect_err("refused")
        };
        assert!(why("max_mesage_rate", "1").contains("did you mean `max_message_rate`?"));
        assert!(why("max_message_rate", "\"fast\"").contains("is not a rate"));
    }
}
