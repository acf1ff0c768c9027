//! A real S3 server, rclone's, which verifies the signatures of its requests.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::Dir;
use super::binary::wait_until;
use super::fetched::fetched;
use super::loopback::ask;
use super::ports::ports;

pub const KEY_ID: &str = "AKIAFAREWELL";
pub const SECRET: &str = "s3cret-of-the-bucket";

/// A server with the bucket `logs`, killed when it goes out of scope.
pub struct S3 {
    pub url: String,
    /// The directory that is the bucket.
    pub bucket: PathBuf,
    child: Child,
    _dir: Dir,
}

impl S3 {
    pub fn start(name: &str) -> S3 {
        let dir = Dir::new(name);
        let bucket = dir.0.join("buckets/logs");
        std::fs::create_dir_all(&bucket).expect("made");
        let port = ports(1)[0];
        let mut command = Command::new(fetched("rclone").join("rclone"));
        command
            .env_clear()
            .env("HOME", &dir.0)
            .args(["serve", "s3", "--vfs-cache-mode", "off"])
            .args(["--addr", &format!("127.0.0.1:{port}")])
            .args(["--auth-key", &format!("{KEY_ID},{SECRET}")])
            .arg(dir.0.join("buckets"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let server = S3 {
            url: format!("http://127.0.0.1:{port}"),
            bucket,
            child: command.spawn().expect("it starts"),
            _dir: dir,
        };
        wait_until("the store answers", || {
            ask(&server.url, "GET /", "", "").0 != 0
        });
        server
    }

    /// The keys of a step that signs for it.
    pub fn keys(secret: &str) -> String {
        format!(
            "s3 = {{ region = \"us-east-1\", access-key-id = \"{KEY_ID}\", secret-access-key = \"{secret}\" }}\n"
        )
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
