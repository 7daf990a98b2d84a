//! Tenant and campaign of a message: read from headers that its sender wrote, which are then taken out.
//! Pure. Floor 1.
//! Always: a value that cannot be used is an error, never another tenant; every byte of a message
//! outside the headers that are taken out stays as it is.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use memchr::memchr;

/// The longest tenant or campaign, in bytes.
const MAX_LABEL_BYTES: usize = 64;
/// What a label may hold beside letters and digits: nothing that separates the parts of a queue's name.
const MARKS: &[u8] = b"._-+=";
/// Headers without which a message is none, or by which loops are found.
const NEEDED: [&str; 3] = ["From", "Date", "Received"];

/// The name of a tenant or a campaign: short, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label(Arc<str>);

impl Label {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim_matches([' ', '\t']);
        let fits = |b: u8| b.is_ascii_alphanumeric() || MARKS.contains(&b);
        if (1..=MAX_LABEL_BYTES).contains(&text.len()) && text.bytes().all(fits) {
            return Ok(Self(text.to_ascii_lowercase().into()));
        }
        Err(format!("1 to {MAX_LABEL_BYTES} letters, digits or . _ - + = are allowed"))
    }
}

/// The name of a header field (RFC 5322 section 3.6.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderName(Box<str>);

impl HeaderName {
    /// A name of any header, to be looked for.
    ///
    /// # Errors
    /// That it is no header's name.
    pub fn to_look_for(text: &str) -> Result<Self, String> {
        let fits = |b: u8| b.is_ascii_graphic() && b != b':';
        if !(1..=64).contains(&text.len()) || !text.bytes().all(fits) {
            return Err("write a name like \"X-Tenant\", without the colon".to_owned());
        }
        Ok(Self(text.into()))
    }

    /// The value of `field` if this is its name; a space before the colon was legal once.
    fn value_of<'f>(&self, field: &'f [u8]) -> Option<&'f [u8]> {
        let (name, rest) = field.split_at_checked(self.0.len())?;
        if !name.eq_ignore_ascii_case(self.0.as_bytes()) {
            return None;
        }
        let colon = rest.iter().position(|b| !matches!(b, b' ' | b'\t'))?;
        (rest[colon] == b':').then(|| &rest[colon + 1..])
    }
}

impl FromStr for HeaderName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let name = Self::to_look_for(text)?;
        if NEEDED.iter().any(|needed| needed.eq_ignore_ascii_case(text)) {
            return Err("a message needs that header for itself; choose one of your own, like \"X-Tenant\"".to_owned());
        }
        Ok(name)
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whose mail a message is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// The tenant.
    pub tenant: Option<Label>,
    /// The campaign.
    pub campaign: Option<Label>,
}

impl Labels {
    /// Both as they stand in a queue's name: campaign, tenant.
    pub fn texts(&self) -> (Option<&str>, Option<&str>) {
        (self.campaign.as_ref().map(Label::as_str), self.tenant.as_ref().map(Label::as_str))
    }
}

/// Why a message's labels cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLabel {
    /// The value cannot be one.
    #[error("header {header} has a value that cannot be used: {allowed}")]
    Value {
        /// The header.
        header: HeaderName,
        /// What it may hold.
        allowed: String,
    },
    /// Two of them would be two answers.
    #[error("header {0} stands there twice, one is allowed")]
    Twice(HeaderName),
}

/// Which headers say whose mail a message is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelHeaders {
    /// The header that names the tenant.
    pub tenant: Option<HeaderName>,
    /// The header that names the campaign.
    pub campaign: Option<HeaderName>,
    /// They are taken out of the message.
    pub remove: bool,
    /// The tenant of a message that names none.
    pub default_tenant: Option<Label>,
}

impl LabelHeaders {
    /// Reads the labels of a message (CRLF lines), and takes their headers out if that is wanted.
    ///
    /// # Errors
    /// A header whose value is no label, or that stands there twice.
    pub fn take(&self, message: Bytes) -> Result<(Labels, Bytes), BadLabel> {
        let mut labels = Labels::default();
        let mut found = Vec::new();
        if self.tenant.is_some() || self.campaign.is_some() {
            for field in fields(&message) {
                let text = &message[field.clone()];
                for (header, label) in [(&self.tenant, &mut labels.tenant), (&self.campaign, &mut labels.campaign)] {
                    let Some((header, value)) = header.as_ref().and_then(|h| Some((h, h.value_of(text)?))) else {
                        continue;
                    };
                    read(header, value, label)?;
                    found.push(field.clone());
                }
            }
        }
        labels.tenant = labels.tenant.or_else(|| self.default_tenant.clone());
        let message = if self.remove { without(message, &found) } else { message };
        Ok((labels, message))
    }
}

