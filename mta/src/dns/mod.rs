//! From a domain to the hosts that take its mail. `site` is floor 1, `resolver` floor 3.

pub mod site;
