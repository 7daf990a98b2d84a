//! Memory for the messages that are being received, all sessions together.
//! Pure. Floor 1.
//! Always: what the shares hold is what the budget counts; one message alone has room whatever the
//! limit is, so that none is refused for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::line::{Form, Text, TextLimits, Unfit};

/// What all sessions may hold together. Cheap to clone; all clones are one budget.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Purse>);

#[derive(Debug)]
struct Purse {
    limit: AtomicU64,
    used: AtomicU64,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(limit: u64) -> Self {
        Self(Arc::new(Purse { limit: limit.into(), used: AtomicU64::new(0) }))
    }

    /// Another limit; what is held already stays.
    pub fn set_limit(&self, limit: u64) {
        self.0.limit.store(limit, Ordering::Relaxed);
    }

    /// Bytes that are held now.
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Whether a message of so many bytes would have room now.
    pub fn has_room(&self, bytes: u64) -> bool {
        let used = self.used();
        used == 0 || used.saturating_add(bytes.max(1)) <= self.0.limit.load(Ordering::Relaxed)
    }

    fn take(&self, own: u64, more: u64) -> bool {
        let limit = self.0.limit.load(Ordering::Relaxed);
        let take = |used: u64| (used == own || used.saturating_add(more) <= limit).then_some(used + more);
        self.0.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

/// What one message holds of the budget, until it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Budget,
    held: u64,
}

impl Share {
    /// Holds so many bytes from now on, if there is room for them.
    fn fit(&mut self, bytes: u64) -> bool {
        if bytes <= self.held {
            self.budget.0.used.fetch_sub(self.held - bytes, Ordering::Relaxed);
        } else if !self.budget.take(self.held, bytes - self.held) {
            return false;
        }
        self.held = bytes;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.held, Ordering::Relaxed);
    }
}

/// The text of one message while it comes, within the budget: one for which there is no room is read to
/// its end, and not kept.
#[derive(Debug)]
pub(super) struct Body {
    text: Text,
    share: Option<Share>,
}

impl Body {
    pub fn new(form: Form, limits: TextLimits, budget: &Budget) -> Self {
        let share = Some(Share { budget: budget.clone(), held: 0 });
        Self { text: Text::new(form, limits), share }
    }

    /// As [`Text::feed`].
    pub fn feed(&mut self, bytes: &[u8]) -> Option<usize> {
        let end = self.text.feed(bytes);
        if self.share.as_mut().is_some_and(|share| !share.fit(self.text.kept())) {
            self.share = None;
            self.text.overflow();
        }
        end
    }

    /// It came when there was no room for it.
    pub fn is_shed(&self) -> bool {
        self.share.is_none()
    }

    /// As [`Text::seen`].
    pub fn seen(&self) -> u64 {
        self.text.seen()
    }

    /// As [`Text::overflow`].
    pub fn overflow(&mut self) {
        self.text.overflow();
    }

    /// As [`Text::smuggles`].
    pub fn smuggles(&self) -> bool {
        self.text.smuggles()
    }

    /// The message, and what it holds of the budget.
    ///
    /// # Errors
    /// Why it cannot be taken.
    pub fn finish(self) -> Result<(Bytes, Share), Unfit> {
        match (self.text.finish(), self.share) {
            (Ok(bytes), Some(share)) => Ok((bytes, share)),
            (Ok(_) | Err(Unfit::Big(_)), None) => Err(Unfit::NoRoom),
            (Err(unfit), _) => Err(unfit),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: TextLimits = TextLimits { message: 1_000, line: 998 };

    #[test]
    fn a_message_alone_has_room_and_a_second_one_waits() {
        let budget = Budget::new(10);
        let (mut first, mut second) =
            (Body::new(Form::Counted, LIMITS, &budget), Body::new(Form::Counted, LIMITS, &budget));
        assert!(budget.has_room(1_000));
        first.feed(&[b'a'; 50]);
        assert!(!first.is_shed() && !budget.has_room(0));
        second.feed(b"x");
        assert!(second.is_shed() && budget.used() == 50);
        assert_eq!(second.finish().map(|_| ()), Err(Unfit::NoRoom));
        let (bytes, share) = first.finish().expect("taken");
        assert_eq!((bytes.len(), budget.used()), (50, 50));
        drop(share);
        assert!(budget.used() == 0 && budget.has_room(1_000));
    }

    #[test]
    fn what_is_too_long_for_itself_is_told_so() {
        let budget = Budget::new(u64::MAX);
        let mut body = Body::new(Form::Counted, LIMITS, &budget);
        for _ in 0..30 {
            body.feed(&[&[b'a'; 98][..], b"\r\n"].concat());
        }
        assert_eq!(budget.used(), 0, "what is not kept is not held");
        assert_eq!(body.finish().map(|_| ()), Err(Unfit::Big(1_000)));
    }

    proptest! {
        #[test]
        fn the_budget_is_kept_and_given_back(steps in prop::collection::vec((0usize..4, 0usize..40, any::<bool>()), 0..60)) {
            let budget = Budget::new(100);
            let new = || Body::new(Form::Counted, LIMITS, &budget);
            let mut bodies: Vec<Body> = (0..4).map(|_| new()).collect();
            for (which, bytes, is_over) in steps {
                if is_over {
                    bodies[which] = new();
                } else {
                    bodies[which].feed(&vec![b'a'; bytes]);
                }
                let held: Vec<u64> = bodies.iter().filter_map(|body| body.share.as_ref().map(|share| share.held)).collect();
                prop_assert_eq!(held.iter().sum::<u64>(), budget.used());
                let holders = held.iter().filter(|held| **held > 0).count();
                prop_assert!(budget.used() <= 100 || holders <= 1, "{:?}", held);
            }
            drop(bodies);
            prop_assert_eq!(budget.used(), 0);
        }
    }
}
