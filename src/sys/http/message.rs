//! What is asked and what is answered.

/// A request, whatever server it goes to.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The method: a token in upper case.
    pub method: String,
    /// What is put behind the path of the endpoint; empty for the endpoint as it is.
    pub path: String,
    /// Names and values, as [`header_name`] and [`header_value`] let them pass.
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
    /// The status.
    pub status: u16,
    /// The headers with names in lower case; those whose value is no text are left out.
    pub headers: Vec<(String, String)>,
    /// The body, or its beginning; without a byte order mark, which some servers put before their JSON.
    pub body: Vec<u8>,
    /// Whether the body was longer than what is read of one; the connection was dropped then.
    pub truncated: bool,
    /// What other addresses of the same peer came to before, which gave no answer at all.
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

    /// Whether these words stand in the body. What is decided by a peer's words is decided by those that it really said:
    /// what is shown of them has secrets masked, of which a short one may be a part of any word.
    pub fn says(&self, words: &str) -> bool {
        String::from_utf8_lossy(&self.body).contains(words)
    }

    /// Whether the status says that all went well.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

fn is_token(text: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_tchar)
}

/// Checks a header's name.
///
/// # Errors
/// When it is none, or one that only the client itself can set.
pub fn header_name(name: &str) -> Result<(), String> {
    const OURS: [&str; 4] = ["content-length", "transfer-encoding", "expect", "upgrade"];
    if !is_token(name) {
        return Err("is not a header name".to_owned());
    }
    if OURS.contains(&name.to_ascii_lowercase().as_str()) {
        return Err("this header cannot be set".to_owned());
    }
    Ok(())
}

/// Checks a header's value.
///
/// # Errors
/// When no header can hold it. The message does not repeat it, since it may be a credential.
pub fn header_value(value: &str) -> Result<String, String> {
    if value
        .bytes()
        .all(|byte| matches!(byte, b'\t' | b' '..=b'~'))
    {
        Ok(value.trim_matches([' ', '\t']).to_owned())
    } else {
        Err("holds a control character, a line break or something that is not ASCII".to_owned())
    }
}

/// A text as a part of a path, as a value of a query or of a form: percent-encoded, all but what RFC 3986 leaves as it is
/// everywhere, and the colon.
pub fn encoded(text: &str) -> String {
    percent_encoded(text.as_bytes(), b"-._~:")
}

/// As [`encoded`], the colon too: as Amazon wants it, and as it is in the path of a unix socket, which a colon ends.
pub fn strictly_encoded(bytes: &[u8]) -> String {
    percent_encoded(bytes, b"-._~")
}

fn percent_encoded(bytes: &[u8], kept: &[u8]) -> String {
    let mut encoded = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || kept.contains(byte) {
            encoded.push(char::from(*byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Checks a method.
///
/// # Errors
/// When it is no token in upper case, or one that makes a tunnel.
pub fn method(text: &str) -> Result<String, String> {
    if !is_token(text) || text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(format!("`{text}` is not a method: a word in upper case"));
    }
    if text == "CONNECT" {
        return Err("CONNECT is for proxies, which are not used".to_owned());
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
