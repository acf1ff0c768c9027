//! `farewell status` over D-Bus, and without it.

use std::fs;

use crate::support::binary::{GENEROUS, json as parsed, sh, states, wait_until};
use crate::support::bus::{NOBODY, Scene, gate};
use nix::sys::signal::Signal::{SIGKILL, SIGSTOP};
use serde_json::{Value, json};

/// The same lines whatever the times and the run are called.
fn shape(text: &str) -> Vec<String> {
    let word = |word: &str| match word.trim_matches(['[', ']', ',', ')']).parse::<f64>() {
        Ok(_) => "N".to_owned(),
        Err(_) => word.to_owned(),
    };
    let line = |line: &str| {
        let words: Vec<String> = line.split_whitespace().map(word).collect();
        words.join(" ")
    };
    text.lines().map(line).collect()
}

/// The lines of a run in a pipe that a follower of the bus must have seen too: all but what only the run knows, the
/// limits of its steps, and the timeline.
fn events(text: &str) -> Vec<String> {
    let known = |line: &String| line.starts_with('[') && !line.contains(" warning: ");
    let mut lines = shape(text);
    lines.retain(known);
    let cut = |line: String| match line.split_once(": started") {
        Some((step, _)) => format!("{step}: started"),
        None => line,
    };
    lines.into_iter().map(cut).collect()
}

