//! The kinds of configured strings, which decide what facts in them may be.

use std::path::PathBuf;

use crate::sys::http::Endpoint;

/// The kind of a configured string, which decides what a fact in it may be. A fact is data: it never changes the
/// structure of the string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextKind {
    /// Text in which a fact may be anything.
    Text,
    /// A file system path. A fact that begins it may be the whole path; elsewhere it fills one segment.
    Path,
    /// A path with wildcards, which a fact must not contain.
    Glob,
    /// A URL: as a path, with facts in its path or query percent-encoded.
    Url,
    /// A name with slashes, such as a key in etcd or Consul: as a path, but it need not be absolute.
    Key,
    /// A name or a pattern of names; a fact must not be a pattern.
    Pattern,
}

/// A type of configured values, and the kind of strings it is parsed from.
pub trait Shaped {
    /// The kind.
    const SHAPE: TextKind = TextKind::Text;
}

impl Shaped for String {}

impl Shaped for i64 {}

impl Shaped for u16 {}

impl Shaped for u64 {}

impl Shaped for PathBuf {
    const SHAPE: TextKind = TextKind::Path;
}

impl Shaped for Endpoint {
    const SHAPE: TextKind = TextKind::Url;
}
