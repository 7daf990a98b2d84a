//! Who is served, and what may be dialed.
//! Pure. Floor 2.
//! Always: a [`Destination`] has passed the check; nothing else can be dialed.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use egret_shared::address::{Networks, special_use};
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

/// What may be dialed.
#[derive(Clone, Debug)]
pub struct Access {
    /// The ports.
    pub destination_ports: Vec<u16>,
    /// Networks of special use that may be dialed all the same.
    pub allow_special_destinations: Networks,
}

impl Access {
    /// Checks a destination.
    ///
    /// # Errors
    /// [`Reason::DestinationProhibited`], with the key that would allow it.
    pub fn check(&self, wanted: SocketAddr) -> Result<Destination, Fault> {
        let prohibited = |why: String| Err(Fault::new(Reason::DestinationProhibited, why));
        if !self.destination_ports.contains(&wanted.port()) {
            return prohibited(format!("{wanted}: port {} is not in access.destination_ports", wanted.port()));
        }
        match special_use(wanted.ip()) {
            Some(what) if !self.allow_special_destinations.contains(wanted.ip()) => {
                prohibited(format!("{wanted} is {what}, not in access.allow_special_destinations"))
            }
            _ => Ok(Destination(wanted)),
        }
    }
}

/// Users and their passwords.
#[derive(Clone, Default)]
pub struct Users(HashMap<String, String>);

impl Users {
    /// From names and passwords.
    pub fn new(users: HashMap<String, String>) -> Self {
        Self(users)
    }

    /// True if nobody can log in.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the password is the user's. Takes as long for a wrong one as for the right one.
    pub fn know(&self, username: &str, password: &str) -> bool {
        let stored = self.0.get(username);
        let right = stored.map_or("", String::as_str).as_bytes();
        let given = password.as_bytes();
        let differences = (0..given.len()).fold(right.len() ^ given.len(), |found, at| {
            found | usize::from(given[at] ^ right.get(at).copied().unwrap_or(!given[at]))
        });
        stored.is_some() && differences == 0
    }
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
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

    #[test]
    fn only_mail_ports_and_public_addresses_unless_allowed_by_name() {
        let mut access = Access { destination_ports: vec![25], allow_special_destinations: Networks::default() };
        let check = |access: &Access, to: &str| {
            access.check(to.parse().expect("an address")).map(|_| ()).map_err(|fault| fault.detail)
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
        access.allow_special_destinations = Networks::new(vec!["127.0.0.0/8".parse().expect("a network")]);
        assert_eq!(check(&access, "127.0.0.1:25"), Ok(()));
        assert!(check(&access, "10.0.0.1:25").is_err());
    }

    #[test]
    fn a_password_must_be_the_users_own() {
        let users = Users::new(HashMap::from([("u".to_owned(), "secret".to_owned())]));
        for (name, password, want) in [
            ("u", "secret", true),
            ("u", "secre", false),
            ("u", "secret1", false),
            ("u", "", false),
            ("v", "secret", false),
            ("v", "", false),
        ] {
            assert_eq!(users.know(name, password), want, "{name} {password}");
        }
    }
}
