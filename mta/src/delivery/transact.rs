//! One transaction over a connection, up to the last answer.
//! Floor 4. Touches the connection only.

use super::connection::Connection;
use super::dialogue::{Act, Finished, Lost};
use crate::message::Content;

/// Carries the transaction whose turn it is to its end; `act` is what has come of it already.
pub(super) async fn finish(connection: &mut Connection, content: &Content, mut act: Option<Act>) -> Finished {
    loop {
        act = match act {
            None => Some(connection.next().await),
            Some(Act::SendContent) => connection.send_content(content).await,
            Some(Act::Finished(finished)) => return finished,
            // No other act can come within a transaction; if one did, the connection is of no use.
            Some(_) => match connection.dialogue.lost(&Lost::Closed) {
                Act::Finished(finished) => return finished,
                _ => return Finished { decided: Vec::new(), is_untouched: true },
            },
        }
    }
}
