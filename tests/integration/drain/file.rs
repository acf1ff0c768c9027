//! `balancer = "file"`, by the health checks of a real HAProxy.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use farewell::model::error::ErrorKind;
use farewell::step::Outcome;
use farewell::sys::probe;

use super::app::{App, ask};
use super::haproxy::Haproxy;
use super::{TIME, intents, undo};
use crate::support::binary::{Binary, step_of, wait_until};
use crate::support::servers::Server;
use crate::support::{Dir, Run, manual, network, problems, step};

fn keys(path: &str, rest: &str) -> String {
    // Looks at files are a child's, which is the program itself.
    probe::use_program(env!("CARGO_BIN_EXE_farewell"));
    format!(
        "kind = \"drain\"\nbalancer = \"file\"\npath = {path:?}\ninterval = \"100ms\"\nthreshold = 3\n{rest}"
    )
}

#[test]
fn keys_are_checked() {
    assert_eq!(problems(&keys("/run/out", "present = false")), "");
    let long = keys("/run/out", "timeout = \"300ms\"");
    let told = problems(&long);
    assert!(
        told.contains("shorter than the step's timeout, 300ms"),
        "{told}"
    );
    let long = keys("/run/out", "").replace("100ms", "10s");
    assert!(problems(&long).contains("timeout, 30s"));
}

#[test]
#[ignore = "needs haproxy; tests/run has it"]
fn the_balancer_has_seen_it_when_the_step_ends() {
    let apps = [App::start("one"), App::start("two")];
    let haproxy = Haproxy::start_with(
        "file",
        &[&apps[0], &apps[1]],
        "check inter 100ms fall 3 rise 1",
    );
    let dir = Dir::new("drain-file");
    let path = dir.file("out");
    apps[0].watch(Path::new(&path));
    wait_until("both are up", || {
        haproxy.says("show stat web 4 -1").matches(",UP,").count() == 2
    });
    let check = format!("check = \"http://{}/health\"", apps[0].address());
    let leave = step(&keys(&path, &check));
    let run = Run::new();
    let said = run.rehearse(&leave, TIME).expect("ready");
    let is = format!(
        "{path} is not there, and its directory can be written, and the health check is good"
    );
    assert_eq!((said, run.remarks().len()), (is, 0));
    let begun = Instant::now();
    assert_eq!(run.attempt(&leave, TIME), Ok(Outcome::Done));
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let waiting = run.waiting();
    let last = waiting.last().expect("a wait");
    assert_eq!(last, "the balancer to look 3 times, every 100ms");
    // A check of this machine's may be late by some of its own time.
    wait_until("it is down", || {
        haproxy.says("show stat web 4 -1").contains(",DOWN,")
    });
    for _ in 0..4 {
        assert_eq!(ask(haproxy.port, "/").as_deref(), Ok("two"));
    }
    assert_eq!(run.attempt(&leave, TIME), Ok(Outcome::AlreadyDone));
    let left = intents(&run);
    assert_eq!(left.len(), 1);
    assert_eq!(run.attempt(&undo(&left), TIME), Ok(Outcome::Done));
    assert!(!Path::new(&path).exists());
    assert_eq!(run.attempt(&undo(&left), TIME), Ok(Outcome::AlreadyDone));
    wait_until("both are up again", || {
        haproxy.says("show stat web 4 -1").matches(",UP,").count() == 2
    });
}

