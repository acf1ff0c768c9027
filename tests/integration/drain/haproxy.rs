//! `balancer = "haproxy"`, by a real HAProxy.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use farewell::model::error::ErrorKind;
use farewell::step::{Outcome, StepSpec};
use nix::sys::signal::Signal;

use super::app::{App, Asking, ask};
use super::balancer::Process;
use super::load::{End, load};
use super::{TIME, intents, undo};
use crate::support::binary::{Binary, Ended, step_of, wait_until};
use crate::support::ports::ports;
use crate::support::{Dir, Run, manual, network, problems, step};

/// A HAProxy with a backend `web`, whose servers are `s1`, `s2` and so on.
pub struct Haproxy {
    pub process: Process,
    pub port: u16,
    pub dir: Dir,
    /// The runtime API with level admin on TCP.
    pub address: String,
}

impl Haproxy {
    pub fn start(name: &str, apps: &[&App]) -> Haproxy {
        Haproxy::start_with(name, apps, "")
    }

    /// `options` stand behind each server.
    pub fn start_with(name: &str, apps: &[&App], options: &str) -> Haproxy {
        let line = |(at, app): (usize, &&App)| {
            format!("    server s{} {} {options}\n", at + 1, app.address())
        };
        let servers: String = apps.iter().enumerate().map(line).collect();
        let address = format!("127.0.0.1:{}", ports(1)[0]);
        Haproxy::start_at(name, &address, &servers)
    }

    /// With the runtime API at this address, and these lines of servers.
    pub fn start_at(name: &str, address: &str, servers: &str) -> Haproxy {
        let dir = Dir::new(&format!("drain-haproxy-at-{name}"));
        let port = ports(1)[0];
        let config = format!(
            "global\n    stats socket {admin} level admin\n    stats socket {user} level user\n    \
             stats socket ipv4@{address} level admin\n\
             defaults\n    mode http\n    timeout connect 10s\n    timeout client 300s\n    timeout server 300s\n    \
             timeout queue 300s\n    retries 0\n\
             frontend all\n    bind 127.0.0.1:{port}\n    default_backend web\n\
             backend web\n    balance roundrobin\n    option httpchk\n    http-check send meth GET uri /health ver HTTP/1.1 hdr Host app\n    cookie SRV insert indirect nocache\n{}",
            servers,
            admin = dir.file("admin.sock"),
            user = dir.file("user.sock"),
        );
        std::fs::write(dir.file("haproxy.cfg"), config).expect("written");
        let process = Process::start("haproxy", &["-db", "-f", &dir.file("haproxy.cfg")]);
        let haproxy = Haproxy {
            process,
            port,
            dir,
            address: address.to_owned(),
        };
        haproxy.wait();
        haproxy
    }

    pub fn wait(&self) {
        wait_until("HAProxy listens", || {
            UnixStream::connect(self.admin()).is_ok()
        });
    }

    /// The socket with level admin.
    pub fn admin(&self) -> String {
        self.dir.file("admin.sock")
    }

    pub fn says(&self, command: &str) -> String {
        let mut stream = UnixStream::connect(self.admin()).expect("connected");
        stream
            .write_all(format!("{command}\n").as_bytes())
            .expect("written");
        let mut said = String::new();
        stream.read_to_string(&mut said).expect("read");
        said
    }

    /// The administrative state of a server, in HAProxy's bits.
    pub fn state(&self, server: &str) -> u32 {
        let said = self.says("show servers state web");
        let row = said
            .lines()
            .find(|row| row.split(' ').nth(3) == Some(server));
        let bits = row.and_then(|row| row.split(' ').nth(6));
        bits.expect("a server").parse().expect("a number")
    }

    pub fn set(&self, server: &str, state: &str) {
        let said = self.says(&format!("set server web/{server} state {state}"));
        assert_eq!(said.trim(), "");
    }
}

pub const READY: u32 = 0;
pub const MAINT: u32 = 1;
pub const DRAIN: u32 = 8;

