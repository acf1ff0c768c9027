//! Runs that are told to stop, at every point; two runs at once; a budget that is spent.

use std::time::Duration;

use crate::support::binary::{
    Binary, Ended, GENEROUS, Running, sh, states, step_of, until, wait_until,
};
use crate::support::servers::{Manner, Server};
use nix::sys::signal::Signal::{SIGCONT, SIGHUP, SIGSTOP, SIGTERM};

/// A run of every sort of step, which ends by itself within two seconds. The silent server costs its timeout.
fn small_run(server: &Server) -> String {
    let url = format!("url = \"http://{}/\"", server.address);
    let meet = |mine: &str, theirs: &str| format!("touch @/{mine}; {}", until(theirs));
    "[farewell]\nbudget = \"120s\"\nreserve = \"30s\"\n".to_owned()
        + &sh("first", "echo first >> @/words", "")
        + &sh("left", &meet("l", "@/r"), "after = [\"first\"]")
        + &sh("right", &meet("r", "@/l"), "after = [\"first\"]")
        + &format!(
            "[[step]]\nname = \"asks\"\nkind = \"http\"\n{url}\ntimeout = \"400ms\"\nafter = [\"left\", \"right\"]\n"
        )
        + "[[step]]\nname = \"settles\"\nkind = \"wait\"\nfor = \"100ms\"\n"
        + &sh("last", "sleep 0.1; echo last >> @/words", "always = true")
}

/// The names of the steps that a record says are running at its end.
fn running(lines: &[String]) -> Vec<String> {
    let mut names = Vec::new();
    for line in lines {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let name = line["step"].as_str().unwrap_or_default().to_owned();
        match line["event"].as_str() {
            Some("step-started") => names.push(name),
            Some("step-finished") => names.retain(|it| *it != name),
            _ => {}
        }
    }
    names
}

/// A run that was stopped when its record had `k` lines has closed everything.
fn assert_closed(binary: &Binary, ended: &Ended, before: &[String]) {
    let (report, lines) = (binary.report(), binary.lines());
    let last = lines.last().expect("lines");
    assert!(last.contains("\"run-finished\""), "{last}");
    // Where everything was over by then, it failed as the silent server makes it.
    let code = if report["result"] == "failed" { 1 } else { 75 };
    assert_eq!(ended.code, code, "{report}\n{ended:?}");
    if code == 75 {
        assert_eq!(report["result"], "cut-short");
    } else {
        assert!(
            running(before).is_empty() || running(before) == ["last"],
            "{before:?}"
        );
    }
    let states = states(&report);
    assert!(
        !states.contains("pending") && !states.contains("running"),
        "{states}"
    );
    assert_eq!(binary.left(), [""; 0]);
    assert!(ended.took < Duration::from_secs(60), "{ended:?}");
}

/// Runs it once for every line of its record, and signals it when the line is there. Returns what `last` became.
fn at_every_point(name: &str, signals: usize) -> Vec<(String, usize)> {
    let server = Server::start(Manner::Silent);
    let config = small_run(&server);
    let whole = Binary::new(&format!("{name}-whole"), &config);
    assert_eq!(whole.verb(&["run"]).code, 1);
    let events = whole.lines().len();
    assert!(events > 12, "{:?}", whole.lines());
    let once = |k: usize| {
        let binary = Binary::new(&format!("{name}-{k}"), &config);
        let run = binary.start(&["run"]);
        wait_until("the record grows", || {
            !binary.records().is_empty() && binary.lines().len() >= k
        });
        let before = binary.lines();
        (0..signals).for_each(|_| run.signal(SIGTERM));
        let ended = run.end(GENEROUS);
        assert_closed(&binary, &ended, &before);
        let report = binary.report();
        if report["result"] == "cut-short" && signals == 1 {
            for name in running(&before).iter().filter(|name| *name != "last") {
                // It may have ended by itself between the look and the signal.
                let state = step_of(&report, name)["state"]
                    .as_str()
                    .expect("text")
                    .to_owned();
                let at_once = ["left", "right", "settles", "asks", "first"].contains(&&**name);
                assert!(
                    at_once && ["cancelled", "done", "timed-out"].contains(&&*state),
                    "{state}"
                );
            }
        }
        let last = step_of(&report, "last")["state"]
            .as_str()
            .expect("text")
            .to_owned();
        (
            last,
            binary.words().iter().filter(|word| *word == "last").count(),
            report["result"] == "cut-short",
        )
    };
    // Two at a time.
    let ends: Vec<(String, usize, bool)> = std::thread::scope(|threads| {
        let halves = [0, 1].map(|half| {
            let once = &once;
            threads.spawn(move || (half..=events).step_by(2).map(once).collect::<Vec<_>>())
        });
        halves
            .into_iter()
            .flat_map(|half| half.join().expect("no panic"))
            .collect()
    });
    let cut = ends.iter().filter(|(_, _, cut)| *cut).count();
    assert!(cut > events / 2, "{cut} of {events}");
    ends.into_iter()
        .map(|(last, words, _)| (last, words))
        .collect()
}

