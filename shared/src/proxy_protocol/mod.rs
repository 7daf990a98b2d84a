//! The PROXY protocol as a forward request: the header names the source to dial from and the
//! destination to dial to (HAProxy's proxy-protocol.txt, versions 1 and 2). Floor 1.
//! It knows no socket and does not judge the addresses: who may dial what is the proxy's business.

pub mod frame;
