//! Something that a site has of its own, or from what holds for all. Plain data. Floor 0.
//! Always: what a route says holds for the site of its hosts; where it leaves the hosts to the DNS, the site has the
//! route's name behind a `!`, so that it is another site than that of other mail to the same hosts.

use std::collections::HashMap;
use std::sync::Arc;

/// One value for each site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PerSite<T> {
    all: T,
    sites: HashMap<Arc<str>, T>,
    routes: HashMap<Arc<str>, T>,
}

/// What stands before the domain or provider for whose mail alone a site is.
pub const SHAPED: &str = "!~";

/// The name of a site without the domain or provider for whose mail alone it is.
pub fn unshaped(site: &str) -> &str {
    site.split_once(SHAPED).map_or(site, |(site, _)| site)
}

/// Whether who names a site by `wanted` means this one: the site as such is that for all mail, whatever is said of some of it.
pub fn names_site(wanted: &str, site: &str) -> bool {
    wanted == site || wanted == unshaped(site)
}

/// The name of a site that the DNS gave for mail of a route with options of its own.
pub fn marked(site: &str, route: &str) -> Arc<str> {
    format!("{site}!{route}").into()
}

impl<T> PerSite<T> {
    /// This for all sites.
    pub fn of_all(all: T) -> Self {
        Self { all, sites: HashMap::new(), routes: HashMap::new() }
    }

    /// Another one for the site of this name.
    pub fn set_site(&mut self, site: Arc<str>, value: T) {
        self.sites.insert(site, value);
    }

    /// Another one for the sites that bear this route's name.
    pub fn set_route(&mut self, route: Arc<str>, value: T) {
        self.routes.insert(route, value);
    }

    /// That of a site.
    pub fn of(&self, site: &str) -> &T {
        let site = unshaped(site);
        let by_route = || self.routes.get(site.rsplit_once('!')?.1);
        self.sites.get(site).or_else(by_route).unwrap_or(&self.all)
    }

    /// All of them.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.all).chain(self.sites.values()).chain(self.routes.values())
    }

    /// The same with each value made into another.
    pub fn try_map<U, E>(&self, mut make: impl FnMut(&T) -> Result<U, E>) -> Result<PerSite<U>, E> {
        let mut each = |values: &HashMap<Arc<str>, T>| {
            values.iter().map(|(name, value)| Ok((name.clone(), make(value)?))).collect::<Result<HashMap<_, _>, E>>()
        };
        let (sites, routes) = (each(&self.sites)?, each(&self.routes)?);
        Ok(PerSite { all: make(&self.all)?, sites, routes })
    }
}

impl<T> From<T> for PerSite<T> {
    fn from(all: T) -> Self {
        Self::of_all(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_has_its_own_its_routes_or_that_of_all() {
        let mut values = PerSite::of_all(1);
        values.set_site("192.0.2.1:25".into(), 2);
        values.set_route("secure".into(), 3);
        for (site, value) in [
            ("mx.a.test", 1),
            ("192.0.2.1:25", 2),
            (&*marked("mx.a.test", "secure"), 3),
            ("a!b", 1),
            ("192.0.2.1:25!~b.test", 2),
            ("mx!secure!~b.test", 3),
        ] {
            assert_eq!(*values.of(site), value, "{site}");
        }
        let told = values.try_map(|n| Ok::<_, ()>(n * 10)).expect("made");
        assert_eq!((*told.of("x"), *told.of("x!secure")), (10, 30));
        assert_eq!(values.try_map(|n| if *n == 3 { Err(()) } else { Ok(*n) }), Err(()));
    }
}
