//! Placeholder.

/// Placeholder.
#[derive(Default)]
pub struct Http;
