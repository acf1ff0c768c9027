//! A run on D-Bus, seen with busctl on a real bus that has the policy which is shipped.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::binary::{Binary, Ended, GENEROUS, Running, sh, wait_until};
use crate::support::bus::{NAME, NOBODY, PATH, Scene, gate};
use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};
use serde_json::{Value, json};

/// All properties of the contract, with their types.
const PROPERTIES: [(&str, &str); 9] = [
    ("DeadlineUSec", "t"),
    ("Result", "s"),
    ("RunId", "s"),
    ("StartedUSec", "t"),
    ("State", "s"),
    ("Steps", "a(ssssut)"),
    ("StepsDone", "u"),
    ("StepsTotal", "u"),
    ("Trigger", "s"),
];

/// The bodies of these signals.
fn bodies<'a>(signals: &'a [(String, Value)], member: &str) -> Vec<&'a Value> {
    let of = signals.iter().filter(|(name, _)| name == member);
    of.map(|(_, body)| body).collect()
}

/// What was told of properties in the end.
fn told_properties(signals: &[(String, Value)]) -> serde_json::Map<String, Value> {
    let mut told = serde_json::Map::new();
    for body in bodies(signals, "PropertiesChanged") {
        assert_eq!((&body[0], &body[2]), (&json!(NAME), &json!([])), "{body}");
        for (name, value) in body[1].as_object().expect("a dictionary") {
            let known = PROPERTIES.iter().find(|(other, _)| other == name);
            assert_eq!(value["type"], known.expect("a known one").1, "{name}");
            told.insert(name.clone(), value["data"].clone());
        }
    }
    told
}

