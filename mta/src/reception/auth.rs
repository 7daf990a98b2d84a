//! AUTH: what a client shows, by PLAIN (RFC 4616) or LOGIN, in as many steps as it takes (RFC 4954).
//! Pure. Floor 1.
//! Always: what is not understood whole is refused whole; a password is in no text that this file makes, also not for
//! `Debug`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use egret_shared::address::Networks;
use egret_shared::text::Line;

use super::offer::Refusal;

/// Wrong passwords in a session before it is closed with 421.
pub(super) const MAX_FAILURES: u32 = 3;
/// What LOGIN asks for, in base64: `Username:` and `Password:`.
const ASKS: (&str, &str) = ("VXNlcm5hbWU6", "UGFzc3dvcmQ6");

/// Whether clients of a listener can, or must, say who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// AUTH is not offered.
    #[default]
    None,
    /// Users may relay; so may clients in the relay networks, without a word.
    Optional,
    /// Nothing is taken from anyone who is not a user.
    Required,
}

/// AUTH on one listener.
#[derive(Clone, Debug, Default)]
pub struct AuthSettings {
    /// Who can and who must.
    pub auth: Auth,
    /// Clients that may show a password without TLS.
    pub in_clear: Networks,
}

/// A part of what a client says in AUTH. It may hold a password, so nothing prints it.
#[derive(Clone, PartialEq, Eq)]
pub struct Response(String);

impl Response {
    /// As it came, in base64.
    pub(super) fn new(base64: &str) -> Self {
        Self(base64.to_owned())
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Who a client says it is, and how it would prove it.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: Line,
    /// Its password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What became of credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is that user.
    Right,
    /// It is not, or there is no such user.
    Wrong,
    /// Nobody looked.
    Unasked(Refusal),
}

/// What an exchange waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Exchange {
    /// PLAIN: the one response.
    Plain,
    /// LOGIN: the name.
    Name,
    /// LOGIN: the password of this user.
    Password(Line),
}

/// What a response leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The client is asked for more, in base64.
    Ask(&'static str, Exchange),
    /// All is there.
    Check(Credentials),
    /// It wants to act for another user, which nobody may: as wrong as a wrong password.
    Wrong,
}

/// Why a response is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unread {
    /// RFC 4954 section 4.
    #[error("AUTH cancelled")]
    Cancelled,
    /// RFC 4648 section 4, with its padding.
    #[error("response is not base64")]
    NotBase64,
    /// RFC 4616 section 2.
    #[error("response does not hold a user and a password as the mechanism wants them")]
    Malformed,
}

impl Unread {
    pub fn refusal(self) -> Refusal {
        let enhanced = if self == Self::Cancelled { (5, 7, 0) } else { (5, 5, 2) };
        Refusal::new(501, enhanced, &self.to_string())
    }
}

impl Exchange {
    /// What a mechanism begins with; `None` if nobody here knows it.
    pub fn of(mechanism: &str) -> Option<Self> {
        match &*mechanism.to_ascii_uppercase() {
            "PLAIN" => Some(Self::Plain),
            "LOGIN" => Some(Self::Name),
            _ => None,
        }
    }

    /// What the client is asked for if it gave no initial response.
    pub fn ask(&self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Name => ASKS.0,
            Self::Password(_) => ASKS.1,
        }
    }

    /// Takes the initial response, of which `=` is the empty one.
    pub fn begin(self, initial: &Response) -> Result<Next, Unread> {
        if initial.0 == "=" { self.take(String::new()) } else { self.respond(initial.0.as_bytes()) }
    }

    /// Takes a line without its CRLF.
    pub fn respond(self, line: &[u8]) -> Result<Next, Unread> {
        if line == b"*" {
            return Err(Unread::Cancelled);
        }
        let bytes = STANDARD.decode(line).map_err(|_| Unread::NotBase64)?;
        self.take(String::from_utf8(bytes).map_err(|_| Unread::Malformed)?)
    }

    fn take(self, text: String) -> Result<Next, Unread> {
        let user = |text: &str| match Line::new(text) {
            Ok(line) if !text.is_empty() => Ok(line),
            _ => Err(Unread::Malformed),
        };
        match self {
            Self::Plain => plain(&text),
            Self::Name => user(&text).map(|user| Next::Ask(ASKS.1, Self::Password(user))),
            Self::Password(_) if text.is_empty() || text.contains('\0') => Err(Unread::Malformed),
            Self::Password(user) => Ok(Next::Check(Credentials { user, password: text })),
        }
    }
}

