//! One transaction over a connection, from MAIL to the last answer.
//! Floor 4. Touches the connection only.

use super::connection::Connection;
use super::dialogue::{Act, Envelope, Finished, Lost};
use crate::message::{Message, Part};

/// One transaction, to its end.
pub(super) async fn transact(
    connection: &mut Connection,
    message: &Message,
    part: &Part,
    envelope: &Envelope<'_>,
    batch: &[u16],
) -> Finished {
    let recipients = batch.iter().filter_map(|n| Some((*n, part.recipients.get(usize::from(*n))?)));
    let (dialogue, send) = connection.parts();
    let mut act =
        if dialogue.begin(envelope, recipients, send) { connection.send_at_once(&message.content).await } else { None };
    loop {
        if act.is_none() {
            act = match connection.next().await {
                Act::SendContent => connection.send_content(&message.content).await,
                act => Some(act),
            };
        }
        match act.take() {
            Some(Act::Finished(finished)) => return finished,
            None => {}
            // No other act can come within a transaction; if one did, the connection is of no use.
            Some(_) => match connection.dialogue.lost(&Lost::Closed) {
                Act::Finished(finished) => return finished,
                _ => return Finished { decided: Vec::new(), is_untouched: true },
            },
        }
    }
}
