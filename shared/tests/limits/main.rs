//! The limits of a fleet, and its registry, with real Redis servers: one, behind sentinels, in a cluster, with TLS; and
//! each fault of them that is cheap to make. Nodes are limits with a driver of their own, in this process. And claims on
//! sockets, which are kept beside them.
//! Each test has its own servers on ports that were free, in a folder of its own.

mod clocks;
mod faults;
mod first_days;
mod fleet;
mod places;
mod registry;
mod server;
mod shapes;
mod silence;
mod sockets;
