//! `command` with real children: well-behaved ones, and all kinds of others.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use crate::support::Dir;
use crate::support::Run;
use crate::support::binary::{DYING, Ended, farewell, wait_until};
use crate::support::own_process::{in_own_process, this_test};
use crate::support::scope::{Attempt, attempt, attempt_in, attempt_with, problems, rehearse};
use farewell::model::event::Stream;
use farewell::step::Outcome;
use farewell::sys::cancel::Cancel;

const SECOND: Duration = Duration::from_secs(1);

/// A script run by sh, with other keys.
fn sh(script: &str, keys: &str, timeout: Duration) -> Attempt {
    let keys = format!("argv = ['sh', '-c', '''{script}''']\n{keys}");
    attempt("command", &keys, timeout)
}

/// Processes, zombies left out, with `mark` in their command line or environment.
fn processes_with(mark: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").expect("proc").flatten();
    let is_marked = |pid: &str| {
        ["cmdline", "environ"].iter().any(|file| {
            let content = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            String::from_utf8_lossy(&content).contains(mark)
        })
    };
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|pid| pid.parse().is_ok_and(|pid: u32| pid != std::process::id()))
        .filter(|pid| is_marked(pid))
        .collect()
}

/// Runs a script that must not outlive its step in any of its processes.
fn ended(mark: &str, script: &str, keys: &str, timeout: Duration) -> Attempt {
    let keys = format!("environment = {{ MARK = '{mark}' }}\n{keys}");
    let attempt = sh(script, &keys, timeout);
    let begun = Instant::now();
    // What was killed right before the deadline may need a moment on a busy machine.
    while attempt.result.is_err() && !processes_with(mark).is_empty() && begun.elapsed() < DYING {
        std::thread::sleep(SECOND / 100);
    }
    assert_eq!(processes_with(mark), Vec::<String>::new());
    attempt
}

#[test]
fn the_exit_code_decides() {
    assert_eq!(sh("exit 0", "", SECOND * 10).result, Ok(Outcome::Done));
    let attempt = sh("exit 3", "", SECOND * 10);
    assert_eq!(
        attempt.failure(),
        ("exit-status", "sh: exited with 3".into())
    );
    // `attempts` says whether it is tried again.
    assert!(attempt.result.expect_err("failed").retryable);
    assert_eq!(
        sh("exit 3", "expect = [1, 3]", SECOND * 10).result,
        Ok(Outcome::Done)
    );
    assert_eq!(
        sh("exit 0", "expect = 1", SECOND * 10).failure().0,
        "exit-status"
    );
}

#[test]
fn a_signal_is_named() {
    let attempt = sh("kill -KILL $$", "", SECOND * 10);
    let told = "sh: ended by signal 9 (SIGKILL)".to_owned();
    assert_eq!(attempt.failure(), ("signalled", told));
    let attempt = sh("kill -40 $$", "", SECOND * 10);
    assert_eq!(
        attempt.failure(),
        ("signalled", "sh: ended by signal 40".into())
    );
}

#[test]
fn what_cannot_be_started_is_named() {
    let attempt = attempt("command", "argv = ['/no/such/program']", SECOND * 10);
    let (word, message) = attempt.failure();
    assert_eq!(word, "io");
    assert!(
        message.starts_with("/no/such/program: cannot be started: No such file"),
        "{message}"
    );
    let attempt = sh("true", "working-directory = '/no/such'", SECOND * 10);
    assert!(
        attempt
            .failure()
            .1
            .contains("in /no/such: its working directory: No such file")
    );
    let attempt = sh("true", "user = 'no-such-user'", SECOND * 10);
    assert_eq!(
        attempt.failure(),
        ("config", "sh: there is no user `no-such-user`".into())
    );
}

#[test]
fn keys_are_checked() {
    assert_eq!(problems("command", "argv = []").len(), 1);
    let many = "argv = ['${credential:x}']\nworking-directory = 'here'\nexpect = 256\nuser = ''\n\
                environment = { 'a=b' = '' }\ngrce = '1s'";
    let problems = problems("command", many);
    assert_eq!(problems.len(), 6, "{problems:?}");
}

#[test]
fn a_user_gets_its_groups_and_environment() {
    let probe = "id -un; id -Gn; echo $HOME $USER $LOGNAME $SHELL";
    let attempt = sh(probe, "user = 'nobody'", SECOND * 10);
    assert_eq!(attempt.result, Ok(Outcome::Done), "needs to be run by root");
    let lines = attempt.recorder.lines();
    assert_eq!(lines[..2], ["nobody", "nogroup"]);
    assert!(
        lines[2].starts_with("/nonexistent nobody nobody /"),
        "{lines:?}"
    );
    let by_number = sh("id -un", "user = '65534'", SECOND * 10);
    assert_eq!(by_number.recorder.lines(), ["nobody"]);
}

