//! Exit codes, budgets and what is said where there is little to say.

use std::fs;

use crate::support::Dir;
use crate::support::binary::{Binary, Ended, farewell};
use serde_json::Value;

fn say(arguments: &[&str]) -> Ended {
    Ended::of(farewell().args(arguments))
}

/// Budget and reserve in seconds.
fn times(binary: &Binary, trigger: &str) -> (u64, u64) {
    let said = binary.verb(&["plan", "--json", "--trigger", trigger]);
    let plan: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
    assert_eq!(plan["trigger"], trigger);
    let seconds = |key: &str| plan[key].as_u64().expect("a number") / 1_000_000;
    (seconds("budget_usec"), seconds("reserve_usec"))
}

const WAIT: &str = "[[step]]\nname = \"a\"\nkind = \"wait\"\nfor = \"1ms\"\ntimeout = \"5s\"\n";

#[test]
fn budgets_go_by_trigger() {
    let budget =
        "[farewell]\nbudget = { default = \"40s\", stop = \"30m\", soft-reboot = \"20s\" }\n";
    let binary = Binary::new("budgets", &(budget.to_owned() + WAIT));
    for trigger in ["poweroff", "halt", "reboot", "kexec"] {
        assert_eq!(times(&binary, trigger), (40, 0), "{trigger}");
    }
    assert_eq!(times(&binary, "soft-reboot"), (20, 0));
    assert_eq!(times(&binary, "stop"), (1800, 0));
}

#[test]
fn the_reserve_is_a_tenth_where_there_are_always_steps() {
    let always = WAIT.to_owned() + "always = true\n";
    assert_eq!(times(&Binary::new("reserve-0", WAIT), "reboot"), (90, 0));
    assert_eq!(
        times(&Binary::new("reserve-tenth", &always), "reboot"),
        (90, 9)
    );
    let given = "[farewell]\nreserve = \"20s\"\n".to_owned() + WAIT;
    assert_eq!(
        times(&Binary::new("reserve-given", &given), "reboot"),
        (90, 20)
    );
}

#[test]
fn a_restart_is_a_farewell_only_where_that_is_wanted() {
    let binary = Binary::new("restart-skip", WAIT);
    let said = binary.verb(&["run", "--trigger", "restart"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.stderr.contains("a restart runs no farewell"),
        "{said:?}"
    );
    assert_eq!(binary.verb(&["report"]).code, 66, "there is no record");

    let run = "[farewell]\nrestart = \"run\"\n".to_owned() + WAIT;
    let binary = Binary::new("restart-run", &run);
    assert_eq!(binary.verb(&["run", "--trigger", "restart"]).code, 0);
    let report = binary.verb(&["report", "--json"]);
    let report: Value = serde_json::from_str(&report.stdout).expect("JSON");
    assert_eq!(
        (&report["trigger"], &report["result"]),
        (&"stop".into(), &"ok".into())
    );
    assert_eq!(report["steps"][0]["state"], "done");
}

#[test]
fn an_empty_sequence_is_told_and_no_error() {
    for toml in ["", "# nothing\n", "[farewell]\n", "step = []\n"] {
        let binary = Binary::new("empty", toml);
        for verb in ["check", "plan", "rehearse", "run"] {
            let said = binary.verb(&[verb]);
            assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
            assert!(
                said.stdout.contains("the sequence is empty"),
                "{verb}: {said:?}"
            );
        }
    }
}

#[test]
fn a_file_that_is_not_there_is_a_configuration_error() {
    for verb in ["check", "plan", "rehearse", "run"] {
        let dir = Dir::new("no-file");
        let said = say(&[
            verb,
            "--config",
            "/no/such.toml",
            "--state",
            &dir.file("state"),
        ]);
        assert_eq!(said.code, 78, "{said:?}");
        let told = "/no/such.toml: cannot be read: No such file or directory (os error 2)\n";
        assert!(said.stderr.starts_with(told), "{said:?}");
        assert!(
            !fs::exists(dir.file("state")).expect("known"),
            "{verb} leaves nothing"
        );
    }
}

#[test]
fn a_wrong_configuration_is_not_run() {
    let dir = Dir::new("not-run");
    let mark = dir.file("mark");
    let toml = format!(
        "[[step]]\nname = \"a\"\nkind = \"command\"\nargv = [\"touch\", \"{mark}\"]\n\n\
         [[step]]\nname = \"b\"\nkind = \"wait\"\nfor = \"soon\"\n"
    );
    let binary = Binary::new("not-run-binary", &toml);
    let said = binary.verb(&["run"]);
    assert_eq!(said.code, 78, "{said:?}");
    assert!(
        said.stderr
            .contains("farewell.toml:9: step \"b\": key \"for\": `soon` is not a duration"),
        "{said:?}"
    );
    assert!(said.stderr.contains("nothing was run"), "{said:?}");
    assert!(!fs::exists(mark).expect("known"));
}

#[test]
fn wrong_usage_is_64() {
    for arguments in [
        &[][..],
        &["chek"],
        &["check", "--imag"],
        &["check", "extra"],
        &["check", "--config"],
        &["plan", "--trigger", "restart"],
        &["run", "--trigger", "powerof"],
        &["status", "--follow", "--json"],
        &["report", "--list", "some-run"],
    ] {
        let said = say(arguments);
        assert_eq!(
            (said.code, said.stdout.as_str()),
            (64, ""),
            "{arguments:?}: {said:?}"
        );
        assert!(said.stderr.contains("--help"), "{arguments:?}: {said:?}");
    }
}

#[test]
fn every_verb_has_help() {
    let help = say(&["--help"]);
    let verbs: Vec<_> = help
        .stdout
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|verb| *verb != "help")
        .collect();
    for verb in ["check", "plan", "rehearse", "run", "status", "report"] {
        assert!(verbs.contains(&verb), "{verb}: {help:?}");
    }
    for verb in verbs {
        let said = say(&[verb, "--help"]);
        assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
        assert!(
            said.stdout.contains(&format!("Usage: farewell {verb}")),
            "{said:?}"
        );
    }
    let version = say(&["--version"]);
    let told = format!("farewell {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((version.code, version.stdout), (0, told));
}

#[test]
fn nothing_to_show_is_66() {
    let binary = Binary::new("nothing", WAIT);
    for arguments in [
        &["report"][..],
        &["report", "--json"],
        &["report", "some-run"],
        &["status"],
        &["status", "--json"],
    ] {
        let said = binary.verb(arguments);
        assert_eq!(
            (said.code, said.stdout.as_str()),
            (66, ""),
            "{arguments:?}: {said:?}"
        );
        assert!(!said.stderr.is_empty(), "{arguments:?}");
    }
    assert_eq!(binary.verb(&["run"]).code, 0);
    for arguments in [&["report"][..], &["status"], &["report", "--list"]] {
        assert_eq!(binary.verb(arguments).code, 0, "{arguments:?}");
    }
    assert_eq!(binary.verb(&["report", "no-such-run"]).code, 66);
}
