//! A message as plain data: its id, its addresses, what is stored of it, and what became of it.
//! Pure. Floor 0. Does not know where a message is; rooms hand these values forward, one way.

mod address;
mod handover;
mod id;
mod metadata;
mod priority;
mod queue_name;
mod verdict;

pub use address::{Address, BadAddress};
pub use handover::{FromSession, PartResult, Ticket};
pub use id::MessageId;
pub use metadata::{Content, Mark, Message, Metadata, Moved, Part};
pub use priority::Priority;
pub use queue_name::{Leads, QueueName, is_domain};
pub use verdict::{EnhancedCode, RecipientResult, Response, Verdict};
