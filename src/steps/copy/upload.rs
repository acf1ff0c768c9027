//! A multipart upload that has begun.

use crate::sys::copy::Version;

/// What a later attempt needs to continue it.
#[derive(Clone, Debug)]
pub(super) struct Upload {
    pub(super) version: Version,
    /// The store's id of it.
    pub(super) id: String,
    /// The tags of the uploaded parts, in order.
    pub(super) parts: Vec<String>,
}
