//! Who is there: proxies and MTA nodes announce themselves in Redis, and whoever wants to finds them. `record`, `head`
//! and `book` are pure, floor 1; `store` speaks with Redis, floor 4.
//! Knows what a record says, not what follows from it.
//! Always: while Redis is away what was known last stays known; who does not say that he is there is forgotten within
//! seconds while it is not.

pub mod book;
mod head;
pub mod record;
pub mod store;
