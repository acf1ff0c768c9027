//! What `${…}` stands for at a run, and what a missing one costs.

use std::fs;
use std::process::Command;

use crate::support::binary::{Binary, Ended};
use serde_json::Value;

fn report(binary: &Binary) -> Value {
    let said = binary.verb(&["report", "--json"]);
    serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"))
}

/// A step whose command writes its arguments and the variable `V` to `file`, one a line.
fn tell(name: &str, file: &str, words: &str, value: &str) -> String {
    format!(
        "[[step]]\nname = \"{name}\"\nkind = \"command\"\n\
         argv = [\"sh\", \"-c\", 'printf \"%s\\n\" \"$@\" \"$V\" > {file}', \"sh\", {words}]\n\
         environment = {{ V = \"{value}\" }}\n"
    )
}

fn trimmed(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim_end().to_owned())
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned()).filter(|it| !it.is_empty())
}

/// The source address of the default route, asked from ip(8).
fn source_address() -> Option<String> {
    let route = output("ip", &["-4", "route", "get", "1.1.1.1"])?;
    let words: Vec<_> = route.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "src")?;
    words.get(at + 1).map(ToString::to_string)
}

#[test]
fn facts_are_what_the_machine_says() {
    let mut expected = vec![
        (
            "${hostname}",
            trimmed("/proc/sys/kernel/hostname").expect("a name"),
        ),
        (
            "${boot-id}",
            trimmed("/proc/sys/kernel/random/boot_id").expect("an id"),
        ),
        ("${ip:lo}", "127.0.0.1".to_owned()),
        ("${trigger}", "kexec".to_owned()),
        ("${result}", "failed".to_owned()),
        ("${failed}", "breaks,breaks-too".to_owned()),
        ("${env:FAREWELL_TEST_SET}", "a  b".to_owned()),
        ("${file:/DIR/zone}", "eu 1".to_owned()),
        ("${json:/DIR/data.json#/v1/zones/1/~1name}", "b".to_owned()),
        ("${json:/DIR/data.json#/v1/port}", "8080".to_owned()),
        ("${json:/DIR/data.json#/v1/price}", "1.50".to_owned()),
        (
            "${json:/DIR/data.json#/v1/id}",
            "12345678901234567890123".to_owned(),
        ),
        (
            "x$${hostname}-$-$$-${trigger}y",
            "x${hostname}-$-$$-kexecy".to_owned(),
        ),
    ];
    // What not every machine has is asked only where it is there.
    if let Some(id) = trimmed("/etc/machine-id").filter(|id| id.len() == 32) {
        expected.push(("${machine-id}", id));
    }
    if let Some(address) = source_address() {
        expected.push(("${ip}", address));
    }
    let words: Vec<_> = expected
        .iter()
        .map(|(word, _)| format!("{word:?}"))
        .collect();
    let breaks = |name: &str| {
        format!("[[step]]\nname = \"{name}\"\nkind = \"command\"\nargv = [\"false\"]\n")
    };
    let toml = breaks("breaks")
        + &breaks("breaks-too")
        + &tell(
            "tell",
            "/DIR/told",
            &format!("{}, \"${{run}}\"", words.join(", ")),
            "${credential:token}",
        );
    let binary = Binary::new("facts", "");
    let dir = binary.dir.0.display().to_string();
    let toml = toml.replace("/DIR", &dir);
    fs::write(binary.dir.file("farewell.toml"), toml).expect("written");
    fs::write(binary.dir.file("zone"), "eu 1\n\n").expect("written");
    let json = r#"{"v1":{"zones":[{},{"/name":"b"}],"port":8080,"price":1.50,"id":12345678901234567890123}}"#;
    // Behind a byte order mark, as some editors write it.
    fs::write(binary.dir.file("data.json"), format!("\u{feff}{json}")).expect("written");
    binary.dir.credential("token", "hunter2\n");
    let said = Ended::of(
        binary
            .command(&["run", "--trigger", "kexec"])
            .env("FAREWELL_TEST_SET", "a  b")
            .env("CREDENTIALS_DIRECTORY", &dir),
    );
    assert_eq!(said.code, 1, "{said:?}");
    let told = fs::read_to_string(binary.dir.file("told")).expect("told");
    let mut told = told.lines();
    for (word, value) in &expected {
        assert_eq!(told.next(), Some(value.as_str()), "{word}");
    }
    let report = report(&binary);
    assert_eq!(told.next(), report["run"].as_str(), "{report}");
    assert_eq!(told.next(), Some("hunter2"));
    assert_eq!(report["trigger"], "kexec");
}

