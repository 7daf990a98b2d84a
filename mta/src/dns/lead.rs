//! Where a queue leads: to the hosts of its route, or to those that the DNS names.
//! Floor 3. Asks the DNS.

use std::sync::Arc;

use super::policed::Policed;
use super::resolver::{Failure, Resolved};
use super::site::Site;
use crate::message::{EnhancedCode, QueueName, Response};
use crate::routing::ways::Ways;
use crate::shaping::Shaper;
use crate::shaping::per_site::marked;

/// Finds the site of a queue. Mail whose route is not there waits: its operator has taken the route away, which is no
/// fault of the mail.
pub async fn lead(ways: &Ways, policed: &Policed, shaper: &Shaper, queue: &QueueName) -> Result<Resolved, Failure> {
    let unknown = |unknown: crate::routing::ways::UnknownRoute| Failure::Temporary {
        response: Response::own(451, EnhancedCode::new(4, 3, 5), &unknown.to_string()),
    };
    let (domain, route) = ways.lead(queue).map_err(unknown)?;
    let found = match route {
        Some(route) if !route.hosts.is_empty() => policed.resolver().fixed_site(&route.hosts, route.protocol).await?,
        _ => {
            let found = policed.site(domain).await?;
            shaper.learn(domain, Ok(&found.site.name));
            match route.filter(|route| route.options.is_some()) {
                Some(route) => {
                    let name = route.name.as_deref().unwrap_or_default();
                    renamed(marked(&found.site.name, name), found)
                }
                None => found,
            }
        }
    };
    match shaper.name_for(domain, &found.site) {
        Some(name) => Ok(renamed(name, found)),
        None => Ok(found),
    }
}

fn renamed(name: Arc<str>, found: Resolved) -> Resolved {
    let site = Site { name, ..Site::clone(&found.site) };
    Resolved { site: Arc::new(site), ..found }
}
