//! What the strings of the configuration are, which decides what a fact in them may become.

use std::path::PathBuf;

use crate::sys::http::Endpoint;

/// What a configured string is, and so what a fact in it may become. A fact is data: it fills the place that it stands in
/// and never leads to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextKind {
    /// Text, in which a fact may be anything.
    Text,
    /// A path of the file system. A fact that begins it may be all of it; elsewhere a fact fills one part.
    Path,
    /// A path with wildcards, in which a fact has none.
    Glob,
    /// A URL. As a path, and a fact in its path or query is percent-encoded.
    Url,
    /// A name with slashes in it, as the keys of etcd and Consul are. As a path, but it need not be absolute.
    Key,
    /// A name, or a pattern of names: a fact is never a pattern.
    Pattern,
}

/// A type of configured values, and what the strings are that it is read from.
pub trait Shaped {
    /// What such a string is.
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