#[test]
fn a_missing_fact_costs_its_own_step_and_no_other() {
    let binary = Binary::new("missing", "");
    let dir = binary.dir.0.display().to_string();
    let step = |name: &str, word: &str, value: &str| {
        tell(
            name,
            &format!("{dir}/{name}"),
            &format!("\"{word}\""),
            value,
        )
    };
    let toml = "[farewell]\nbudget = \"10m\"\n".to_owned()
        + &step("env", "${env:FAREWELL_TEST_NOT_SET}", "")
        + &step("file", "${file:/no/such/file}", "")
        + &step("json", &format!("${{json:{dir}/data.json#/none}}"), "")
        + &step("credential", "", "${credential:farewell-test-none}")
        + &step("right", "${env:PATH}", "")
        + &step("last", "${failed}", "");
    fs::write(binary.dir.file("farewell.toml"), toml).expect("written");
    fs::write(binary.dir.file("data.json"), "{}").expect("written");
    let said = binary.verb(&["run"]);
    assert_eq!(said.code, 1, "{said:?}");
    let report = report(&binary);
    for (at, fact) in [
        "${env:FAREWELL_TEST_NOT_SET}",
        "${file:/no/such/file}",
        "data.json#/none}",
        "${credential:farewell-test-none}",
    ]
    .into_iter()
    .enumerate()
    {
        let step = &report["steps"][at];
        assert_eq!(
            (&step["state"], &step["error"]["word"]),
            (&"failed".into(), &"config".into()),
            "{step}"
        );
        assert_eq!(
            step["attempts"], 1,
            "what is missing does not come back: {step}"
        );
        let message = step["error"]["message"].as_str().unwrap_or_default();
        assert!(
            message.contains(fact) && message.contains("is not available"),
            "{message}"
        );
    }
    assert_eq!(report["steps"][4]["state"], "done", "{report}");
    let last = fs::read_to_string(binary.dir.file("last")).expect("told");
    assert_eq!(last, "env,file,json,credential\n\n");

    let checked = binary.verb(&["check"]);
    assert_eq!(checked.code, 78);
    assert_eq!(
        checked.stderr.matches("is not available").count(),
        4,
        "{}",
        checked.stderr
    );
    let checked = binary.verb(&["check", "--image"]);
    assert_eq!(
        (checked.code, checked.stderr.as_str()),
        (0, ""),
        "{checked:?}"
    );
}

#[test]
fn every_missing_fact_of_a_value_is_told() {
    let toml = tell(
        "a",
        "/dev/null",
        "\"${env:FAREWELL_TEST_A} ${env:FAREWELL_TEST_B}\"",
        "",
    );
    let binary = Binary::new("both", &toml);
    let said = binary.verb(&["check"]);
    assert!(said.stderr.ends_with(
        ":4: step \"a\": key \"argv\": ${env:FAREWELL_TEST_A} is not available: not set; ${env:FAREWELL_TEST_B} is not \
         available: not set\n"
    ), "{said:?}");
}

#[test]
fn a_name_or_duration_that_needs_a_missing_fact_makes_no_plan() {
    let toml = "[[step]]\nname = \"leave-${env:FAREWELL_TEST_ROLE}\"\nkind = \"wait\"\nfor = \"${env:FAREWELL_TEST_FOR}\"\n";
    let binary = Binary::new("plan-facts", toml);
    for verb in ["check", "plan", "run"] {
        let said = binary.verb(&[verb]);
        assert_eq!(
            (
                said.code,
                said.stderr.matches("is not available: not set").count()
            ),
            (78, 2),
            "{said:?}"
        );
    }
    assert_eq!(binary.verb(&["check", "--image"]).code, 0);
    let said = Ended::of(
        binary
            .command(&["run"])
            .env("FAREWELL_TEST_ROLE", "web")
            .env("FAREWELL_TEST_FOR", "1ms"),
    );
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(report(&binary)["steps"][0]["name"], "leave-web");
}
