//! Signatures of requests to S3 (AWS Signature Version 4); see "Authenticating Requests: Using the Authorization Header" in
//! Amazon's API reference.

use super::endpoint::decoded;
use super::{Endpoint, Request, strictly_encoded};
use crate::sys::digest::{hexadecimal, hmac_sha256, sha256};

/// Headers that are not signed: those that concern the connection.
const UNSIGNED: [&str; 4] = ["authorization", "content-length", "expect", "user-agent"];

/// A key that signs requests.
#[derive(Clone)]
pub struct Signer {
    /// The region of the bucket.
    pub region: String,
    /// The public part of the key.
    pub access_key_id: String,
    /// The secret part of the key, hidden from every output.
    pub secret_access_key: String,
    /// The token of a temporary key.
    pub session_token: Option<String>,
}

/// The digest of an empty body, in hexadecimal.
pub const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

impl Signer {
    /// Signs a request for `endpoint`. `body` is the SHA-256 of the body in hexadecimal, and `time` the time of the
    /// request, as `20130524T000000Z`.
    pub fn sign(&self, request: &mut Request, endpoint: &Endpoint, body: &str, time: &str) {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let headers = &mut request.headers;
        headers.push(header("x-amz-content-sha256", body));
        headers.push(header("x-amz-date", time));
        if let Some(token) = &self.session_token {
            headers.push(header("x-amz-security-token", token));
        }
        let authorization = self.authorization(request, endpoint, body, time);
        request
            .headers
            .push(header("Authorization", &authorization));
    }

    fn authorization(
        &self,
        request: &Request,
        endpoint: &Endpoint,
        body: &str,
        time: &str,
    ) -> String {
        let day = time.split('T').next().unwrap_or_default();
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let (names, canonical) = canonical(request, endpoint, body);
        let digest = sha256(canonical.as_bytes());
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}");
        let first = format!("AWS4{}", self.secret_access_key);
        let parts = [day, &self.region, "s3", "aws4_request", &text];
        let signature = parts.iter().fold(first.into_bytes(), |key, part| {
            hmac_sha256(&key, part.as_bytes()).to_vec()
        });
        format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={names},Signature={}",
            self.access_key_id,
            hexadecimal(&signature)
        )
    }
}

/// The names of the signed headers, and the canonical request.
fn canonical(request: &Request, endpoint: &Endpoint, body: &str) -> (String, String) {
    let mut headers: Vec<(String, String)> = (request.headers.iter())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .filter(|(name, _)| !UNSIGNED.contains(&name.as_str()))
        .collect();
    headers.push(("host".to_owned(), endpoint.authority()));
    headers.sort_unstable();
    let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(";");
    let lines: String = (headers.iter())
        .map(|(name, value)| format!("{name}:{value}\n"))
        .collect();
    let (path, query) = match endpoint.target().split_once('?') {
        Some((path, query)) => (path, query),
        None => (endpoint.target(), ""),
    };
    let parts: Vec<String> = path.split('/').map(spelled).collect();
    let path = parts.join("/");
    let mut values: Vec<String> = (query.split('&').filter(|it| !it.is_empty()))
        .map(|it| {
            let (name, value) = it.split_once('=').unwrap_or((it, ""));
            format!("{}={}", spelled(name), spelled(value))
        })
        .collect();
    values.sort();
    let values = values.join("&");
    let method = &request.method;
    let text = format!("{method}\n{path}\n{values}\n{lines}\n{names}\n{body}");
    (names, text)
}

/// A part of a URL, normalised to Amazon's percent-encoding.
fn spelled(part: &str) -> String {
    strictly_encoded(&decoded(part).unwrap_or_else(|| part.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_has_the_digest_of_nothing_and_a_path_is_spelled_in_one_way() {
        assert_eq!(sha256(b""), EMPTY);
        assert_eq!(spelled("a:b%3ac%20d"), "a%3Ab%3Ac%20d");
    }

    /// The examples of Amazon's "Authenticating Requests: Using the Authorization Header".
    #[test]
    fn the_published_examples_hold() {
        let signer = Signer {
            region: "us-east-1".into(),
            access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            session_token: None,
        };
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let dated = header("Date", "Fri, 24 May 2013 00:00:00 GMT");
        let reduced = header("x-amz-storage-class", "REDUCED_REDUNDANCY");
        for (method, target, headers, body, signature) in [
            (
                "GET",
                "/test.txt",
                vec![header("Range", "bytes=0-9")],
                "",
                "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            ),
            (
                "PUT",
                "/test%24file.text",
                vec![dated, reduced],
                "Welcome to Amazon S3.",
                "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
            ),
            (
                "GET",
                "/?lifecycle",
                vec![],
                "",
                "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            ),
            (
                "GET",
                "/?prefix=J&max-keys=2",
                vec![],
                "",
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            ),
        ] {
            let url = format!("https://examplebucket.s3.amazonaws.com{target}");
            let endpoint = Endpoint::parse(&url).expect("a URL");
            let mut request = Request {
                method: method.to_owned(),
                headers,
                ..Request::default()
            };
            signer.sign(
                &mut request,
                &endpoint,
                &sha256(body.as_bytes()),
                "20130524T000000Z",
            );
            let (_, value) = request.headers.last().expect("a header");
            assert!(!value.contains("wJalr"), "{value}");
            let expected = format!(",Signature={signature}");
            assert!(value.ends_with(&expected), "{target}: {value}");
        }
    }
}
