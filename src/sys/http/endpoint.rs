//! Addresses of HTTP servers, checked before anything is sent to them.

use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// A parsed `http://`, `https://` or `unix://` URL.
///
/// It is parsed here and not by the client, which treats a port above 65535 as no port.
///
/// `unix:///run/app.sock` is a server behind a unix socket; the path of the request follows another colon:
/// `unix:///run/app.sock:/v1/info`. In the path of the socket, colons and characters that a URL does not allow are
/// percent-encoded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    https: bool,
    host: String,
    port: u16,
    target: String,
    /// The unix socket, and its spelling.
    socket: Option<(PathBuf, String)>,
}

/// The longest path of a unix socket (unix(7)), without the byte that ends it.
const LONGEST_SOCKET: usize = 107;

impl Endpoint {
    /// Parses a URL with its path and query.
    ///
    /// # Errors
    /// One sentence, which does not repeat a user or password.
    pub fn parse(text: &str) -> Result<Endpoint, String> {
        let (scheme, rest) = text.split_once("://").ok_or(BEGIN)?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            "unix" => return Endpoint::parse_socket(rest),
            // Only a word that looks like a scheme is repeated: anything else may contain a password.
            other if other.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
                return Err(format!("{BEGIN}, not with {other}://"));
            }
            _ => return Err(BEGIN.to_owned()),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err(
                "a URL must not contain a user or password: use the keys `user` and `password`"
                    .to_owned(),
            );
        }
        let target = checked_target(target)?;
        let (host, port) = split_port(authority)?;
        let default = if https { 443 } else { 80 };
        Ok(Endpoint {
            https,
            host: checked_host(host)?,
            port: port.map_or(Ok(default), checked_port)?,
            target,
            socket: None,
        })
    }

    /// Parses what follows `unix://`.
    fn parse_socket(rest: &str) -> Result<Endpoint, String> {
        let (written, target) = rest.split_once(':').unwrap_or((rest, ""));
        if !written.starts_with('/') {
            return Err(
                "the path of a unix socket must be absolute: unix:///run/app.sock, or unix:///run/app.sock:/path where \
                 something behind it is asked for"
                    .to_owned(),
            );
        }
        if written.contains(['?', '#']) {
            return Err(
                "a query must follow the path of the request: unix:///run/app.sock:/path?query"
                    .to_owned(),
            );
        }
        if !target.is_empty() && !target.starts_with('/') {
            return Err("what follows the `:` after a unix socket is the path of the request, and must begin with `/`".to_owned());
        }
        let target = checked_target(target)?;
        checked_target(written)?;
        let path = decoded(written)
            .ok_or("the percent-encoding in the path of the unix socket is not valid")?;
        if path.contains(&0) || path.len() > LONGEST_SOCKET {
            return Err(format!(
                "the path of a unix socket must have at most {LONGEST_SOCKET} bytes, none of them zero"
            ));
        }
        Ok(Endpoint {
            https: false,
            // The Host header, as with curl.
            host: "localhost".to_owned(),
            port: 80,
            target,
            socket: Some((OsString::from_vec(path).into(), written.to_owned())),
        })
    }

    /// Parses the URL of a service to which paths are appended, so that it must not have a query.
    pub fn parse_base(text: &str) -> Result<Endpoint, String> {
        let endpoint = Endpoint::parse(text)?;
        if endpoint.target.contains('?') {
            return Err("the URL of a service must not have a query (`?…`)".to_owned());
        }
        Ok(endpoint)
    }

    /// The same server with `path`, which may have a query, appended to its own path; an empty one changes nothing.
    pub fn join(&self, path: &str) -> Endpoint {
        if path.is_empty() {
            return self.clone();
        }
        Endpoint {
            target: format!("{}{path}", self.target.trim_end_matches('/')),
            ..self.clone()
        }
    }

    /// The same address with a parameter appended to its query.
    pub fn with(&self, parameter: &str) -> Endpoint {
        let sign = if self.target.contains('?') { '&' } else { '?' };
        Endpoint {
            target: format!("{}{sign}{parameter}", self.target),
            ..self.clone()
        }
    }

    /// The server's unix socket. Host and port mean nothing then.
    pub fn socket(&self) -> Option<&Path> {
        self.socket.as_ref().map(|(path, _)| path.as_path())
    }

    /// The URL for the client, which knows nothing of unix sockets.
    pub(super) fn to_url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.target)
    }

    /// Whether the connection is encrypted.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// The host, an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path and the query.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The host and, unless it is the scheme's default, the port, as in the Host header.
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
        match &self.socket {
            Some((_, written)) if self.target == "/" => write!(out, "unix://{written}"),
            Some((_, written)) => write!(out, "unix://{written}:{}", self.target),
            None => out.write_str(&self.to_url()),
        }
    }
}

