//! MTA-STS policies that were fetched, by domain. Floor 3. Touches nothing; told the time.
//! Always: bounded in number and memory; when it is full, what ends first makes room. A policy is used up to its end,
//! whatever became of later fetches.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use egret_shared::clock::UnixMs;
use parking_lot::Mutex;

use super::policy::{Mode, Policy};
use crate::tls_report::{Applied, PolicyType};

/// Policies that are kept, and fetches that failed.
const MAX_DOMAINS: usize = 20_000;
/// The memory that policies may take, about.
const MAX_BYTES: usize = 32 << 20;
/// A policy is fetched anew after so long though its id is the same: its end moves on (RFC 8461 section 10.2).
const REFRESH: Duration = Duration::from_hours(24);
/// The pause after a fetch that failed (RFC 8461 section 3.3).
const PAUSE: Duration = Duration::from_mins(5);

/// A policy that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The policy.
    pub policy: Policy,
    /// Its id.
    pub id: String,
    /// As reports tell it.
    pub applied: Applied,
    fetched: UnixMs,
    until: UnixMs,
}

/// The cache. Cheap to clone.
#[derive(Clone, Default)]
pub struct PolicyCache(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    kept: HashMap<String, Arc<Kept>>,
    bytes: usize,
    /// Ids whose fetch failed, and until when they are left alone.
    failed: HashMap<String, (String, UnixMs)>,
}

impl PolicyCache {
    /// The policy of `domain`, if one holds that asks for anything.
    pub fn get(&self, domain: &str, now: UnixMs) -> Option<Arc<Kept>> {
        let state = self.0.lock();
        let kept = state.kept.get(domain)?;
        (kept.until > now && kept.policy.mode != Mode::None).then(|| kept.clone())
    }

    /// Whether the policy that is announced as `id` is to be fetched.
    pub fn wants(&self, domain: &str, id: &str, now: UnixMs) -> bool {
        let state = self.0.lock();
        if state.failed.get(domain).is_some_and(|(failed, until)| failed == id && *until > now) {
            return false;
        }
        let is_fresh = |kept: &Arc<Kept>| kept.id == id && kept.until > now && now.since(kept.fetched) < REFRESH;
        !state.kept.get(domain).is_some_and(is_fresh)
    }

    /// Keeps a policy in the place of what was there.
    pub fn keep(&self, domain: &str, id: &str, policy: Policy, now: UnixMs) {
        let mut state = self.0.lock();
        state.forget(domain);
        state.failed.remove(domain);
        let applied = Applied::new(PolicyType::Sts, policy.lines(), policy.mx.clone());
        let until = now.plus(Duration::from_secs(policy.max_age_s));
        let kept = Kept { policy, id: id.to_owned(), applied, fetched: now, until };
        let bytes = weight(domain, &kept);
        if state.kept.len() >= MAX_DOMAINS || state.bytes + bytes > MAX_BYTES {
            state.make_room(bytes, now);
        }
        state.bytes += bytes;
        state.kept.insert(domain.to_owned(), Arc::new(kept));
    }

    /// The fetch of what is announced as `id` failed.
    pub fn failed(&self, domain: &str, id: &str, now: UnixMs) {
        let mut state = self.0.lock();
        if state.failed.len() >= MAX_DOMAINS {
            state.failed.retain(|_, (_, until)| *until > now);
        }
        if state.failed.len() < MAX_DOMAINS {
            state.failed.insert(domain.to_owned(), (id.to_owned(), now.plus(PAUSE)));
        }
    }

