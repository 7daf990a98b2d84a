//! What is counted, ordered and told, against orders that are only written down.

use super::*;
use crate::message::{EnhancedCode, Response};
use crate::shaping::automation::rule::Rule;
use crate::shaping::automation::set::{RuleSet, Within};
use crate::shaping::automation::store::Memory;
use egret_shared::text::Line;

#[derive(Default)]
struct Written(Mutex<Vec<Order>>);

impl Orders for Written {
    fn give(&self, order: Order) -> Doing<'_, Given> {
        self.0.lock().push(order);
        Box::pin(std::future::ready(Ok(Taken::Ignored)))
    }
}

fn rule(regex: &str, actions: Vec<Action>, trigger: Trigger) -> Rule {
    let (regex, duration) = (vec![regex.to_owned()], Duration::from_secs(600));
    Rule { regex, actions, trigger, duration, match_internal: false, at: "f:1".to_owned() }
}

fn watch(rules: Vec<Rule>) -> (Automation, Arc<Written>) {
    let rules = rules.into_iter().map(|rule| Scoped::new(rule, Within::default())).collect();
    let (rules, orders) = (Rules::new(RuleSet::new(rules).expect("patterns")), Arc::new(Written::default()));
    (Automation::new(rules, Arc::new(Memory::default()), orders.clone()), orders)
}

fn result(verdict: Verdict, code: u16, text: &str, is_own: bool) -> RecipientResult {
    let command = (!is_own).then(|| "RCPT".to_owned());
    let response =
        Response { code, enhanced: Some(EnhancedCode::new(4, 7, 0)), text: Line::new(text).expect("a line"), command };
    RecipientResult { recipient: 0, verdict, response }
}

const PLACE: Place<'_> = Place { domain: "a.test", site: "mx.a.test", providers: &[], source: "s1", listed: &[] };
const RETRY: Verdict = Verdict::Retry { counts: true };

async fn hear(automation: &Automation, queue: &QueueName, results: &[RecipientResult], at: u64) {
    let hits = automation.look(results, &PLACE);
    automation.fire(hits, &PLACE, queue, UnixMs(at)).await;
}

fn orders(written: &Written) -> Vec<String> {
    let line = |order: Order| format!("{:?} {}{}", order.kind, order.scope, if order.is_weak { " weak" } else { "" });
    std::mem::take(&mut *written.0.lock()).into_iter().map(line).collect()
}

#[test]
fn only_what_the_destination_refused_is_looked_at() {
    let internal = Rule { match_internal: true, ..rule("busy", vec![Action::Suspend], Trigger::Immediate) };
    let (automation, _) = watch(vec![rule("busy", vec![Action::Suspend], Trigger::Immediate), internal]);
    let look = |results: &[RecipientResult]| automation.look(results, &PLACE).len();
    assert_eq!(look(&[result(Verdict::Delivered, 250, "busy", false)]), 0);
    assert_eq!(look(&[result(Verdict::Bounce, 550, "busy", false)]), 2);
    assert_eq!(look(&[result(RETRY, 421, "busy", true)]), 1, "its own words");
    assert_eq!(look(&vec![result(RETRY, 421, "busy", false); 5]), 2, "each rule once");
    assert_eq!(Automation::default().look(&[result(RETRY, 421, "busy", false)], &PLACE).len(), 0);
}

#[tokio::test]
async fn actions_mean_paths_and_queues() {
    let setting = || Setting { name: "connection_limit".to_owned(), value: "1".to_owned() };
    let all = vec![
        Action::Suspend,
        Action::SuspendTenant,
        Action::SuspendCampaign,
        Action::Bounce,
        Action::BounceTenant,
        Action::BounceCampaign,
        Action::SetConfig(setting()),
        Action::SetDomainConfig(setting()),
    ];
    let (automation, written) = watch(vec![rule("busy", all, Trigger::Immediate)]);
    let said = [result(RETRY, 421, "busy", false)];
    hear(&automation, &QueueName::new(Some("c"), Some("t"), "a.test"), &said, 1_000).await;
    assert_eq!(
        orders(&written),
        [
            "Suspend source=s1 site=mx.a.test",
            "Suspend tenant=t domain=a.test routing=",
            "Suspend campaign=c tenant=t domain=a.test routing=",
            "Bounce domain=a.test routing=",
            "Bounce tenant=t domain=a.test routing=",
            "Bounce campaign=c tenant=t domain=a.test routing=",
            "Set source=s1 site=mx.a.test",
            "Set domain=a.test source=s1",
        ]
    );
    // Without a campaign it is the tenant, without a tenant nothing.
    hear(&automation, &QueueName::new(None, Some("u"), "a.test"), &said, 1_000).await;
    let of_u = orders(&written);
    assert_eq!(of_u.iter().filter(|order| *order == "Suspend tenant=u domain=a.test routing=").count(), 2, "{of_u:?}");
    hear(&automation, &QueueName::of_domain("b.test").led_by(Some("relay")), &said, 1_000).await;
    let of_none = orders(&written);
    assert!(of_none.iter().all(|order| !order.contains("tenant")), "{of_none:?}");
    assert!(of_none.contains(&"Bounce domain=b.test routing=relay".to_owned()), "{of_none:?}");
}

#[tokio::test]
async fn an_answer_counts_once_for_rules_that_say_the_same_and_for_each_option_of_one() {
    let threshold = || Trigger::Threshold("3/hr".parse().expect("a rate"));
    let set = |name: &str| Action::SetConfig(Setting { name: name.to_owned(), value: "1".to_owned() });
    let bounce = || rule("busy", vec![Action::Bounce], threshold());
    let twice = Rule { at: "g:7".to_owned(), ..bounce() };
    let two = rule("busy", vec![set("connection_limit"), set("max_deliveries_per_connection")], threshold());
    let (automation, written) = watch(vec![bounce(), twice, two]);
    let (queue, said) = (QueueName::of_domain("a.test"), [result(RETRY, 421, "busy", false)]);
    for at in [0, 2_000] {
        hear(&automation, &queue, &said, at).await;
        assert!(orders(&written).is_empty(), "fired too soon, at {at}");
    }
    hear(&automation, &queue, &said, 4_000).await;
    let set = std::mem::take(&mut *written.0.lock()).into_iter().filter_map(|order| Some(order.setting?.name));
    assert_eq!(set.collect::<Vec<_>>(), ["connection_limit", "max_deliveries_per_connection"]);
}

#[tokio::test]
async fn a_threshold_counts_by_path_and_asks_once_a_second() {
    let rate = "3/min".parse().expect("a rate");
    let (automation, written) = watch(vec![rule("busy", vec![Action::Suspend], Trigger::Threshold(rate))]);
    let (queue, said) = (QueueName::of_domain("a.test"), [result(RETRY, 421, "busy", false)]);
    for (at, want) in [
        (0, &["Suspend source=s1 site=mx.a.test weak"][..]),
        (500, &[]),
        (600, &["Suspend source=s1 site=mx.a.test"]),
        (900, &[]),
        (1_700, &["Suspend source=s1 site=mx.a.test"]),
        (90_000, &["Suspend source=s1 site=mx.a.test weak"]),
    ] {
        hear(&automation, &queue, &said, at).await;
        assert_eq!(orders(&written), want, "at {at}");
    }
}
