//! What limits a path in the end: of all limits of one kind the tightest. Pure. Floor 1.

use super::options::{PathLimits, PathOptions};
use egret_shared::limits::Throttle;

/// The tightest of several limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ceiling {
    /// What it comes to, as it would be written.
    pub value: String,
    /// The key that says so.
    pub by: String,
}

/// Sessions at once.
pub fn sessions(limits: &PathLimits) -> Ceiling {
    let own = ("connection_limit".to_owned(), limits.connection_limit);
    let named = limits.additional_connection_limits.iter();
    let named = named.map(|(name, limit)| (format!("additional_connection_limits.{name}"), *limit));
    let (by, limit) = named.fold(own, |least, one| if one.1.count < least.1.count { one } else { least });
    Ceiling { value: limit.to_string(), by }
}

/// Messages a second, for comparison.
fn per_second(throttle: &Throttle) -> f64 {
    throttle.rate.count as f64 / throttle.rate.period.as_secs_f64()
}

/// How fast sessions that are opened at their rate could carry messages.
pub fn cycling(options: &PathOptions) -> Option<Throttle> {
    let opened = options.limits.max_connection_rate?;
    let rate = opened.rate;
    let count = rate.count.saturating_mul(options.max_deliveries_per_connection.into());
    let burst = rate.burst.saturating_mul(options.max_deliveries_per_connection.into());
    Some(Throttle { rate: egret_shared::limits::Rate { count, burst, ..rate }, ..opened })
}

/// How fast messages are sent; `None` is as fast as they can be.
pub fn messages(options: &PathOptions) -> Option<Ceiling> {
    let limits = &options.limits;
    let own = limits.max_message_rate.map(|rate| ("max_message_rate".to_owned(), rate));
    let named = limits.additional_message_rate_throttles.iter();
    let named = named.map(|(name, rate)| (format!("additional_message_rate_throttles.{name}"), *rate));
    let by_cycling =
        cycling(options).map(|rate| ("max_connection_rate × max_deliveries_per_connection".to_owned(), rate));
    let all = own.into_iter().chain(named).chain(by_cycling);
    let least = all.min_by(|one, other| per_second(&one.1).total_cmp(&per_second(&other.1)))?;
    Some(Ceiling { by: least.0, value: least.1.to_string() })
}

/// Whether `rate` can never be reached, because sessions are not opened fast enough.
pub fn is_unreachable(options: &PathOptions) -> Option<(Throttle, Throttle)> {
    let (rate, cycling) = (options.limits.max_message_rate?, cycling(options)?);
    (per_second(&rate) > per_second(&cycling)).then_some((rate, cycling))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_tightest_limit_is_told_with_its_key() {
        let mut options = PathOptions::default();
        assert_eq!((sessions(&options.limits).value, messages(&options)), ("32".to_owned(), None));
        let limits = Arc::make_mut(&mut options.limits);
        limits.additional_connection_limits.insert("all".into(), 5.into());
        limits.max_message_rate = "100/s".parse().ok();
        limits.max_connection_rate = "1/s".parse().ok();
        options.max_deliveries_per_connection = 20;
        let by = |ceiling: Ceiling| format!("{} by {}", ceiling.value, ceiling.by);
        assert_eq!(by(sessions(&options.limits)), "5 by additional_connection_limits.all");
        assert_eq!(
            messages(&options).map(by).as_deref(),
            Some("20/s by max_connection_rate × max_deliveries_per_connection")
        );
        assert!(is_unreachable(&options).is_some());
        let limits = Arc::make_mut(&mut options.limits);
        limits.additional_message_rate_throttles.insert("slow".into(), "local:60/min".parse().expect("a rate"));
        assert_eq!(
            messages(&options).map(by).as_deref(),
            Some("local:60/min by additional_message_rate_throttles.slow")
        );
        options.max_deliveries_per_connection = 1000;
        assert!(is_unreachable(&options).is_none());
    }
}