#[test]
fn the_environment_is_the_step_s_and_its_directory_too() {
    let keys = "working-directory = '/usr'\nenvironment = { A = 'a b', HOME = '/h' }";
    let attempt = sh(
        "pwd; echo $A $HOME; readlink /proc/self/fd/0; ps -o pid= -o pgid= -p $$",
        keys,
        SECOND * 10,
    );
    let lines = attempt.recorder.lines();
    assert_eq!(lines[..3], ["/usr", "a b /h", "/dev/null"]);
    let ids: Vec<&str> = lines[3].split_whitespace().collect();
    assert_eq!(ids[0], ids[1], "leads a group");
}

#[test]
fn lines_keep_their_order_and_their_stream() {
    let script = "for i in $(seq 1 500); do echo $i; done; echo no end >&2; printf last";
    let attempt = sh(script, "", SECOND * 10);
    let output = attempt.recorder.output();
    let of = |stream| -> Vec<&str> {
        let of = output.iter().filter(|(it, _)| *it == stream);
        of.map(|(_, line)| line.as_str()).collect()
    };
    let mut numbers: Vec<String> = (1..=500).map(|number| number.to_string()).collect();
    numbers.push("last".into());
    assert_eq!(of(Stream::Out), numbers);
    assert_eq!(of(Stream::Err), ["no end"]);
}

#[test]
fn too_much_output_is_dropped_and_counted() {
    let attempt = sh(
        "head -c 3000000 /dev/zero | tr '\\0' x | fold -w 1000",
        "",
        SECOND * 20,
    );
    assert_eq!(attempt.result, Ok(Outcome::Done));
    let told: usize = attempt.recorder.lines().iter().map(String::len).sum();
    assert!(told <= 1 << 20 && told > (1 << 20) - 1001, "{told}");
    assert_eq!(
        attempt.recorder.remarks().join("\n"),
        format!("{} bytes of its output were dropped", 3_000_000 - told)
    );
}

#[test]
fn an_endless_line_costs_no_memory_and_blocks_nobody() {
    in_own_process(this_test!(), drops_an_endless_line);
}

fn drops_an_endless_line() {
    let attempt = sh("head -c 100000000 /dev/zero", "", SECOND * 30);
    assert_eq!(attempt.result, Ok(Outcome::Done));
    assert_eq!(attempt.recorder.lines()[0].len(), 64 << 10);
    let dropped = 100_000_000 - (64 << 10);
    assert_eq!(
        attempt.recorder.remarks().join("\n"),
        format!("{dropped} bytes of its output were dropped")
    );
    let status = fs::read_to_string("/proc/self/status").expect("proc");
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("a peak");
    let kilobytes: usize = peak
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number");
    assert!(kilobytes < 50_000, "{peak}");
}

#[test]
fn a_secret_is_masked_across_the_cut() {
    farewell::model::secrets::hide("hunter2-hunter2-hunter2");
    let script = "head -c 65530 /dev/zero | tr '\\0' x; echo hunter2-hunter2-hunter2; echo hunter2-hunter2-hunter2";
    let attempt = sh(script, "", SECOND * 10);
    let lines = attempt.recorder.lines();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with("xxx") && lines[0].len() >= 65530);
    assert!(
        !attempt.recorder.lines().join("\n").contains("hun"),
        "{}",
        &lines[0][65520..]
    );
    assert_eq!(lines[1], "********");
}

#[test]
fn a_child_that_ignores_term_is_killed_by_its_deadline() {
    let attempt = ended(
        "mark-ignores",
        "trap '' TERM; echo on; while :; do sleep 0.1; done",
        "grace = '400ms'",
        SECOND,
    );
    let (word, message) = attempt.failure();
    assert_eq!(
        (word, message.as_str()),
        ("timed-out", "sh: had not ended when the timeout was over")
    );
    assert_eq!(attempt.recorder.lines(), ["on"]);
}

#[test]
fn term_comes_a_grace_before_the_deadline_and_lets_it_clean_up() {
    let script = "trap 'echo cleaned; exit 0' TERM; while :; do sleep 0.05; done";
    let attempt = ended("mark-cleans", script, "grace = '10s'", SECOND * 12);
    assert_eq!(attempt.failure().0, "timed-out");
    // The shell may say first that its child was terminated too.
    let lines = attempt.recorder.lines();
    assert!(lines.iter().any(|line| line == "cleaned"), "{lines:?}");
    assert!(
        attempt.took >= SECOND * 2 - Duration::from_millis(50),
        "{:?}",
        attempt.took
    );
}

