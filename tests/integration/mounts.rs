//! `wait-mounts`, `registry = "file"` and hanging programs on real mounts, in mount namespaces of the tests' own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::binary::wait_until;
use crate::support::fuse::Hanging;
use crate::support::namespace::{Frozen, ext4, mount};
use crate::support::own_process::{in_own_namespace, this_test};
use crate::support::scope::{Attempt, attempt, attempt_in, attempt_with, problems};
use crate::support::{Run, scope};
use farewell::model::deadline::{Deadline, Reason};
use farewell::step::Outcome;
use farewell::sys::cancel::Cancel;
use farewell::sys::probe::{self, ProbeError, Removal};

const SECOND: Duration = Duration::from_secs(1);

/// An empty directory of this test.
fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("farewell-{}-{name}", std::process::id()));
    fs::create_dir_all(&path).expect("made");
    path
}

fn wait_mounts(paths: &[&Path], keys: &str, timeout: Duration) -> Attempt {
    let keys = format!("paths = {paths:?}\n{keys}");
    let cancel = Cancel::new().expect("a switch");
    attempt_with("wait-mounts", &keys, timeout, timeout / 3, &cancel)
}

#[test]
fn keys_are_checked() {
    assert_eq!(
        problems("wait-mounts", "paths = ['here', '/there']\nsync = 1").len(),
        2
    );
    assert_eq!(
        problems("deregister", "registry = 'file'\npath = '/'").len(),
        1
    );
    assert_eq!(
        problems("deregister", "registry = 'file'\npath = '/x/'").len(),
        1
    );
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_mounted_file_system_is_seen() {
    in_own_namespace(this_test!(), mounted);
}

fn mounted() {
    let (point, link) = (directory("a b"), directory("links").join("link"));
    mount(&["-t", "tmpfs", "x"], &point);
    std::os::unix::fs::symlink(&point, &link).expect("linked");
    let attempt = wait_mounts(&[&point, &link], "sync = true", SECOND * 60);
    assert_eq!(attempt.result, Ok(Outcome::Done));
    // A file can be mounted as well, and a mount that a later one hides is none.
    let (file, inner) = (directory("files").join("file"), point.join("inner"));
    fs::write(&file, "").expect("written");
    mount(&["--bind", "/etc/hostname"], &file);
    assert_eq!(
        wait_mounts(&[&file], "", SECOND * 10).result,
        Ok(Outcome::Done)
    );
    fs::create_dir(&inner).expect("made");
    mount(&["-t", "tmpfs", "y"], &inner);
    mount(&["-t", "tmpfs", "z"], &point);
    fs::create_dir(&inner).expect("made");
    assert_eq!(wait_mounts(&[&inner], "", SECOND).failure().0, "mount");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_mount_that_comes_is_waited_for() {
    in_own_namespace(this_test!(), coming);
}

fn coming() {
    let (point, there) = (directory("coming"), directory("there"));
    mount(&["-t", "tmpfs", "x"], &there);
    let (run, cancel) = (Run::new(), Cancel::new().expect("a switch"));
    let (result, _) = std::thread::scope(|threads| {
        threads.spawn(|| {
            wait_until("it waits", || !run.recorder.waiting().is_empty());
            mount(&["-t", "tmpfs", "x"], &point);
        });
        let keys = format!("paths = {:?}", [&there, &point]);
        let limits = (SECOND * 300, SECOND * 100);
        attempt_in(&run, "wait-mounts", &keys, limits, &cancel)
    });
    assert_eq!(result, Ok(Outcome::Done));
    let bare = "not a mount point (the bare directory under it is there)";
    assert_eq!(
        run.recorder.waiting(),
        [format!("{}: {bare}", point.display())]
    );
}

#[test]
fn a_bare_or_missing_directory_is_no_mount() {
    let bare = directory("bare");
    let attempt = wait_mounts(&[&bare], "sync = true", SECOND);
    let cause = "not a mount point (the bare directory under it is there)";
    assert_eq!(
        attempt.failure(),
        ("mount", format!("{}: {cause}", bare.display()))
    );
    assert!(attempt.took >= SECOND);
    let attempt = wait_mounts(&[Path::new("/no/such"), &bare], "", SECOND);
    let (word, message) = attempt.failure();
    assert_eq!(word, "mount");
    assert!(message.starts_with("/no/such: No such file"), "{message}");
    assert!(message.contains(cause), "{message}");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_hanging_mount_costs_the_timeout_and_no_more() {
    in_own_namespace(this_test!(), hanging);
}

fn hanging() {
    // Twice: the processes that look can be killed, and they cannot.
    for served in [false, true] {
        let (point, good) = (directory("hanging"), directory("good"));
        let hanging = Hanging::mount(&point, served);
        mount(&["-t", "tmpfs", "x"], &good);
        let attempt = wait_mounts(&[&point, &good], "sync = true", SECOND * 3);
        let told = format!(
            "{}: does not answer (fuse from srv:/hanging)",
            point.display()
        );
        assert_eq!(attempt.failure(), ("timed-out", told));
        let waits = format!(
            "{} (fuse from srv:/hanging): does not answer",
            point.display()
        );
        assert_eq!(attempt.recorder.waiting(), [waits]);

        let path = point.join("entry");
        let keys = format!("registry = 'file'\npath = {path:?}");
        let attempt = crate::support::scope::attempt("deregister", &keys, SECOND);
        assert_eq!(attempt.failure().0, "timed-out");
        let (deadline, cancel) = (Deadline::after(SECOND, Reason::Attempt), Cancel::new());
        let answer = probe::exists(&path, deadline, &cancel.expect("a switch"));
        assert!(
            matches!(answer, Err(ProbeError::TimedOut(Reason::Attempt))),
            "{answer:?}"
        );
        if !served {
            wait_until("nobody looks any more", || looks_at(&point) == 0);
        }
        drop(hanging);
    }
}

/// How many processes that look at `path` or below it still run.
fn looks_at(path: &Path) -> usize {
    let path = path.to_str().expect("text");
    let commands = fs::read_dir("/proc")
        .expect("proc")
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
    commands
        .filter(|command| command.contains("--guarded") && command.contains(path))
        .count()
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_program_that_hangs_in_the_kernel_is_given_up_at_the_deadline() {
    in_own_namespace(this_test!(), program);
}

fn program() {
    let point = directory("program");
    let hanging = Hanging::mount(&point, true);
    let inside = attempt(
        "command",
        &format!("argv = ['ls', {:?}]\ngrace = '300ms'", point.join("x")),
        SECOND * 2,
    );
    let (word, message) = inside.failure();
    assert_eq!(word, "timed-out");
    assert!(message.contains("still running after SIGKILL"), "{message}");
    // The program itself is on it: exec does not return.
    let itself = attempt(
        "command",
        &format!("argv = [{:?}]", point.join("x")),
        SECOND * 2,
    );
    let (word, message) = itself.failure();
    assert_eq!(word, "timed-out");
    assert!(message.contains("not started"), "{message}");
    // Being told to stop ends the wait for it.
    let cancel = Cancel::new().expect("a switch");
    std::thread::scope(|threads| {
        threads.spawn(|| {
            wait_until("somebody looks", || looks_at(&point) > 0);
            cancel.cancel(Duration::MAX);
        });
        let keys = format!("paths = {point:?}");
        let limit = SECOND * 300;
        let attempt = attempt_with("wait-mounts", &keys, limit, limit, &cancel);
        assert!(attempt.failure().1.ends_with("told to stop"));
    });
    drop(hanging);
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_frozen_file_system_answers_and_a_removal_from_it_costs_the_timeout() {
    in_own_namespace(this_test!(), frozen);
}

fn frozen() {
    let (point, images) = (directory("frozen"), directory("images"));
    ext4(&images, &point);
    fs::write(point.join("file"), vec![1; 1 << 20]).expect("written");
    assert_eq!(
        wait_mounts(&[&point], "sync = true", SECOND * 10).result,
        Ok(Outcome::Done)
    );
    let _frozen = Frozen::freeze(&point);
    assert_eq!(
        wait_mounts(&[&point], "", SECOND * 10).result,
        Ok(Outcome::Done)
    );
    // Whoever changes something waits for the thaw, and cannot be killed.
    let keys = format!("registry = 'file'\npath = {:?}", point.join("file"));
    let attempt = attempt("deregister", &keys, SECOND);
    assert_eq!(attempt.failure().0, "timed-out");
}

#[test]
fn a_file_is_removed_and_that_is_verified() {
    let directory = directory("registry");
    let path = directory.join("entry with blanks");
    fs::write(&path, "").expect("written");
    let keys = |path: &Path| format!("registry = 'file'\npath = {path:?}");
    assert_eq!(
        attempt("deregister", &keys(&path), SECOND * 10).result,
        Ok(Outcome::Done)
    );
    assert!(!path.exists());
    assert_eq!(
        attempt("deregister", &keys(&path), SECOND * 10).result,
        Ok(Outcome::AlreadyDone)
    );
    std::os::unix::fs::symlink("/no/such", &path).expect("linked");
    assert_eq!(
        attempt("deregister", &keys(&path), SECOND * 10).result,
        Ok(Outcome::Done)
    );

    let missing = attempt(
        "deregister",
        &keys(&directory.join("share/entry")),
        SECOND * 10,
    );
    let failure = missing.result.as_ref().expect_err("no share");
    assert!(
        failure.retryable
            && failure
                .cause
                .ends_with("share does not exist: is the file system mounted?")
    );
    assert_eq!(missing.failure().0, "io");
    let failure = attempt("deregister", &keys(&directory), SECOND * 10)
        .result
        .expect_err("a directory");
    assert!(
        !failure.retryable && failure.cause.starts_with("Is a directory"),
        "{failure}"
    );
}

#[test]
fn looks_tell_what_is_there() {
    scope::step("wait", "for = '0s'");
    let (deadline, cancel) = (
        Deadline::after(SECOND * 10, Reason::Attempt),
        Cancel::new().expect("a switch"),
    );
    let link = directory("looks").join("link");
    std::os::unix::fs::symlink("/no/such", &link).expect("linked");
    let exists = |path: &Path| probe::exists(path, deadline, &cancel).expect("an answer");
    assert!(exists(Path::new("/etc/hostname")) && !exists(&link));
    assert!(probe::remains(&link, deadline, &cancel).expect("an answer"));
    assert_eq!(
        probe::remove(&link, deadline, &cancel).expect("gone"),
        Removal::Removed
    );
    assert!(!probe::remains(&link, deadline, &cancel).expect("an answer"));
    let probe = probe::probe(Path::new("/usr/../etc"), deadline, &cancel).expect("an answer");
    assert_eq!(probe.canonical, Path::new("/etc"));
    assert!(matches!(
        probe::probe(&link, deadline, &cancel),
        Err(ProbeError::Io(_))
    ));
}
