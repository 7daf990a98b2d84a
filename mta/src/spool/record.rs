//! The format of segments and records on a slice. Documented in `docs/reference/spool.md`.
//! Pure. Floor 1.
//! Always: a header whose checksum fits is one that this code wrote; `scan` never trusts a length
//! before that.

use std::sync::Arc;

use bytes::Bytes;
use crc32fast::Hasher;
use egret_shared::clock::UnixMs;

use crate::message::{Content, Mark, Message, MessageId, Metadata};

/// How a segment file begins: name and version of the format.
pub(super) const SEGMENT_MAGIC: &[u8; 16] = b"egret spool v1\r\n";
/// How a segment file of any version begins.
pub(super) const SEGMENT_NAME: &[u8] = b"egret spool v";
/// How a record begins. The first byte is no UTF-8, so that text does not look like a record.
const RECORD_MAGIC: [u8; 4] = [0xF5, b'e', b'g', b'r'];
/// Bytes of a record's header.
pub(super) const HEADER_BYTES: usize = 52;
/// The longest metadata: a message of 65,535 long addresses.
const MAX_META_BYTES: u32 = 64 << 20;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A message.
    Message = 1,
    /// A mark on a part of a message.
    Mark = 2,
}

/// A record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub kind: Kind,
    pub id: MessageId,
    /// Bytes of metadata, or of the mark.
    pub meta_len: u32,
    /// Bytes of headers that were added here.
    pub added_len: u32,
    /// Bytes of the message as it came.
    pub body_len: u64,
    pub meta_crc: u32,
    pub content_crc: u32,
}

/// What stands at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// A header.
    Header(Header),
    /// The slice is too short to tell.
    More,
    /// No record.
    Bad(&'static str),
}

impl Header {
    /// Bytes of the whole record.
    pub fn record_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.meta_len) + self.content_bytes()
    }

    /// Bytes of the header and the metadata.
    pub fn head_bytes(&self) -> usize {
        HEADER_BYTES + self.meta_len as usize
    }

    /// Bytes of the message.
    pub fn content_bytes(&self) -> u64 {
        u64::from(self.added_len) + self.body_len
    }

    /// Appends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&RECORD_MAGIC);
        out.extend_from_slice(&[self.kind as u8, 0, 0, 0]);
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(&self.meta_len.to_le_bytes());
        out.extend_from_slice(&self.added_len.to_le_bytes());
        out.extend_from_slice(&self.body_len.to_le_bytes());
        out.extend_from_slice(&self.meta_crc.to_le_bytes());
        out.extend_from_slice(&self.content_crc.to_le_bytes());
        let crc = crc32fast::hash(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
    }

    /// Reads a header at the beginning of `bytes`.
    pub fn scan(bytes: &[u8]) -> Scan {
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Scan::More };
        let field = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        if header[..4] != RECORD_MAGIC {
            return Scan::Bad("no record begins here");
        }
        if field(48) != crc32fast::hash(&header[..48]) {
            return Scan::Bad("the header's checksum does not fit");
        }
        let kind = match header[4] {
            1 => Kind::Message,
            2 => Kind::Mark,
            _ => return Scan::Bad("it is of a kind that this version does not know"),
        };
        let mut id = [0; 16];
        id.copy_from_slice(&header[8..24]);
        let body_len = u64::from(field(32)) | u64::from(field(36)) << 32;
        if field(24) > MAX_META_BYTES || body_len > u64::from(u32::MAX) {
            return Scan::Bad("its length is not possible");
        }
        Scan::Header(Self {
            kind,
            id: MessageId::from_bytes(id),
            meta_len: field(24),
            added_len: field(28),
            body_len,
            meta_crc: field(40),
            content_crc: field(44),
        })
    }
}

/// Where the next header may stand in `bytes`, after the first byte.
pub(super) fn next_magic(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes.get(1..)?, &RECORD_MAGIC).map(|at| at + 1)
}