#[test]
#[ignore = "needs root and dbus-daemon; tests/run has it"]
fn a_run_is_seen_as_it_goes() {
    let config = "[farewell]\nbudget = \"85s\"\n".to_owned()
        + &gate("first")
        + &sh("fails", "exit 3", "")
        + &gate("last");
    let scene = Scene::new("seen", &config);
    let monitor = scene.monitor();
    let run = scene.binary.start(&["run", "--trigger", "reboot"]);
    scene.wait_for_name();
    wait_until("the step runs", || scene.binary.exists("first-on"));
    // What comes within a tenth of a second is told together.
    let is_told = || scene.property("Steps")[0][2] == "running";
    wait_until("that is told", is_told);

    // While a step runs and nothing happens, everybody is answered.
    let seen = scene.busctl(&[], &["introspect", NAME, PATH, NAME]);
    let text = scene
        .busctl(&[], &["--json=off", "introspect", NAME, PATH, NAME])
        .stdout;
    assert_eq!(seen.code, 0, "{seen:?}");
    for (name, kind) in PROPERTIES {
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!(".{name} ")));
        let line = line.unwrap_or_else(|| panic!("no {name} in {text}"));
        assert!(line.contains(" property ") && line.contains(kind), "{line}");
        assert!(line.trim_end().ends_with("emits-change"), "{line}");
    }
    for (name, kind) in [("StepChanged", "sssu"), ("RunFinished", "s")] {
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!(".{name} ")));
        assert!(line.is_some_and(|line| line.contains(" signal ") && line.contains(kind)));
    }
    // What README.md tells people to type works.
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = fs::read_to_string(readme).expect("README.md");
    let lines = readme
        .lines()
        .filter_map(|line| line.trim().strip_prefix("busctl "));
    let lines: Vec<&str> = lines.filter(|line| !line.starts_with("monitor ")).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ended = scene.busctl(&NOBODY, &words);
        assert_eq!(ended.code, 0, "{line}: {ended:?}");
    }

    for by in [[].as_slice(), NOBODY.as_slice()] {
        let property = |name| scene.property_by(by, name).expect("an answer");
        assert_eq!(property("RunId"), scene.binary.report()["run"]);
        assert_eq!(property("Trigger"), "reboot");
        assert_eq!(
            (property("State"), property("Result")),
            (json!("running"), json!(""))
        );
        assert_eq!(
            (property("StepsTotal"), property("StepsDone")),
            (json!(3), json!(0))
        );
        let (started, deadline) = (property("StartedUSec"), property("DeadlineUSec"));
        let budget = deadline.as_u64().expect("a time") - started.as_u64().expect("a time");
        assert_eq!(budget, 85_000_000);
        let steps = property("Steps");
        assert_eq!(
            steps[0].as_array().expect("a step")[..3],
            [json!("first"), json!("command"), json!("running")]
        );
        assert_eq!(steps[1], json!(["fails", "command", "pending", "", 0, 0]));
    }
    let so_far = || scene.property("Steps")[0][5].as_u64().expect("a time");
    let before = so_far();
    wait_until("its time goes on", || so_far() > before);

    scene.binary.touch("first-go");
    wait_until("the next one runs", || scene.binary.exists("last-on"));
    wait_until("that is told", || scene.property("StepsDone") == 2);
    let failed = scene.property("Steps")[1].clone();
    assert_eq!(failed[2], "failed");
    let why = failed[3].as_str().expect("a message");
    assert!(
        why.starts_with("exit-status: ") && why.contains('3'),
        "{why}"
    );
    scene.binary.touch("last-go");
    assert_eq!(run.end(GENEROUS).code, 1);

    let signals = monitor.all();
    // A step that begins and ends within a breath may have its last word alone.
    let mut changes = bodies(&signals, "StepChanged");
    changes.retain(|body| body[0] != "fails" || body[1] != "running");
    let order: Vec<_> = changes.iter().map(|body| [&body[0], &body[1]]).collect();
    assert_eq!(
        json!(order),
        json!([
            ["first", "running"],
            ["first", "done"],
            ["fails", "failed"],
            ["last", "running"],
            ["last", "done"]
        ])
    );
    assert_eq!(*changes[2], json!(["fails", "failed", why, 1]));
    let last = &signals[signals.len() - 2..];
    assert_eq!(last[0].0, "PropertiesChanged");
    assert_eq!(last[1], ("RunFinished".to_owned(), json!(["failed"])));
    assert_eq!(bodies(&signals, "RunFinished").len(), 1);
    let told = told_properties(&signals);
    assert_eq!(told.len(), PROPERTIES.len(), "{told:?}");
    assert_eq!(
        (&told["State"], &told["Result"]),
        (&json!("finished"), &json!("failed"))
    );
    assert_eq!(
        (&told["StepsTotal"], &told["StepsDone"]),
        (&json!(3), &json!(3))
    );
    let words = |row: &Value| row.as_array().expect("a step")[..3].to_vec();
    let steps: Vec<_> = told["Steps"]
        .as_array()
        .expect("steps")
        .iter()
        .map(words)
        .collect();
    assert_eq!(
        json!(steps),
        json!([
            ["first", "command", "done"],
            ["fails", "command", "failed"],
            ["last", "command", "done"]
        ])
    );
    assert_eq!(
        scene.property_by(&[], "RunId"),
        None,
        "it is gone with the run"
    );
}