fn read(header: &HeaderName, value: &[u8], label: &mut Option<Label>) -> Result<(), BadLabel> {
    if label.is_some() {
        return Err(BadLabel::Twice(header.clone()));
    }
    let unfolded: Vec<u8> = value.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
    let text = String::from_utf8_lossy(&unfolded);
    let parsed = text.parse().map_err(|allowed| BadLabel::Value { header: header.clone(), allowed })?;
    *label = Some(parsed);
    Ok(())
}

/// The values of the headers of that name, unfolded and trimmed, as they stand there (encoded words are not decoded).
pub fn header_values(message: &[u8], name: &HeaderName) -> impl Iterator<Item = String> {
    fields(message).filter_map(move |field| {
        let value = name.value_of(&message[field])?;
        let unfolded: Vec<u8> = value.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
        Some(String::from_utf8_lossy(&unfolded).trim().to_owned())
    })
}

/// The message without the headers of these names.
pub fn without_headers(message: Bytes, names: &[&HeaderName]) -> Bytes {
    let is_named = |field: &Range<usize>| names.iter().any(|name| name.value_of(&message[field.clone()]).is_some());
    let found: Vec<_> = fields(&message).filter(is_named).collect();
    without(message, &found)
}

/// The header fields of a message, each with its folded lines and its last CRLF.
fn fields(message: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = &message[at..];
        if rest.is_empty() || rest.starts_with(b"\r\n") {
            return None;
        }
        let (start, mut end) = (at, at);
        loop {
            end = memchr(b'\n', &message[end..]).map_or(message.len(), |line| end + line + 1);
            if !matches!(message.get(end), Some(b' ' | b'\t')) {
                break;
            }
        }
        at = end;
        Some(start..end)
    })
}

