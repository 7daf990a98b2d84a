//! Who may log in on listeners, and how guessing is slowed. Floor 2.
//! Touches timers.
//! Always: passwords of one client are looked at one after the other, so that many sessions guess no faster than one;
//! after too many wrong ones nobody looks at those of this client for a while, right or wrong; a user's right password
//! is never kept waiting for what others guessed.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use egret_shared::clock::Clock;
use egret_shared::users::{Passwords, Penalties, network};
use tokio::sync::Mutex;
use tracing::info;

/// Wrong passwords of a client, one soon after the other, after which nobody looks at what it shows.
const MOST_WRONG: u32 = 10;
/// Turns of clients: more than cores, so that few wait for others.
const TURNS: usize = 64;

/// What became of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// User and password are right.
    Right,
    /// They are not, and the answer has waited.
    Wrong,
    /// Nobody looked, and nobody does so soon.
    Closed(Duration),
}

/// Lets users in. Cheap to clone.
#[derive(Clone)]
pub struct Logins {
    passwords: Arc<ArcSwap<Passwords>>,
    clock: Clock,
    clients: Penalties<IpAddr>,
    /// By a hash of the name, which a client may choose as long as it likes.
    names: Penalties<u64>,
    turns: Arc<[Mutex<()>]>,
    hasher: RandomState,
}

impl Logins {
    /// By these passwords.
    pub fn new(passwords: Arc<Passwords>, clock: Clock) -> Self {
        let turns = std::iter::repeat_with(Mutex::default).take(TURNS).collect();
        let (clients, names, hasher) = (Penalties::default(), Penalties::default(), RandomState::new());
        Self { passwords: Arc::new(ArcSwap::new(passwords)), clock, clients, names, turns, hasher }
    }

    /// By these from now on.
    pub fn replace(&self, passwords: Arc<Passwords>) {
        self.passwords.store(passwords);
    }

    /// Whether `password` is that of `user`. A wrong one is answered the later the more there were before, of the
    /// client or for the user.
    pub async fn log_in(&self, client: IpAddr, user: &str, password: &str) -> Login {
        let (login, wait) = self.judge(client, user, password).await;
        tokio::time::sleep(wait).await;
        login
    }

    /// Whether it is, and how long the answer has to wait.
    async fn judge(&self, client: IpAddr, user: &str, password: &str) -> (Login, Duration) {
        let counted = network(client);
        let _turn = self.turn(counted).lock().await;
        if let Some(left) = self.clients.closed(&counted, MOST_WRONG, self.clock.now()) {
            return (Login::Closed(left), Duration::ZERO);
        }
        let passwords = self.passwords.load_full();
        if passwords.verify(user, password).await {
            return (Login::Right, Duration::ZERO);
        }
        // What is no user may be a password in the wrong place.
        let name = if passwords.get(user).is_some() { user } else { "(unknown)" };
        info!(%client, user = name, "wrong user or password");
        let now = self.clock.now();
        (Login::Wrong, self.clients.wrong(counted, now).max(self.names.wrong(self.hasher.hash_one(user), now)))
    }

    fn turn(&self, client: IpAddr) -> &Mutex<()> {
        &self.turns[self.hasher.hash_one(client) as usize % TURNS]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use egret_shared::clock::UnixMs;
    use egret_shared::users::{Secret, hash};

    use super::*;

    fn logins(clock: &Clock) -> Logins {
        let users = HashMap::from([("u".to_owned(), Secret::Hashed(hash("p").expect("hashed")))]);
        Logins::new(Arc::new(Passwords::new(users).expect("random numbers")), clock.clone())
    }

    fn client(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[tokio::test]
    async fn who_guesses_is_kept_out_for_a_while_and_others_are_not() {
        let clock = Clock::moved(UnixMs(0));
        let logins = logins(&clock);
        assert_eq!(logins.log_in(client(1), "u", "p").await, Login::Right);
        for n in 0..MOST_WRONG {
            let user = if n % 2 == 0 { "u" } else { "nobody" };
            let (login, wait) = logins.judge(client(1), user, "q").await;
            assert_eq!(login, Login::Wrong);
            assert!(wait >= Duration::from_millis(250) * 2_u32.pow(n).min(32), "{n}: {wait:?}");
        }
        assert!(matches!(logins.log_in(client(1), "u", "p").await, Login::Closed(_)), "also with what is right");
        let (login, wait) = logins.judge(client(2), "u", "q").await;
        assert_eq!((login, wait), (Login::Wrong, Duration::from_secs(8)), "the user is counted for, too");
        assert_eq!(logins.judge(client(2), "u", "p").await, (Login::Right, Duration::ZERO));
        clock.advance(Duration::from_secs(61));
        assert_eq!(logins.log_in(client(1), "u", "p").await, Login::Right);
    }

    #[tokio::test]
    async fn many_sessions_guess_no_faster_than_one() {
        let logins = logins(&Clock::moved(UnixMs(0)));
        let guesses: Vec<_> = (0..40)
            .map(|n: u16| {
                let logins = logins.clone();
                // One network of 64 bits is one client.
                let from = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n]);
                tokio::spawn(async move { logins.judge(from, "u", &format!("guess {n}")).await.0 })
            })
            .collect();
        let mut looked_at = 0;
        for guess in guesses {
            looked_at += u32::from(guess.await.expect("ends") == Login::Wrong);
        }
        assert_eq!(looked_at, MOST_WRONG);
    }

    #[tokio::test]
    async fn other_passwords_hold_at_once() {
        let logins = logins(&Clock::moved(UnixMs(0)));
        assert_eq!(logins.log_in(client(1), "u", "p").await, Login::Right);
        logins.replace(Arc::new(Passwords::new(HashMap::new()).expect("random numbers")));
        assert_eq!(logins.log_in(client(1), "u", "p").await, Login::Wrong);
    }
}