pub fn keys(socket: &str, rest: &str) -> String {
    format!(
        "kind = \"drain\"\nbalancer = \"haproxy\"\nsocket = {socket:?}\nbackend = \"web\"\nserver = \"s1\"\n{rest}"
    )
}

fn drain(haproxy: &Haproxy, rest: &str) -> StepSpec {
    step(&keys(&haproxy.admin(), rest))
}

fn binary(name: &str, keys: &str) -> Binary {
    Binary::new(
        &format!("drain-haproxy-run-{name}"),
        &format!("[[step]]\nname = \"leave\"\n{keys}\n"),
    )
}

/// Runs the drain of a server with a session that does not end: it fails at its deadline, and says what is left at `address`.
pub fn tells_of_one_session(binary: &Binary, address: &str) {
    assert_eq!(binary.verb(&["run"]).code, 1);
    let report = binary.report();
    let leave = step_of(&report, "leave");
    assert_eq!(leave["state"], "timed-out", "{report:#}");
    let said = leave["error"]["message"].as_str().expect("a message");
    let left = format!("1 session and 0 queued of web/s1 at {address}: still there");
    assert!(said.starts_with(&left), "{said}");
}

#[test]
fn keys_are_checked() {
    for (socket, rest) in [
        ("/run/haproxy/admin.sock", ""),
        ("lb-1:9999", "maint = true\nmin-up = 1"),
        ("[::1]:9999", ""),
        ("${file:/etc/lb}", ""),
    ] {
        assert_eq!(problems(&keys(socket, rest)), "", "{socket}");
    }
    let list = keys("x", "").replace("\"x\"", "[\"/run/a.sock\", \"lb-2:9999\"]");
    assert_eq!(problems(&list), "");
    for socket in ["lb-1", "run/a.sock", "http://lb-1:9999"] {
        let told = problems(&keys(socket, ""));
        assert!(told.contains("neither the absolute path"), "{told}");
    }
    let injected = keys("/run/a.sock", "").replace("\"s1\"", "\"s1;shutdown\"");
    assert!(problems(&injected).contains("no name of HAProxy's"));
}

/// Two applications of which each knows the other one.
pub fn pair() -> [App; 2] {
    let (mut one, two) = (App::start("one"), App::start("two"));
    one.beside(&two);
    [one, two]
}

#[test]
#[ignore = "needs haproxy; tests/run has it"]
fn no_request_fails_while_one_server_says_its_farewell_and_stops() {
    let apps = pair();
    let haproxy = Haproxy::start_with("load", &[&apps[0], &apps[1]], "check inter 500ms");
    let config = format!(
        "[farewell]\nbudget = \"170s\"\n[[step]]\nname = \"leave\"\ntimeout = \"160s\"\n{}\
         [[step]]\nname = \"stop\"\nkind = \"http\"\nurl = \"http://{}/stop\"\n",
        keys(&haproxy.admin(), "maint = true\nmin-up = 1\n"),
        apps[0].address()
    );
    let binary = Binary::new("drain-haproxy-run-load", &config);
    let is_out = || haproxy.state("s1") == DRAIN;
    let tally = load(haproxy.port, &apps[0], End::Farewell(&binary, &is_out));
    println!("HAProxy, one of two servers drained and stopped: {tally:?}");
    assert_eq!(tally.failed.into_inner() + tally.again.into_inner(), 0);
}

#[test]
#[ignore = "needs haproxy; tests/run has it"]
fn requests_fail_where_the_application_is_killed_without_a_farewell() {
    let apps = pair();
    let haproxy = Haproxy::start_with("killed", &[&apps[0], &apps[1]], "check inter 500ms");
    let tally = load(haproxy.port, &apps[0], End::Killed);
    println!("HAProxy, one of two servers killed: {tally:?}");
    assert!(tally.failed.into_inner() > 0);
}

