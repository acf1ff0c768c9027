//! Addresses of HTTP servers, checked before anything is sent to them.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A parsed `http://` or `https://` URL.
///
/// It is parsed here and not by the client, which takes a port beyond 65535 for no port at all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    https: bool,
    host: String,
    port: u16,
    target: String,
}

impl Endpoint {
    /// Parses a URL with its path and query.
    ///
    /// # Errors
    /// What is wrong with it. A user or password in it is not repeated.
    pub fn parse(text: &str) -> Result<Endpoint, String> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or("a URL begins with http:// or https://")?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            // Only a word that is like a scheme is repeated: anything else may hold a password.
            other if other.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
                return Err(format!(
                    "a URL begins with http:// or https://, not with {other}://"
                ));
            }
            _ => return Err("a URL begins with http:// or https://".to_owned()),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err(
                "a URL holds no user and no password here; there are the keys `user` and `password` for them".to_owned(),
            );
        }
        if target.contains('#') {
            return Err("a URL holds no fragment (`#…`) here".to_owned());
        }
        if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(
                "white space and what is not ASCII must be percent-encoded in a URL".to_owned(),
            );
        }
        let (host, port) = split_port(authority)?;
        let default = if https { 443 } else { 80 };
        let target = if target.starts_with('/') {
            target.to_owned()
        } else {
            format!("/{target}")
        };
        Ok(Endpoint {
            https,
            host: checked_host(host)?,
            port: port.map_or(Ok(default), checked_port)?,
            target,
        })
    }

    /// Parses the URL of a service that other paths are put behind, which therefore has no query.
    ///
    /// # Errors
    /// As [`Endpoint::parse`].
    pub fn parse_base(text: &str) -> Result<Endpoint, String> {
        let endpoint = Endpoint::parse(text)?;
        if endpoint.target.contains('?') {
            return Err("the URL of a service holds no query (`?…`)".to_owned());
        }
        Ok(endpoint)
    }

    /// The same server with `path` (and perhaps a query) behind its own path; an empty one changes nothing.
    pub fn join(&self, path: &str) -> Endpoint {
        if path.is_empty() {
            return self.clone();
        }
        Endpoint {
            target: format!("{}{path}", self.target.trim_end_matches('/')),
            ..self.clone()
        }
    }

    /// Whether the connection is encrypted.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// The host, an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path and the query.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The host and, where it is not the scheme's own, the port: what the Host header says.
    pub fn authority(&self) -> String {
        let host = bracketed(&self.host);
        if self.port == if self.https { 443 } else { 80 } {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(out, "{scheme}://{}{}", self.authority(), self.target)
    }
}

/// The host as it stands in a URL: an IPv6 address in brackets.
pub(super) fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

/// Checks the name that a server's certificate must be for.
///
/// # Errors
/// When it is neither a name nor an address.
pub fn server_name(text: &str) -> Result<String, String> {
    let bare = text
        .strip_prefix('[')
        .and_then(|it| it.strip_suffix(']'))
        .unwrap_or(text);
    match rustls::pki_types::ServerName::try_from(bare) {
        Ok(_) => Ok(bare.to_owned()),
        Err(_) => Err(format!(
            "`{text}` is neither a host's name nor an IP address"
        )),
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<&str>), String> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest
            .split_once(']')
            .ok_or("the `[` of an IPv6 address has no `]`")?;
        host.parse::<Ipv6Addr>()
            .map_err(|_| format!("`{host}` is no IPv6 address"))?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err("only a port can stand behind the `]` of an IPv6 address".to_owned()),
        };
    }
    Ok(match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    })
}

fn checked_host(host: &str) -> Result<String, String> {
    if host.parse::<Ipv6Addr>().is_ok() {
        return Ok(host.to_owned());
    }
    if host.is_empty() {
        return Err("the URL has no host".to_owned());
    }
    if !host
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    {
        return Err(format!(
            "`{host}` is no host's name (an international one is written in its xn-- form)"
        ));
    }
    // A name that ends in a number is an address (WHATWG URL); the system's resolver would make something of "1" or "010.1".
    let last = host.trim_end_matches('.').rsplit('.').next();
    if last.is_some_and(|it| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit()))
        && host.parse::<Ipv4Addr>().is_err()
    {
        return Err(format!("`{host}` is no IPv4 address"));
    }
    Ok(host.to_ascii_lowercase())
}

fn checked_port(text: &str) -> Result<u16, String> {
    match text.parse::<u16>() {
        Ok(port) if port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        // What is no number may be a password that has a slash in it.
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(format!("the port `{text}` is not between 1 and 65535"))
        }
        _ => Err("what stands behind the `:` is no port, a number between 1 and 65535".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart_and_put_together_again() {
        for (text, host, port, shown) in [
            ("http://h", "h", 80, "http://h/"),
            ("HTTPS://H:443/a?b=c", "h", 443, "https://h/a?b=c"),
            ("http://h?x", "h", 80, "http://h/?x"),
            ("http://[::1]:8500/", "::1", 8500, "http://[::1]:8500/"),
            ("http://10.0.0.1:80/x", "10.0.0.1", 80, "http://10.0.0.1/x"),
        ] {
            let endpoint = Endpoint::parse(text).expect(text);
            assert_eq!((endpoint.host(), endpoint.port()), (host, port), "{text}");
            assert_eq!(endpoint.to_string(), shown);
        }
        let base = Endpoint::parse_base("http://h:1/base/").expect("a base");
        assert_eq!(base.join("/v3/x").to_string(), "http://h:1/base/v3/x");
        assert!(Endpoint::parse_base("http://h/?q").is_err());
    }

    #[test]
    fn what_would_go_elsewhere_is_refused() {
        for text in [
            "h:80",
            "ftp://h",
            "http://",
            "http://h:0",
            "http://h:",
            "http://h:99999",
            "http://h:+80",
            "http://::1/",
            "http://[::1",
            "http://[::1]80",
            "http://[h]",
            "http://h/a b",
            "http://h/#f",
            "http://hä/",
            "http://1.2.3/",
            "http://1.2.3.400/",
        ] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_repeated() {
        for text in ["http://joe:s3cret@h/", "http://joe:s3cret/2@h/"] {
            let message = Endpoint::parse(text).expect_err("userinfo");
            assert!(
                !message.contains("s3cret") && !message.contains("joe"),
                "{message}"
            );
        }
        let message = Endpoint::parse("http://joe:s3cret@h/").expect_err("userinfo");
        assert!(message.contains("`password`"), "{message}");
    }
}
