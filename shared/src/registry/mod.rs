//! Who is there: proxies and MTA nodes announce themselves in Redis, and whoever wants to finds them; and since when an
//! address is there. `record`, `head`, `book` and `first_days` are pure, floor 1; `store` and `agree` speak with Redis,
//! floor 4.
//! Knows what a record says, not what follows from it.
//! Always: while Redis is away what was known last stays known; who does not say that he is there is forgotten within
//! seconds while it is not.

pub mod agree;
pub mod book;
pub mod first_days;
mod head;
pub mod record;
pub mod store;
