//! Users: their passwords, their sources, and how wrong passwords are slowed. Floor 2.
//! Hashing takes tens of milliseconds and megabytes: it is done off the workers' threads, a few at a
//! time, and a password that was right is remembered by a keyed digest, so that a session costs
//! microseconds.
//! Always: whether a user exists cannot be told from the answer or from its time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_lc_rs::rand::SystemRandom;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::source::SourceSet;

/// Passwords that are hashed at once.
const HASHED_AT_ONCE: usize = 2;
/// What a wrong password waits at least, and at most after many from one client.
const PENALTY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(8));
/// A client that has been quiet for so long starts anew.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);
/// Clients that are remembered for wrong passwords.
const REMEMBERED: usize = 10_000;

/// What a user must know.
#[derive(Clone)]
pub enum Secret {
    /// This password.
    Clear(String),
    /// The password of this Argon2 hash, as [`hash`] writes it.
    Hashed(String),
    /// Nothing helps: the user comes by a certificate only.
    None,
}

/// One user.
pub struct User {
    /// What it must know.
    pub secret: Secret,
    /// The sources it may use, which take turns if it names none; `None` is all.
    pub sources: Option<SourceSet>,
}

/// All users.
pub struct Users {
    by_name: HashMap<String, User>,
    /// Digests of passwords that were right, by the hash they were right for.
    known: Mutex<HashMap<String, hmac::Tag>>,
    key: hmac::Key,
    hashing: Arc<Semaphore>,
    /// A hash that no password fits, for users that do not exist.
    decoy: String,
}

impl Users {
    /// These users.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub fn new(users: HashMap<String, User>) -> Result<Self, String> {
        let key = hmac::Key::generate(HMAC_SHA256, &SystemRandom::new());
        let key = key.map_err(|_| "the system gives no random numbers".to_owned())?;
        let wants_decoy = users.values().any(|user| matches!(user.secret, Secret::Hashed(_)));
        let decoy = if wants_decoy { hash("")? } else { String::new() };
        let hashing = Arc::new(Semaphore::new(HASHED_AT_ONCE));
        Ok(Self { by_name: users, known: Mutex::default(), key, hashing, decoy })
    }

    /// A user.
    pub fn get(&self, name: &str) -> Option<&User> {
        self.by_name.get(name)
    }

    /// True if nobody can log in.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// True if somebody can log in by a password.
    pub fn have_passwords(&self) -> bool {
        self.by_name.values().any(|user| !matches!(user.secret, Secret::None))
    }

    /// A user that no password lets in.
    pub fn without_password(&self) -> Option<&str> {
        let first = self.by_name.iter().find(|(_, user)| matches!(user.secret, Secret::None));
        first.map(|(name, _)| name.as_str())
    }

    /// Takes a login name apart: the user, and the source behind a `+`, as in `mta1+192.0.2.7`.
    pub fn split<'n>(&self, login: &'n str) -> (&'n str, Option<IpAddr>) {
        if self.by_name.contains_key(login) {
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
        match self.by_name.get(name).map(|user| &user.secret) {
            Some(Secret::Clear(right)) => self.is_same(right, password),
            Some(Secret::Hashed(phc)) => self.fits(phc, password).await,
            Some(Secret::None) | None if self.decoy.is_empty() => false,
            Some(Secret::None) | None => {
                self.fits(&self.decoy, password).await;
                false
            }
        }
    }

    /// Compares in a time that does not depend on where they differ.
    fn is_same(&self, right: &str, given: &str) -> bool {
        let right = hmac::sign(&self.key, right.as_bytes());
        hmac::verify(&self.key, given.as_bytes(), right.as_ref()).is_ok()
    }

    async fn fits(&self, phc: &str, password: &str) -> bool {
        let known = self.known.lock().get(phc).copied();
        if known.is_some_and(|tag| hmac::verify(&self.key, password.as_bytes(), tag.as_ref()).is_ok()) {
            return true;
        }
        let Ok(_turn) = self.hashing.clone().acquire_owned().await else { return false };
        let (stored, given) = (phc.to_owned(), password.to_owned());
        let fits = tokio::task::spawn_blocking(move || {
            PasswordHash::new(&stored)
                .is_ok_and(|hash| Argon2::default().verify_password(given.as_bytes(), &hash).is_ok())
        });
        let fits = fits.await.unwrap_or(false);
        if fits && phc != self.decoy {
            self.known.lock().insert(phc.to_owned(), hmac::sign(&self.key, password.as_bytes()));
        }
        fits
    }
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.by_name.keys()).finish()
    }
}

