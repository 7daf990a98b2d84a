//! The name of a scheduled queue, and where it leads.
//! Pure. Floor 0.
//! Always: a name has one reading: `@` stands once, `!` not before it, and what stands behind `!` is a route if it
//! has no dot, else a domain or an address literal.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The name of a scheduled queue: `campaign:tenant@domain!routing`, all but the domain optional.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QueueName(Arc<str>);

/// Where the mail of a queue is led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leads<'a> {
    /// To where this domain's mail goes.
    Domain(&'a str),
    /// By the route of this name.
    Route(&'a str),
}

impl QueueName {
    /// The queue of a domain (canonical: lower case, A-labels) with no tenant and no campaign.
    pub fn of_domain(domain: &str) -> Self {
        Self(format!("@{domain}").into())
    }

    /// The queue of a domain (canonical), with the tenant and the campaign that its mail is for. Characters
    /// that would make the name ambiguous (`:`, `@`, `!`, and all that is no graphic ASCII) become `_`; letters become
    /// lower case, so that `Acme` and `acme` are one tenant.
    pub fn new(campaign: Option<&str>, tenant: Option<&str>, domain: &str) -> Self {
        let tenant = tenant.map(|text| plain(text, ":@!")).unwrap_or_default();
        match campaign.map(|text| plain(text, ":@!")) {
            Some(campaign) => Self(format!("{campaign}:{tenant}@{domain}").into()),
            None => Self(format!("{tenant}@{domain}").into()),
        }
    }

    /// The same queue, but led by a route's name or another domain (canonical); by its own domain if there is none.
    #[must_use]
    pub fn led_by(self, routing: Option<&str>) -> Self {
        let own = self.0.rsplit_once('!').map_or(&*self.0, |(own, _)| own);
        match routing {
            Some(routing) => Self(format!("{own}!{}", plain(routing, "@!")).into()),
            None if own.len() == self.0.len() => self,
            None => Self(own.into()),
        }
    }

    /// The campaign, if its name holds one.
    pub fn campaign(&self) -> Option<&str> {
        let (before, _) = self.0.rsplit_once('@')?;
        before.split_once(':').map(|(campaign, _)| campaign)
    }

    /// The tenant, if its name holds one.
    pub fn tenant(&self) -> Option<&str> {
        let (before, _) = self.0.rsplit_once('@')?;
        let tenant = before.split_once(':').map_or(before, |(_, tenant)| tenant);
        (!tenant.is_empty()).then_some(tenant)
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The domain part: that of the recipients.
    pub fn domain(&self) -> &str {
        let behind = self.0.rsplit_once('@').map_or(&*self.0, |(_, behind)| behind);
        behind.split_once('!').map_or(behind, |(domain, _)| domain)
    }

    /// The route or the domain that leads it instead of its own domain.
    pub fn routing(&self) -> Option<&str> {
        let behind = self.0.rsplit_once('@').map_or(&*self.0, |(_, behind)| behind);
        behind.split_once('!').map(|(_, routing)| routing)
    }

    /// Where its mail is led.
    pub fn leads(&self) -> Leads<'_> {
        match self.routing() {
            None => Leads::Domain(self.domain()),
            Some(routing) if is_domain(routing) => Leads::Domain(routing),
            Some(routing) => Leads::Route(routing),
        }
    }
}

/// Whether what stands behind `!` is a domain or an address literal; otherwise it is a route's name.
pub fn is_domain(routing: &str) -> bool {
    routing.contains('.') || routing.starts_with('[')
}

fn plain(text: &str, separators: &str) -> String {
    let fits = |c: char| c.is_ascii_graphic() && !separators.contains(c);
    text.chars().map(|c| if fits(c) { c.to_ascii_lowercase() } else { '_' }).collect()
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_queue_name_holds_campaign_tenant_and_domain_without_doubt() {
        let pieces = |campaign, tenant| {
            let name = QueueName::new(campaign, tenant, "a.test");
            let owned = |piece: Option<&str>| piece.map(str::to_owned);
            (name.to_string(), owned(name.campaign()), owned(name.tenant()), name.domain().to_owned())
        };
        let some = |text: &str| Some(text.to_owned());
        let domain = || "a.test".to_owned();
        assert_eq!(pieces(None, None), ("@a.test".into(), None, None, domain()));
        assert_eq!(pieces(None, Some("t")), ("t@a.test".into(), None, some("t"), domain()));
        assert_eq!(pieces(Some("c"), None), ("c:@a.test".into(), some("c"), None, domain()));
        assert_eq!(pieces(Some("c"), Some("t")), ("c:t@a.test".into(), some("c"), some("t"), domain()));
        assert_eq!(pieces(Some("C"), Some("Acme")), ("c:acme@a.test".into(), some("c"), some("acme"), domain()));
        assert_eq!(pieces(Some("c@:"), Some("t\n!x")), ("c__:t__x@a.test".into(), some("c__"), some("t__x"), domain()));
    }

    #[test]
    fn what_stands_behind_the_mark_leads() {
        let name = |routing| QueueName::new(Some("c"), None, "a.test").led_by(routing);
        for (routing, text, leads) in [
            (None, "c:@a.test", Leads::Domain("a.test")),
            (Some("Relay"), "c:@a.test!relay", Leads::Route("relay")),
            (Some("b.test"), "c:@a.test!b.test", Leads::Domain("b.test")),
            (Some("[IPv6:::1]"), "c:@a.test![ipv6:::1]", Leads::Domain("[ipv6:::1]")),
        ] {
            let name = name(routing);
            assert_eq!((name.as_str(), name.leads(), name.domain()), (text, leads, "a.test"));
            assert_eq!(name.led_by(None).as_str(), "c:@a.test", "the mark can be taken away");
        }
        assert_eq!(name(Some("x")).led_by(Some("y")).as_str(), "c:@a.test!y", "there is one");
    }

    proptest! {
        #[test]
        fn a_name_is_read_as_it_was_made(
            campaign in prop::option::of("[a-z!:@ ]{1,6}"), tenant in prop::option::of("[a-z!:@ ]{1,6}"),
            domain in "[a-z]{1,5}\\.test", routing in prop::option::of("[a-z@!.-]{1,8}"),
        ) {
            let clean = |text: &Option<String>, bad: &str| {
                text.as_ref().map(|text| text.replace(|c| bad.contains(c), "_"))
            };
            let name = QueueName::new(campaign.as_deref(), tenant.as_deref(), &domain).led_by(routing.as_deref());
            prop_assert_eq!(name.campaign().map(str::to_owned), clean(&campaign, ":@! "));
            prop_assert_eq!(name.tenant().map(str::to_owned), clean(&tenant, ":@! "));
            prop_assert_eq!(name.routing().map(str::to_owned), clean(&routing, "@!"));
            prop_assert_eq!(name.domain(), &domain);
        }
    }
}
