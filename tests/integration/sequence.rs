//! The order of steps and what becomes of those that misbehave, through the real binary.

use crate::support::binary::{Binary, Ended, GENEROUS, Running, sh, states, step_of, until};
use serde_json::json;

/// Appends a word to the file of words.
fn word(name: &str, more: &str) -> String {
    sh(name, &format!("echo {name} >> @/words"), more)
}

/// Runs `config` and expects this exit code.
fn run(name: &str, config: &str, code: i32) -> (Binary, Ended) {
    let binary = Binary::new(name, config);
    let ended = binary.verb(&["run"]);
    assert_eq!(ended.code, code, "{ended:?}");
    (binary, ended)
}

#[test]
fn steps_run_in_the_order_of_the_file() {
    let config: String = ["a", "b", "c", "d"].map(|name| word(name, "")).concat();
    let (binary, _) = run("order", &config, 0);
    assert_eq!(binary.words(), ["a", "b", "c", "d"]);
    let report = binary.report();
    assert_eq!(states(&report), "a done, b done, c done, d done");
    assert_eq!(report["result"], "ok");
    assert_eq!(report["trigger"], "stop");
}

/// Two scripts that end only when both have begun.
fn meeting(one: &str, other: &str) -> [String; 2] {
    let meet = |mine: &str, theirs: &str| {
        let wait = until(&format!("@/{theirs}.met"));
        format!("touch @/{mine}.met; {wait}; echo {mine} >> @/words")
    };
    [meet(one, other), meet(other, one)]
}

#[test]
fn steps_without_order_run_side_by_side() {
    let [a, b] = meeting("a", "b");
    let config =
        sh("a", &a, "") + &sh("b", &b, "after = []") + &word("c", "after = [\"a\", \"b\"]");
    let (binary, _) = run("beside", &config, 0);
    assert_eq!(binary.words().last().expect("words"), "c");
    assert_eq!(binary.words().len(), 3);
}

#[test]
fn a_diamond_is_walked_from_its_top_to_its_bottom() {
    let [left, right] = meeting("left", "right");
    let config = word("bottom", "after = [\"left\", \"right\"]")
        + &sh("left", &left, "after = [\"top\"]")
        + &sh("right", &right, "after = [\"top\"]")
        + &word("top", "after = []");
    let (binary, _) = run("diamond", &config, 0);
    let words = binary.words();
    assert_eq!(words.len(), 4, "{words:?}");
    assert_eq!((&*words[0], &*words[3]), ("top", "bottom"));
}

#[test]
fn before_places_a_step_ahead_of_others() {
    let late = "after = [\"a\"]\nbefore = [\"b\", \"c\"]";
    let config = word("a", "") + &word("b", "") + &word("c", "") + &word("drop-in", late);
    let (binary, _) = run("before", &config, 0);
    assert_eq!(binary.words(), ["a", "drop-in", "b", "c"]);
}

const TRIGGERS: [&str; 6] = ["poweroff", "halt", "reboot", "kexec", "soft-reboot", "stop"];

#[test]
fn when_leaves_steps_out_that_are_for_other_triggers() {
    let of = |trigger: &&str| word(trigger, &format!("when = [\"{trigger}\"]"));
    let config: String = TRIGGERS.iter().map(of).collect();
    let config =
        config + &word("most", "when = [\"poweroff\", \"halt\", \"stop\"]") + &word("all", "");
    for trigger in TRIGGERS {
        let binary = Binary::new(&format!("when-{trigger}"), &config);
        let ended = binary.verb(&["run", "--trigger", trigger]);
        assert_eq!(ended.code, 0, "{ended:?}");
        let report = binary.report();
        assert_eq!(report["trigger"], trigger);
        let most = ["poweroff", "halt", "stop"].contains(&trigger);
        let mut words = vec![trigger, "most", "all"];
        words.retain(|word| *word != "most" || most);
        assert_eq!(binary.words(), words);
        for other in TRIGGERS.iter().filter(|other| **other != trigger) {
            let step = step_of(&report, other);
            assert_eq!(step["state"], "skipped");
            assert_eq!(step["reason"], format!("not on {trigger}"));
            assert_eq!(
                (&step["attempts"], &step["started_usec"]),
                (&json!(0), &json!(null))
            );
        }
    }
}

