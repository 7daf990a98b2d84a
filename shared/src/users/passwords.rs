//! Passwords and whether one fits.
//! Hashing takes tens of milliseconds and megabytes: it is done off the workers' threads, a few at a
//! time, and a password that was right is remembered by a keyed digest, so that a login costs
//! microseconds.
//! Floor 1. Reads no clock.

use std::collections::HashMap;
use std::sync::Arc;

use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_lc_rs::rand::SystemRandom;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

/// Passwords that are hashed at once.
const HASHED_AT_ONCE: usize = 2;

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

/// The passwords of all users.
pub struct Passwords {
    by_name: HashMap<String, Secret>,
    /// Digests of passwords that were right, by the hash they were right for.
    known: Mutex<HashMap<String, hmac::Tag>>,
    key: hmac::Key,
    hashing: Arc<Semaphore>,
    /// The hash that is worked through for users that do not exist, whatever comes of it.
    decoy: Option<String>,
}

impl Passwords {
    /// Those of these users.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub fn new(by_name: HashMap<String, Secret>) -> Result<Self, String> {
        let key = hmac::Key::generate(HMAC_SHA256, &SystemRandom::new());
        let key = key.map_err(|_| "the system gives no random numbers".to_owned())?;
        let hash_of = |secret: &Secret| if let Secret::Hashed(phc) = secret { Some(phc.clone()) } else { None };
        // A user's own, so that it takes as long as those of users do.
        let decoy = by_name.values().filter_map(hash_of).min();
        let hashing = Arc::new(Semaphore::new(HASHED_AT_ONCE));
        Ok(Self { by_name, known: Mutex::default(), key, hashing, decoy })
    }

    /// What a user must know.
    pub fn get(&self, name: &str) -> Option<&Secret> {
        self.by_name.get(name)
    }

    /// All users.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.by_name.iter().map(|(name, secret)| (name.as_str(), secret))
    }

    /// True if nobody can log in.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Whether `password` is that of `name`.
    pub async fn verify(&self, name: &str, password: &str) -> bool {
        match (self.by_name.get(name), &self.decoy) {
            (Some(Secret::Clear(right)), _) => self.is_same(right, password),
            (Some(Secret::Hashed(phc)), _) => self.fits(phc, password).await,
            (Some(Secret::None) | None, None) => false,
            (Some(Secret::None) | None, Some(decoy)) => {
                self.hashes_to(decoy, password).await;
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
        let fits = self.hashes_to(phc, password).await;
        if fits {
            self.known.lock().insert(phc.to_owned(), hmac::sign(&self.key, password.as_bytes()));
        }
        fits
    }

    async fn hashes_to(&self, phc: &str, password: &str) -> bool {
        let Ok(turn) = self.hashing.clone().acquire_owned().await else { return false };
        let (stored, given) = (phc.to_owned(), password.to_owned());
        let fits = tokio::task::spawn_blocking(move || {
            // Kept to the end of the work, also when nobody waits for it any more.
            let _turn = turn;
            PasswordHash::new(&stored)
                .is_ok_and(|hash| Argon2::default().verify_password(given.as_bytes(), &hash).is_ok())
        });
        fits.await.unwrap_or(false)
    }
}

impl std::fmt::Debug for Passwords {
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
        Err(_) => Err(format!("{} is not Argon2; make it with the command `user add`", hash.algorithm)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_must_be_the_users_own_hashed_or_not() {
        let users = HashMap::from([
            ("clear".to_owned(), Secret::Clear("secret".to_owned())),
            ("hashed".to_owned(), Secret::Hashed(hash("secret").expect("hashed"))),
            ("certificate".to_owned(), Secret::None),
        ]);
        let users = Passwords::new(users).expect("random numbers");
        // "nobody" also gives the password whose hash is worked through for it, before and after it was remembered.
        for name in ["nobody", "clear", "hashed", "hashed", "certificate", "nobody"] {
            let exists = name == "clear" || name == "hashed";
            assert_eq!(users.verify(name, "secret").await, exists, "{name}");
            for wrong in ["secre", "secret1", "", "Secret"] {
                assert!(!users.verify(name, wrong).await, "{name} {wrong}");
            }
        }
    }

    #[test]
    fn only_argon2_hashes_are_taken() {
        assert_eq!(check_hash(&hash("x").expect("hashed")), Ok(()));
        assert!(check_hash("secret").is_err());
        assert!(check_hash("$5$rounds=1000$salt$hash").is_err());
    }
}
