//! Sockets that both programs use alike: the accept loop, socket options, TLS, what the kernel knows.
//! Floor 2.

pub mod accept;
pub mod certificate;
pub mod dane;
pub mod errno;
pub mod kernel;
pub mod socket;
pub mod tls;
pub mod tls_client;
