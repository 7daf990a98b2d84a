//! Sockets that both programs use alike: the accept loop, socket options, TLS. Floor 2.

pub mod accept;
pub mod errno;
pub mod socket;
pub mod tls;
pub mod tls_client;
