//! What records tell: of runs that were killed, of torn files, of many runs, and of one that goes on.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::Dir;
use crate::support::binary::{
    self as binary, Binary, Ended, GENEROUS, sh, states, step_of, until, wait_until,
};
use nix::sys::signal::Signal::SIGKILL;
use serde_json::{Value, json};

/// Five quick commands, some side by side, that say in a side file when they begin and end.
fn quick_steps() -> String {
    let quick = |name: &str, more: &str| {
        let script = format!("echo start {name} >> @/side; echo end {name} >> @/side");
        sh(name, &script, more)
    };
    quick("a", "")
        + &quick("b", "after = [\"a\"]")
        + &quick("c", "after = [\"a\"]")
        + &quick("d", "after = [\"b\", \"c\"]")
        + &quick("e", "")
}

/// What a killed run left.
#[derive(Default)]
struct Toll {
    without_record: usize,
    cut_off: usize,
    whole: usize,
    with_running: usize,
    late: usize,
}

/// Kills one run after `delay` and compares its record with what its steps did.
fn kill_once(place: &Path, name: &str, delay: Duration, toll: &mut Toll) {
    let dir = Dir(place.join(format!("farewell-{}-{name}", std::process::id())));
    fs::create_dir_all(&dir.0).expect("a directory");
    let binary = Binary::within(dir, &quick_steps());
    let run = binary.start(&["run"]);
    std::thread::sleep(delay);
    run.signal(SIGKILL);
    let ended = run.end(GENEROUS);
    wait_until("its children have ended", || binary.left().is_empty());
    let side = binary.text("side");
    let shown = binary.verb(&["report", "--json"]);
    if shown.code == 66 {
        assert!(binary.lines().is_empty(), "{side}");
        toll.without_record += 1;
        toll.late += usize::from(!side.is_empty());
        return;
    }
    let report = binary::json(&shown);
    for name in ["a", "b", "c", "d", "e"] {
        let state = step_of(&report, name)["state"].as_str().expect("text");
        let begun = side.contains(&format!("start {name}\n"));
        let over = side.contains(&format!("end {name}\n"));
        assert!(
            state != "done" || over,
            "{name} is not done\n{report}\n{side}"
        );
        toll.late += usize::from(begun && state == "pending");
    }
    let text = binary.verb(&["report"]).stdout;
    if report["result"] == "cut-off" {
        toll.cut_off += 1;
        toll.with_running += usize::from(states(&report).contains("running"));
        assert!(text.contains(": cut off after "), "{text}");
        let running: Vec<&str> = ["a", "b", "c", "d", "e"]
            .into_iter()
            .filter(|name| step_of(&report, name)["state"] == "running")
            .collect();
        let place = match running.as_slice() {
            [] => "while no step was running".to_owned(),
            names => format!("while {} ran", names.join(", ")),
        };
        assert!(
            text.contains("cut off: the record ends") && text.contains(&place),
            "{text}"
        );
    } else {
        assert_eq!(report["result"], "ok", "{ended:?}");
        assert!(!text.contains("cut off"), "{text}");
        toll.whole += 1;
    }
}

#[test]
fn a_killed_run_leaves_a_true_record() {
    // `tests/run --long` looks closer.
    let runs: u32 = std::env::var_os("FAREWELL_TESTS_LONG").map_or(200, |_| 2000);
    // In memory, since another test's work for the disk would make the record late, which it may be.
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    let measured = Binary::new("measured", &quick_steps());
    let begun = Instant::now();
    (0..5).for_each(|_| assert_eq!(measured.verb(&["run"]).code, 0));
    let duration = begun.elapsed() / 5;
    let half = |half: u32| {
        let mut toll = Toll::default();
        for at in (half..runs).step_by(2) {
            // Spread over the run and a little beyond.
            let delay = duration.mul_f64(1.3 * (f64::from(at) + fastrand::f64()) / f64::from(runs));
            kill_once(&place, &format!("kill-{at}"), delay, &mut toll);
        }
        toll
    };
    let tolls = std::thread::scope(|threads| {
        let halves = [0, 1].map(|at| threads.spawn(move || half(at)));
        halves.map(|half| half.join().expect("no panic"))
    });
    let sum = |of: fn(&Toll) -> usize| tolls.iter().map(of).sum::<usize>();
    let (none, cut, running) = (
        sum(|it| it.without_record),
        sum(|it| it.cut_off),
        sum(|it| it.with_running),
    );
    let (whole, late) = (sum(|it| it.whole), sum(|it| it.late));
    println!(
        "{duration:?} a run; of {runs}: {none} without a record, {cut} cut off ({running} in a step), {whole} whole"
    );
    assert!(none * 2 <= runs as usize, "{none} of {runs} left no record");
    // A step waits for 50 ms until the record has its begin, which a busy machine may need for other work.
    assert!(
        late * 50 <= runs as usize,
        "{late} steps of {runs} runs began without a trace"
    );
    assert!(
        cut >= 20 && running >= 10,
        "the kills came at no interesting time"
    );
}