#[test]
#[ignore = "needs haproxy; tests/run has it"]
fn a_fact_adds_no_command() {
    let apps = [App::start("one"), App::start("two")];
    let haproxy = Haproxy::start("fact", &[&apps[0], &apps[1]]);
    let fact = haproxy.dir.file("fact");
    std::fs::write(&fact, "s1;set server web/s2 state maint").expect("written");
    let keys = keys(&haproxy.admin(), "");
    let step = step(&keys.replace("\"s1\"", &format!("\"${{file:{fact}}}\"")));
    let failure = Run::new().attempt(&step, TIME).expect_err("no name");
    assert_eq!(failure.kind, ErrorKind::Config, "{failure}");
    assert_eq!((haproxy.state("s1"), haproxy.state("s2")), (READY, READY));
}

#[test]
#[ignore = "needs haproxy; tests/run has it"]
fn an_idle_server_is_drained_at_once_and_is_back_after_the_undo() {
    let apps = [App::start("one"), App::start("two")];
    let haproxy = Haproxy::start("idle", &[&apps[0], &apps[1]]);
    let run = Run::new();
    assert_eq!(run.attempt(&drain(&haproxy, ""), TIME), Ok(Outcome::Done));
    assert_eq!((haproxy.state("s1"), haproxy.state("s2")), (DRAIN, READY));
    for _ in 0..8 {
        assert_eq!(ask(haproxy.port, "/").as_deref(), Ok("two"));
    }
    // Again: it is out, and nothing more is to be undone.
    assert_eq!(
        run.attempt(&drain(&haproxy, ""), TIME),
        Ok(Outcome::AlreadyDone)
    );
    let left = intents(&run);
    assert_eq!(left.len(), 1);
    assert_eq!(run.attempt(&undo(&left), TIME), Ok(Outcome::Done));
    assert_eq!(haproxy.state("s1"), READY);
    assert_eq!(run.attempt(&undo(&left), TIME), Ok(Outcome::AlreadyDone));
}

#[test]
#[ignore = "needs haproxy; tests/run has it"]
fn sessions_and_the_queue_are_waited_for_and_then_comes_maintenance() {
    let app = App::start("one");
    // The second request waits for the first one, at the server that its cookie names.
    let haproxy = Haproxy::start_with("queue", &[&app], "maxconn 1 cookie s1");
    let asking = [(); 2].map(|()| Asking::start(haproxy.port, "/hold"));
    wait_until("one is held and one is queued", || {
        app.held() == 1 && haproxy.says("show stat web 4 -1").contains("web,s1,1,1,1,")
    });
    let run = Run::new();
    let ended = std::thread::scope(|threads| {
        let step = drain(&haproxy, "maint = true");
        let run = &run;
        let draining = threads.spawn(move || run.attempt(&step, TIME));
        wait_until("it waits", || !run.waiting().is_empty());
        assert_eq!(haproxy.state("s1"), DRAIN);
        app.release();
        draining.join().expect("no panic")
    });
    assert_eq!(ended, Ok(Outcome::Done));
    let said = format!("1 session and 1 queued of web/s1 at {}", haproxy.admin());
    assert_eq!(run.waiting()[0], said);
    assert_eq!(haproxy.state("s1"), MAINT);
    for it in asking {
        assert_eq!(it.end().as_deref(), Ok("one"));
    }
    assert_eq!(run.attempt(&undo(&intents(&run)), TIME), Ok(Outcome::Done));
    assert_eq!(haproxy.state("s1"), READY);
}

#[test]
#[ignore = "needs haproxy; tests/run has it"]
fn a_session_that_never_ends_is_told_at_the_deadline() {
    let app = App::start("one");
    let haproxy = Haproxy::start("endless", &[&app]);
    let asking = Asking::start(haproxy.port, "/hold");
    wait_until("it is held", || app.held() == 1);
    let binary = binary(
        "endless",
        &keys(
            &haproxy.address,
            "timeout = \"1500ms\"\nattempt-timeout = \"1s\"",
        ),
    );
    tells_of_one_session(&binary, &haproxy.address);
    assert_eq!(haproxy.state("s1"), DRAIN);
    app.release();
    assert_eq!(asking.end().as_deref(), Ok("one"));
}