/// Hashes a password: Argon2id with the parameters that OWASP recommends (19 MiB, two passes).
///
/// # Errors
/// If the password cannot be hashed.
pub fn hash(password: &str) -> Result<String, String> {
    let params = Params::new(19 * 1024, 2, 1, None).map_err(|error| error.to_string())?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let salt = SaltString::generate(&mut OsRng);
    argon2.hash_password(password.as_bytes(), &salt).map(|hash| hash.to_string()).map_err(|error| error.to_string())
}

/// Whether `text` is a hash that can be verified.
///
/// # Errors
/// What is wrong with it.
pub fn check_hash(text: &str) -> Result<(), String> {
    let hash = PasswordHash::new(text).map_err(|error| format!("no password hash: {error}"))?;
    match Algorithm::try_from(hash.algorithm) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("{} is not Argon2; make it with `egret-proxy user add`", hash.algorithm)),
    }
}

/// Clients that gave wrong passwords. Cheap to clone.
#[derive(Clone, Default)]
pub struct Penalties(Arc<Mutex<HashMap<IpAddr, (u32, Instant)>>>);

impl Penalties {
    /// A wrong password of `client`: how long its answer waits.
    pub fn wrong(&self, client: IpAddr, now: Instant) -> Duration {
        let mut clients = self.0.lock();
        if clients.len() >= REMEMBERED {
            clients.retain(|_, (_, last)| now.saturating_duration_since(*last) < FORGIVEN_AFTER);
            if clients.len() >= REMEMBERED {
                return PENALTY.1;
            }
        }
        let (count, last) = clients.entry(client).or_insert((0, now));
        if now.saturating_duration_since(*last) >= FORGIVEN_AFTER {
            *count = 0;
        }
        (*count, *last) = (count.saturating_add(1), now);
        PENALTY.0.saturating_mul(1 << (*count - 1).min(10)).min(PENALTY.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(secret: Secret) -> User {
        User { secret, sources: None }
    }

    #[tokio::test]
    async fn a_password_must_be_the_users_own_hashed_or_not() {
        let users = HashMap::from([
            ("clear".to_owned(), user(Secret::Clear("secret".to_owned()))),
            ("hashed".to_owned(), user(Secret::Hashed(hash("secret").expect("hashed")))),
            ("certificate".to_owned(), user(Secret::None)),
        ]);
        let users = Users::new(users).expect("random numbers");
        for name in ["clear", "hashed", "hashed", "certificate", "nobody"] {
            let exists = name == "clear" || name == "hashed";
            assert_eq!(users.verify(name, "secret").await, exists, "{name}");
            for wrong in ["secre", "secret1", "", "Secret"] {
                assert!(!users.verify(name, wrong).await, "{name} {wrong}");
            }
        }
        assert!(!users.verify("nobody", "").await, "the decoy is nobody's password");
    }

    #[test]
    fn a_login_may_carry_a_source() {
        let users = HashMap::from([("a+192.0.2.1".to_owned(), user(Secret::None))]);
        let users = Users::new(users).expect("random numbers");
        let ip = IpAddr::from([192, 0, 2, 7]);
        assert_eq!(users.split("a+192.0.2.7"), ("a", Some(ip)));
        assert_eq!(users.split("a+2001:db8::1"), ("a", Some("2001:db8::1".parse().expect("an address"))));
        assert_eq!(users.split("a+192.0.2.1"), ("a+192.0.2.1", None), "that is a user's own name");
        assert_eq!(users.split("a+b"), ("a+b", None));
    }

    #[test]
    fn wrong_passwords_wait_longer_and_longer_and_are_forgiven() {
        let (penalties, now) = (Penalties::default(), Instant::now());
        let client = IpAddr::from([10, 0, 0, 1]);
        let waits: Vec<_> = (0..8).map(|_| penalties.wrong(client, now).as_millis()).collect();
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 8000, 8000]);
        assert_eq!(penalties.wrong(IpAddr::from([10, 0, 0, 2]), now).as_millis(), 250);
        assert_eq!(penalties.wrong(client, now + FORGIVEN_AFTER).as_millis(), 250);
    }

    #[test]
    fn only_argon2_hashes_are_taken() {
        assert_eq!(check_hash(&hash("x").expect("hashed")), Ok(()));
        assert!(check_hash("secret").is_err());
        assert!(check_hash("$5$rounds=1000$salt$hash").is_err());
    }
}
