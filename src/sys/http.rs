//! Placeholder.

/// Placeholder.
pub struct Http;
