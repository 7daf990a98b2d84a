//! The event log. Placeholder.
