//! Says who this host is (RFC 4954): what is told to a server, step by step, in each mechanism.
//! Pure. Floor 2.
//! Always: a line that is told holds base64 only, so that no secret can break out of it; what this room tells is never
//! shown in a trace.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use md5::Md5;

use super::capabilities::Capabilities;
use crate::shaping::options::Mechanism;

/// Who this host says it is. Its `Debug` hides the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user name.
    pub username: String,
    /// The password, or the token of XOAUTH2.
    pub secret: String,
    /// The mechanisms that may be used, the best one first.
    pub mechanisms: Vec<Mechanism>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

/// One exchange, from AUTH to its end.
#[derive(Debug)]
pub(super) struct Exchange {
    mechanism: Mechanism,
    /// Challenges that were answered.
    answered: u8,
}

/// A challenge that the mechanism does not know.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unexpected;

impl Login {
    /// Begins with the first mechanism that the server offers, too.
    pub(super) fn begin(&self, offered: &Capabilities, send: &mut Vec<u8>) -> Option<Exchange> {
        let mechanism = self.mechanisms.iter().copied().find(|one| offered.auth.contains(*one))?;
        send.extend_from_slice(b"AUTH ");
        send.extend_from_slice(mechanism.name().as_bytes());
        let first = match mechanism {
            Mechanism::Plain => Some(format!("\0{}\0{}", self.username, self.secret)),
            Mechanism::Xoauth2 => Some(format!("user={}\x01auth=Bearer {}\x01\x01", self.username, self.secret)),
            Mechanism::Login | Mechanism::CramMd5 => None,
        };
        if let Some(first) = first {
            send.push(b' ');
            send.extend_from_slice(STANDARD.encode(first).as_bytes());
        }
        send.extend_from_slice(b"\r\n");
        Some(Exchange { mechanism, answered: 0 })
    }
}

impl Exchange {
    /// Answers a challenge: the text of a 334.
    pub fn answer(&mut self, login: &Login, challenge: &str, send: &mut Vec<u8>) -> Result<(), Unexpected> {
        self.answered += 1;
        let answer = match (self.mechanism, self.answered) {
            (Mechanism::Login, 1) => STANDARD.encode(&login.username),
            (Mechanism::Login, 2) => STANDARD.encode(&login.secret),
            (Mechanism::CramMd5, 1) => {
                let challenge = STANDARD.decode(challenge.trim()).map_err(|_| Unexpected)?;
                STANDARD.encode(format!("{} {}", login.username, cram_md5(login.secret.as_bytes(), &challenge)))
            }
            // It tells why not, and waits for an empty answer before it says no.
            (Mechanism::Xoauth2, 1) => String::new(),
            _ => return Err(Unexpected),
        };
        send.extend_from_slice(answer.as_bytes());
        send.extend_from_slice(b"\r\n");
        Ok(())
    }
}

/// HMAC-MD5 in lower-case hexadecimal digits.
fn cram_md5(secret: &[u8], challenge: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut mac = Hmac::<Md5>::new_from_slice(secret).expect("HMAC takes a key of any length");
    mac.update(challenge);
    mac.finalize().into_bytes().iter().fold(String::with_capacity(32), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::capabilities::Mechanisms;

    fn login(mechanisms: &[Mechanism]) -> Login {
        Login { username: "tim".to_owned(), secret: "tanstaaftanstaaf".to_owned(), mechanisms: mechanisms.to_vec() }
    }

    /// What is told to a server that offers `offered` and then says `challenges`.
    fn told(login: &Login, offered: &[Mechanism], challenges: &[&str]) -> Result<Vec<String>, Unexpected> {
        let mut auth = Mechanisms::default();
        for one in offered {
            auth.add(*one);
        }
        let mut send = Vec::new();
        if let Some(mut exchange) = login.begin(&Capabilities { auth, ..Capabilities::default() }, &mut send) {
            challenges.iter().try_for_each(|challenge| exchange.answer(login, challenge, &mut send))?;
        }
        Ok(String::from_utf8(send).expect("ASCII").lines().map(str::to_owned).collect())
    }

    #[test]
    fn each_mechanism_tells_what_its_document_says() {
        use Mechanism::{CramMd5, Login, Plain, Xoauth2};
        let plain = told(&login(&[Plain]), &[Plain], &[]);
        assert_eq!(plain, Ok(vec!["AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm".to_owned()]));
        let by_login = told(&login(&[Login]), &[Login], &["VXNlcm5hbWU6", "UGFzc3dvcmQ6"]);
        assert_eq!(by_login, Ok(["AUTH LOGIN", "dGlt", "dGFuc3RhYWZ0YW5zdGFhZg=="].map(str::to_owned).to_vec()));
        // The example of RFC 2195 section 2.
        let challenge = STANDARD.encode("<1896.697170952@postoffice.reston.mci.net>");
        let cram = told(&login(&[CramMd5]), &[CramMd5], &[&challenge]).expect("answered");
        assert_eq!(STANDARD.decode(&cram[1]).expect("base64"), b"tim b913a602c7eda7a495b4e6e7334d3890");
        let oauth = told(&login(&[Xoauth2]), &[Xoauth2], &["eyJzdGF0dXMiOiI0MDEifQ=="]).expect("answered");
        let sent = STANDARD.decode(oauth[0].strip_prefix("AUTH XOAUTH2 ").expect("a token")).expect("base64");
        assert_eq!((&sent[..], &*oauth[1]), (&b"user=tim\x01auth=Bearer tanstaaftanstaaf\x01\x01"[..], ""));
    }

    #[test]
    fn the_first_mechanism_that_is_offered_is_used() {
        use Mechanism::{CramMd5, Login, Plain};
        let first = |wanted: &[Mechanism], offered: &[Mechanism]| {
            told(&login(wanted), offered, &[]).expect("no challenge").into_iter().next()
        };
        assert_eq!(first(&[CramMd5, Login], &[Plain, Login, CramMd5]), Some("AUTH CRAM-MD5".to_owned()));
        assert_eq!(first(&[CramMd5, Login], &[Plain, Login]), Some("AUTH LOGIN".to_owned()));
        assert_eq!(first(&[CramMd5], &[Plain]), None);
    }

    #[test]
    fn a_challenge_out_of_place_ends_it() {
        use Mechanism::{CramMd5, Plain};
        assert_eq!(told(&login(&[Plain]), &[Plain], &["eA=="]), Err(Unexpected));
        assert_eq!(told(&login(&[CramMd5]), &[CramMd5], &["not base64!"]), Err(Unexpected));
    }
}