#[test]
fn a_torn_record_tells_what_its_whole_lines_say() {
    let binary = Binary::new("torn", &(quick_steps() + &sh("fails", "exit 1", "")));
    assert_eq!(binary.verb(&["run"]).code, 1);
    let path = binary.records().pop().expect("a record");
    let whole = fs::read(&path).expect("read");
    let first = 1 + whole.iter().position(|it| *it == b'\n').expect("lines");
    let sampled = (0..60).map(|at| at * whole.len() / 60);
    for length in sampled.chain([
        0,
        1,
        first - 1,
        first,
        first + 1,
        whole.len() - 1,
        whole.len(),
    ]) {
        fs::write(&path, &whole[..length]).expect("written");
        let (shown, text) = (binary.verb(&["report", "--json"]), binary.verb(&["report"]));
        assert_eq!(shown.code, text.code);
        assert_eq!(shown.code, if length < first { 66 } else { 0 }, "{shown:?}");
        assert_eq!(binary.verb(&["status"]).code, shown.code);
        assert_eq!(binary.verb(&["status", "--follow"]).code, shown.code);
        assert_eq!(binary.verb(&["report", "--list"]).code, shown.code);
        if shown.code == 66 {
            assert!(
                shown.stdout.is_empty() && !shown.stderr.is_empty(),
                "{shown:?}"
            );
            continue;
        }
        let report = binary::json(&shown);
        let kept: Vec<Value> = whole[..length]
            .split_inclusive(|it| *it == b'\n')
            .filter(|line| line.ends_with(b"\n"))
            .map(|line| serde_json::from_slice(line).expect("JSON"))
            .collect();
        for step in report["steps"].as_array().expect("steps") {
            let of = |event: &str| {
                let mut lines = kept.iter().filter(|it| it["step"] == step["name"]);
                lines.find(|it| it["event"] == event)
            };
            let expected = match (of("step-started"), of("step-finished")) {
                (_, Some(finished)) => finished["state"].clone(),
                (Some(_), None) => json!("running"),
                (None, None) => json!("pending"),
            };
            assert_eq!(step["state"], expected, "cut at {length}: {report}");
        }
        let result = if length == whole.len() {
            "failed"
        } else {
            "cut-off"
        };
        assert_eq!(report["result"], result);
    }
}

#[test]
fn only_the_newest_hundred_records_are_kept() {
    let binary = Binary::new("prune", &sh("a", ":", ""));
    let runs = binary.state.join("runs");
    fs::create_dir_all(&runs).expect("made");
    let old = |at: usize| runs.join(format!("20200101T000000Z-{at:04}.jsonl"));
    (0..120).for_each(|at| fs::write(old(at), "").expect("written"));
    assert_eq!(binary.verb(&["run"]).code, 0);
    assert_eq!(binary.records().len(), 100);
    assert!(!old(20).exists() && old(21).exists());
    assert_eq!(binary.report()["result"], "ok");
}

#[test]
fn a_run_keeps_its_own_record_when_the_clock_was_wrong() {
    let binary = Binary::new("future", &sh("a", ":", ""));
    let runs = binary.state.join("runs");
    fs::create_dir_all(&runs).expect("made");
    let future = |at: usize| runs.join(format!("29990101T000000.000Z-{at:04}.jsonl"));
    (0..120).for_each(|at| fs::write(future(at), "").expect("written"));
    assert_eq!(binary.verb(&["run"]).code, 0);
    assert_eq!(binary.records().len(), 100);
    assert_eq!(
        binary::json(&binary.verb(&["report", "20", "--json"]))["result"],
        "ok"
    );
}

fn list(binary: &Binary) -> Vec<Value> {
    let list = binary::json(&binary.verb(&["report", "--list", "--json"]));
    list.as_array().expect("runs").clone()
}