#[test]
fn a_file_that_is_removed_is_put_back_as_it_was() {
    let dir = Dir::new("drain-file-removed");
    let path = dir.file("in");
    std::fs::write(&path, "all \"is\"\nwell ${hostname}\n").expect("written");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).expect("set");
    std::os::unix::fs::chown(&path, Some(1234), Some(4321)).expect("as root");
    let run = Run::new();
    let leave = step(&keys(&path, "present = false"));
    assert_eq!(run.attempt(&leave, TIME), Ok(Outcome::Done));
    assert!(!Path::new(&path).exists());
    assert_eq!(run.attempt(&undo(&intents(&run)), TIME), Ok(Outcome::Done));
    let text = std::fs::read_to_string(&path).expect("read");
    assert_eq!(text, "all \"is\"\nwell ${hostname}\n");
    let about = std::fs::metadata(&path).expect("there");
    assert_eq!(
        (about.mode() & 0o7777, about.uid(), about.gid()),
        (0o640, 1234, 4321)
    );
    // What stands there since is somebody else's.
    std::fs::write(&path, "new").expect("written");
    let undone = run.attempt(&undo(&intents(&run)), TIME);
    assert_eq!(undone, Ok(Outcome::AlreadyDone));
    assert_eq!(std::fs::read_to_string(&path).expect("read"), "new");
    std::fs::write(&path, "x".repeat(65 << 10)).expect("written");
    let failure = run.attempt(&leave, TIME).expect_err("too long");
    assert_eq!(failure.kind, ErrorKind::Io);
    assert!(
        failure.cause.contains("64 KiB") && Path::new(&path).exists(),
        "{failure}"
    );
}

#[test]
fn a_file_that_others_have_written_stays() {
    let dir = Dir::new("drain-file-others");
    let path = dir.file("out");
    let leave = step(&keys(&path, ""));
    let run = Run::new();
    assert_eq!(run.attempt(&leave, TIME), Ok(Outcome::Done));
    std::fs::write(&path, "out of service by hand").expect("written");
    let undone = run.attempt(&undo(&intents(&run)), TIME);
    assert_eq!(undone, Ok(Outcome::AlreadyDone));
    assert!(Path::new(&path).exists() && run.remarks()[0].contains("somebody has written it"));
    // And one that was there before is none of ours.
    let run = Run::new();
    assert_eq!(run.attempt(&leave, TIME), Ok(Outcome::AlreadyDone));
    assert!(intents(&run).is_empty());
    let said = run.rehearse(&leave, TIME).expect("ready");
    assert!(said.contains("is there") && run.remarks()[0].contains("taken out already"));
}

#[test]
fn a_link_at_its_path_is_not_followed() {
    let dir = Dir::new("drain-file-link");
    let (path, target) = (dir.file("in"), dir.file("target"));
    std::fs::write(&target, "secret").expect("written");
    std::os::unix::fs::symlink(&target, &path).expect("linked");
    let run = Run::new();
    let failure = run.attempt(&step(&keys(&path, "present = false")), TIME);
    assert_eq!(failure.expect_err("a link").kind, ErrorKind::Io);
    assert!(intents(&run).is_empty() && Path::new(&path).exists());
}

#[test]
fn an_application_that_does_not_look_is_told_at_the_deadline() {
    let dir = Dir::new("drain-file-blind");
    let server = Server::answers(&["200 fine"]);
    let check = format!("check = \"{}/health\"", server.url());
    let leave = step(&keys(&dir.file("out"), &check));
    let failure = Run::new()
        .attempt(&leave, Duration::from_secs(1))
        .expect_err("healthy");
    assert_eq!(failure.kind, ErrorKind::TimedOut);
    let said = format!(
        "the health check {}/health to fail: status 200",
        server.url()
    );
    assert_eq!(failure.subject, said);
}

#[test]
fn the_manual_s_example_works_as_it_stands() {
    network::own();
    let app = App::start_at("one", 8080);
    // In the place of the example's, which is the machine's own.
    let dir = Dir::new("drain-file-manual");
    let path = dir.file("out-of-service");
    app.watch(Path::new(&path));
    let example = manual::example("drain-file").replace("/run/app/out-of-service", &path);
    let binary = Binary::new("drain-file-run", &example.replace("\"5s\"", "\"50ms\""));
    let run = binary.verb(&["run"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert_eq!(step_of(&binary.report(), "leave-balancer")["state"], "done");
    assert!(Path::new(&path).exists());
    assert_eq!(binary.verb(&["start", "--undo-only"]).code, 0);
    assert!(!Path::new(&path).exists());
}