#[test]
#[ignore = "needs haproxy; tests/run has it"]
fn who_may_not_and_who_is_not_known_is_refused_at_once() {
    let app = App::start("one");
    let haproxy = Haproxy::start("refused", &[&app]);
    let good = keys(&haproxy.admin(), "");
    for (keys, said) in [
        (
            keys(&haproxy.dir.file("user.sock"), ""),
            "HAProxy says to `set server web/s1 state drain`: Permission denied",
        ),
        (
            good.replace("\"web\"", "\"nowhere\""),
            "HAProxy knows no backend nowhere",
        ),
        (
            good.replace("\"s1\"", "\"s9\""),
            "HAProxy knows no server s9 in the backend web, only s1",
        ),
    ] {
        let run = Run::new();
        let begun = Instant::now();
        let failure = run.attempt(&step(&keys), TIME).expect_err("refused");
        assert_eq!(
            (failure.kind, failure.retryable),
            (ErrorKind::Refused, false)
        );
        assert_eq!(failure.cause, said);
        assert!(begun.elapsed() < TIME / 4);
        // Nothing is left that would have to be undone.
        let withdrawn = run.recorder.withdrawn().len();
        assert_eq!(intents(&run).len(), withdrawn);
    }
    assert_eq!(haproxy.state("s1"), READY);
}

#[test]
#[ignore = "needs root and haproxy; tests/run has it"]
fn a_socket_that_may_not_be_opened_is_refused() {
    let app = App::start("one");
    let haproxy = Haproxy::start("mode", &[&app]);
    let binary = binary("mode", &keys(&haproxy.admin(), ""));
    let mut everybody = std::process::Command::new("chmod");
    everybody.args(["-R", "a+rX", "--"]).arg(&binary.dir.0);
    assert!(everybody.status().expect("chmod").success());
    let mut chmod = std::process::Command::new("chmod");
    let chmod = chmod.args(["600", "--", &haproxy.admin()]).status();
    assert!(chmod.expect("chmod").success());
    // The directories that lead to the binary may be closed to others.
    let program = haproxy.dir.file("farewell");
    std::fs::copy(env!("CARGO_BIN_EXE_farewell"), &program).expect("copied");
    let said = Ended::of(
        std::process::Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", &program])
            .args(["rehearse", "--config", &binary.dir.file("farewell.toml")])
            .args(["--state", &haproxy.dir.file("nobody")])
            .env_clear(),
    );
    assert_eq!(said.code, 1, "{said:?}");
    let told = format!("{}{}", said.stdout, said.stderr);
    assert!(
        told.contains("refused") && told.contains("Permission denied"),
        "{said:?}"
    );
}

#[test]
#[ignore = "needs haproxy; tests/run has it"]
fn maintenance_of_an_administrator_stays() {
    let app = App::start("one");
    let haproxy = Haproxy::start("before", &[&app]);
    haproxy.set("s1", "maint");
    let run = Run::new();
    let step = drain(&haproxy, "maint = true");
    assert_eq!(run.attempt(&step, TIME), Ok(Outcome::AlreadyDone));
    assert!(intents(&run).is_empty());
    assert_eq!(haproxy.state("s1"), MAINT);
    // One who drained it before finds it drained, and not ready.
    haproxy.set("s1", "drain");
    assert_eq!(run.attempt(&step, TIME), Ok(Outcome::Done));
    assert_eq!(haproxy.state("s1"), MAINT);
    assert_eq!(run.attempt(&undo(&intents(&run)), TIME), Ok(Outcome::Done));
    assert_eq!(haproxy.state("s1"), DRAIN);
    // And one who puts it into maintenance after the drain has the last word.
    haproxy.set("s1", "ready");
    let run = Run::new();
    assert_eq!(run.attempt(&drain(&haproxy, ""), TIME), Ok(Outcome::Done));
    haproxy.set("s1", "maint");
    let undone = run.attempt(&undo(&intents(&run)), TIME);
    assert_eq!(undone, Ok(Outcome::AlreadyDone));
    assert_eq!(haproxy.state("s1"), MAINT);
    assert!(run.remarks()[0].contains("set it to maint since"));
}

