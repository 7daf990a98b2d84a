//! Who is served, and what may be dialed from where.
//! Pure. Floor 2.
//! Always: a [`Destination`] has passed every check; nothing else can be dialed.

use std::net::{IpAddr, SocketAddr};

use egret_shared::address::{Networks, Range, special_use};
use egret_shared::fault::{Fault, Reason};

/// A destination that may be dialed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination(SocketAddr);

impl Destination {
    /// Its address and port.
    pub fn address(self) -> SocketAddr {
        self.0
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// The client's address.
    pub client: IpAddr,
    /// The user it has logged in as.
    pub user: Option<&'a str>,
}

/// One line of what is allowed; what is `None` or empty does not matter.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// Users.
    pub users: Vec<String>,
    /// Clients.
    pub client_networks: Option<Networks>,
    /// Sources.
    pub sources: Vec<Range>,
    /// Destinations.
    pub destination_networks: Option<Networks>,
    /// Ports of destinations.
    pub destination_ports: Vec<u16>,
}

impl Rule {
    fn is_for(&self, who: Who<'_>, source: IpAddr) -> bool {
        let user = self.users.is_empty() || who.user.is_some_and(|user| self.users.iter().any(|known| known == user));
        let client = self.client_networks.as_ref().is_none_or(|networks| networks.contains(who.client));
        user && client && (self.sources.is_empty() || self.sources.iter().any(|range| range.contains(source)))
    }

    fn reaches(&self, to: SocketAddr) -> bool {
        let network = self.destination_networks.as_ref().is_none_or(|networks| networks.contains(to.ip()));
        network && (self.destination_ports.is_empty() || self.destination_ports.contains(&to.port()))
    }
}

/// What may be dialed.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The ports.
    pub destination_ports: Vec<u16>,
    /// Networks of special use that may be dialed all the same.
    pub allow_special_destinations: Networks,
    /// With any rule, a session must fit at least one, beside the two keys above.
    pub rules: Vec<Rule>,
}

impl Access {
    /// Checks whether `who` may use `source` at all.
    ///
    /// # Errors
    /// [`Reason::SourceNotAllowed`].
    pub fn check_source(&self, who: Who<'_>, source: IpAddr) -> Result<(), Fault> {
        if self.rules.is_empty() || self.rules.iter().any(|rule| rule.is_for(who, source)) {
            return Ok(());
        }
        let user = who.user.map_or(String::new(), |user| format!(", user {user:?},"));
        let detail = format!("no access.rule lets client {}{user} use source {source}", who.client);
        Err(Fault::new(Reason::SourceNotAllowed, detail))
    }

    /// Checks a destination, dialed from `source` by `who`.
    ///
    /// # Errors
    /// [`Reason::DestinationProhibited`], with the key that would allow it.
    pub fn check(&self, who: Who<'_>, source: IpAddr, wanted: SocketAddr) -> Result<Destination, Fault> {
        self.check_source(who, source)?;
        let prohibited = |why: String| Err(Fault::new(Reason::DestinationProhibited, why));
        if !self.destination_ports.contains(&wanted.port()) {
            return prohibited(format!("{wanted}: port {} is not in access.destination_ports", wanted.port()));
        }
        if let Some(what) = special_use(wanted.ip())
            && !self.allow_special_destinations.contains(wanted.ip())
        {
            return prohibited(format!("{wanted} is {what}, not in access.allow_special_destinations"));
        }
        let fits = |rule: &Rule| rule.is_for(who, source) && rule.reaches(wanted);
        if !self.rules.is_empty() && !self.rules.iter().any(fits) {
            return prohibited(format!("no access.rule lets source {source} dial {wanted} for this client"));
        }
        Ok(Destination(wanted))
    }
}

/// Whether a client at `ip` is served.
///
/// # Errors
/// [`Reason::ClientDenied`].
pub fn admit(networks: &Networks, ip: IpAddr) -> Result<(), Fault> {
    if networks.contains(ip) {
        return Ok(());
    }
    Err(Fault::new(Reason::ClientDenied, format!("{} is not in listener.client_networks", ip.to_canonical())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: Who<'_> = Who { client: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), user: None };

    fn source() -> IpAddr {
        IpAddr::from([192, 0, 2, 1])
    }

    fn networks(text: &str) -> Networks {
        Networks::new(vec![text.parse().expect("a network")])
    }

    #[test]
    fn only_mail_ports_and_public_addresses_unless_allowed_by_name() {
        let mut access = Access { destination_ports: vec![25], ..Access::default() };
        let check = |access: &Access, to: &str| {
            let wanted = to.parse().expect("an address");
            access.check(NOBODY, source(), wanted).map(|_| ()).map_err(|fault| fault.detail)
        };
        assert_eq!(check(&access, "93.184.216.34:25"), Ok(()));
        for (to, key) in [
            ("93.184.216.34:80", "destination_ports"),
            ("127.0.0.1:25", "allow_special_destinations"),
            ("10.0.0.1:25", "allow_special_destinations"),
            ("169.254.169.254:25", "allow_special_destinations"),
            ("[::1]:25", "allow_special_destinations"),
            ("[::ffff:127.0.0.1]:25", "allow_special_destinations"),
        ] {
            assert!(check(&access, to).is_err_and(|why| why.contains(key)), "{to}");
        }
        access.allow_special_destinations = networks("127.0.0.0/8");
        assert_eq!(check(&access, "127.0.0.1:25"), Ok(()));
        assert!(check(&access, "10.0.0.1:25").is_err());
    }

    #[test]
    fn with_rules_a_session_must_fit_one_in_all_of_it() {
        let rule = Rule {
            users: vec!["a".to_owned()],
            client_networks: Some(networks("127.0.0.0/8")),
            sources: vec!["192.0.2.1-192.0.2.2".parse().expect("a range")],
            destination_networks: Some(networks("93.184.0.0/16")),
            destination_ports: vec![25],
        };
        let access = Access { destination_ports: vec![25, 587], rules: vec![rule], ..Access::default() };
        let user = Who { user: Some("a"), ..NOBODY };
        let check = |who, from: [u8; 4], to: &str| {
            let to = to.parse().expect("an address");
            access.check(who, from.into(), to).map(|_| ()).map_err(|fault| fault.reason)
        };
        assert_eq!(check(user, [192, 0, 2, 2], "93.184.216.34:25"), Ok(()));
        assert_eq!(check(NOBODY, [192, 0, 2, 2], "93.184.216.34:25"), Err(Reason::SourceNotAllowed));
        assert_eq!(check(user, [192, 0, 2, 3], "93.184.216.34:25"), Err(Reason::SourceNotAllowed));
        let elsewhere = Who { client: IpAddr::from([10, 0, 0, 1]), ..user };
        assert_eq!(check(elsewhere, [192, 0, 2, 2], "93.184.216.34:25"), Err(Reason::SourceNotAllowed));
        assert_eq!(check(user, [192, 0, 2, 2], "93.184.216.34:587"), Err(Reason::DestinationProhibited));
        assert_eq!(check(user, [192, 0, 2, 2], "8.8.8.8:25"), Err(Reason::DestinationProhibited));
    }
}
