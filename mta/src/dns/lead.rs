//! Where a queue leads: to the hosts of its route, or to those that the DNS names.
//! Floor 3. Asks the DNS.

use std::sync::Arc;

use super::policed::Policed;
use super::resolver::{Failure, Resolved};
use super::site::Site;
use crate::message::{EnhancedCode, QueueName, Response};
use crate::routing::ways::Ways;
use crate::shaping::per_site::marked;

/// Finds the site of a queue. Mail whose route is not there waits: its operator has taken the route away, which is no
/// fault of the mail.
pub async fn lead(ways: &Ways, policed: &Policed, queue: &QueueName) -> Result<Resolved, Failure> {
    let unknown = |unknown: crate::routing::ways::UnknownRoute| Failure::Temporary {
        response: Response::own(451, EnhancedCode::new(4, 3, 5), &unknown.to_string()),
    };
    let (domain, route) = ways.lead(queue).map_err(unknown)?;
    match route {
        Some(route) if !route.hosts.is_empty() => policed.resolver().fixed_site(&route.hosts, route.protocol).await,
        Some(route) if route.options.is_some() => {
            let found = policed.site(domain).await?;
            let name = route.name.as_deref().unwrap_or_default();
            let site = Site { name: marked(&found.site.name, name), ..Site::clone(&found.site) };
            Ok(Resolved { site: Arc::new(site), ..found })
        }
        _ => policed.site(domain).await,
    }
}