#[test]
fn a_restart_is_no_farewell_unless_it_is_said_to_be_one() {
    let binary = Binary::new("restart", &word("a", ""));
    let ended = binary.verb(&["run", "--trigger", "restart"]);
    assert_eq!(
        (ended.code, binary.words().len(), binary.records().len()),
        (0, 0, 0)
    );
    binary.configure(&format!(
        "[farewell]\nrestart = \"run\"\n{}",
        word("a", "when = [\"stop\"]")
    ));
    assert_eq!(binary.verb(&["run", "--trigger", "restart"]).code, 0);
    assert_eq!(binary.words(), ["a"]);
    assert_eq!(binary.report()["trigger"], "stop");
}

#[test]
fn skipped_and_failed_steps_count_as_done_for_those_after_them() {
    let config = sh("fails", "exit 3", "attempts = 2")
        + &word("elsewhere", "after = []\nif-path = \"@/nowhere\"")
        + &word("otherwise", "after = []\nwhen = [\"kexec\"]")
        + &word(
            "here",
            "after = [\"fails\", \"elsewhere\", \"otherwise\"]\nif-path = \"@/farewell.toml\"",
        );
    let (binary, ended) = run("counts", &config, 1);
    assert_eq!(binary.words(), ["here"]);
    let report = binary.report();
    let expected = "fails failed, elsewhere skipped, otherwise skipped, here done";
    assert_eq!(states(&report), expected);
    assert_eq!(report["result"], "failed");
    let failed = step_of(&report, "fails");
    assert_eq!(failed["error"]["word"], "exit-status");
    let message = failed["error"]["message"].as_str().expect("text");
    assert!(message.contains("exited with 3"), "{message}");
    let reason = format!("{} does not exist", binary.dir.file("nowhere"));
    assert_eq!(step_of(&report, "elsewhere")["reason"], reason);
    assert!(ended.stdout.contains(&reason), "{}", ended.stdout);
}

#[test]
fn a_failure_that_stops_leaves_the_always_steps() {
    let config = word("a", "")
        + &sh("fails", "exit 1", "on-failure = \"stop\"")
        + &word("b", "")
        + &word("last", "always = true")
        + &word("c", "");
    let (binary, ended) = run("on-failure", &config, 1);
    assert_eq!(binary.words(), ["a", "last"]);
    let report = binary.report();
    let expected = "a done, fails failed, b cancelled, last done, c cancelled";
    assert_eq!(states(&report), expected);
    assert_eq!(report["result"], "failed");
    for name in ["b", "c"] {
        let reason = step_of(&report, name)["reason"].as_str().expect("a reason");
        assert!(reason.contains("fails failed"), "{reason}");
        assert!(ended.stdout.contains(reason), "{}", ended.stdout);
    }
}

/// Eats all the time that it can get.
const STUBBORN: &str = "trap '' TERM; touch @/stubborn; while :; do sleep 0.05; done";

#[test]
fn the_reserve_is_kept_from_a_step_that_eats_all_it_can() {
    let config = "[farewell]\nbudget = \"4s\"\nreserve = \"3s\"\n".to_owned()
        + &sh("eats", STUBBORN, "grace = \"300ms\"")
        // What ends a stubborn child leaves a tenth of a second, which belongs to the others.
        + &sh("rest", "exec sleep 60", "grace = \"1ms\"")
        + "[[step]]\nname = \"settle\"\nkind = \"wait\"\nfor = \"20s\"\n"
        + &word("late", "")
        + &word("last", "always = true");
    let (binary, ended) = run("reserve", &config, 75);
    assert!(binary.exists("stubborn"));
    assert_eq!(binary.words(), ["last"]);
    let report = binary.report();
    let states = states(&report);
    assert!(
        states.starts_with("eats timed-out, rest timed-out, settle "),
        "{states}"
    );
    assert!(states.ends_with(", late cancelled, last done"), "{states}");
    assert_eq!(report["result"], "cut-short");
    let reason = step_of(&report, "late")["reason"]
        .as_str()
        .expect("a reason");
    assert!(reason.starts_with("nothing was left"), "{reason}");
    assert!(ended.stdout.contains(reason), "{}", ended.stdout);
    let began = step_of(&report, "last")["started_usec"]
        .as_u64()
        .expect("begun");
    assert!(began < 4_000_000, "{began}");
    assert_eq!(binary.left(), [""; 0]);
}

