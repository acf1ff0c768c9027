//! `farewell rehearse` warns of what a run would leave undone in silence, and `--strict` makes that a failure.

use std::fs;

use crate::support::Dir;
use crate::support::binary::Binary;
use crate::support::etcd::Cluster;
use serde_json::Value;

fn steps(url: &str, share: &Dir, host: &str) -> String {
    let path = share.0.join(host).display().to_string();
    format!(
        "[[step]]\nname = \"key\"\nkind = \"deregister\"\nregistry = \"etcd\"\nurl = \"{url}\"\nkey = \"/app/{host}\"\n\
         [[step]]\nname = \"file\"\nkind = \"deregister\"\nregistry = \"file\"\npath = \"{path}\"\n"
    )
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn a_member_that_is_not_there_is_a_warning_and_strict_makes_it_a_failure() {
    let etcd = Cluster::start("warn-etcd", 1);
    let url = &etcd.urls[0].clone();
    let share = Dir::new("warn-share");
    etcd.ctl(&["put", "/app/old", "v"]);
    fs::write(share.0.join("old"), "v").expect("a file");

    // As it was registered.
    let binary = Binary::new("warn-there", &steps(url, &share, "old"));
    let said = binary.verb(&["rehearse", "--strict"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(!said.stdout.contains("warning"), "{said:?}");

    // The host has another name since.
    let binary = Binary::new("warn-gone", &steps(url, &share, "new"));
    let said = binary.verb(&["rehearse"]);
    assert_eq!(said.code, 0, "{said:?}");
    let file = share.0.join("new").display().to_string();
    for (step, what, key) in [("key", "key \"/app/new\"", "key"), ("file", &file, "path")] {
        let warning = format!(
            "warning: {what} does not exist, so that a run would have nothing to leave: if its application is running, check `{key}`"
        );
        let is_it = |line: &str| line.starts_with(&format!("! {step}")) && line.ends_with(&warning);
        assert!(said.stdout.lines().any(is_it), "{said:?}");
    }
    assert!(
        said.stdout
            .ends_with("farewell rehearse: 2 steps: 2 ready; 2 warnings\n"),
        "{said:?}"
    );
    let strict = binary.verb(&["rehearse", "--strict"]);
    assert_eq!(strict.code, 1, "{strict:?}");
    assert!(
        strict
            .stdout
            .ends_with("2 ready; 2 warnings (--strict: fails)\n"),
        "{strict:?}"
    );

    // For machines.
    for (options, result, code) in [
        (&["rehearse", "--json"][..], "ok", 0),
        (&["rehearse", "--json", "--strict"], "failed", 1),
    ] {
        let said = binary.verb(options);
        assert_eq!(said.code, code, "{said:?}");
        let document: Value = serde_json::from_str(&said.stdout).expect("JSON");
        assert_eq!(document["result"], result, "{document}");
        for step in document["steps"].as_array().expect("steps") {
            assert_eq!(step["state"], "ready", "{document}");
            assert_eq!(
                step["warnings"].as_array().map(Vec::len),
                Some(1),
                "{document}"
            );
        }
    }
}