#[test]
#[ignore = "needs haproxy; tests/run has it"]
fn a_balancer_that_restarts_in_the_middle_drains_it_again() {
    let app = App::start("one");
    let mut haproxy = Haproxy::start("restart", &[&app]);
    let admin = haproxy.admin();
    let first = Asking::start(haproxy.port, "/hold");
    wait_until("it is held", || app.held() == 1);
    let run = Run::new();
    let ended = std::thread::scope(|threads| {
        let (step, run) = (drain(&haproxy, ""), &run);
        let draining = threads.spawn(move || run.attempt(&step, TIME));
        wait_until("it waits", || !run.waiting().is_empty());
        haproxy.process.kill();
        let is_told = |words: &str| {
            let waiting = run.waiting();
            waiting.last().is_some_and(|it| it.contains(words))
        };
        wait_until("it is missed", || is_told("seen last: 1 session"));
        haproxy.process.restart();
        haproxy.wait();
        wait_until("it is drained again", || haproxy.state("s1") == DRAIN);
        draining.join().expect("no panic")
    });
    assert_eq!(ended, Ok(Outcome::Done));
    let remarks = run.remarks();
    let said = format!("web/s1 at {admin} was no longer drained: HAProxy was restarted");
    assert!(remarks[0].starts_with(&said), "{remarks:?}");
    assert_eq!(intents(&run).len(), 1);
    app.release();
    assert!(first.end().is_err(), "its balancer was killed");
}

#[test]
#[ignore = "needs haproxy; tests/run has it"]
fn a_balancer_that_hangs_is_asked_again_and_one_that_is_gone_is_told() {
    let app = App::start("one");
    let mut haproxy = Haproxy::start("hangs", &[&app]);
    let asking = Asking::start(haproxy.port, "/hold");
    wait_until("it is held", || app.held() == 1);
    let mut run = Run::new();
    run.attempt_timeout = Duration::from_millis(300);
    std::thread::scope(|threads| {
        let (step, run) = (drain(&haproxy, ""), &run);
        let draining = threads.spawn(move || run.attempt(&step, TIME));
        wait_until("it waits", || !run.waiting().is_empty());
        haproxy.process.signal(Signal::SIGSTOP);
        let is_told = || {
            let waiting = run.waiting();
            waiting
                .iter()
                .any(|it| it.contains("HAProxy does not answer"))
        };
        wait_until("it is missed", is_told);
        haproxy.process.signal(Signal::SIGCONT);
        app.release();
        assert_eq!(draining.join().expect("no panic"), Ok(Outcome::Done));
    });
    assert_eq!(asking.end().as_deref(), Ok("one"));
    haproxy.process.kill();
    let failure = run.attempt(&drain(&haproxy, ""), Duration::from_secs(1));
    let failure = failure.expect_err("nobody is there");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Unreachable, true)
    );
}

#[test]
#[ignore = "needs haproxy; tests/run has it"]
fn every_balancer_of_a_list_is_drained_and_reported() {
    let app = App::start("one");
    let both = ["list-a", "list-b"].map(|name| Haproxy::start(name, &[&app]));
    let list = |one: &str, two: &str| {
        let keys = keys("x", "");
        step(&keys.replace("\"x\"", &format!("[{one:?}, {two:?}]")))
    };
    let asking = both.each_ref().map(|it| Asking::start(it.port, "/hold"));
    wait_until("both are held", || app.held() == 2);
    let run = Run::new();
    std::thread::scope(|threads| {
        let (step, run) = (list(&both[0].admin(), &both[1].address), &run);
        let draining = threads.spawn(move || run.attempt(&step, TIME));
        wait_until("it waits", || !run.waiting().is_empty());
        app.release();
        assert_eq!(draining.join().expect("no panic"), Ok(Outcome::Done));
    });
    let said = format!(
        "1 session and 0 queued of web/s1 at {}, 1 session and 0 queued of web/s1 at {}",
        both[0].admin(),
        both[1].address
    );
    assert_eq!(run.waiting()[0], said);
    for it in asking {
        assert_eq!(it.end().as_deref(), Ok("one"));
    }
    // Each is undone by itself.
    let left = intents(&run);
    assert_eq!(left.len(), 2);
    for intent in &left {
        let undo = undo(std::slice::from_ref(intent));
        assert_eq!(run.attempt(&undo, TIME), Ok(Outcome::Done));
    }
    assert_eq!(both.each_ref().map(|it| it.state("s1")), [READY; 2]);
    // One that refuses keeps the others from nothing, and is told.
    let refusing = list(&both[0].dir.file("user.sock"), &both[1].address);
    let failure = Run::new().attempt(&refusing, TIME).expect_err("refused");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Refused, false)
    );
    assert_eq!(failure.subject, both[0].dir.file("user.sock"));
    assert_eq!(both.each_ref().map(|it| it.state("s1")), [READY, DRAIN]);
}

