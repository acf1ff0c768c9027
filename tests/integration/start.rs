//! `farewell start` where no systemd runs: what it checks, and what it keeps for a run whose sources are gone.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt;

use crate::support::installed::Installed;

const GOOD: &str = r#"
[[step]]
name = "a"
kind = "command"
argv = ["echo", "from ${file:/run/farewell/fact} on ${hostname}"]
"#;

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_good_configuration_is_kept_with_its_facts() {
    let place = Installed::with("start-good", GOOD);
    place.write("run/fact", "here\n");
    let said = place.run("farewell", &["start"]);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
    let told: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(
        told,
        [
            "farewell start: 1 step, checked and kept",
            "farewell start: nothing is to be undone",
            "farewell start: this machine was not inspected: systemd is not running on this machine",
        ]
    );
    let facts: serde_json::Value =
        serde_json::from_str(&place.text("run/facts.json")).expect("JSON");
    assert_eq!(facts["${file:/run/farewell/fact}"], "here");
    // Who this machine is may be asked for by a drop-in that comes later.
    for fact in ["${hostname}", "${boot-id}"] {
        assert!(facts[fact].is_string(), "{facts}");
    }
    assert!(
        place
            .text("run/plan.json")
            .contains("from ${file:/run/farewell/fact}")
    );
    assert!(
        place
            .text("run/sequence.conf")
            .contains("TimeoutStopSec=1m35s")
    );
    for name in ["facts.json", "plan.json", "sequence.conf"] {
        let path = place.path("run").join(name);
        let mode = path.metadata().expect("kept").permissions().mode();
        assert_eq!(
            mode & 0o777,
            0o600,
            "{name}: a configuration may hold a password"
        );
    }
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_plan_is_kept_whatever_the_name_of_its_drop_in() {
    let place = Installed::with("start-name", GOOD);
    let name = OsStr::from_bytes(b"etc/conf.d/50-caf\xe9.toml");
    let text = "[[step]]\nname = \"b\"\nkind = \"command\"\nargv = [\"echo\", \"b\"]\n";
    place.write("etc/conf.d/.keep", "");
    std::fs::write(place.0.0.join(name), text).expect("written");
    place.write("run/fact", "here\n");
    let said = place.run("farewell", &["start"]);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
    // It is what runs when the configuration breaks.
    place.write("etc/farewell.toml", "broken");
    let said = place.run("farewell", &["run"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("step b: done"), "{said:?}");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_run_uses_what_was_kept_where_its_source_is_gone() {
    let place = Installed::with("start-gone", GOOD);
    place.write("run/fact", "here\n");
    assert_eq!(place.run("farewell", &["start"]).code, 0);
    std::fs::remove_file(place.path("run/fact")).expect("removed");
    let said = place.run("farewell", &["run"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("a | from here on "), "{said:?}");
    let warning = "using the value kept at boot";
    assert!(said.stderr.contains(warning), "{said:?}");
    // Read anew where it is there.
    place.write("run/fact", "changed\n");
    let said = place.run("farewell", &["run"]);
    assert!(said.stdout.contains("a | from changed on "), "{said:?}");
    assert_eq!(said.stderr, "");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_configuration_that_breaks_after_the_boot_runs_as_it_was() {
    let place = Installed::with("start-broken", GOOD);
    place.write("run/fact", "here\n");
    assert_eq!(place.run("farewell", &["start"]).code, 0);
    place.write("etc/farewell.toml", &GOOD.replace("argv", "agrv"));
    let said = place.run("farewell", &["start"]);
    assert_eq!(said.code, 78, "{said:?}");
    let told = "unknown key; did you mean `argv`?";
    assert!(said.stderr.contains(told), "{said:?}");
    assert!(
        said.stderr
            .contains("a farewell would run the last good plan"),
        "{said:?}"
    );
    let said = place.run("farewell", &["run"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("a | from here on "), "{said:?}");
    assert!(said.stdout.contains(told), "{said:?}");
    assert!(
        said.stdout.contains("the last good plan runs instead"),
        "{said:?}"
    );
    // A file of one's own is taken as it is: nothing is fallen back to.
    let said = place.run(
        "farewell",
        &["run", "--config", "/etc/farewell/farewell.toml"],
    );
    assert_eq!(said.code, 78, "{said:?}");
    assert!(said.stderr.contains("nothing was run"), "{said:?}");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn without_a_good_plan_there_would_be_none() {
    let place = Installed::with("start-never", "nonsense");
    let said = place.run("farewell", &["start"]);
    assert_eq!(said.code, 78, "{said:?}");
    assert!(
        said.stderr.contains("THERE WOULD BE NO FAREWELL"),
        "{said:?}"
    );
    assert_eq!(place.run("farewell", &["run"]).code, 78);
    assert_eq!(place.text("run/plan.json"), "");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_fact_that_cannot_be_had_fails_the_start_and_keeps_the_rest() {
    let place = Installed::with("start-fact", GOOD);
    let said = place.run("farewell", &["start"]);
    assert_eq!(said.code, 78, "{said:?}");
    let told = "${file:/run/farewell/fact} is not available";
    assert!(said.stderr.contains(told), "{said:?}");
    assert!(
        place.text("run/plan.json").contains("argv"),
        "the plan is good all the same"
    );
    // A run gives its step what is there by then.
    place.write("run/fact", "late\n");
    let said = place.run("farewell", &["run"]);
    assert!(said.stdout.contains("a | from late on "), "{said:?}");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_file_of_one_s_own_is_checked_and_nothing_is_kept() {
    let place = Installed::with("start-own", GOOD);
    place.write("run/fact", "here\n");
    let arguments = ["start", "--config", "/etc/farewell/farewell.toml"];
    let said = place.run("farewell", &arguments);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.stdout.starts_with("farewell start: 1 step, checked\n"),
        "{said:?}"
    );
    assert_eq!(place.text("run/facts.json"), "");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_credential_is_never_kept() {
    let secret = "kept-nowhere-0815";
    let config = GOOD.to_owned() + "environment = { TOKEN = \"${credential:token}\" }\n";
    let place = Installed::with("start-credential", &config);
    place
        .write("run/fact", "here\n")
        .write("run/credentials/token", secret);
    let path = place.path("run/credentials/token");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("set");
    let said = place.run("farewell", &["start"]);
    assert_eq!(said.code, 0, "{said:?}");
    for name in ["run/facts.json", "run/plan.json", "run/sequence.conf"] {
        let text = place.text(name);
        assert!(!text.is_empty() && !text.contains(secret), "{name}: {text}");
    }
}
