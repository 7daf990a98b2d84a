//! egret-proxy alone: the real binary, and clients and destinations of all kinds.

mod access;
mod cli;
mod clients;
mod limits;
mod namespace;
mod relay;
mod service;
mod support;
mod tls;
mod wire;
