//! The HAProxy PROXY protocol, version 1 and 2. Placeholder.
