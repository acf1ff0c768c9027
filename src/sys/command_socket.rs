//! Sockets that take one line of text and answer with text until they close the connection: HAProxy's runtime API.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::http::{Endpoint, strictly_encoded};
use super::{files, host};

/// The most bytes that are read of an answer.
const LIMIT: u64 = 8 << 20;

/// Parses the address of such a socket: the absolute path of a unix socket, or `host:port`.
pub fn parse(text: &str) -> Result<Endpoint, String> {
    let malformed =
        || format!("`{text}` is neither the absolute path of a unix socket nor `host:port`");
    if text.starts_with('/') {
        let parts = text.split('/');
        let parts: Vec<_> = parts.map(|it| strictly_encoded(it.as_bytes())).collect();
        return Endpoint::parse(&format!("unix://{}", parts.join("/")));
    }
    let has_port = text.rsplit_once(':').is_some_and(|(_, port)| {
        !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
    });
    if !has_port || text.contains(['/', '?', '#', '@']) {
        return Err(malformed());
    }
    Endpoint::parse(&format!("http://{text}"))
}

/// The address as [`parse`] reads it.
pub fn shown(at: &Endpoint) -> String {
    match at.socket() {
        Some(path) => path.display().to_string(),
        None if at.host().contains(':') => format!("[{}]:{}", at.host(), at.port()),
        None => format!("{}:{}", at.host(), at.port()),
    }
}

/// Sends a line, and returns everything that comes back until the other side closes the connection.
///
/// # Errors
/// Any error of the connection; `TimedOut` if the answer has not ended within `patience`.
pub fn ask(at: &Endpoint, line: &str, patience: Duration) -> io::Result<String> {
    let (at, line) = (at.clone(), format!("{line}\n"));
    files::within(patience, move || {
        let mut stream = connect(&at, patience)?;
        stream.write_all(line.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(LIMIT).read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    })
}

/// A connection with timeouts, so that its thread ends even after the caller has given up.
fn connect(at: &Endpoint, patience: Duration) -> io::Result<File> {
    if let Some(path) = at.socket() {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(patience))?;
        return Ok(File::from(OwnedFd::from(stream)));
    }
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in host::resolve(at.host(), at.port(), patience)? {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => {
                stream.set_read_timeout(Some(patience))?;
                return Ok(File::from(OwnedFd::from(stream)));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_as_they_are_written() {
        for text in [
            "/run/haproxy/admin.sock",
            "/run/a b:c",
            "10.0.0.1:9999",
            "lb-1:80",
            "[::1]:9999",
        ] {
            let endpoint = parse(text).expect(text);
            assert_eq!(shown(&endpoint), text);
        }
        for text in [
            "",
            "run/a.sock",
            "lb-1",
            "lb-1:",
            "lb-1:x",
            "http://lb-1:80",
            "a@b:80",
            "lb-1:99999",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
