//! Copies to directories that behave, and to full ones.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use farewell::model::error::ErrorKind;
use farewell::step::Outcome;

use super::{Copying, TIME, files, write};
use crate::support::binary::{Binary, GENEROUS, json, step_of};
use crate::support::namespace::mount;
use crate::support::own_process::{in_own_namespace, this_test};
use crate::support::{Dir, problems};

#[test]
fn every_problem_of_the_keys_is_told() {
    let with = |keys: &str| problems(&format!("kind = \"copy\"\n{keys}"));
    assert_eq!(with("from = \"/a/*\"\nto = \"/b\""), "");
    for (keys, expected) in [
        ("to = \"/b\"", "\"from\": missing"),
        ("from = \"/a/*\"", "\"to\": missing"),
        ("from = \"a\"\nto = \"/b\"", "absolute"),
        ("from = \"/a/\"\nto = \"/b\"", "`/a/**`"),
        ("from = \"/a/b**\"\nto = \"/b\"", "whole path component"),
        ("from = []\nto = \"/b\"", "must not be empty"),
        ("from = \"/a\"\nto = \"/b\"\nbwlimit = \"fast\"", "like 20M"),
        (
            "from = \"/a\"\nto = \"/b\"\nexclude = [\"a/b\"]",
            "without `/`",
        ),
        (
            "from = [\"/x/app.log\", \"/y/app.log\"]\nto = \"/b\"",
            "/x/app.log and /y/app.log would both be copied to `app.log`",
        ),
    ] {
        let told = with(keys);
        assert!(told.contains(expected), "{keys}: {told}");
    }
}

#[test]
fn files_arrive_whole_with_their_modes_and_times() {
    let (from, to) = (Dir::new("copy-from"), Dir::new("copy-to"));
    write(&from.0, "a.log", b"one");
    write(&from.0, "deep/er/b.log", b"two");
    write(&from.0, "deep/.hidden.log", b"");
    write(&from.0, "deep/c.gz", b"no");
    write(&from.0, "tmp/d.log", b"no");
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let file = File::options()
        .write(true)
        .open(from.0.join("a.log"))
        .expect("opened");
    file.set_modified(old).expect("set");
    let set_user_id = fs::Permissions::from_mode(0o4750);
    fs::set_permissions(from.0.join("a.log"), set_user_id).expect("set");
    std::os::unix::fs::symlink("/etc/passwd", from.0.join("link.log")).expect("linked");
    let fifo = from.0.join("fifo.log");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .expect("mkfifo")
            .success()
    );
    let globs = format!("{:?}", [from.file("**/*.log"), from.file("*.log")]);
    let copying = Copying::new(&globs, &to.0, "exclude = [\"t?p\"]");
    let said = copying.rehearse().expect("ready");
    assert!(said.contains("3 files now, 6 bytes"), "{said}");
    assert_eq!(files(&to.0), [] as [&str; 0]);
    assert_eq!(copying.attempt(TIME), Ok(Outcome::Done));
    let expected = ["a.log", "deep/.hidden.log", "deep/er/b.log"];
    assert_eq!(
        (files(&to.0), copying.names()),
        (
            expected.map(String::from).to_vec(),
            expected.map(String::from).to_vec()
        )
    );
    assert_eq!(fs::read(to.0.join("deep/er/b.log")).expect("read"), b"two");
    let state = fs::metadata(to.0.join("a.log")).expect("there");
    assert_eq!(
        (state.mode() & 0o7777, state.modified().expect("a time")),
        (0o750, old)
    );
    let remarks = copying.remarks();
    assert!(
        remarks.contains("link.log was left out: a symbolic link"),
        "{remarks}"
    );
    assert!(
        remarks.contains("fifo.log was left out: not a regular file"),
        "{remarks}"
    );
    assert!(remarks.contains("3 files copied, 6 bytes"), "{remarks}");
    // The digest of "one", as sha256sum prints it.
    let copied = copying.run.recorder.copied();
    let one = copied.iter().find(|it| it.name == "a.log").expect("listed");
    assert_eq!(one.bytes, 3);
    assert_eq!(
        one.sha256,
        "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    );
}

#[test]
fn a_missing_directory_and_a_missing_file_are_failures_and_an_empty_glob_is_none() {
    let (from, to) = (Dir::new("copy-missing"), Dir::new("copy-missing-to"));
    let gone = to.0.join("mnt");
    write(&from.0, "a.log", b"one");
    let all = format!("{:?}", from.file("*"));
    let failure = Copying::new(&all, &gone, "")
        .attempt(TIME)
        .expect_err("a failure");
    assert_eq!((failure.kind, failure.retryable), (ErrorKind::Io, false));
    assert!(
        failure.subject.ends_with("/mnt") && !gone.exists(),
        "{failure}"
    );
    let file = format!("{:?}", [from.file("a.log"), from.file("b.log")]);
    let copying = Copying::new(&file, &to.0, "");
    let failure = copying.attempt(TIME).expect_err("a failure");
    assert!(failure.subject.ends_with("b.log"), "{failure}");
    // What is there is copied in spite of it.
    assert_eq!(files(&to.0), ["a.log"]);
    let copying = Copying::new(&format!("{:?}", from.file("*.gz")), &to.0, "");
    assert_eq!(copying.attempt(TIME), Ok(Outcome::AlreadyDone));
    assert!(
        copying.remarks().contains("matches no file"),
        "{}",
        copying.remarks()
    );
}

