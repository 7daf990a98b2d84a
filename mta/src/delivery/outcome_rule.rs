//! What an operator says of the answers of destinations: that one is final, or is not, and what it is called.
//! Pure. Floor 2.
//! Always: rules see only what a destination said of a recipient that it did not take; the first that fits decides.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::message::{RecipientResult, Response, Verdict};
use crate::routing::matcher::TextPattern;

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Try again later, whatever its code.
    Retry,
    /// Never try again.
    Bounce,
}

impl std::str::FromStr for Action {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "retry" => Ok(Self::Retry),
            "bounce" => Ok(Self::Bounce),
            _ => Err("write \"retry\" or \"bounce\"".to_owned()),
        }
    }
}

/// One rule. An empty condition always holds; of several values one is enough.
#[derive(Clone, Debug, Default)]
pub struct OutcomeRule {
    /// The answer in one line: `550 5.1.1 no such user`.
    pub response: Vec<TextPattern>,
    /// What it answered: `RCPT`, `DATA`, `.`.
    pub command: Vec<TextPattern>,
    /// The site.
    pub site: Vec<TextPattern>,
    /// The domain of the recipients.
    pub domain: Vec<TextPattern>,
    /// What it means; `None` leaves that to its code.
    pub action: Option<Action>,
    /// What it is called in events.
    pub class: Option<Arc<str>>,
}

impl OutcomeRule {
    fn fits(&self, said: &Said<'_>, line: &str) -> bool {
        let any =
            |patterns: &[TextPattern], text: &str| patterns.is_empty() || patterns.iter().any(|one| one.fits(text));
        any(&self.command, said.response.command.as_deref().unwrap_or_default())
            && any(&self.site, said.site)
            && any(&self.domain, said.domain)
            && any(&self.response, line)
    }
}

/// An answer, and where it was given.
#[derive(Clone, Copy)]
pub(super) struct Said<'a> {
    pub response: &'a Response,
    pub site: &'a str,
    pub domain: &'a str,
}

/// All rules, which a reload replaces. Cheap to clone.
#[derive(Clone, Default)]
pub struct OutcomeRules(Arc<ArcSwap<Vec<OutcomeRule>>>);

impl OutcomeRules {
    /// These, in this order.
    pub fn new(rules: Vec<OutcomeRule>) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(rules)))
    }

    /// These from now on.
    pub fn replace(&self, rules: Vec<OutcomeRule>) {
        self.0.store(Arc::new(rules));
    }

    /// What the result of a recipient is by the rules, and where none decides, by its enhanced code: a 5xx whose
    /// enhanced code says that it is temporary (RFC 3463 section 2) is.
    pub(super) fn decide(&self, result: &mut RecipientResult, site: &str, domain: &str) {
        let counted = Verdict::Retry { counts: true };
        if result.response.command.is_none() || !matches!(result.verdict, Verdict::Bounce) && result.verdict != counted
        {
            return;
        }
        let said = Said { response: &result.response, site, domain };
        match self.find(said, |rule| rule.action) {
            Some(Action::Retry) => result.verdict = counted,
            Some(Action::Bounce) => result.verdict = Verdict::Bounce,
            None if result.response.enhanced.is_some_and(|code| code.class == 4) => result.verdict = counted,
            None => {}
        }
    }

    /// What an answer is called.
    pub(super) fn class(&self, said: Said<'_>) -> Option<Arc<str>> {
        said.response.command.as_ref()?;
        self.find(said, |rule| rule.class.clone())
    }

    /// What `part` of the first rule that fits says.
    fn find<T>(&self, said: Said<'_>, part: impl Fn(&OutcomeRule) -> Option<T>) -> Option<T> {
        let rules = self.0.load();
        if rules.is_empty() {
            return None;
        }
        let line = said.response.to_string();
        rules.iter().find(|rule| rule.fits(&said, &line)).and_then(part)
    }
}

#[cfg(test)]
mod tests {
    use egret_shared::text::Line;

    use super::*;
    use crate::message::EnhancedCode;

    const COUNTED: Verdict = Verdict::Retry { counts: true };

    fn patterns(all: &[&str]) -> Vec<TextPattern> {
        all.iter().map(|text| text.parse().expect("a pattern")).collect()
    }

    fn answer(code: u16, enhanced: Option<(u8, u16, u16)>, text: &str) -> Response {
        let enhanced = enhanced.map(|(class, subject, detail)| EnhancedCode::new(class, subject, detail));
        Response { code, enhanced, text: Line::new(text).expect("a line"), command: Some("RCPT".to_owned()) }
    }

    fn decided(rules: &OutcomeRules, verdict: Verdict, response: Response) -> Verdict {
        let mut result = RecipientResult { recipient: 0, verdict, response };
        rules.decide(&mut result, "mx.b.test", "b.test");
        result.verdict
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let rule = |response: &[&str], domain: &[&str], action, class: &str| OutcomeRule {
            response: patterns(response),
            domain: patterns(domain),
            action,
            class: Some(class.into()),
            ..OutcomeRule::default()
        };
        let rules = OutcomeRules::new(vec![
            rule(&["*blocked*"], &["other.test"], Some(Action::Bounce), "Elsewhere"),
            rule(&["*over quota*", "/ 5\\.2\\.2 /"], &[], Some(Action::Retry), "QuotaIssues"),
            rule(&["450 *"], &["*.test"], Some(Action::Bounce), "InvalidRecipient"),
            rule(&[], &[], None, "Other"),
        ]);
        for (verdict, response, want, class) in [
            (Verdict::Bounce, answer(552, Some((5, 2, 2)), "full"), COUNTED, "QuotaIssues"),
            (Verdict::Bounce, answer(550, None, "OVER QUOTA now"), COUNTED, "QuotaIssues"),
            (COUNTED, answer(450, None, "no such user"), Verdict::Bounce, "InvalidRecipient"),
            (Verdict::Bounce, answer(554, Some((5, 7, 1)), "blocked"), Verdict::Bounce, "Other"),
        ] {
            let said = Said { response: &response, site: "mx.b.test", domain: "b.test" };
            assert_eq!(rules.class(said).as_deref(), Some(class));
            assert_eq!(decided(&rules, verdict, response), want, "{class}");
        }
    }

    #[test]
    fn what_was_taken_held_or_said_by_ourselves_is_not_judged_again() {
        let all = OutcomeRule { action: Some(Action::Bounce), class: Some("x".into()), ..OutcomeRule::default() };
        let rules = OutcomeRules::new(vec![all]);
        for verdict in [Verdict::Delivered, Verdict::Hold, Verdict::Retry { counts: false }] {
            assert_eq!(decided(&rules, verdict, answer(250, None, "ok")), verdict);
        }
        let own = Response::own(421, EnhancedCode::new(4, 4, 2), "connection lost");
        let said = Said { response: &own, site: "", domain: "" };
        assert_eq!(rules.class(said), None);
        assert_eq!(decided(&rules, COUNTED, own), COUNTED);
    }

    #[test]
    fn without_rules_the_enhanced_code_can_say_that_a_refusal_is_temporary() {
        let none = OutcomeRules::default();
        assert_eq!(decided(&none, Verdict::Bounce, answer(550, Some((4, 2, 1)), "later")), COUNTED);
        assert_eq!(decided(&none, Verdict::Bounce, answer(550, Some((5, 2, 1)), "never")), Verdict::Bounce);
        assert_eq!(decided(&none, COUNTED, answer(450, Some((5, 1, 1)), "odd")), COUNTED);
    }
}
