//! Events: the record of each thing that happened to a message. Floor 1. Writes nothing: the app hands
//! records to a journal.

pub mod record;
pub mod tls;
