//! Requests and answers.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode, utf8_percent_encode};
use ureq::http::{HeaderName, HeaderValue, Method};

/// A request to any server.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The method: a token in upper case.
    pub method: String,
    /// Appended to the path of the endpoint; empty for the endpoint itself.
    pub path: String,
    /// Names and values that [`header_name`] and [`header_value`] accept.
    pub headers: Vec<(String, String)>,
    /// The body, if it has one.
    pub body: Option<Vec<u8>>,
}

impl Request {
    /// A GET of `path`.
    pub fn get(path: impl Into<String>) -> Self {
        Request {
            method: "GET".to_owned(),
            path: path.into(),
            ..Request::default()
        }
    }

    /// A request with a JSON body.
    pub fn json(method: &str, path: impl Into<String>, body: &serde_json::Value) -> Self {
        let json = ("Content-Type".to_owned(), "application/json".to_owned());
        Request {
            method: method.to_owned(),
            path: path.into(),
            headers: vec![json],
            body: Some(body.to_string().into_bytes()),
        }
    }
}

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The URL that was asked.
    pub url: String,
    pub status: u16,
    /// The headers with names in lower case, without those whose value is not text.
    pub headers: Vec<(String, String)>,
    /// The body, or its beginning, without the byte order mark that some servers put before their JSON.
    pub body: Vec<u8>,
    /// Whether the body was longer than [`super::BODY_LIMIT`]; the connection was dropped then.
    pub truncated: bool,
    /// Errors of other addresses of the same peer, which gave no answer.
    pub elsewhere: Vec<String>,
}

impl Answer {
    /// The first header of that name, which is given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether the body contains these words. Decisions are made on the original text: text for display has secrets
    /// masked, and a short secret may be part of any word.
    pub fn says(&self, words: &str) -> bool {
        String::from_utf8_lossy(&self.body).contains(words)
    }

    /// Whether the status is a success (2xx).
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Checks a header's name.
///
/// # Errors
/// If it is not a header name, or one that only the client itself may set.
pub fn header_name(name: &str) -> Result<(), String> {
    const OURS: [&str; 4] = ["content-length", "transfer-encoding", "expect", "upgrade"];
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        return Err("is not a header name".to_owned());
    }
    if OURS.contains(&name.to_ascii_lowercase().as_str()) {
        return Err("farewell sets this header itself".to_owned());
    }
    Ok(())
}

/// Checks a header's value.
///
/// # Errors
/// If a header cannot contain it. The message does not repeat it, since it may be a credential.
pub fn header_value(value: &str) -> Result<String, String> {
    match HeaderValue::from_str(value) {
        Ok(_) if value.is_ascii() => Ok(value.trim_matches([' ', '\t']).to_owned()),
        _ => Err("contains a control character, a line break or a non-ASCII character".to_owned()),
    }
}

/// What RFC 3986 reserves: all but letters, digits and these four.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Percent-encodes a path segment, or a value of a query or form: everything but RFC 3986's unreserved characters and
/// the colon.
pub fn encoded(text: &str) -> String {
    const BUT_COLON: &AsciiSet = &RESERVED.remove(b':');
    utf8_percent_encode(text, BUT_COLON).to_string()
}

/// As [`encoded`], including the colon, as Amazon's signatures need it, and the path of a unix socket, which a colon
/// ends.
pub fn strictly_encoded(bytes: &[u8]) -> String {
    percent_encode(bytes, RESERVED).to_string()
}

/// Checks a method.
///
/// # Errors
/// If it is not a token in upper case, or is CONNECT.
pub fn method(text: &str) -> Result<String, String> {
    let is_token = Method::from_bytes(text.as_bytes()).is_ok();
    if !is_token || text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(format!(
            "`{text}` is not a method: use a word in upper case such as POST"
        ));
    }
    if text == "CONNECT" {
        return Err("CONNECT is not supported: farewell uses no proxy".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_would_split_a_request_are_refused() {
        assert_eq!(header_value("  a b ").as_deref(), Ok("a b"));
        let message = header_value("s3cret\r\nX: y").expect_err("a line break");
        assert!(!message.contains("s3cret"));
        assert!(header_value("ä").is_err());
        assert!(header_name("X-Token").is_ok());
        for name in ["", "a b", "a:", "Content-Length"] {
            assert!(header_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn what_would_end_a_part_of_a_url_is_encoded() {
        assert_eq!(encoded("h:web:8080"), "h:web:8080");
        assert_eq!(encoded("a/b ?#%&=+ä"), "a%2Fb%20%3F%23%25%26%3D%2B%C3%A4");
    }

    #[test]
    fn methods_are_in_upper_case() {
        assert_eq!(method("PURGE").as_deref(), Ok("PURGE"));
        for text in ["get", "", "GET /", "CONNECT"] {
            assert!(method(text).is_err(), "{text}");
        }
    }
}