const BEGIN: &str = "a URL must begin with http://, https:// or unix://";

/// The path and the query as requested, beginning with `/`.
fn checked_target(target: &str) -> Result<String, String> {
    if target.contains('#') {
        return Err("a URL must not have a fragment (`#…`) here".to_owned());
    }
    if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(
            "white space and non-ASCII characters in a URL must be percent-encoded".to_owned(),
        );
    }
    match target.starts_with('/') {
        true => Ok(target.to_owned()),
        false => Ok(format!("/{target}")),
    }
}

/// Decodes a percent-encoded text.
pub(super) fn decoded(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut decoded) = (text.bytes(), Vec::new());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?].map(|it| char::from(it).to_digit(16));
                let [high, low] = digits;
                u8::try_from(16 * high? + low?).ok()?
            }
            byte => byte,
        });
    }
    Some(decoded)
}

/// The host as in a URL: an IPv6 address in brackets.
pub(super) fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

/// Checks the name that a server's certificate must be for.
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
            .map_err(|_| format!("`{host}` is not an IPv6 address"))?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err("only a port can follow the `]` of an IPv6 address".to_owned()),
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
            "`{host}` is not a host name (write an international one in its xn-- form)"
        ));
    }
    // A name that ends in a number is an address (WHATWG URL); the system's resolver would interpret even "1" or
    // "010.1".
    let last = host.trim_end_matches('.').rsplit('.').next();
    if last.is_some_and(|it| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit()))
        && host.parse::<Ipv4Addr>().is_err()
    {
        return Err(format!("`{host}` is not an IPv4 address"));
    }
    Ok(host.to_ascii_lowercase())
}

fn checked_port(text: &str) -> Result<u16, String> {
    match text.parse::<u16>() {
        Ok(port) if port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        // Anything but a number may be a password with a slash in it.
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(format!("the port `{text}` is not between 1 and 65535"))
        }
        _ => Err("what follows the `:` is not a port, a number between 1 and 65535".to_owned()),
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
    fn a_unix_socket_is_taken_apart_and_put_together_again() {
        for (text, path, target) in [
            ("unix:///run/app.sock", "/run/app.sock", "/"),
            (
                "unix:///run/app.sock:/v1/info?a=b:c",
                "/run/app.sock",
                "/v1/info?a=b:c",
            ),
            ("unix:///run/a%3Ab%20c.sock:/x", "/run/a:b c.sock", "/x"),
        ] {
            let endpoint = Endpoint::parse(text).expect(text);
            assert_eq!(endpoint.socket(), Some(Path::new(path)), "{text}");
            assert_eq!((endpoint.target(), endpoint.is_https()), (target, false));
            assert_eq!(endpoint.to_string(), text);
            assert_eq!(endpoint.authority(), "localhost");
        }
        let base = Endpoint::parse_base("unix:///run/app.sock").expect("a base");
        let joined = base.join("/v1/agent?x");
        assert_eq!(joined.to_string(), "unix:///run/app.sock:/v1/agent?x");
        assert_eq!(Endpoint::parse("http://h/").expect("a URL").socket(), None);
        let long = format!("unix:///{}", "x".repeat(LONGEST_SOCKET));
        for (text, told) in [
            ("unix://run/app.sock", "absolute"),
            ("unix:/run/app.sock", "must begin with"),
            ("unix:///run/app.sock?x", ":/path?query"),
            ("unix:///run/app.sock:v1", "begin with `/`"),
            ("unix:///run/app sock", "percent-encoded"),
            ("unix:///run/%zz", "percent-encoding"),
            ("unix:///run/%00", "zero"),
            (&long, "107"),
        ] {
            let message = Endpoint::parse(text).expect_err(text);
            assert!(message.contains(told), "{text}: {message}");
        }
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
