//! Copies to a real S3 server, which verifies signatures.

use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex};

use farewell::model::error::ErrorKind;
use farewell::step::Outcome;
use farewell::sys::http::{EMPTY, Endpoint, Request, Signer};

use super::{Copying, TIME, files, write};
use crate::support::Dir;
use crate::support::loopback::{Asked, Loopback, Reply};
use crate::support::s3::{KEY_ID, S3, SECRET};

#[test]
#[ignore = "needs rclone; tests/run has it"]
fn signed_files_are_taken_and_a_bad_key_is_refused() {
    let server = S3::start("copy-s3");
    let from = Dir::new("copy-s3-from");
    write(&from.0, "a.log", b"one");
    write(&from.0, "deep/b c:d+e=ä.log", b"two");
    write(&from.0, "empty", b"");
    write(&from.0, "large", "0123456789".repeat(300_000).as_bytes());
    let globs = format!("{:?}", from.file("**"));
    let to = format!("\"{}/logs/web 1\"", server.url).replace(' ', "%20");
    let bad = Copying::to(&globs, &to, &S3::keys("s3cret-of-somebody-else"));
    for failure in [
        bad.attempt(TIME).expect_err("a bad key"),
        bad.rehearse().expect_err("a bad key"),
    ] {
        assert_eq!(
            (failure.kind, failure.retryable),
            (ErrorKind::Refused, false),
            "{failure}"
        );
        assert!(failure.cause.contains("SignatureDoesNotMatch"), "{failure}");
        assert!(!failure.to_string().contains("s3cret"), "{failure}");
    }
    assert_eq!(files(&server.bucket), [] as [&str; 0]);

    let good = Copying::to(&globs, &to, &S3::keys(SECRET));
    let said = good.rehearse().expect("ready");
    assert!(said.starts_with("4 files now, 2.9 MiB; "), "{said}");
    assert!(said.contains("knows the key"), "{said}");
    assert_eq!(good.attempt(TIME), Ok(Outcome::Done));
    let there = server.bucket.join("web 1");
    assert_eq!(files(&there), files(&from.0));
    for name in files(&from.0) {
        let [sent, kept] = [&from.0, &there].map(|it| fs::read(it.join(&name)).expect("read"));
        assert!(sent == kept, "{name}");
    }
    let no_bucket = Copying::to(&globs, &to.replace("/logs/", "/none/"), &S3::keys(SECRET));
    for failure in [
        no_bucket.attempt(TIME).expect_err("no bucket"),
        no_bucket.rehearse().expect_err("no bucket"),
    ] {
        assert_eq!(
            (failure.kind, failure.retryable),
            (ErrorKind::Status, false),
            "{failure}"
        );
        assert!(failure.cause.contains("NoSuchBucket"), "{failure}");
    }
}

#[test]
#[ignore = "needs curl and rclone; tests/run has it"]
fn curl_signs_in_the_same_way() {
    let heard: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
    let hears = heard.clone();
    let server = Loopback::start(move |asked: &Asked| {
        let header = |name| asked.header(name).expect("a header").to_owned();
        let signed = (header("x-amz-date"), header("authorization"));
        hears.lock().expect("no panic").push(signed);
        Reply::text("200 OK", "")
    });
    for target in ["/logs/a.log", "/logs/a%20b/c-d_e.f~g", "/logs/"] {
        let url = server.url() + target;
        let status = Command::new("curl")
            .args(["-sS", "--aws-sigv4", "aws:amz:eu-central-1:s3"])
            .args(["--user", &format!("{KEY_ID}:{SECRET}")])
            .args(["-H", &format!("x-amz-content-sha256: {EMPTY}"), &url])
            .status();
        assert!(status.expect("curl").success());
        let (time, authorization) = heard.lock().expect("no panic").pop().expect("a request");
        let mut request = Request::get("");
        let signer = Signer {
            region: "eu-central-1".into(),
            access_key_id: KEY_ID.into(),
            secret_access_key: SECRET.into(),
            session_token: None,
        };
        let endpoint = Endpoint::parse(&url).expect("a URL");
        signer.sign(&mut request, &endpoint, EMPTY, &time);
        let ours = request.headers.last().expect("a header").1.clone();
        let plain = |text: &str| text.replace(", ", ",");
        assert_eq!(plain(&authorization), plain(&ours), "{target}");
    }
}