/// Header and metadata of a message's record; its content follows as it is in memory.
pub(super) fn message_head(message: &Message) -> Vec<u8> {
    // Every value of these types can be written as JSON; there is no map with odd keys, no number
    // that JSON does not know.
    let meta = serde_json::to_vec(&message.meta).unwrap_or_default();
    let mut head = Vec::with_capacity(HEADER_BYTES + meta.len());
    let Content { added, body } = &message.content;
    let header = Header {
        kind: Kind::Message,
        id: message.id,
        meta_len: meta.len() as u32,
        added_len: added.len() as u32,
        body_len: body.len() as u64,
        meta_crc: crc32fast::hash(&meta),
        content_crc: checksum(added, body),
    };
    header.write(&mut head);
    head.extend_from_slice(&meta);
    head
}

/// A mark's whole record.
pub(super) fn write_mark(id: MessageId, part: u16, mark: &Mark, out: &mut Vec<u8>) {
    let mut payload = Vec::with_capacity(16);
    payload.extend_from_slice(&part.to_le_bytes());
    if let Mark::Later { attempts, due, settled, moved } = mark {
        payload.extend_from_slice(&attempts.to_le_bytes());
        payload.extend_from_slice(&due.0.to_le_bytes());
        payload.extend_from_slice(&(settled.len() as u16).to_le_bytes());
        payload.extend(settled.iter().flat_map(|n| n.to_le_bytes()));
        // Two strings: JSON knows all of both.
        payload.extend(moved.iter().flat_map(|moved| serde_json::to_vec(&**moved).unwrap_or_default()));
    }
    let meta_crc = crc32fast::hash(&payload);
    let meta_len = payload.len() as u32;
    Header { kind: Kind::Mark, id, meta_len, added_len: 0, body_len: 0, meta_crc, content_crc: 0 }.write(out);
    out.extend_from_slice(&payload);
}

/// The part and the mark in a mark's payload whose checksum fits.
pub(super) fn read_mark(payload: &[u8]) -> Option<(u16, Mark)> {
    let (part, rest) = payload.split_first_chunk::<2>()?;
    let part = u16::from_le_bytes(*part);
    if rest.is_empty() {
        return Some((part, Mark::Done));
    }
    let (attempts, rest) = rest.split_first_chunk::<2>()?;
    let (due, rest) = rest.split_first_chunk::<8>()?;
    let (count, rest) = rest.split_first_chunk::<2>()?;
    let (settled, moved) = rest.split_at_checked(2 * usize::from(u16::from_le_bytes(*count)))?;
    let settled = settled.as_chunks::<2>().0.iter().map(|n| u16::from_le_bytes(*n)).collect();
    let (attempts, due) = (u16::from_le_bytes(*attempts), UnixMs(u64::from_le_bytes(*due)));
    let moved = if moved.is_empty() { None } else { Some(Arc::new(serde_json::from_slice(moved).ok()?)) };
    Some((part, Mark::Later { attempts, due, settled, moved }))
}

/// The metadata in bytes whose checksum fits.
pub(super) fn read_meta(bytes: &[u8]) -> Result<Metadata, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("its metadata cannot be understood: {error}"))
}

/// A message from its record, every checksum verified.
pub(super) fn read_message(record: &Bytes) -> Result<Message, String> {
    let header = match Header::scan(record) {
        Scan::Header(header) if header.kind == Kind::Message => header,
        Scan::Header(_) => return Err("it is not a message".to_owned()),
        Scan::More => return Err("it is cut off".to_owned()),
        Scan::Bad(why) => return Err(why.to_owned()),
    };
    verify(&header, record)?;
    let meta = record.slice(HEADER_BYTES..header.head_bytes());
    let content = record.slice(header.head_bytes()..);
    let added = content.slice(..header.added_len as usize);
    let body = content.slice(header.added_len as usize..);
    Ok(Message { id: header.id, meta: read_meta(&meta)?, content: Content { added, body } })
}

/// Verifies length and checksums of the record that `header` begins.
pub(super) fn verify(header: &Header, record: &[u8]) -> Result<(), &'static str> {
    if record.len() as u64 != header.record_bytes() {
        return Err("it is cut off");
    }
    let (head, content) = record.split_at(header.head_bytes());
    match header.kind {
        _ if header.meta_crc != crc32fast::hash(&head[HEADER_BYTES..]) => Err("the metadata's checksum does not fit"),
        Kind::Message if header.content_crc != crc32fast::hash(content) => Err("the content's checksum does not fit"),
        Kind::Message | Kind::Mark => Ok(()),
    }
}

fn checksum(added: &[u8], body: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(added);
    hasher.update(body);
    hasher.finalize()
}
