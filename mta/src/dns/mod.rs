//! From a domain to the hosts that take its mail, and how they want it. `site` is floor 0, `exchanger`, `naming`
//! and `sts::policy` floor 1, `answer`, `resolver`, `tlsa`, `sts`, `policed` and `lead` floor 3.

mod answer;
pub mod exchanger;
pub mod lead;
pub mod naming;
pub mod policed;
pub mod resolver;
pub mod site;
pub mod sts;
mod tlsa;
