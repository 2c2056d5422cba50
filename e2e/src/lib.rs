//! Tests that boot microVMs.