#[test]
fn a_stopped_child_is_ended_too() {
    let attempt = ended(
        "mark-stopped",
        "kill -STOP $$; sleep 60",
        "grace = '20s'",
        SECOND * 21,
    );
    assert_eq!(attempt.failure().0, "timed-out");
    let took = attempt.took;
    assert!(took < SECOND * 20, "TERM reached it: {took:?}");
}

#[test]
fn what_a_program_starts_in_the_background_is_waited_for() {
    let dir = Dir::new("background");
    let file = dir.file("written");
    let script = format!("(sleep 0.6; echo late; touch {file}) & echo started");
    let attempt = ended("mark-waited", &script, "", SECOND * 60);
    assert_eq!(attempt.result, Ok(Outcome::Done));
    assert_eq!(attempt.recorder.lines(), ["started", "late"]);
    assert!(std::path::Path::new(&file).exists());
    assert_eq!(attempt.recorder.remarks().join("\n"), "");
}

#[test]
fn what_is_still_there_at_the_deadline_is_ended_and_named() {
    let script = "sleep 60 & (trap '' TERM; while :; do sleep 0.1; done) & exit 0";
    let attempt = ended("mark-leaves", script, "grace = '300ms'", SECOND * 2);
    let (word, message) = attempt.failure();
    assert_eq!(word, "timed-out");
    let begin =
        "sh: ended, but processes that it started had not when the timeout was over: processes ";
    assert!(message.starts_with(begin), "{message}");
    assert!(
        message.contains("(sleep)") && message.contains("(sh)"),
        "{message}"
    );
    assert!(
        message.ends_with("(`leave-behind = true` lets them run on)"),
        "{message}"
    );

    // The leader's own result counts, and nobody waits beyond the deadline for the others.
    let script = "(trap '' TERM; while :; do sleep 0.1; done) & exit 4";
    let attempt = ended("mark-leaves", script, "grace = '60s'", SECOND);
    let (word, message) = attempt.failure();
    assert_eq!(word, "exit-status");
    assert!(
        message.starts_with("sh: exited with 4; process"),
        "{message}"
    );
    assert!(message.ends_with("did not end by itself"), "{message}");
}