#[test]
#[ignore = "needs root and dbus-daemon; tests/run has it"]
fn status_follows_a_run_that_it_cannot_read() {
    let scene = Scene::new("follow", &(gate("a") + &sh("b", "exit 4", "") + &gate("c")));
    let run = scene.binary.start(&["run"]);
    scene.wait_for_name();
    wait_until("the step runs", || scene.binary.exists("a-on"));
    let follower = scene.status(&NOBODY, "nothing", &["--follow"]);
    wait_until("it follows", || {
        follower.told().contains("step a (command): started")
    });
    scene.binary.touch("a-go");
    wait_until("that is followed", || {
        follower.told().contains("step c (command): started")
    });

    // A look at it, as text and as JSON.
    let seen = scene.status(&NOBODY, "nothing", &[]).end(GENEROUS);
    assert_eq!(seen.code, 0, "{seen:?}");
    let id = scene.binary.report()["run"]
        .as_str()
        .expect("an id")
        .to_owned();
    assert!(
        seen.stdout
            .starts_with(&format!("farewell {id}: running after ")),
        "{seen:?}"
    );
    assert!(seen.stdout.contains("b: exit-status: "), "{seen:?}");
    // The record that is in its place is root's: the bus tells all the same.
    let closed = scene.status(&NOBODY, "state", &[]).end(GENEROUS);
    assert_eq!(closed.code, 0, "{closed:?}");
    assert!(
        closed.stdout.contains(&format!("{id}: running after ")),
        "{closed:?}"
    );
    let json = parsed(&scene.status(&NOBODY, "nothing", &["--json"]).end(GENEROUS));
    let record = scene.binary.report();
    assert_eq!(states(&json), "a done, b failed, c running");
    for member in ["run", "trigger", "result", "started", "budget_usec"] {
        let here = &json[member];
        assert_eq!(*here, record[member], "{member}");
    }
    for (step, recorded) in json["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .zip(record["steps"].as_array().expect("steps"))
    {
        for member in [
            "name",
            "kind",
            "state",
            "attempts",
            "duration_usec",
            "reason",
        ] {
            assert_eq!(step[member], recorded[member], "{member}");
        }
        assert_eq!(step["error"]["word"], recorded["error"]["word"]);
    }
    let message = |report: &Value| report["steps"][1]["error"]["message"].clone();
    assert_eq!(message(&json), message(&record));

    scene.binary.touch("c-go");
    let ended = run.end(GENEROUS);
    let followed = follower.end(GENEROUS);
    assert_eq!((ended.code, followed.code), (1, 0), "{followed:?}");
    assert_eq!(events(&followed.stdout), events(&ended.stdout));
    let summary = |text: &str| {
        text.lines()
            .find(|line| line.starts_with("farewell "))
            .expect("a summary")
            .to_owned()
    };
    assert_eq!(
        shape(&summary(&followed.stdout)),
        shape(&summary(&ended.stdout))
    );
}

#[test]
#[ignore = "needs dbus-daemon; tests/run has it"]
fn status_shows_more_of_a_run_whose_record_it_can_read() {
    let scene = Scene::new("record", &(gate("a") + &gate("b")));
    let run = scene.binary.start(&["run"]);
    scene.wait_for_name();
    scene.binary.touch("a-go");
    wait_until("the next one runs", || scene.binary.exists("b-on"));
    let ours = parsed(&scene.status(&[], "state", &["--json"]).end(GENEROUS));
    assert_eq!(
        (&ours["run"], &ours["result"]),
        (&scene.property("RunId"), &json!("running"))
    );
    assert!(
        ours["steps"][0]["started_usec"].is_u64(),
        "only the record has it: {ours}"
    );

    // A directory that was named is meant alone.
    let named = scene.binary.dir.file("nothing");
    let other = scene
        .status(&[], "nothing", &["--state", &named])
        .end(GENEROUS);
    assert_eq!(other.code, 66, "{other:?}");
    let follower = scene.status(&[], "state", &["--follow"]);
    wait_until("it follows", || {
        follower.told().contains("step b (command): started")
    });
    scene.binary.touch("b-go");
    assert_eq!(run.end(GENEROUS).code, 0);
    let followed = follower.end(GENEROUS);
    assert!(followed.stdout.contains(": ok after "), "{followed:?}");
}

#[test]
#[ignore = "needs dbus-daemon; tests/run has it"]
fn status_falls_back_to_the_record() {
    let mut scene = Scene::new("fallback", &gate("a"));
    let run = scene.binary.start(&["run"]);
    scene.wait_for_name();
    let id = scene.property("RunId");
    let last = |scene: &Scene| {
        let ended = scene.status(&[], "state", &["--json"]).end(GENEROUS);
        let report = parsed(&ended);
        (report["run"].clone(), report["result"].clone())
    };
    scene.signal_bus(SIGSTOP);
    assert_eq!(
        last(&scene),
        (id.clone(), json!("running")),
        "a bus that does not answer"
    );
    drop(scene.bus.take());
    assert_eq!(last(&scene), (id.clone(), json!("running")), "no bus");
    scene.binary.touch("a-go");
    assert_eq!(run.end(GENEROUS).code, 0);
    scene.start_bus();
    assert_eq!(last(&scene), (id, json!("ok")), "nobody has the name");
    let nothing = scene.status(&[], "nothing", &[]).end(GENEROUS);
    assert_eq!(nothing.code, 66, "{nothing:?}");
}

#[test]
#[ignore = "needs root and dbus-daemon; tests/run has it"]
fn status_tells_of_a_run_that_leaves_without_a_word() {
    let mut scene = Scene::new("leaves", &gate("a"));
    for dies in ["run", "bus"] {
        let run = scene.binary.start(&["run"]);
        scene.wait_for_name();
        let id = scene.property("RunId").as_str().expect("an id").to_owned();
        let follower = scene.status(&NOBODY, "nothing", &["--follow"]);
        wait_until("it follows", || {
            follower.told().contains("step a (command): started")
        });
        match dies {
            "run" => run.signal(SIGKILL),
            _ => drop(scene.bus.take()),
        }
        let followed = follower.end(GENEROUS);
        assert_eq!(followed.code, 0, "{followed:?}");
        let last = followed.stdout.lines().last().expect("lines").to_owned();
        assert!(
            last.starts_with(&format!("run {id} has left D-Bus")),
            "{last}"
        );
        scene.binary.touch("a-go");
        let code = run.end(GENEROUS).code;
        assert_eq!(code, if dies == "run" { -9 } else { 0 });
        assert_eq!(scene.binary.left(), Vec::<String>::new());
        fs::remove_file(scene.binary.dir.0.join("a-go")).expect("removed");
    }
}
