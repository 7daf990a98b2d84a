//! What egret-proxy and egret-mta both speak and agree on. It never imports either.
//!
//! Rooms with their floors (a file uses only lower floors and its own room):
//! `text` 0, `units` 0, `clock` 0, `fault` 0, `address` 0 · `limits` 0, 1, 2 · `socks5` 1, `proxy_protocol` 1,
//! `metrics` 1, `lifecycle` 1, `check` 1, `users` 1 · `net` 2, `config` 2, `journal` 2 · `http` 3, `redis` 3. `limits`
//! also has 4, `registry` and `sockets` 1 and 4.

pub mod address;
pub mod check;
pub mod clock;
pub mod config;
pub mod fault;
pub mod http;
pub mod journal;
pub mod lifecycle;
pub mod limits;
pub mod metrics;
pub mod net;
pub mod proxy_protocol;
pub mod redis;
pub mod registry;
pub mod sockets;
pub mod socks5;
pub mod text;
pub mod units;
pub mod users;