#[test]
fn past_runs_are_found_by_id_by_prefix_and_in_the_list() {
    let binary = Binary::new("list", &sh("a", ":", ""));
    for verb in [
        ["report"].as_slice(),
        &["report", "--list"],
        &["status"],
        &["status", "--follow"],
    ] {
        let ended = binary.verb(verb);
        assert_eq!((ended.code, ended.stdout.as_str()), (66, ""), "{ended:?}");
        assert!(ended.stderr.contains("no run is recorded"), "{ended:?}");
    }
    // Several in one second, which must not lose their order.
    let triggers = ["poweroff", "reboot", "kexec", "halt", "stop", "soft-reboot"];
    for trigger in triggers {
        assert_eq!(binary.verb(&["run", "--trigger", trigger]).code, 0);
        assert_eq!(binary.report()["trigger"], trigger, "the last run is shown");
        assert_eq!(
            binary::json(&binary.verb(&["status", "--json"]))["trigger"],
            trigger
        );
    }
    let list = list(&binary);
    let listed: Vec<_> = list
        .iter()
        .rev()
        .map(|it| it["trigger"].as_str().expect("text"))
        .collect();
    assert_eq!(listed, triggers);
    let lines = binary.verb(&["report", "--list"]).stdout;
    assert_eq!(lines.lines().count(), triggers.len());
    for (run, line) in list.iter().zip(lines.lines()) {
        let id = run["run"].as_str().expect("an id");
        assert!(line.starts_with(id) && line.contains(" ok "), "{line}");
        assert_eq!(binary::json(&binary.verb(&["report", id, "--json"])), *run);
        let prefix = &id[..id.len() - 1];
        assert_eq!(
            binary::json(&binary.verb(&["report", prefix, "--json"])),
            *run
        );
        assert!(binary.verb(&["report", id]).stdout.contains(id));
    }
    let (several, unknown) = (
        binary.verb(&["report", "2"]),
        binary.verb(&["report", "nothing"]),
    );
    assert!(
        several.code == 66 && several.stderr.contains("several runs"),
        "{several:?}"
    );
    assert!(
        unknown.code == 66 && unknown.stderr.contains("no run nothing"),
        "{unknown:?}"
    );
}

#[test]
fn a_run_in_progress_is_shown_and_followed_to_its_end() {
    let config = sh(
        "waits",
        &format!("touch @/on; {}", until("@/go")),
        "timeout = \"80s\"",
    ) + &sh("beside", &until("@/go"), "timeout = \"80s\"\nafter = []")
        + &sh("late", ":", "after = [\"waits\", \"beside\"]");
    let binary = Binary::new("status", &config);
    let run = binary.start(&["run"]);
    wait_until("the step runs", || binary.exists("on"));
    let status = || binary::json(&binary.verb(&["status", "--json"]));
    wait_until("both run", || {
        states(&status()).starts_with("waits running, beside running")
    });
    assert_eq!(status()["result"], "running");
    assert_eq!(step_of(&status(), "late")["state"], "pending");
    assert_eq!(list(&binary)[0]["result"], "running");
    let text = binary.verb(&["status"]).stdout;
    assert!(
        text.contains(": running after") && !text.contains("cut off"),
        "{text}"
    );
    let follows = binary.start(&["status", "--follow"]);
    wait_until("it follows", || follows.told().contains("waits"));
    binary.touch("go");
    assert_eq!(run.end(GENEROUS).code, 0);
    let told = |ended: &Ended| {
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(
            ended.stdout.contains("waits: done") && ended.stdout.contains(": ok after"),
            "{ended:?}"
        );
    };
    told(&follows.end(GENEROUS));
    told(&binary.verb(&["status", "--follow"]));
    assert_eq!(status()["result"], "ok");
}

#[test]
fn following_a_run_that_is_killed_ends_and_says_so() {
    let binary = Binary::new(
        "follow-killed",
        &sh("waits", &format!("touch @/on; {}", until("@/go")), ""),
    );
    let run = binary.start(&["run"]);
    wait_until("the step runs", || binary.exists("on"));
    let follows = binary.start(&["status", "--follow"]);
    wait_until("it follows", || follows.told().contains("waits"));
    run.signal(SIGKILL);
    assert_eq!(run.end(GENEROUS).code, -9);
    let told = follows.end(GENEROUS);
    assert_eq!(told.code, 0);
    assert!(
        told.stdout.contains("cut off: the record ends") && told.stdout.contains("while waits ran"),
        "{told:?}"
    );
    binary.touch("go");
    wait_until("its child has ended", || binary.left().is_empty());
}

#[test]
fn a_record_of_a_clock_that_was_far_ahead_is_the_oldest() {
    let binary = Binary::new("ahead", &sh("a", "true", ""));
    assert_eq!(binary.verb(&["run"]).code, 0);
    let own = binary::json(&binary.verb(&["report", "--json"]))["run"].clone();
    let text = fs::read_to_string(&binary.records()[0]).expect("a record");
    let runs = binary.state.join("runs");
    for number in 0..120 {
        let id = format!("20991231T2359{:02}.{:03}Z-aaaa", number % 60, number);
        let record = text.replace(own.as_str().expect("an id"), &id);
        fs::write(runs.join(format!("{id}.jsonl")), record).expect("written");
    }
    let shown = binary::json(&binary.verb(&["report", "--json"]));
    assert_eq!(shown["run"], own, "the newest");
    // The next run removes those of the future, and not its own predecessor.
    assert_eq!(binary.verb(&["run"]).code, 0);
    let names: Vec<String> = binary
        .records()
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    assert_eq!(names.len(), 100, "{names:?}");
    assert!(
        names
            .iter()
            .any(|name| name.contains(own.as_str().expect("an id")))
    );
    assert_eq!(
        names.iter().filter(|name| name.contains("/2099")).count(),
        98
    );
}
