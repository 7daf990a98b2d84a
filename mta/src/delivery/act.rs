//! What the dialogue gives out, and why no further reply may come.
//! Plain data. Floor 2.

use egret_shared::fault::Reason;

use super::outcome::Seen;
use super::reply::Bad;
use super::transaction::Finished;
use crate::message::Response;

/// What the driver does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Act {
    /// Do the TLS handshake, then call [`super::dialogue::Dialogue::upgraded`].
    Upgrade,
    /// The session can carry messages.
    Ready,
    /// The session could not be opened.
    Refused(Refused),
    /// Write the content and the final dot, then call [`super::dialogue::Dialogue::content_written`].
    SendContent,
    /// The transaction is over.
    Finished(Finished),
    /// The other side answered QUIT, or left.
    Left,
}

/// Why a session could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The words that decided: the destination's or our own.
    pub response: Response,
    /// The first line of the greeting if that was the refusal: a proxy may have written it.
    pub line: Option<String>,
    /// What kind of fault it is.
    pub reason: Reason,
}

/// Why no further reply comes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// The other side closed the connection.
    #[error("connection closed by the other side")]
    Closed,
    /// The connection broke.
    #[error("connection lost: {0}")]
    Broken(String),
    /// The connection was reset.
    #[error("connection reset by the other side")]
    Reset,
    /// Nothing came in time.
    #[error("no answer within {0} s")]
    Late(u64),
    /// What came is not SMTP.
    #[error("protocol error: {0}")]
    Malformed(#[from] Bad),
    /// Bytes that no command asked for.
    #[error("data before the TLS handshake")]
    Early,
    /// A reply that no command asked for, or one that cannot be the answer to its command.
    #[error("protocol error: a reply that answers nothing that was asked")]
    OutOfStep,
    /// This program is stopping.
    #[error("this host is stopping")]
    Stopped,
}

impl Lost {
    pub(super) fn seen(&self) -> Seen {
        match self {
            Self::Late(_) => Seen::Late,
            Self::Stopped => Seen::Stopped,
            _ => Seen::Broken,
        }
    }
}
