//! The hosts to which credentials may be sent if the host comes from a file.

use std::sync::Arc;

/// Names and addresses of hosts; one that begins with a dot matches every name below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    hosts: Arc<[String]>,
    is_unknown: bool,
}

impl Hosts {
    /// These hosts, each checked by [`host`].
    pub fn new(hosts: Vec<String>) -> Hosts {
        let hosts = hosts.iter().map(|it| it.to_ascii_lowercase());
        Hosts {
            hosts: hosts.collect(),
            is_unknown: false,
        }
    }

    /// Hosts that are not known yet, as on a build machine.
    pub fn unknown() -> Hosts {
        Hosts {
            is_unknown: true,
            ..Hosts::default()
        }
    }

    /// Whether the list is known to be empty.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty() && !self.is_unknown
    }

    /// Whether a host is among them, with or without a trailing dot.
    pub fn has(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        self.hosts.iter().any(|it| match it.starts_with('.') {
            true => host.len() > it.len() && host.ends_with(it.as_str()),
            false => host == *it,
        })
    }
}

/// Checks an item of the list: a host, or a dot and a domain.
pub fn host(text: &str) -> Result<(), String> {
    let name = text.strip_prefix('.').unwrap_or(text);
    let is_plain = |it: u8| it.is_ascii_alphanumeric() || b"-._:".contains(&it);
    match name.bytes().all(is_plain) && !name.is_empty() && !name.starts_with('.') {
        true => Ok(()),
        false => Err(format!(
            "`{text}` is not a host: write a name (web.example), an address (an IPv6 one without brackets), or a dot and a domain \
             (.example) for all names below it"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_has_what_is_below_it_and_nothing_that_ends_like_it() {
        let hosts = Hosts::new(vec![".Example".into(), "10.0.0.1".into(), "::1".into()]);
        for host in ["a.example", "b.a.EXAMPLE", "a.example.", "10.0.0.1", "::1"] {
            assert!(hosts.has(host), "{host}");
        }
        for host in [
            "example",
            ".example",
            "badexample",
            "a.example.evil",
            "10.0.0.10",
            "",
        ] {
            assert!(!hosts.has(host), "{host}");
        }
        assert!(Hosts::default().is_empty() && !Hosts::default().has("a.example"));
        assert!(!Hosts::unknown().is_empty() && !Hosts::unknown().has("a.example"));
        for text in [
            "",
            ".",
            "..a",
            "a/b",
            "http://a",
            "[::1]",
            "a b",
            "*.example",
        ] {
            assert!(host(text).is_err(), "{text}");
        }
    }
}
