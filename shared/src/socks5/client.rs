//! SOCKS5 client machine. Placeholder.
