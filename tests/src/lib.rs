//! Both real programs together with real peers: load tools, the harness that starts them, the ledger
//! that makes loss and duplicates numbers. Floor: above both programs; nothing imports it.

pub mod bench;
pub mod harness;
pub mod ledger;
pub mod peer;
