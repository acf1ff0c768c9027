//! Where files are copied to: a directory, or addresses of a store that takes them by PUT.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use crate::config::section::path;
use crate::sys::http::{Endpoint, strictly_encoded};

/// The placeholder for a file's name in an address.
pub(super) const NAME: &str = "${name}";

/// The value of `to` with facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    Directory(PathBuf),
    /// One address, or several as in a list of presigned ones, with white space between them.
    Urls(Vec<String>),
}

/// Reads an absolute path, or URLs.
pub(super) fn destination(text: &str) -> Result<Destination, String> {
    if text.starts_with('/') {
        return path(text).map(Destination::Directory);
    }
    if !text.contains("://") {
        return Err(format!(
            "`{text}` is neither an absolute path nor a URL (http://… or https://…)"
        ));
    }
    let urls: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    urls.iter()
        .try_for_each(|url| named(url, "name").map(drop))
        .map(|()| Destination::Urls(urls))
}

/// The directory, for checks of paths; the root for addresses.
pub(super) fn directory(text: &str) -> Result<PathBuf, String> {
    Ok(match destination(text)? {
        Destination::Directory(path) => path,
        Destination::Urls(_) => PathBuf::from("/"),
    })
}

/// The first address, for checks of peers.
///
/// # Errors
/// As [`destination`], and if it is a directory.
pub(super) fn address(text: &str) -> Result<Endpoint, String> {
    match destination(text)? {
        Destination::Directory(_) => Err("is a directory".to_owned()),
        Destination::Urls(urls) => named(&urls[0], "name"),
    }
}

/// An address with this in place of the name.
fn named(url: &str, name: &str) -> Result<Endpoint, String> {
    Endpoint::parse(&url.replace(NAME, name))
}

/// The address that a file goes to. `${name}` in the only one becomes its name; of several, and of one with a query, it is
/// the one whose path ends in the name; else the name is appended to the path.
pub(super) fn address_of(urls: &[String], name: &OsStr) -> Result<Endpoint, String> {
    let spelled = spelled(name);
    let is_for_it = |url: &&String| {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let is_one_of_many = urls.len() > 1 || !query.is_empty();
        is_one_of_many && !url.contains(NAME) && path.ends_with(&format!("/{spelled}"))
    };
    if let Some(url) = urls.iter().find(is_for_it) {
        return Endpoint::parse(url);
    }
    match urls {
        [url] if url.contains(NAME) => named(url, &spelled),
        [url] => {
            let (path, query) = match url.split_once('?') {
                Some((path, query)) => (path, format!("?{query}")),
                None => (url.as_str(), String::new()),
            };
            Endpoint::parse(&format!("{}/{spelled}{query}", path.trim_end_matches('/')))
        }
        _ => Err("no URL of `to` ends in this name".to_owned()),
    }
}

/// A name as a part of a URL: percent-encoded, but for its slashes.
fn spelled(name: &OsStr) -> String {
    let parts: Vec<String> = (name.as_bytes().split(|byte| *byte == b'/'))
        .map(strictly_encoded)
        .collect();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_path_or_urls() {
        assert_eq!(
            destination("/srv/x"),
            Ok(Destination::Directory("/srv/x".into()))
        );
        let urls = |text: &str| match destination(text) {
            Ok(Destination::Urls(urls)) => urls.len(),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(urls("https://h/logs/${name}?sig=x"), 1);
        assert_eq!(urls("https://h/a?sig=1\nhttps://h/b?sig=2\n"), 2);
        for wrong in ["", "srv/x", "ftp://h/x", "https://u:p@h/x", "https://h/x#y"] {
            assert!(destination(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_has_its_address() {
        let of = |urls: &[&str], name: &str| {
            let urls: Vec<String> = urls.iter().map(|it| (*it).to_owned()).collect();
            address_of(&urls, OsStr::new(name)).map(|it| it.to_string())
        };
        for (urls, name, expected) in [
            (
                &["https://h/logs"][..],
                "a b/c:d",
                "https://h/logs/a%20b/c%3Ad",
            ),
            (&["https://h/"], "a?#%", "https://h/a%3F%23%25"),
            (&["https://h/c?sas=x"], "a", "https://h/c/a?sas=x"),
            (&["https://h/x-${name}?k=v"], "d/a", "https://h/x-d/a?k=v"),
            (
                &["https://h/p/a.log?sig=1"],
                "a.log",
                "https://h/p/a.log?sig=1",
            ),
            (&["https://h/logs"], "logs", "https://h/logs/logs"),
            (
                &["https://h/a?sig=1", "https://h/b?sig=2"],
                "b",
                "https://h/b?sig=2",
            ),
        ] {
            assert_eq!(of(urls, name).as_deref(), Ok(expected), "{urls:?} {name}");
        }
        assert!(of(&["https://h/a?sig=1", "https://h/b?sig=2"], "c").is_err());
    }
}
