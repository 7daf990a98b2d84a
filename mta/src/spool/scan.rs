//! Reading a segment's bytes record by record, every checksum verified, past what is damaged. Pure. Floor 2.
//! Always: one damaged record costs no other.

use super::outline::Outline;
use super::record::{HEADER_BYTES, Header, Kind, SEGMENT_MAGIC, SEGMENT_NAME, Scan, next_magic, read_mark, verify};

/// Bytes that mean nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    /// Where they begin.
    pub offset: usize,
    pub length: usize,
    pub why: String,
}

/// Why a file is not a segment of this version; `None` if it is, or was before its first bytes were damaged.
pub(super) fn is_no_segment(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(SEGMENT_MAGIC) {
        return None;
    }
    if bytes.len() < SEGMENT_MAGIC.len() {
        return Some("it ends before its first record: it was being made when the program ended");
    }
    let is_other_version = bytes.starts_with(SEGMENT_NAME);
    (is_other_version || !holds_record(bytes)).then_some("it is no segment of this version")
}

/// Whether a header that this code wrote stands anywhere in `bytes`.
fn holds_record(bytes: &[u8]) -> bool {
    let mut at = 0;
    while let Some(step) = next_magic(&bytes[at..]) {
        at += step;
        if matches!(Header::scan(&bytes[at..]), Scan::Header(_)) {
            return true;
        }
    }
    false
}

/// What stands in a segment, and what of it cannot be understood.
pub(super) fn scan(bytes: &[u8]) -> (Outline, Vec<Gap>) {
    let (mut outline, mut gaps) = (Outline::default(), Vec::new());
    if !bytes.starts_with(SEGMENT_MAGIC) {
        let why = "its first bytes are damaged; its records are read all the same".to_owned();
        gaps.push(Gap { offset: 0, length: bytes.len().min(SEGMENT_MAGIC.len()), why });
    }
    let mut at = SEGMENT_MAGIC.len();
    while at < bytes.len() {
        let rest = &bytes[at..];
        at += scan_record(at, rest, &mut outline).unwrap_or_else(|why| {
            let length = next_magic(rest).unwrap_or(rest.len());
            gaps.push(Gap { offset: at, length, why });
            length
        });
    }
    (outline, gaps)
}

/// Reads the record at the beginning of `rest`; returns its length.
fn scan_record(at: usize, rest: &[u8], outline: &mut Outline) -> Result<usize, String> {
    let header = match Header::scan(rest) {
        Scan::Header(header) => header,
        Scan::More => return Err("a record's header is cut off".to_owned()),
        Scan::Bad(why) => return Err(why.to_owned()),
    };
    let length = usize::try_from(header.record_bytes()).unwrap_or(usize::MAX);
    let record = rest.get(..length).ok_or_else(|| format!("the record of {} is cut off", header.id))?;
    let damaged = |why: &str| format!("record of message {}: {why}", header.id);
    verify(&header, record).map_err(damaged)?;
    match header.kind {
        Kind::Mark => {
            read_mark(&record[HEADER_BYTES..]).ok_or_else(|| damaged("its mark cannot be understood"))?;
            outline.add_marks(record);
        }
        Kind::Message => outline.add_message(at as u64, &record[..header.head_bytes()]),
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::super::record::{message_head, write_mark};
    use super::super::tests::message;
    use super::*;
    use crate::message::Mark;

    fn segment() -> Vec<u8> {
        let mut bytes = SEGMENT_MAGIC.to_vec();
        for n in 1..=3 {
            let message = message(n, 100);
            bytes.extend(message_head(&message));
            bytes.extend_from_slice(&message.content.added);
            bytes.extend_from_slice(&message.content.body);
            write_mark(message.id, 1, &Mark::Done, &mut bytes);
        }
        bytes
    }

    /// Which messages and marks are there, by the number of their message.
    fn numbers(outline: &Outline) -> (Vec<u8>, Vec<u8>) {
        let messages = outline.messages().map(|message| message.header.id.as_bytes()[0]).collect();
        (messages, outline.marks().map(|(id, ..)| id.as_bytes()[0]).collect())
    }

    #[test]
    fn every_flipped_bit_costs_one_record_at_most_and_is_told() {
        let mut bytes = segment();
        assert_eq!(numbers(&scan(&bytes).0), (vec![1, 2, 3], vec![1, 2, 3]));
        for at in 0..bytes.len() {
            bytes[at] ^= 1 << (at % 8);
            let (outline, gaps) = scan(&bytes);
            let (messages, marks) = numbers(&outline);
            assert!(messages.len() + marks.len() >= 5, "byte {at}: {messages:?} {marks:?}");
            assert_eq!(gaps.len(), 1, "byte {at}: {gaps:?}");
            assert!((gaps[0].offset..gaps[0].offset + gaps[0].length).contains(&at), "byte {at}: {gaps:?}");
            bytes[at] ^= 1 << (at % 8);
        }
    }

    #[test]
    fn every_cut_costs_what_is_behind_it() {
        let bytes = segment();
        let whole = scan(&bytes).0;
        for cut in SEGMENT_MAGIC.len()..bytes.len() {
            let (outline, gaps) = scan(&bytes[..cut]);
            assert!(gaps.len() <= 1, "cut at {cut}: {gaps:?}");
            let (messages, marks) = numbers(&outline);
            let (all_messages, all_marks) = numbers(&whole);
            assert!(all_messages.starts_with(&messages) && all_marks.starts_with(&marks), "cut at {cut}");
        }
    }
}