    /// How many policies it holds.
    pub fn len(&self) -> usize {
        self.0.lock().kept.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl State {
    fn forget(&mut self, domain: &str) {
        if let Some(kept) = self.kept.remove(domain) {
            self.bytes = self.bytes.saturating_sub(weight(domain, &kept));
        }
    }

    /// Forgets what has ended, and then a tenth at once of what ends first, so that this is rare.
    fn make_room(&mut self, bytes: usize, now: UnixMs) {
        let mut ends: Vec<(UnixMs, String)> = self.kept.iter().map(|(d, kept)| (kept.until, d.clone())).collect();
        ends.sort_unstable();
        for (until, domain) in ends {
            let is_roomy = self.kept.len() < MAX_DOMAINS / 10 * 9 && self.bytes + bytes < MAX_BYTES / 10 * 9;
            if until > now && is_roomy {
                break;
            }
            self.forget(&domain);
        }
    }
}

/// About how much memory a policy takes: twice, since reports tell it too.
fn weight(domain: &str, kept: &Kept) -> usize {
    size_of::<Kept>() + domain.len() + kept.id.len() + 2 * kept.policy.weight()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(mode: Mode, max_age_s: u64) -> Policy {
        Policy { mode, mx: vec!["mx.test".to_owned()], max_age_s }
    }

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn a_policy_holds_to_its_end_whatever_became_of_later_fetches() {
        let (cache, start) = (PolicyCache::default(), UnixMs(1_000));
        assert!(cache.wants("a.test", "1", start));
        cache.keep("a.test", "1", policy(Mode::Enforce, 7 * 86_400), start);
        assert!(!cache.wants("a.test", "1", start.plus(HOUR)));
        assert!(cache.wants("a.test", "2", start.plus(HOUR)), "another id is another policy");
        cache.failed("a.test", "2", start.plus(HOUR));
        assert!(!cache.wants("a.test", "2", start.plus(HOUR)), "a failed fetch has its pause");
        assert!(cache.wants("a.test", "3", start.plus(HOUR)), "but for a new policy");
        assert!(cache.wants("a.test", "2", start.plus(HOUR + PAUSE)));
        assert_eq!(cache.get("a.test", start.plus((7 * 24 - 1) * HOUR)).map(|kept| kept.id.clone()), Some("1".into()));
        assert!(cache.get("a.test", start.plus(7 * 24 * HOUR)).is_none());
    }

    #[test]
    fn a_policy_is_refreshed_once_a_day_and_one_of_no_mode_replaces() {
        let (cache, start) = (PolicyCache::default(), UnixMs(1_000));
        cache.keep("a.test", "1", policy(Mode::Testing, 7 * 86_400), start);
        assert!(cache.wants("a.test", "1", start.plus(REFRESH)));
        cache.keep("a.test", "2", policy(Mode::None, 7 * 86_400), start.plus(HOUR));
        assert!(cache.get("a.test", start.plus(HOUR)).is_none());
        assert!(!cache.wants("a.test", "2", start.plus(HOUR)));
    }

    #[test]
    fn a_full_cache_forgets_what_ends_first() {
        let cache = PolicyCache::default();
        for n in 0..=MAX_DOMAINS {
            cache.keep(&format!("{n}.test"), "1", policy(Mode::Enforce, 86_400 + n as u64), UnixMs(1));
        }
        assert!(cache.len() <= MAX_DOMAINS && cache.len() > MAX_DOMAINS / 2);
        let last = format!("{MAX_DOMAINS}.test");
        assert!(cache.get("0.test", UnixMs(2)).is_none() && cache.get(&last, UnixMs(2)).is_some());
        let large = Policy { mx: vec!["x".repeat(200); 256], ..policy(Mode::Enforce, 86_400) };
        for n in 0..1_000 {
            cache.keep(&format!("large{n}.test"), "1", large.clone(), UnixMs(1));
        }
        assert!(cache.0.lock().bytes <= MAX_BYTES);
        for n in 0..1_000 {
            cache.keep(&format!("large{n}.test"), "2", policy(Mode::Enforce, 1), UnixMs(1));
        }
        let state = cache.0.lock();
        let sum: usize = state.kept.iter().map(|(domain, kept)| weight(domain, kept)).sum();
        assert_eq!(state.bytes, sum, "what is forgotten is given back");
    }
}