#[test]
fn an_empty_plan_is_a_run() {
    let (binary, _) = run("empty", "", 0);
    let report = binary.report();
    assert_eq!(
        (&report["result"], &report["steps"]),
        (&json!("ok"), &json!([]))
    );
}

/// Runs one step that misbehaves and a good one after it.
fn misbehave(name: &str, script: &str, more: &str, code: i32) -> (Binary, Ended) {
    let config = sh("bad", script, more) + &word("next", "");
    let (binary, ended) = run(name, &config, code);
    assert_eq!(binary.words(), ["next"]);
    assert_eq!(binary.left(), [""; 0]);
    (binary, ended)
}

#[test]
fn a_command_that_ignores_term_is_killed() {
    let (binary, _) = misbehave(
        "stubborn",
        STUBBORN,
        "timeout = \"1s\"\ngrace = \"200ms\"",
        1,
    );
    assert_eq!(step_of(&binary.report(), "bad")["state"], "timed-out");
    assert!(binary.exists("stubborn"));
}

#[test]
fn grandchildren_that_are_left_are_ended() {
    let script = "(trap '' TERM; touch @/there; while :; do sleep 0.05; done) & ".to_owned()
        + &until("@/there");
    let keys = "grace = \"200ms\"\ntimeout = \"2s\"";
    let (binary, _) = misbehave("grandchildren", &script, keys, 1);
    let bad = step_of(&binary.report(), "bad").clone();
    assert_eq!(bad["state"], "timed-out", "{bad}");
    let message = bad["error"]["message"].as_str().expect("a message");
    assert!(
        message.contains("processes that it started had not"),
        "{message}"
    );
}

#[test]
fn a_command_that_closes_its_output_is_still_waited_for() {
    let script = "exec >&- 2>&-; sleep 0.3; echo closed >> @/words2";
    let (binary, _) = misbehave("closes", script, "", 0);
    assert_eq!(binary.text("words2"), "closed\n");
}

#[test]
fn a_flood_without_newlines_is_bounded_and_counted() {
    let script = "head -c 100000000 /dev/zero | tr '\\0' x";
    let (binary, ended) = misbehave("flood", script, "timeout = \"60s\"", 0);
    let report = binary.report();
    let reason = step_of(&report, "bad")["reason"]
        .as_str()
        .expect("a remark");
    let dropped = reason
        .split_once(' ')
        .expect("words")
        .0
        .parse::<u64>()
        .expect("a number");
    assert!((98_000_000..100_000_000).contains(&dropped), "{reason}");
    assert!(ended.stdout.len() < 2 << 20, "{}", ended.stdout.len());
}

#[test]
fn a_command_reads_nothing_from_the_standard_input_of_the_run() {
    let binary = Binary::new(
        "stdin",
        &sh("reads", "cat > @/read; echo read >> @/words", ""),
    );
    let mut command = binary.command(&["run"]);
    let (read, mut write) = std::io::pipe().expect("a pipe");
    std::io::Write::write_all(&mut write, b"typed ahead\n").expect("written");
    let ended = Running::spawn(command.stdin(read)).end(GENEROUS);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(
        (binary.text("read").as_str(), binary.words().len()),
        ("", 1)
    );
}

