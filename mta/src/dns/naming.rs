//! The name of the site that a set of hosts makes, as KumoMTA names it: `(alt1|alt2)?.gmail-smtp-in.l.google.com`.
//! Pure. Floor 1.
//! Always: two different sets of hosts have different names. Where KumoMTA's name would fit other sets, too, the hosts
//! are listed instead: who owns `a.test` and `b.example` must not get the mail of `a.example` and `b.test`.

use std::sync::Arc;

use super::exchanger::Exchanger;

/// The name of these hosts; give them as [`super::exchanger::choose`] does.
pub fn site_name(hosts: &[Exchanger]) -> Arc<str> {
    let names: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
    factored(&names).map_or_else(|| names.join(",").into(), Into::into)
}

/// The labels that the names have at one place, counted from the right.
#[derive(Default)]
struct Place<'n> {
    labels: Vec<&'n str>,
    /// Some names are shorter.
    is_optional: bool,
}

impl Place<'_> {
    fn varies(&self) -> bool {
        self.is_optional || self.labels.len() > 1
    }

    fn text(&self) -> String {
        let mark = if self.is_optional { "?" } else { "" };
        match self.labels.as_slice() {
            [one] => format!("{one}{mark}"),
            several => format!("({}){mark}", several.join("|")),
        }
    }
}

/// What the names have in common said once; `None` if that would stand for other sets, too.
fn factored(names: &[&str]) -> Option<String> {
    let length = |name: &&str| name.split('.').count();
    let mut places = Vec::new();
    places.resize_with(names.iter().map(length).max()?, Place::default);
    for name in names {
        let mut labels = name.rsplit('.');
        for place in &mut places {
            match labels.next() {
                Some(label) if !place.labels.contains(&label) => place.labels.push(label),
                Some(_) => {}
                None => place.is_optional = true,
            }
        }
    }
    if places.iter().filter(|place| place.varies()).count() > 1 {
        return None;
    }
    Some(places.iter().rev().map(Place::text).collect::<Vec<_>>().join("."))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn name(hosts: &[&str]) -> String {
        let hosts: Vec<_> = hosts.iter().map(|name| Exchanger { preference: 1, name: (*name).to_owned() }).collect();
        site_name(&hosts).to_string()
    }

    #[test]
    fn sites_have_the_names_that_kumomta_gives_them() {
        let google = [
            "gmail-smtp-in.l.google.com",
            "alt1.gmail-smtp-in.l.google.com",
            "alt2.gmail-smtp-in.l.google.com",
            "alt3.gmail-smtp-in.l.google.com",
            "alt4.gmail-smtp-in.l.google.com",
        ];
        for (hosts, want) in [
            (&google[..], "(alt1|alt2|alt3|alt4)?.gmail-smtp-in.l.google.com"),
            (
                &["mta5.am0.yahoodns.net", "mta6.am0.yahoodns.net", "mta7.am0.yahoodns.net"],
                "(mta5|mta6|mta7).am0.yahoodns.net",
            ),
            (&["mx.test"], "mx.test"),
            (&["x.example.com", "x.example.net"], "x.example.(com|net)"),
        ] {
            assert_eq!(name(hosts), want);
        }
    }

    #[test]
    fn a_name_that_would_fit_other_hosts_is_not_given() {
        assert_eq!(name(&["a.example", "b.test"]), "a.example,b.test");
        assert_eq!(name(&["a.b.test", "test"]), "a.b.test,test");
    }

    proptest! {
        #[test]
        fn different_hosts_have_different_names(
            one in proptest::collection::btree_set("([ab]\\.)?[cd]\\.(e|f)", 1..4),
            two in proptest::collection::btree_set("([ab]\\.)?[cd]\\.(e|f)", 1..4),
        ) {
            let named = |set: &BTreeSet<String>| name(&set.iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert_eq!(named(&one) == named(&two), one == two);
        }
    }
}