#[test]
#[ignore = "needs haproxy; tests/run has it"]
fn the_last_one_that_is_up_is_drained_late_and_loudly() {
    let apps = [App::start("one"), App::start("two")];
    let haproxy = Haproxy::start("last", &[&apps[0], &apps[1]]);
    haproxy.set("s2", "maint");
    let run = Run::new();
    let step = drain(&haproxy, "min-up = 1");
    let begun = Instant::now();
    let time = Duration::from_secs(3);
    assert_eq!(run.attempt(&step, time), Ok(Outcome::Done));
    assert!(begun.elapsed() >= time / 2);
    assert_eq!(haproxy.state("s1"), DRAIN);
    let said = format!(
        "1 other servers to be up beside web/s1 at {}, where 0 are",
        haproxy.admin()
    );
    assert_eq!(run.waiting()[0], said);
    assert!(run.remarks()[0].contains(&said), "{:?}", run.remarks());
    // Where the other one comes back it waits no longer.
    haproxy.set("s1", "ready");
    let run = Run::new();
    std::thread::scope(|threads| {
        let (step, run) = (&step, &run);
        let draining = threads.spawn(move || run.attempt(step, TIME));
        wait_until("it waits", || !run.waiting().is_empty());
        assert_eq!(haproxy.state("s1"), READY);
        haproxy.set("s2", "ready");
        assert_eq!(draining.join().expect("no panic"), Ok(Outcome::Done));
    });
    assert_eq!((haproxy.state("s1"), run.remarks().len()), (DRAIN, 0));
}

#[test]
#[ignore = "needs haproxy; tests/run has it"]
fn of_two_that_drain_at_once_one_stays_up() {
    let apps = [App::start("one"), App::start("two")];
    let haproxy = Haproxy::start("both", &[&apps[0], &apps[1]]);
    let steps = ["s1", "s2"].map(|server| {
        let keys = keys(&haproxy.admin(), "min-up = 1");
        step(&keys.replace("\"s1\"", &format!("{server:?}")))
    });
    let runs = [Run::new(), Run::new()];
    std::thread::scope(|threads| {
        let drains = (steps.iter().zip(&runs))
            .map(|(step, run)| threads.spawn(move || run.attempt(step, TIME)))
            .collect::<Vec<_>>();
        wait_until("one is drained", || {
            drains.iter().any(|it| it.is_finished())
        });
        // The other one may be drained for as long as it has not looked again.
        wait_until("the other one is up", || {
            let mut states = [haproxy.state("s1"), haproxy.state("s2")];
            states.sort_unstable();
            states == [READY, DRAIN]
        });
        // The first one is back, as after its boot: the second one goes.
        let first = usize::from(drains[1].is_finished());
        haproxy.set(["s1", "s2"][first], "ready");
        for draining in drains {
            assert_eq!(draining.join().expect("no panic"), Ok(Outcome::Done));
        }
    });
    for run in &runs {
        assert!(run.remarks().is_empty(), "{:?}", run.remarks());
        // What was taken back at once is not to be undone later.
        let withdrawn = run.recorder.withdrawn().len();
        assert_eq!(intents(run).len() - withdrawn, 1);
    }
}

