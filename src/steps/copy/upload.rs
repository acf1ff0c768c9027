//! An upload in parts that has begun.

use crate::sys::copy::Version;

/// What a later attempt needs to go on with it.
#[derive(Clone, Debug)]
pub(super) struct Upload {
    pub(super) version: Version,
    /// What the store calls it.
    pub(super) id: String,
    /// The tags of the parts that are there, in order.
    pub(super) parts: Vec<String>,
}