#[test]
#[ignore = "needs root and dbus-daemon; tests/run has it"]
fn nobody_else_may_have_the_name_or_change_anything() {
    let scene = Scene::new("policy", &gate("held"));
    let ask = [
        "call",
        "org.freedesktop.DBus",
        "/org/freedesktop/DBus",
        "org.freedesktop.DBus",
    ];
    let request = [ask.as_slice(), &["RequestName", "su", NAME, "4"]].concat();
    let refused = scene.busctl(&NOBODY, &request);
    assert!(
        refused.code != 0 && refused.stderr.contains("Access denied"),
        "{refused:?}"
    );
    let granted = scene.busctl(&[], &request);
    assert_eq!(granted.code, 0, "{granted:?}");

    // farewell itself is told so once, and its run is none the worse for it.
    let home = scene.binary.dir.0.join("nobody");
    fs::create_dir(&home).expect("a directory");
    std::os::unix::fs::chown(&home, Some(65534), Some(65534)).expect("given away");
    fs::write(
        home.join("config"),
        "[[step]]\nname = \"w\"\nkind = \"wait\"\nfor = \"2500ms\"\n",
    )
    .expect("written");
    let (config, state) = (home.join("config"), home.join("state"));
    let farewell = [
        env!("CARGO_BIN_EXE_farewell"),
        "run",
        "--config",
        config.to_str().expect("UTF-8"),
    ];
    let words = [
        NOBODY.as_slice(),
        &farewell,
        &["--state", state.to_str().expect("UTF-8")],
    ]
    .concat();
    let ended = scene.spawn(&words).end(GENEROUS);
    assert_eq!(ended.code, 0, "{ended:?}");
    let told = ended.stdout.matches("is not visible on D-Bus").count();
    assert_eq!(told, 2, "at once and in the summary: {ended:?}");
    assert!(
        ended.stdout.contains("is not allowed to own the service"),
        "{ended:?}"
    );

    // Looking is all there is.
    let run = scene.binary.start(&["run"]);
    scene.wait_for_name();
    for before in [[].as_slice(), NOBODY.as_slice()] {
        let set = scene.busctl(
            before,
            &["set-property", NAME, PATH, NAME, "State", "s", "x"],
        );
        assert_ne!(set.code, 0, "{set:?}");
        let call = scene.busctl(before, &["call", NAME, PATH, NAME, "Stop"]);
        assert_ne!(call.code, 0, "{call:?}");
    }
    let elsewhere = scene.busctl(&[], &["introspect", NAME, "/"]);
    assert_eq!(elsewhere.code, 0, "{elsewhere:?}");
    assert_eq!(scene.property("State"), "running");
    scene.binary.touch("held-go");
    assert_eq!(run.end(GENEROUS).code, 0);
}

#[test]
#[ignore = "needs dbus-daemon; tests/run has it"]
fn the_last_words_of_a_quick_run_are_heard() {
    let scene = Scene::new("quick", &sh("only", "exit 0", ""));
    let monitor = scene.monitor();
    for number in 1..=20 {
        assert_eq!(scene.binary.verb(&["run"]).code, 0);
        wait_until("its end was heard", || {
            monitor.count("RunFinished") == number
        });
    }
    let signals = monitor.all();
    let done = json!(["only", "done", "", 1]);
    let changes = bodies(&signals, "StepChanged");
    assert_eq!(changes.iter().filter(|body| ***body == done).count(), 20);
}

#[test]
#[ignore = "needs dbus-daemon; tests/run has it"]
fn a_thousand_quick_steps_are_a_few_messages_and_all_their_ends() {
    let step =
        |number: usize| format!("[[step]]\nname = \"s{number}\"\nkind = \"wait\"\nfor = \"0s\"\n");
    let config: String = (0..1_000).map(step).collect();
    let scene = Scene::new("thousand", &config);
    let monitor = scene.monitor();
    assert_eq!(scene.binary.verb(&["run"]).code, 0);
    let signals = monitor.all();
    let mut done: Vec<_> = bodies(&signals, "StepChanged")
        .into_iter()
        .filter(|body| body[1] == "done")
        .map(|body| body[0].as_str().expect("a name").to_owned())
        .collect();
    let ends: Vec<String> = (0..1_000).map(|number| format!("s{number}")).collect();
    assert_eq!(done, ends, "each once, in their order");
    done.dedup();
    assert_eq!(done.len(), 1_000);
    // One at most in a tenth of a second, and the run is a matter of a few of these.
    let properties = bodies(&signals, "PropertiesChanged").len();
    assert!(properties <= 100, "{properties}");
    let told = told_properties(&signals);
    assert_eq!(
        (&told["StepsDone"], &told["Result"]),
        (&json!(1_000), &json!("ok"))
    );
}

/// Ten steps one after another: what they take is the run's time.
fn ten_steps() -> String {
    let step = |number: usize| {
        format!("[[step]]\nname = \"s{number}\"\nkind = \"wait\"\nfor = \"100ms\"\n")
    };
    (0..10).map(step).collect()
}

/// A run without anything to say of a bus, all of whose steps are done.
fn assert_unaffected(scene: &Scene, ended: &Ended) {
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended.stderr.is_empty() && !ended.stdout.contains("D-Bus"),
        "{ended:?}"
    );
    let report = scene.binary.report();
    assert_eq!(report["result"], "ok");
    let steps = report["steps"].as_array().expect("steps");
    assert!(steps.iter().all(|it| it["state"] == "done"), "{report}");
}

