//! What fuzzing feeds with anything: segments, outlines and registers. Floor 2.

use bytes::Bytes;

use super::outline::Outline;
use super::record::{Header, Scan, read_message, read_meta};
use super::{register, scan};

/// For fuzzing: no input may do more than be refused.
pub fn fuzz_records(bytes: &[u8]) {
    let _ = scan::is_no_segment(bytes);
    let (outline, _) = scan::scan(bytes);
    look_through(&outline);
    look_through(&Outline::of(bytes, bytes));
    if let Scan::Header(_) = Header::scan(bytes) {
        let _ = read_message(&Bytes::copy_from_slice(bytes));
    }
    let _ = std::str::from_utf8(bytes).map(register::understand);
}

fn look_through(outline: &Outline) {
    let _ = outline.marks().count();
    for message in outline.messages() {
        let _ = read_meta(message.meta);
    }
}
