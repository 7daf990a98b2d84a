//! Users: their passwords and their sources. Floor 2.

use std::collections::HashMap;
use std::net::IpAddr;

use egret_shared::users::{Passwords, Secret};

use crate::source::SourceSet;

/// One user.
pub struct User {
    /// What it must know.
    pub secret: Secret,
    /// The sources it may use, which take turns if it names none; `None` is all.
    pub sources: Option<SourceSet>,
}

/// All users.
#[derive(Debug)]
pub struct Users {
    passwords: Passwords,
    /// The sources of those that have some of their own.
    sources: HashMap<String, SourceSet>,
}

impl Users {
    /// These users.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub fn new(users: HashMap<String, User>) -> Result<Self, String> {
        let (mut secrets, mut sources) = (HashMap::new(), HashMap::new());
        for (name, user) in users {
            if let Some(own) = user.sources {
                sources.insert(name.clone(), own);
            }
            secrets.insert(name, user.secret);
        }
        Ok(Self { passwords: Passwords::new(secrets)?, sources })
    }

    /// Whether there is such a user.
    pub fn has(&self, name: &str) -> bool {
        self.passwords.get(name).is_some()
    }

    /// The sources that a user may use; `None` is all.
    pub fn sources(&self, name: &str) -> Option<&SourceSet> {
        self.sources.get(name)
    }

    /// True if nobody can log in.
    pub fn is_empty(&self) -> bool {
        self.passwords.is_empty()
    }

    /// True if somebody can log in by a password.
    pub fn have_passwords(&self) -> bool {
        self.passwords.iter().any(|(_, secret)| !matches!(secret, Secret::None))
    }

    /// A user that no password lets in.
    pub fn without_password(&self) -> Option<&str> {
        self.passwords.iter().find(|(_, secret)| matches!(secret, Secret::None)).map(|(name, _)| name)
    }

    /// Takes a login name apart: the user, and the source behind a `+`, as in `mta1+192.0.2.7`.
    pub fn split<'n>(&self, login: &'n str) -> (&'n str, Option<IpAddr>) {
        if self.has(login) {
            return (login, None);
        }
        match login.rsplit_once('+') {
            Some((name, source)) => match source.parse() {
                Ok(ip) => (name, Some(ip)),
                Err(_) => (login, None),
            },
            None => (login, None),
        }
    }

    /// Whether `password` is that of `name`.
    pub async fn verify(&self, name: &str, password: &str) -> bool {
        self.passwords.verify(name, password).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_may_carry_a_source() {
        let users = HashMap::from([("a+192.0.2.1".to_owned(), User { secret: Secret::None, sources: None })]);
        let users = Users::new(users).expect("random numbers");
        let ip = IpAddr::from([192, 0, 2, 7]);
        assert_eq!(users.split("a+192.0.2.7"), ("a", Some(ip)));
        assert_eq!(users.split("a+2001:db8::1"), ("a", Some("2001:db8::1".parse().expect("an address"))));
        assert_eq!(users.split("a+192.0.2.1"), ("a+192.0.2.1", None), "that is a user's own name");
        assert_eq!(users.split("a+b"), ("a+b", None));
    }
}
