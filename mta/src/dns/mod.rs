//! From a domain to the hosts that take its mail. `site` is floor 0, `exchanger` and
//! `naming` floor 1, `resolver` and `lead` floor 3.

pub mod exchanger;
pub mod lead;
pub mod naming;
pub mod resolver;
pub mod site;