#[test]
fn a_stop_at_any_point_closes_the_run_and_runs_the_always_steps() {
    for (state, words) in at_every_point("stop", 1) {
        assert_eq!((state.as_str(), words), ("done", 1));
    }
}

#[test]
fn a_second_stop_right_after_ends_it_with_the_record_closed() {
    for (state, words) in at_every_point("stop-twice", 2) {
        assert!(
            words <= 1 && (state != "done" || words == 1),
            "{state} {words}"
        );
    }
}

#[test]
fn what_runs_at_a_stop_is_cancelled() {
    let config = sh("runs", "touch @/on; exec sleep 60", "")
        + &sh(
            "stubborn",
            "trap '' TERM; touch @/on2; while :; do sleep 0.05; done",
            "after = []\ngrace = \"200ms\"",
        )
        + &sh("late", "echo late >> @/words", "after = [\"runs\"]")
        + &sh("last", "echo last >> @/words", "always = true");
    let binary = Binary::new(
        "cancelled",
        &format!("[farewell]\nreserve = \"30s\"\n{config}"),
    );
    let run = binary.start(&["run"]);
    wait_until("both run", || binary.exists("on") && binary.exists("on2"));
    run.signal(SIGTERM);
    let ended = run.end(GENEROUS);
    assert_eq!((ended.code, binary.words()), (75, vec!["last".to_owned()]));
    let report = binary.report();
    let expected = "runs cancelled, stubborn cancelled, late cancelled, last done";
    assert_eq!(states(&report), expected);
    assert!(
        report["reason"]
            .as_str()
            .expect("a reason")
            .contains("told to stop")
    );
    assert_eq!(binary.left(), [""; 0]);
}

#[test]
fn a_second_stop_ends_the_always_steps_too() {
    let config = "[farewell]\nbudget = \"120s\"\nreserve = \"60s\"\n".to_owned()
        + &sh("runs", "touch @/on; exec sleep 60", "")
        + &sh(
            "last",
            "trap '' TERM; touch @/last; while :; do sleep 0.05; done",
            "always = true\ntimeout = \"60s\"",
        );
    let binary = Binary::new("second", &config);
    let run = binary.start(&["run"]);
    wait_until("the step runs", || binary.exists("on"));
    run.signal(SIGTERM);
    wait_until("the always step runs", || binary.exists("last"));
    run.signal(SIGTERM);
    let ended = run.end(Duration::from_secs(20));
    assert_eq!(ended.code, 75, "{ended:?}");
    assert_eq!(states(&binary.report()), "runs cancelled, last cancelled");
    assert!(
        binary
            .lines()
            .last()
            .expect("lines")
            .contains("run-finished")
    );
    assert_eq!(binary.left(), [""; 0]);
}

/// A run that waits for the file `go`.
fn held(name: &str) -> (Binary, Running) {
    let config = sh(
        "waits",
        &format!("touch @/on; {}", until("@/go")),
        "timeout = \"80s\"",
    ) + &sh("next", "echo next >> @/words", "");
    let binary = Binary::new(name, &config);
    let run = binary.start(&["run"]);
    wait_until("the step runs", || binary.exists("on"));
    (binary, run)
}

