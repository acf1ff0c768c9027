//! Copies by root from directories that others can write, and to targets that never answer.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::process::Command;
use std::time::Duration;

use farewell::model::error::ErrorKind;
use farewell::step::Outcome;

use super::{Copying, TIME, files, write};
use crate::support::Dir;
use crate::support::fuse::Hanging;
use crate::support::namespace::{Frozen, ext4};
use crate::support::own_process::{in_own_namespace, this_test};

/// A user who is not root.
const USER: u32 = 64_123;

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_link_that_a_user_puts_in_the_way_leads_nowhere() {
    let (home, to) = (Dir::new("copy-home"), Dir::new("copy-home-to"));
    let secrets = Dir::new("copy-secrets");
    write(&secrets.0, "shadow", b"root's own");
    // In place of the directory, of the fixed part's last directory, of a file, and by a second name of the file.
    fs::create_dir(home.0.join("app")).expect("made");
    symlink(&secrets.0, home.0.join("app/logs")).expect("linked");
    symlink(secrets.0.join("shadow"), home.0.join("app/a.log")).expect("linked");
    fs::hard_link(secrets.0.join("shadow"), home.0.join("app/b.log")).expect("linked");
    write(&home.0, "app/c.log", b"the user's");
    for name in ["", "app", "app/c.log"] {
        chown(home.0.join(name), Some(USER), Some(USER)).expect("needs root");
    }
    std::os::unix::fs::lchown(home.0.join("app/logs"), Some(USER), Some(USER)).expect("needs root");
    let copying = Copying::new(&format!("{:?}", home.file("app/**")), &to.0, "");
    assert_eq!(
        copying.attempt(TIME),
        Ok(Outcome::Done),
        "{}",
        copying.remarks()
    );
    assert_eq!(files(&to.0), ["c.log"], "{}", copying.remarks());
    let copying = Copying::new(&format!("{:?}", home.file("app/logs/*")), &to.0, "");
    let failure = copying.attempt(TIME).expect_err("a failure");
    assert!(failure.to_string().contains("is not followed"), "{failure}");
    assert_eq!(files(&to.0), ["c.log"]);
    // A link of root's own, in a directory of root's, is as good as a directory.
    let links = Dir::new("copy-links");
    symlink(&secrets.0, links.0.join("link")).expect("linked");
    let copying = Copying::new(&format!("{:?}", links.file("link/*")), &to.0, "");
    assert_eq!(copying.attempt(TIME), Ok(Outcome::Done));
    assert_eq!(files(&to.0), ["c.log", "shadow"]);
}

#[test]
fn a_link_at_the_target_is_replaced_and_not_written_through() {
    let (from, to) = (Dir::new("copy-through"), Dir::new("copy-through-to"));
    let other = Dir::new("copy-through-other");
    write(&other.0, "kept", b"kept");
    write(&from.0, "a", b"new");
    write(&from.0, "d/b", b"new");
    symlink(other.0.join("kept"), to.0.join("a")).expect("linked");
    symlink(&other.0, to.0.join("d")).expect("linked");
    let copying = Copying::new(&format!("{:?}", from.file("**")), &to.0, "");
    let failure = copying.attempt(TIME).expect_err("a failure");
    assert!(failure.subject.ends_with("d/b"), "{failure}");
    assert_eq!(fs::read(to.0.join("a")).expect("read"), b"new");
    assert_eq!(fs::read(other.0.join("kept")).expect("read"), b"kept");
    assert_eq!(files(&other.0), ["kept"]);
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_target_that_hangs_costs_the_time_of_the_step_and_no_more() {
    in_own_namespace(this_test!(), hangs);
}

fn hangs() {
    let (from, to) = (Dir::new("copy-hangs"), Dir::new("copy-hangs-to"));
    let images = Dir::new("copy-hangs-images");
    write(&from.0, "a", &[1; 100_000]);
    ext4(&images.0, &to.0);
    let copying = Copying::new(&format!("{:?}", from.file("*")), &to.0, "");
    {
        let _frozen = Frozen::freeze(&to.0);
        let failure = copying
            .attempt(Duration::from_secs(2))
            .expect_err("a failure");
        assert_eq!(failure.kind, ErrorKind::TimedOut, "{failure}");
        assert!(failure.cause.contains("0 of 1 file copied"), "{failure}");
    }
    assert_eq!(copying.attempt(TIME), Ok(Outcome::Done));
    assert_eq!(fs::read(to.0.join("a")).expect("read"), [1; 100_000]);
    // A source that never answers is no better.
    let dead = Dir::new("copy-dead");
    let _hanging = Hanging::mount(&dead.0, true);
    let copying = Copying::new(&format!("{:?}", dead.file("**")), &to.0, "");
    let failure = copying
        .attempt(Duration::from_secs(2))
        .expect_err("a failure");
    assert_eq!(failure.kind, ErrorKind::TimedOut, "{failure}");
    // Their directories could not be removed otherwise.
    for mounted in [&to.0, &images.0] {
        let ended = Command::new("umount").arg("-l").arg(mounted).status();
        assert!(ended.expect("umount").success());
    }
}