fn unaffected(scene: &Scene) -> Duration {
    let ended = scene.binary.verb(&["run"]);
    assert_unaffected(scene, &ended);
    ended.took
}

/// A run that waits for the bus does so each time; other work on the machine does not delay all of five.
fn costs_nothing(what: &str, none: Duration, run: impl Fn() -> Duration) {
    let limit = none + Duration::from_secs(2);
    let mut all = Vec::new();
    while all.last().is_none_or(|took| *took >= limit) {
        assert!(all.len() < 5, "{what}: {all:?}, and {none:?} without a bus");
        all.push(run());
    }
}

#[test]
#[ignore = "needs dbus-daemon; tests/run has it"]
fn a_bus_that_is_not_there_or_stopped_or_dies_costs_a_run_nothing() {
    let none = unaffected(&Scene::without_bus("none", &ten_steps()));
    let scene = Scene::new("stopped", &ten_steps());
    scene.signal_bus(SIGSTOP);
    costs_nothing("stopped", none, || unaffected(&scene));
    scene.signal_bus(SIGCONT);

    let halves = ten_steps() + &gate("held") + &ten_steps().replace("\"s", "\"t");
    let half = |after: &dyn Fn(&mut Scene)| {
        let mut scene = Scene::new("half", &halves);
        let run = scene.binary.start(&["run"]);
        scene.wait_for_name();
        wait_until("one half is over", || scene.binary.exists("held-on"));
        after(&mut scene);
        let begun = Instant::now();
        scene.binary.touch("held-go");
        let ended = run.end(GENEROUS);
        let took = begun.elapsed();
        assert_unaffected(&scene, &ended);
        took
    };
    costs_nothing("healthy", none, || half(&|_| {}));
    costs_nothing("stopped later", none, || {
        half(&|scene| scene.signal_bus(SIGSTOP))
    });
    costs_nothing("dead", none, || half(&|scene| drop(scene.bus.take())));
}

#[test]
#[ignore = "needs dbus-daemon; tests/run has it"]
fn a_bus_that_comes_late_or_back_is_found() {
    let mut scene = Scene::without_bus("late", &(gate("a") + &gate("b") + &gate("c")));
    let run = scene.binary.start(&["run"]);
    wait_until("the step runs", || scene.binary.exists("a-on"));
    scene.start_bus();
    scene.wait_for_name();
    assert_eq!(scene.property("StepsDone"), 0);
    drop(scene.bus.take());
    scene.binary.touch("a-go");
    wait_until("the next one runs", || scene.binary.exists("b-on"));
    scene.start_bus();
    let monitor = scene.monitor();
    scene.wait_for_name();
    assert_eq!(scene.property("StepsDone"), 1);
    scene.binary.touch("b-go");
    wait_until("the last one runs", || scene.binary.exists("c-on"));
    scene.binary.touch("c-go");
    assert_eq!(run.end(GENEROUS).code, 0);
    let signals = monitor.all();
    let told = told_properties(&signals);
    assert_eq!(
        told.len(),
        PROPERTIES.len(),
        "everything was told anew: {told:?}"
    );
    assert_eq!(told["StepsDone"], 3);
}

#[test]
#[ignore = "needs dbus-daemon; tests/run has it"]
fn a_name_that_another_run_has_is_left_to_it() {
    let scene = Scene::new("taken", &gate("first"));
    let first = scene.binary.start(&["run"]);
    scene.wait_for_name();
    let id = scene.property("RunId");
    let other = Binary::new("dbus-second", &gate("second"));
    let mut command = other.command(&["run"]);
    command.env("DBUS_SYSTEM_BUS_ADDRESS", scene.binary.bus());
    let second = Running::spawn(&mut command);
    wait_until("that is told", || second.told().contains("is taken"));
    assert_eq!(scene.property("RunId"), id);
    scene.binary.touch("first-go");
    assert_eq!(first.end(GENEROUS).code, 0);
    // Then the name is free, and the other one gets it.
    scene.wait_for_name();
    assert_ne!(scene.property("RunId"), id);
    other.touch("second-go");
    let ended = second.end(GENEROUS);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(
        ended.stdout.matches("is taken").count(),
        2,
        "at once and in the summary: {ended:?}"
    );
}