#[test]
fn piped_output_has_no_control_characters() {
    let nasty = "printf '\\033[2J\\033]0;owned\\007 \\010 one\\rtwo\\tthree\\302\\233m\\n'; printf '\\377 torn' >&2; exit 1";
    let config = sh("nasty", nasty, "")
        + "[[step]]\nname = \"gone\"\nkind = \"command\"\nargv = [\"/no/such\\u001b[2J\"]\n"
        + "[[step]]\nname = \"absent\"\nkind = \"wait\"\nfor = \"1ms\"\nif-path = \"/no/such\\u001b[2J\"\n";
    let (binary, ended) = run("control", &config, 1);
    let shown = [
        binary.verb(&["report"]),
        binary.verb(&["status"]),
        binary.verb(&["status", "--follow"]),
    ];
    for text in shown
        .iter()
        .map(|it| &it.stdout)
        .chain([&ended.stdout, &ended.stderr])
    {
        let control = text.chars().find(|it| it.is_control() && *it != '\n');
        assert_eq!(control, None, "{text:?}");
    }
    assert!(
        ended.stdout.contains("owned") && ended.stdout.contains("torn"),
        "{}",
        ended.stdout
    );
}

#[test]
fn a_wrong_configuration_runs_nothing() {
    let binary = Binary::new(
        "wrong",
        &(word("a", "") + "[[step]]\nname = \"b\"\nkind = \"nonsense\"\n"),
    );
    let ended = binary.verb(&["run"]);
    assert_eq!(ended.code, 78, "{ended:?}");
    assert!(ended.stderr.contains("nonsense"), "{ended:?}");
    assert!(binary.words().is_empty() && binary.records().is_empty());
    assert_eq!(binary.verb(&["run", "--trigger", "earthquake"]).code, 64);
}

#[test]
fn an_exit_code_is_tried_again_as_often_as_attempts_says() {
    // Ends well the third time.
    let script = "echo x >> @/tries; [ $(wc -l < @/tries) -ge 3 ]";
    let (binary, _) = run("tries", &sh("poll", script, "attempts = 100"), 0);
    let report = binary.report();
    assert_eq!(report["steps"][0]["attempts"], 3, "{report}");
    // Once where nothing is said.
    let (binary, _) = run("once", &sh("poll", script, ""), 1);
    let report = binary.report();
    assert_eq!(report["steps"][0]["attempts"], 1, "{report}");
    assert_eq!(report["steps"][0]["error"]["word"], "exit-status");
    // No more often than it says.
    let (binary, _) = run("twice", &sh("poll", script, "attempts = 2"), 1);
    assert_eq!(binary.report()["steps"][0]["attempts"], 2);
}

#[test]
fn hundreds_of_commands_side_by_side_find_descriptors_and_children_keep_their_limit() {
    let few = "ulimit -S -n";
    let config: String = (0..400)
        .map(|number| {
            let more = "after = []\ntimeout = \"5m\"";
            sh(&format!("s{number}"), "sleep 0.3", more)
        })
        .collect::<String>()
        + &sh("limit", &format!("{few} > @/limit"), "")
        + "[farewell]\nbudget = \"10m\"\n";
    for (name, hard) in [("soft", 4096), ("hard", 300)] {
        let binary = Binary::new(&format!("many-{name}"), &config);
        let mut command = binary.command(&["run"]);
        let shell = format!("ulimit -S -n 256; ulimit -H -n {hard}; exec \"$0\" \"$@\"");
        let mut limited = std::process::Command::new("sh");
        limited.arg("-c").arg(shell).arg(command.get_program());
        limited.args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => limited.env(key, value),
                None => limited.env_remove(key),
            };
        }
        command = limited;
        let output = command.output().expect("started");
        let report = binary.report();
        assert_eq!(report["result"], "ok", "{name}: {output:?}");
        assert_eq!(binary.text("limit").trim(), "256", "{name}");
    }
}

#[test]
fn what_a_failed_command_left_out_of_its_output_is_told() {
    let script = "yes | head -c 3000000; exit 3";
    let (binary, _) = run("dropped", &sh("loud", script, ""), 1);
    let report = binary.report();
    let message = report["steps"][0]["error"]["message"].to_string();
    assert!(message.contains("exited with 3; "), "{message}");
    assert!(
        message.contains(" bytes of its output were dropped"),
        "{message}"
    );
}
