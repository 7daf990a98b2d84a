//! What a sender wants to hear, as it is said to the next server (RFC 3461 section 5, RFC 6533).
//! Pure. Floor 2.
//! Always: a parameter holds no space and nothing beyond ASCII where SMTPUTF8 is not in use; one that would be
//! longer than servers must take is left out.

use std::fmt::Write as _;

use crate::message::{MessageWish, Original, RecipientWish, Return, Wishes, xtext};

/// Characters of an ORCPT that a server must take (RFC 3461 section 4.2).
const MAX_ORCPT: usize = 500;

/// What was said of reports about a message and its recipients.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// By MAIL.
    pub message: &'a MessageWish,
    /// By RCPT, each recipient by its number.
    pub recipients: &'a Wishes,
}

/// The parameters of MAIL, each behind a space.
pub(super) fn of_mail(wish: &MessageWish) -> String {
    let mut out = match wish.ret {
        Some(Return::Full) => " RET=FULL".to_owned(),
        Some(Return::Hdrs) => " RET=HDRS".to_owned(),
        None => String::new(),
    };
    if let Some(envid) = &wish.envid {
        // Writing to a String cannot fail.
        let _ = write!(out, " ENVID={}", xtext::encode(envid.as_str()));
    }
    out
}

/// The parameters of RCPT, each behind a space.
pub(super) fn of_rcpt(wish: &RecipientWish, smtputf8: bool) -> String {
    let notify = wish.notify.map(|notify| format!(" NOTIFY={notify}")).unwrap_or_default();
    let original = wish.original.as_ref().and_then(|original| of_original(original, smtputf8)).unwrap_or_default();
    notify + &original
}

fn of_original(original: &Original, smtputf8: bool) -> Option<String> {
    let address = match (original.is_utf8(), smtputf8) {
        (false, _) => xtext::encode(original.address()),
        (true, true) => xtext::escape_ascii(original.address()),
        (true, false) => xtext::escape(original.address()),
    };
    let told = format!("{};{address}", original.kind());
    (told.len() <= MAX_ORCPT).then(|| format!(" ORCPT={told}"))
}

#[cfg(test)]
mod tests {
    use egret_shared::text::Line;

    use super::*;
    use crate::message::Notify;

    #[test]
    fn wishes_are_said_as_they_were_heard() {
        assert_eq!(of_mail(&MessageWish::default()), "");
        let envid = Line::new("a+b c").ok();
        assert_eq!(of_mail(&MessageWish { ret: Some(Return::Hdrs), envid }), " RET=HDRS ENVID=a+2Bb+20c");
        let said = |notify: &str, kind: &str, address: &str, smtputf8| {
            let (notify, original) = (Notify::parse(notify), Original::new(kind, address));
            of_rcpt(&RecipientWish { notify, original }, smtputf8)
        };
        assert_eq!(said("", "", "", true), "");
        assert_eq!(said("NEVER", "rfc822", "a b@c.test", true), " NOTIFY=NEVER ORCPT=rfc822;a+20b@c.test");
        assert_eq!(said("", "utf-8", "ü+@c.test", true), " ORCPT=utf-8;ü\\x{2B}@c.test");
        assert_eq!(said("DELAY", "utf-8", "ü+@c.test", false), " NOTIFY=DELAY ORCPT=utf-8;\\x{FC}\\x{2B}@c.test");
        let long = "ü".repeat(100);
        assert_eq!(said("DELAY", "utf-8", &long, false), " NOTIFY=DELAY", "the escapes are too long");
        assert!(said("DELAY", "utf-8", &long, true).ends_with(&long));
    }
}