#[test]
fn a_lost_connection_changes_nothing() {
    let (binary, run) = held("hangup");
    run.signal(SIGHUP);
    run.signal(SIGHUP);
    binary.touch("go");
    let ended = run.end(GENEROUS);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(states(&binary.report()), "waits done, next done");
}

#[test]
fn a_second_run_by_hand_names_the_first_and_leaves_it_alone() {
    let (binary, run) = held("two");
    let second = binary.verb(&["run"]);
    assert_eq!(second.code, 75, "{second:?}");
    let id = binary.report()["run"].as_str().expect("an id").to_owned();
    assert!(second.stderr.contains(&id), "{second:?}");
    assert!(
        second.stderr.contains(&format!("process {}", run.pid)),
        "{second:?}"
    );
    binary.touch("go");
    assert_eq!(run.end(GENEROUS).code, 0);
    assert_eq!((binary.records().len(), binary.words().len()), (1, 1));
    assert_eq!(binary.report()["result"], "ok");
}

#[test]
fn systemds_run_takes_over_from_one_by_hand() {
    let (binary, run) = held("takeover");
    binary.configure(&sh("own", "echo own >> @/words", ""));
    let second = binary.start_by_systemd().end(GENEROUS);
    assert_eq!(second.code, 0, "{second:?}");
    assert_eq!(run.end(GENEROUS).code, 75);
    assert_eq!(binary.words(), ["own"]);
    assert_eq!(binary.records().len(), 2);
    let list = crate::support::binary::json(&binary.verb(&["report", "--list", "--json"]));
    let mut results: Vec<_> = list
        .as_array()
        .expect("runs")
        .iter()
        .map(|it| it["result"].to_string())
        .collect();
    results.sort();
    assert_eq!(results, ["\"cut-short\"", "\"ok\""]);
    assert_eq!(binary.left(), [""; 0]);
}

#[test]
fn systemds_run_goes_on_beside_one_that_does_not_react() {
    let (binary, run) = held("deaf");
    binary.configure(&sh("own", "echo own >> @/words", ""));
    run.signal(SIGSTOP);
    let second = binary.start_by_systemd().end(GENEROUS);
    run.signal(SIGCONT);
    assert_eq!(second.code, 0, "{second:?}");
    assert!(second.stdout.contains("does not end"), "{second:?}");
    assert_eq!(run.end(GENEROUS).code, 75);
    assert_eq!(binary.words(), ["own"]);
}

#[test]
fn a_budget_that_is_spent_at_any_step_ends_the_run() {
    for hanging in 0..4 {
        let script = |at: usize| match at == hanging {
            true => "trap '' TERM; while :; do sleep 0.05; done".to_owned(),
            false => format!("echo {at} >> @/words"),
        };
        // A step that uses its time up to the end, so that nothing is left for those after it.
        let rest = "[[step]]\nname = \"rest\"\nkind = \"wait\"\nfor = \"20s\"\n";
        let chain: Vec<String> = (0..4)
            .map(|at| sh(&format!("s{at}"), &script(at), "timeout = \"60s\""))
            .collect();
        let (before, after) = chain.split_at(hanging + 1);
        let config = format!(
            "[farewell]\nbudget = \"2s\"\n{}{rest}{}",
            before.concat(),
            after.concat()
        );
        let binary = Binary::new(&format!("budget-{hanging}"), &config);
        let ended = binary.verb(&["run"]);
        assert_eq!(ended.code, 75, "{ended:?}");
        assert!(ended.took < Duration::from_secs(30), "{:?}", ended.took);
        let report = binary.report();
        assert_eq!(report["result"], "cut-short");
        assert!(
            report["reason"].as_str().expect("a reason").contains("2s"),
            "{report}"
        );
        assert_eq!(binary.words().len(), hanging);
        assert_eq!(
            step_of(&report, &format!("s{hanging}"))["state"],
            "timed-out"
        );
        for late in hanging + 1..4 {
            let name = format!("s{late}");
            let step = step_of(&report, &name);
            assert_eq!(step["state"], "cancelled");
            assert_eq!(step["reason"], "nothing was left of the budget");
            assert!(ended.stdout.contains(&name), "{}", ended.stdout);
        }
        assert_eq!(binary.left(), [""; 0]);
    }
}