#[test]
#[ignore = "needs haproxy; tests/run has it"]
fn a_rehearsal_says_what_a_run_would_meet_and_changes_nothing() {
    let app = App::start("one");
    let haproxy = Haproxy::start("rehearsal", &[&app]);
    let asking = Asking::start(haproxy.port, "/hold");
    wait_until("it is held", || app.held() == 1);
    let run = Run::new();
    let said = run.rehearse(&drain(&haproxy, "min-up = 1"), TIME);
    let expected = format!(
        "web/s1 at {}: ready, 1 session and 0 queued, 0 others up; this socket may change it",
        haproxy.admin()
    );
    assert_eq!(said, Ok(expected));
    assert!(run.remarks()[0].contains("`min-up` is 1"));
    let user = step(&keys(&haproxy.dir.file("user.sock"), ""));
    let failure = run.rehearse(&user, TIME).expect_err("refused");
    assert_eq!(failure.kind, ErrorKind::Refused);
    assert!(failure.cause.contains("has the level user"), "{failure}");
    let unknown = keys(&haproxy.admin(), "").replace("\"s1\"", "\"s9\"");
    let failure = run.rehearse(&step(&unknown), TIME).expect_err("unknown");
    assert_eq!(failure.kind, ErrorKind::Refused);
    assert_eq!(haproxy.state("s1"), READY);
    app.release();
    assert_eq!(asking.end().as_deref(), Ok("one"));
}

#[test]
#[ignore = "needs haproxy; tests/run has it"]
fn what_a_run_has_left_is_undone_by_the_next_start() {
    let app = App::start("one");
    let haproxy = Haproxy::start("start", &[&app]);
    let binary = binary("start", &keys(&haproxy.admin(), ""));
    let run = binary.verb(&["run"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let told = format!("leaves the drain of web/s1 at {}", haproxy.admin());
    assert!(run.stdout.contains(&told), "{}", run.stdout);
    assert_eq!(haproxy.state("s1"), DRAIN);
    let start = binary.verb(&["start", "--undo-only"]);
    assert_eq!(start.code, 0, "{}{}", start.stdout, start.stderr);
    assert_eq!(haproxy.state("s1"), READY);
    // Twice without an undo in between: what the first one found is restored.
    assert_eq!(binary.verb(&["run"]).code, 0);
    assert_eq!(binary.verb(&["run"]).code, 0);
    assert_eq!(step_of(&binary.report(), "leave")["state"], "already-done");
    assert_eq!(binary.verb(&["start", "--undo-only"]).code, 0);
    assert_eq!(haproxy.state("s1"), READY);
}

#[test]
#[ignore = "needs haproxy; tests/run has it"]
fn the_manual_s_example_works_as_it_stands() {
    network::own();
    let addresses = ["10.0.0.11", "10.0.0.12"];
    addresses.into_iter().for_each(network::add);
    let hostname = farewell::sys::host::hostname().expect("a name");
    let apps = [App::start("one"), App::start("two")];
    let names = [hostname.as_str(), "other"];
    let servers = names.iter().zip(&apps);
    let servers = servers.map(|(name, app)| format!("    server {name} {}\n", app.address()));
    let servers: String = servers.collect();
    let start = |at: &str| Haproxy::start_at(at, &format!("{at}:9999"), &servers);
    let both = addresses.map(start);
    let binary = Binary::new("drain-haproxy-manual", &manual::example("drain-haproxy"));
    let rehearsal = binary.verb(&["rehearse"]);
    let told =
        format!("web/{hostname} at 10.0.0.12:9999: ready, 0 sessions and 0 queued, 1 others up");
    assert!(rehearsal.stdout.contains(&told), "{}", rehearsal.stdout);
    let run = binary.verb(&["run"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert_eq!(both.each_ref().map(|it| it.state(&hostname)), [DRAIN; 2]);
    let start = binary.verb(&["start", "--undo-only"]);
    assert_eq!(start.code, 0, "{}{}", start.stdout, start.stderr);
    assert_eq!(both.each_ref().map(|it| it.state(&hostname)), [READY; 2]);
}