#[test]
fn two_files_of_one_name_are_a_failure_before_anything_is_copied() {
    let (from, to) = (Dir::new("copy-same"), Dir::new("copy-same-to"));
    write(&from.0, "x/app.log", b"x");
    write(&from.0, "y/app.log", b"y");
    let globs = format!("{:?}", [from.file("x/*"), from.file("y/*")]);
    let failure = Copying::new(&globs, &to.0, "")
        .attempt(TIME)
        .expect_err("a failure");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Config, false)
    );
    let told = failure.to_string();
    assert!(
        told.contains("x/app.log and ") && told.contains("y/app.log would both"),
        "{told}"
    );
    assert_eq!(files(&to.0), [] as [&str; 0]);
    // Below different fixed parts they have different names.
    let copying = Copying::new(&format!("{:?}", from.file("**")), &to.0, "");
    assert_eq!(copying.attempt(TIME), Ok(Outcome::Done));
    assert_eq!(files(&to.0), ["x/app.log", "y/app.log"]);
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_full_target_fails_at_once_and_the_next_attempt_goes_on() {
    in_own_namespace(this_test!(), full);
}

fn full() {
    let (from, to) = (Dir::new("copy-full"), Dir::new("copy-full-to"));
    mount(&["-t", "tmpfs", "-o", "size=1m", "x"], &to.0);
    for (name, size) in [("a", 300_000), ("b", 300_000), ("c", 2_000_000)] {
        write(&from.0, name, &vec![name.as_bytes()[0]; size]);
    }
    let globs = format!("{:?}", ["a", "b", "c"].map(|it| from.file(it)));
    let copying = Copying::new(&globs, &to.0, "");
    let failure = copying.attempt(TIME).expect_err("a failure");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Io, false),
        "{failure}"
    );
    assert!(failure.subject.ends_with("/c"), "{failure}");
    assert!(
        failure.cause.contains("No space left on device"),
        "{failure}"
    );
    assert!(failure.cause.contains("2 of 3 files copied"), "{failure}");
    assert_eq!(
        (files(&to.0), copying.names()),
        (vec!["a".into(), "b".into()], vec!["a".into(), "b".into()])
    );
    let first = fs::metadata(to.0.join("a")).expect("there").ino();
    mount(&["-o", "remount,size=8m"], &to.0);
    assert_eq!(copying.attempt(TIME), Ok(Outcome::Done));
    assert_eq!(files(&to.0), ["a", "b", "c"]);
    assert_eq!(
        fs::metadata(to.0.join("a")).expect("there").ino(),
        first,
        "copied again"
    );
    assert_eq!(
        fs::read(to.0.join("c")).expect("read"),
        vec![b'c'; 2_000_000]
    );
    let _ = Command::new("umount").arg(&to.0).status();
}

#[test]
fn an_attempt_that_is_cut_short_leaves_nothing_that_the_next_one_does_not_remove() {
    let (from, to) = (Dir::new("copy-cut"), Dir::new("copy-cut-to"));
    write(&from.0, "d/a", &[1; 600_000]);
    let globs = format!("{:?}", from.file("**"));
    let copying = Copying::new(&globs, &to.0, "bwlimit = \"300K\"");
    let failure = copying
        .attempt(Duration::from_secs(1))
        .expect_err("a failure");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::TimedOut, true),
        "{failure}"
    );
    assert!(!to.0.join("d/a").exists());
    assert_eq!(copying.attempt(TIME), Ok(Outcome::Done));
    assert_eq!(files(&to.0), ["d/a"]);
    let waiting = copying.run.recorder.waiting().join(", ");
    assert!(
        waiting.contains("the copy, 0 bytes of 585.9 KiB"),
        "{waiting}"
    );
}

#[test]
fn a_file_that_grows_is_copied_up_to_its_length_at_the_start() {
    let (from, to) = (Dir::new("copy-grows"), Dir::new("copy-grows-to"));
    let mut bytes: Vec<u8> = (0..4_000_000_u32).map(|it| (it % 251) as u8).collect();
    write(&from.0, "log", &bytes);
    let ends = AtomicBool::new(false);
    let copying = Copying::new(&format!("{:?}", from.file("*")), &to.0, "");
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut log = File::options()
                .append(true)
                .open(from.0.join("log"))
                .expect("opened");
            while !ends.load(Ordering::Relaxed) {
                log.write_all(&[7; 100]).expect("grown");
                std::thread::yield_now();
            }
        });
        let ended = copying.attempt(TIME);
        ends.store(true, Ordering::Relaxed);
        assert_eq!(ended, Ok(Outcome::Done));
    });
    let copy = fs::read(to.0.join("log")).expect("read");
    assert!(copy.len() >= bytes.len());
    bytes.resize(copy.len(), 7);
    assert!(copy == bytes, "the copy is no beginning of the file");
    assert_eq!(copying.run.recorder.copied()[0].bytes, copy.len() as u64);
}

#[test]
fn the_record_lists_what_was_copied_and_the_rate_is_kept() {
    let (from, to) = (Dir::new("copy-record"), Dir::new("copy-record-to"));
    write(&from.0, "a.log", &[1; 300_000]);
    let config = format!(
        "[[step]]\nname = \"save\"\nkind = \"copy\"\nfrom = {:?}\nto = {:?}\nbwlimit = \"300K\"\n",
        from.file("*"),
        to.0
    );
    let binary = Binary::new("copy-record-cli", &config);
    let ended = binary.start(&["run"]).end(GENEROUS);
    assert!(
        ended.stderr.contains("1 file copied, 293.0 KiB")
            || ended.stdout.contains("1 file copied, 293.0 KiB"),
        "{ended:?}"
    );
    let report = json(&binary.verb(&["report", "--json"]));
    let save = step_of(&report, "save");
    assert_eq!(save["state"], "done");
    assert_eq!(save["copied"][0]["name"], "a.log");
    assert_eq!(save["copied"][0]["bytes"], 300_000);
    // 300,000 bytes at 307,200 a second.
    assert!(save["duration_usec"].as_u64() >= Some(900_000), "{save}");
}