/// `message` without some pieces, which are in order. Only what stands before them is moved: a body is as large
/// as it likes.
fn without(message: Bytes, pieces: &[Range<usize>]) -> Bytes {
    let Some(last) = pieces.last() else { return message };
    let mut text = message.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    let mut to = last.end;
    for (nth, piece) in pieces.iter().enumerate().rev() {
        let from = nth.checked_sub(1).and_then(|before| pieces.get(before)).map_or(0, |before| before.end);
        to -= piece.start - from;
        text.copy_within(from..piece.start, to);
    }
    text.split_off(to).freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers() -> LabelHeaders {
        LabelHeaders {
            tenant: Some("X-Tenant".parse().expect("a name")),
            campaign: Some("X-Campaign".parse().expect("a name")),
            remove: true,
            default_tenant: None,
        }
    }

    /// Campaign, tenant and what is left, or the complaint.
    fn taken(headers: &LabelHeaders, message: &str) -> Result<(String, String, String), String> {
        let taken = headers.take(Bytes::copy_from_slice(message.as_bytes())).map_err(|bad| bad.to_string())?;
        let (campaign, tenant) = taken.0.texts();
        let left = String::from_utf8(taken.1.to_vec()).expect("text");
        Ok((campaign.unwrap_or("-").to_owned(), tenant.unwrap_or("-").to_owned(), left))
    }

    #[test]
    fn labels_are_read_trimmed_and_folded_and_their_headers_are_gone() {
        for (message, campaign, tenant, left) in [
            ("A: 1\r\nX-Tenant: Acme\r\nB: 2\r\n\r\nx", "-", "acme", "A: 1\r\nB: 2\r\n\r\nx"),
            ("x-tenant:\r\n\t a.b \r\nB: 2\r\nX-CAMPAIGN : c\r\n\r\n", "c", "a.b", "B: 2\r\n\r\n"),
            (
                "X-Tenants: t\r\nA: X-Tenant: t\r\n X-Tenant: t\r\n\r\n",
                "-",
                "-",
                "X-Tenants: t\r\nA: X-Tenant: t\r\n X-Tenant: t\r\n\r\n",
            ),
            ("A: 1\r\n\r\nX-Tenant: t\r\n", "-", "-", "A: 1\r\n\r\nX-Tenant: t\r\n"),
            ("X-Campaign: c\r\nX-Tenant: t", "c", "t", ""),
            ("\r\nX-Tenant: t\r\n", "-", "-", "\r\nX-Tenant: t\r\n"),
            ("", "-", "-", ""),
        ] {
            let want = (campaign.to_owned(), tenant.to_owned(), left.to_owned());
            assert_eq!(taken(&headers(), message), Ok(want), "{message:?}");
        }
    }

    #[test]
    fn what_cannot_be_a_label_is_told_and_never_another_tenant() {
        let long = format!("X-Tenant: {}\r\n\r\n", "a".repeat(65));
        for message in [
            "X-Tenant: a b\r\n\r\n",
            "X-Tenant: a\r\n b\r\n\r\n",
            "X-Tenant:\r\n\r\n",
            "X-Tenant: a:b\r\n\r\n",
            "X-Tenant: a@b\r\n\r\n",
            "X-Tenant: \u{e9}\r\n\r\n",
            "X-Tenant: a\r\nX-Tenant: a\r\n\r\n",
            &long,
        ] {
            let told = taken(&headers(), message).expect_err(message);
            assert!(told.starts_with("header X-Tenant ") && told.contains("allowed"), "{told}");
        }
    }

    #[test]
    fn without_a_header_to_look_for_the_message_is_not_touched() {
        let mut quiet =
            LabelHeaders { default_tenant: Some("House".parse().expect("a label")), ..LabelHeaders::default() };
        quiet.remove = true;
        let message = Bytes::from_static(b"X-Tenant: t\r\n\r\n");
        let (labels, left) = quiet.take(message.clone()).expect("no header to read");
        assert_eq!((labels.texts(), left.as_ptr()), ((None, Some("house")), message.as_ptr()));
        let kept = LabelHeaders { remove: false, ..headers() };
        let told = taken(&kept, "X-Tenant: t\r\n\r\n").expect("good");
        assert_eq!((told.1.as_str(), told.2.as_str()), ("t", "X-Tenant: t\r\n\r\n"));
    }

    #[test]
    fn names_of_headers_are_checked() {
        for bad in ["", "X Tenant", "X-Tenant:", "X-T\u{e4}nant", "from", "RECEIVED"] {
            assert!(bad.parse::<HeaderName>().is_err(), "{bad:?}");
        }
    }

    /// A header field with or without folds, and whether it is to go.
    fn field() -> impl Strategy<Value = (String, Option<bool>)> {
        prop_oneof![
            "[A-W][a-z-]{0,8}: [ -~]{0,12}(\r\n[ \t][!-~]{1,9}){0,2}\r\n".prop_map(|text| (text, None)),
            "X-Tenants?x: [a-z]{0,5}\r\n".prop_map(|text| (text, None)),
            "[Xx]-[Tt]enant:(\r\n)?[ \t]{1,3}[a-z0-9.]{1,64}(\r\n[ \t]+)?\r\n".prop_map(|text| (text, Some(true))),
            "[Xx]-CAMPAIGN[ \t]?:[ \t]{0,3}[A-Z_=]{1,9}\r\n".prop_map(|text| (text, Some(false))),
        ]
    }

    proptest! {
        #[test]
        fn every_other_byte_stays(
            fields in prop::collection::vec(field(), 0..12),
            body in prop_oneof![Just(String::new()), "\r\n([ -~]{0,9}\r\n){0,4}(X-Tenant: z\r\n)?"],
            is_shared: bool,
        ) {
            let of = |tenant| fields.iter().filter(|field| field.1 == Some(tenant)).count();
            let whole: String = fields.iter().map(|field| field.0.as_str()).collect::<String>() + &body;
            let rest: String = fields.iter().filter(|f| f.1.is_none()).map(|f| f.0.as_str()).collect::<String>() + &body;
            let message = Bytes::from(whole.into_bytes());
            let other = is_shared.then(|| message.clone());
            match headers().take(message) {
                Ok((labels, left)) => {
                    prop_assert!(of(true) <= 1 && of(false) <= 1);
                    prop_assert_eq!((labels.tenant.is_some(), labels.campaign.is_some()), (of(true) == 1, of(false) == 1));
                    prop_assert_eq!(left, rest.as_bytes());
                }
                Err(_) => prop_assert!(of(true) > 1 || of(false) > 1),
            }
            drop(other);
        }
    }
}
