//! Tests of the purse.
