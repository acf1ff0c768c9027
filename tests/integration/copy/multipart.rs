//! Large files, which go to an S3 server in parts.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use farewell::model::error::ErrorKind;
use farewell::step::Outcome;
use farewell::sys::digest::sha256;

use super::{Copying, TIME};
use crate::support::Dir;
use crate::support::loopback::Middleman;
use crate::support::s3::{S3, SECRET};

/// A little more than what goes in one piece.
const SIZE: u64 = (65 << 20) + 7;

fn large(name: &str) -> Dir {
    let from = Dir::new(name);
    let file = File::create(from.0.join("large")).expect("made");
    file.set_len(SIZE).expect("grown");
    for at in [0, 20 << 20, SIZE - 5] {
        file.write_all_at(b"begin", at).expect("written");
    }
    from
}

fn before(server: &S3) -> Middleman {
    let address = server.url.trim_start_matches("http://").parse();
    Middleman::before(address.expect("an address"))
}

#[test]
#[ignore = "needs rclone; tests/run has it"]
fn an_upload_in_parts_goes_on_where_it_stopped() {
    let server = S3::start("copy-parts");
    let between = before(&server);
    let from = large("copy-parts-from");
    let to = format!("\"{}/logs\"", between.url());
    let copying = Copying::to(&format!("{:?}", from.file("*")), &to, &S3::keys(SECRET));
    // The second part arrives, and nothing behind it.
    between.die_after("PUT /logs/large?partNumber=2&");
    let failure = copying.attempt(TIME).expect_err("nobody is there");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Unreachable, true),
        "{failure}"
    );
    assert!(!server.bucket.join("large").exists());
    between.come_back();
    assert_eq!(copying.attempt(TIME), Ok(Outcome::Done));
    let parts = |number: usize| {
        let begins = format!("PUT /logs/large?partNumber={number}&");
        let heard = between.heard();
        heard.iter().filter(|it| it.starts_with(&begins)).count()
    };
    assert_eq!([1, 2, 3, 4, 5, 6].map(parts), [1, 1, 1, 1, 1, 0]);
    let [sent, kept] =
        [&from.0, &server.bucket].map(|it| fs::read(it.join("large")).expect("read"));
    assert!(sent == kept);
    let copied = copying.run.recorder.copied();
    assert_eq!(copied[0].sha256, sha256(&sent));
}

#[test]
#[ignore = "needs rclone; tests/run has it"]
fn parts_that_cannot_be_put_together_are_taken_away() {
    let server = S3::start("copy-aborted");
    let between = before(&server);
    let from = large("copy-aborted-from");
    let to = format!("\"{}/logs\"", between.url());
    let copying = Copying::to(&format!("{:?}", from.file("*")), &to, &S3::keys(SECRET));
    between.refuse("partNumber=3", 1);
    let failure = copying.attempt(TIME).expect_err("refused");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Refused, false),
        "{failure}"
    );
    let heard = between.heard();
    assert!(
        heard
            .iter()
            .any(|it| it.starts_with("DELETE /logs/large?uploadId=")),
        "{heard:?}"
    );
    // And begins anew.
    assert_eq!(copying.attempt(TIME), Ok(Outcome::Done));
    assert!(server.bucket.join("large").exists());
}