/// `[who to act for] NUL user NUL password`.
fn plain(text: &str) -> Result<Next, Unread> {
    let parts: Vec<&str> = text.split('\0').collect();
    let [act_for, user, password] = parts[..] else { return Err(Unread::Malformed) };
    let line = Line::new(user).map_err(|_| Unread::Malformed)?;
    if user.is_empty() || password.is_empty() {
        return Err(Unread::Malformed);
    }
    if !act_for.is_empty() && act_for != user {
        return Ok(Next::Wrong);
    }
    Ok(Next::Check(Credentials { user: line, password: password.to_owned() }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(user: &str, password: &str) -> Next {
        let user = Line::new(user).expect("a line");
        Next::Check(Credentials { user, password: password.to_owned() })
    }

    #[test]
    fn plain_is_one_response() {
        for (text, want) in [
            ("\0user\0pass word", Ok(shown("user", "pass word"))),
            ("user\0user\0p", Ok(shown("user", "p"))),
            ("other\0user\0p", Ok(Next::Wrong)),
            ("\0b\u{fc}cher\0\u{df}", Ok(shown("b\u{fc}cher", "\u{df}"))),
            ("", Err(Unread::Malformed)),
            ("user\0p", Err(Unread::Malformed)),
            ("\0user\0p\0", Err(Unread::Malformed)),
            ("\0user\0", Err(Unread::Malformed)),
            ("\0\0p", Err(Unread::Malformed)),
            ("\0us\r\ner\0p", Err(Unread::Malformed)),
        ] {
            assert_eq!(Exchange::Plain.respond(STANDARD.encode(text).as_bytes()), want, "{text:?}");
        }
        assert_eq!(Exchange::Plain.begin(&Response::new("=")), Err(Unread::Malformed));
        assert_eq!(Exchange::Plain.begin(&Response::new("AGEAYg==")), Ok(shown("a", "b")));
    }

    #[test]
    fn login_is_two() {
        let Ok(Next::Ask("UGFzc3dvcmQ6", next)) = Exchange::Name.respond(b"dXNlcg==") else { panic!("a name") };
        assert_eq!(next.ask(), "UGFzc3dvcmQ6");
        assert_eq!(next.clone().respond(b"cGFzcw=="), Ok(shown("user", "pass")));
        assert_eq!(next.respond(b""), Err(Unread::Malformed), "no password is none");
        assert_eq!(Exchange::Name.respond(b""), Err(Unread::Malformed));
    }

    #[test]
    fn what_is_not_base64_is_told_apart_from_a_cancel() {
        for (line, want) in [
            (&b"*"[..], Unread::Cancelled),
            (b"AGEAYg=", Unread::NotBase64),
            (b"AGEAYg", Unread::NotBase64),
            (b"=", Unread::NotBase64),
            (b"AGEA Yg==", Unread::NotBase64),
            (b"AGEAYh==", Unread::NotBase64),
            (b"AP8A/w==", Unread::Malformed),
        ] {
            assert_eq!(Exchange::Plain.respond(line), Err(want), "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn nothing_prints_a_password() {
        let credentials = shown("user", "hush");
        let told = format!("{credentials:?} {:?}", Response::new("aHVzaA=="));
        assert!(told.contains("user") && !told.contains("hush") && !told.contains("aHVzaA"), "{told}");
    }

    proptest! {
        #[test]
        fn what_is_shown_arrives_by_either_way(user in "[^\0\r\n]{1,40}", password in "[^\0]{1,40}") {
            let plain = STANDARD.encode(format!("\0{user}\0{password}"));
            prop_assert_eq!(Exchange::Plain.respond(plain.as_bytes()), Ok(shown(&user, &password)));
            let Ok(Next::Ask(_, next)) = Exchange::Name.respond(STANDARD.encode(&user).as_bytes()) else {
                return Err(TestCaseError::fail("the name was not taken"));
            };
            prop_assert_eq!(next.respond(STANDARD.encode(&password).as_bytes()), Ok(shown(&user, &password)));
        }

        #[test]
        fn any_bytes_are_taken_or_refused(line in prop::collection::vec(any::<u8>(), 0..60)) {
            for exchange in [Exchange::Plain, Exchange::Name, Exchange::Password(Line::sanitized(b"u"))] {
                let _ = exchange.respond(&line);
            }
        }
    }
}