#[test]
fn a_daemon_may_be_left_behind_and_can_go_on_writing() {
    let dir = Dir::new("daemon");
    let (go, file) = (dir.file("go"), dir.file("written"));
    let script = format!(
        "(until [ -e {go} ]; do sleep 0.05; done; yes | head -c 300000; echo $? >{file}) & echo started"
    );
    let attempt = sh(&script, "leave-behind = true", SECOND * 60);
    assert_eq!(attempt.result, Ok(Outcome::Done));
    assert_eq!(attempt.recorder.lines(), ["started"]);
    let remark = attempt.recorder.remarks().join("\n");
    assert!(
        remark.starts_with("process") && remark.contains("(sh)"),
        "{remark}"
    );
    assert!(remark.ends_with("is still running"), "{remark}");
    fs::write(&go, "").expect("written");
    let end = Instant::now() + SECOND * 60;
    // More than a pipe holds: it was read, and did not end the writer.
    while fs::read_to_string(&file).unwrap_or_default().trim() != "0" {
        assert!(Instant::now() < end, "the daemon did not get through");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn scripts_that_the_kernel_cannot_execute_are_explained() {
    let dir = Dir::new("scripts");
    let write = |name: &str, text: &str| {
        let path = dir.file(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
        path
    };
    let windows = write("windows.sh", "#!/bin/sh\r\ntrue\r\n");
    let bare = write("bare.sh", "true\n");
    let lost = write("lost.sh", "#!/no/such/sh\ntrue\n");
    for (path, cause) in [
        (&windows, "the first line of"),
        (&bare, "is a text file without an interpreter"),
        (
            &lost,
            "its interpreter /no/such/sh: No such file or directory",
        ),
    ] {
        let keys = format!("argv = ['{path}']");
        let (word, message) = attempt("command", &keys, SECOND * 60).failure();
        assert_eq!(word, "io");
        assert!(message.contains(cause), "{message}");
        assert_eq!(rehearse("command", &keys), Err(message));
        let config = format!("[[step]]\nname = 'a'\nkind = 'command'\n{keys}\n");
        fs::write(dir.file("a.toml"), config).expect("written");
        let said = Ended::of(
            farewell()
                .current_dir(&dir.0)
                .args(["check", "--config", "a.toml"]),
        );
        assert_eq!(said.code, 78, "{said:?}");
        assert!(
            said.stderr.contains("key \"argv\": ") && said.stderr.contains(cause),
            "{said:?}"
        );
    }
    // An image may not have it yet.
    let config = "[[step]]\nname = 'a'\nkind = 'command'\nargv = ['/no/such/program']\n";
    fs::write(dir.file("a.toml"), config).expect("written");
    let said = Ended::of(
        farewell()
            .current_dir(&dir.0)
            .args(["check", "--config", "a.toml"]),
    );
    assert_eq!(said.code, 0, "{said:?}");
}

#[test]
fn a_child_of_a_leader_that_ends_soon_is_not_told() {
    let attempt = ended(
        "mark-soon",
        "(sleep 0.03; echo after) & exit 0",
        "",
        SECOND * 10,
    );
    assert_eq!(
        (attempt.result, attempt.recorder.lines().join("\n")),
        (Ok(Outcome::Done), "after".into())
    );
    assert_eq!(attempt.recorder.remarks().join("\n"), "");
}

#[test]
fn grandchildren_of_a_leader_that_stays_are_ended_with_it() {
    let script = "(trap '' TERM; sh -c 'trap \"\" TERM; sleep 60; sleep 60') & sleep 60";
    let attempt = ended("mark-stays", script, "grace = '200ms'", SECOND);
    assert_eq!(attempt.failure().0, "timed-out");
}

#[test]
fn a_child_that_closes_its_output_is_watched_to_its_end() {
    let attempt = ended(
        "mark-closes",
        "exec >&- 2>&-; sleep 0.5; exit 7",
        "",
        SECOND * 10,
    );
    assert_eq!(attempt.failure().1, "sh: exited with 7");
    assert!(attempt.took >= SECOND / 2);
    let cpu = cpu_time();
    let attempt = ended(
        "mark-closes",
        "exec >&- 2>&-; exec sleep 60",
        "grace = '0s'",
        SECOND,
    );
    assert_eq!(attempt.failure().0, "timed-out");
    assert!(cpu_time() - cpu < SECOND * 2, "it does not spin");
}

/// The CPU time of this thread.
fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").expect("proc");
    let nanos = stat.split(' ').next().and_then(|it| it.parse().ok());
    Duration::from_nanos(nanos.expect("a number"))
}

#[test]
fn a_daemon_that_keeps_the_pipe_open_keeps_nobody_waiting() {
    let attempt = sh(
        "setsid sh -c 'echo $$; exec sleep 777' & sleep 0.3",
        "",
        SECOND * 60,
    );
    assert_eq!(attempt.result, Ok(Outcome::Done));
    let pid = attempt.recorder.lines().join("\n");
    let killed = std::process::Command::new("kill").arg(&pid).status();
    assert!(killed.expect("started").success(), "{pid} lives on");
}

#[test]
fn being_told_to_stop_ends_it_with_a_short_grace() {
    let cancel = Cancel::new().expect("a switch");
    let run = Run::new();
    let (result, cancelled) = std::thread::scope(|threads| {
        let cancelling = threads.spawn(|| {
            wait_until("it ignores TERM", || run.recorder.lines() == ["deaf"]);
            let now = Instant::now();
            cancel.cancel(Duration::MAX);
            now
        });
        let keys = "argv = ['sh', '-c', 'trap \"\" TERM; echo deaf; while :; do sleep 0.1; done']\ngrace = '300ms'\n\
                    environment = { MARK = 'mark-cancel' }";
        let limits = (SECOND * 300, SECOND * 300);
        let (result, _) = attempt_in(&run, "command", keys, limits, &cancel);
        (result, cancelling.join().expect("no panic"))
    });
    let took = cancelled.elapsed();
    let attempt = Attempt {
        result,
        recorder: run.recorder,
        took,
    };
    assert_eq!(attempt.failure(), ("timed-out", "sh: told to stop".into()));
    assert_eq!(processes_with("mark-cancel"), Vec::<String>::new());
    let took = attempt.took;
    assert!(took >= Duration::from_millis(300), "{took:?}");
    // It is not even started when that was before.
    let attempt = attempt_with(
        "command",
        "argv = ['sh', '-c', 'echo x']",
        SECOND,
        SECOND,
        &cancel,
    );
    assert_eq!(
        (attempt.failure().0, attempt.recorder.lines().join("\n")),
        ("timed-out", String::new())
    );
}
