//! What the generator makes of values from outside, as systemd's own programs read it.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::support::binary::printed;
use crate::support::installed::Installed;
use serde_json::json;

/// What every value is made of: whatever systemd, a terminal or a shell obeys, and what would show that it was obeyed.
const PIECES: [&str; 22] = [
    "\r",
    "\n",
    "\\",
    "\\\n",
    "%",
    "%n",
    "%i",
    "\"",
    "'",
    ";",
    "#",
    "=",
    " ",
    "\t",
    "\u{0}",
    "\u{1b}[2J",
    "ä",
    "@",
    "..",
    "[Service]",
    "ExecStop=/bin/evil",
    "a",
];

/// Values that break out where anything can, and others put together at random.
fn values() -> Vec<String> {
    let mut random = fastrand::Rng::with_seed(20_261_128);
    let mut values: Vec<String> = [
        "x\r[Service]\rExecStop=/bin/evil\r#",
        "x\n[Service]\nExecStop=/bin/evil\n#",
        "x.service\r[Service]\rExecStop=/bin/evil",
        "x \\\n[Service]\nExecStop=/bin/evil",
        "x\\",
        "%n",
        "%%",
        "\"x",
        "a b-c",
        "ä-\u{1}",
        ".",
        "..",
        "a/../../b",
        "plain",
    ]
    .map(str::to_owned)
    .into();
    values.extend((0..26).map(|_| {
        let pieces = (0..random.usize(1..7)).map(|_| PIECES[random.usize(0..PIECES.len())]);
        pieces.collect::<String>()
    }));
    values
}

const CONFIG: &str = r##"
[[step]]
name = "stop"
kind = "stop-unit"
units = ["app@${json:/etc/farewell/value#/v}.service", "${json:/etc/farewell/value#/v}", "fixed.service"]

[[step]]
name = "leave"
kind = "deregister"
registry = "file"
path = "/mnt/${json:/etc/farewell/value#/v}/member"
if-path = "${json:/etc/farewell/value#/v}"
if-unit = "${json:/etc/farewell/value#/v}.service"
"##;

/// The unit for a path, as systemd names it.
fn escaped(path: &str, suffix: &str) -> String {
    let suffix = format!("--suffix={suffix}");
    let mut command = Command::new("systemd-escape");
    let said = printed(command.args(["--path", &suffix, path])).expect("escaped");
    said.trim_end().to_owned()
}

/// What the paths of the configuration come to, where the value fills one part of one.
fn mounts(value: &str) -> BTreeSet<String> {
    let is_part =
        !value.is_empty() && !value.contains(['/', '\0']) && value != "." && value != "..";
    let mut paths = Vec::new();
    if is_part {
        let whole = format!("/mnt/{value}");
        paths.extend(["/mnt".to_owned(), format!("{whole}/member"), whole]);
    }
    let names = paths
        .iter()
        .flat_map(|path| ["mount", "automount"].map(|it| escaped(path, it)));
    // systemd takes no longer name.
    names.filter(|it| it.len() <= 255).collect()
}

#[test]
#[ignore = "needs root and systemd; tests/run has it"]
fn whatever_a_fact_is_the_drop_in_orders_units_and_does_nothing_else() {
    let place = Installed::with("generator-values", CONFIG);
    fs::create_dir_all(place.path("out")).expect("made");
    let directories = ["out", "early", "late"].map(|it| place.path(it).display().to_string());
    let directories: Vec<&str> = directories.iter().map(String::as_str).collect();
    let unit = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n";
    place.write("out/farewell.service", unit);
    for value in values() {
        place.write("etc/value", &json!({ "v": value }).to_string());
        let said = place.run("farewell-generator", &directories);
        assert_eq!(said.code, 0, "{value:?}: {said:?}");
        let told = place.text("kmsg");
        assert!(!told.contains("evil"), "{value:?}: {told}");
        let made = place.text("out/farewell.service.d/05-sequence.conf");
        assert!(
            !made.contains(|it: char| it.is_control() && it != '\n'),
            "{value:?}: {made:?}"
        );
        let mut after = BTreeSet::new();
        for line in made.lines() {
            match line.split_once('=') {
                Some(("After", unit)) => drop(after.insert(unit.to_owned())),
                Some((key, _)) => assert_eq!(key, "TimeoutStopSec", "{value:?}: {made}"),
                None => assert!(
                    ["", "[Unit]", "[Service]"].contains(&line)
                        || line.starts_with("# Made by ")
                        || line.starts_with("# Not to be replaced ")
                        || line.starts_with("# Not known yet: "),
                    "{value:?}: {line}"
                ),
            }
        }
        let is_name = |it: &u8| it.is_ascii_alphanumeric() || b":-_.\\@".contains(it);
        let mut expected = mounts(&value);
        expected.insert("fixed.service".to_owned());
        if value.bytes().all(|it| is_name(&it)) && !value.is_empty() {
            expected.insert(format!("{value}.service"));
            // What would be the name of a template is stopped by nobody.
            if !value.starts_with('.') {
                expected.insert(format!("app@{value}.service"));
            }
        }
        assert_eq!(after, expected, "{value:?}");
        // systemd's own parser tells of every line that it does not understand, and of a program that is not there.
        let verified = Command::new("systemd-analyze")
            .args(["verify", "--man=no", "--recursive-errors=no"])
            .arg(place.path("out/farewell.service"))
            .env("SYSTEMD_UNIT_PATH", place.path("out"))
            .output()
            .expect("systemd-analyze");
        let told = String::from_utf8_lossy(&verified.stderr);
        let about_us: Vec<&str> = told
            .lines()
            .filter(|it| it.contains("05-sequence") || it.contains("evil"))
            .collect();
        assert_eq!(about_us, Vec::<&str>::new(), "{value:?}: {made}");
    }
}

/// What systemd's parser tells is seen: the same with a line that does something.
#[test]
#[ignore = "needs root and systemd; tests/run has it"]
fn the_parser_tells_of_what_does_not_belong_there() {
    let place = Installed::new("generator-parser");
    place.write("out/farewell.service", "[Service]\nExecStart=/bin/true\n");
    place.write(
        "out/farewell.service.d/05-sequence.conf",
        "# `x\r[Service]\rExecStop=/bin/evil\n[Unit]\nEvil=1\n",
    );
    let verified = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(place.path("out/farewell.service"))
        .env("SYSTEMD_UNIT_PATH", place.path("out"))
        .output()
        .expect("systemd-analyze");
    let told = String::from_utf8_lossy(&verified.stderr);
    assert!(
        told.contains("/bin/evil") && told.contains("05-sequence.conf"),
        "{told}"
    );
}

/// Names and durations are needed for the plan itself; without them the kernel log says where, and no more.
#[test]
#[ignore = "needs root; tests/run has it"]
fn the_kernel_log_names_step_and_key_and_no_value() {
    let place = Installed::new("generator-log");
    fs::create_dir_all(place.path("out")).expect("made");
    let directories = ["out", "early", "late"].map(|it| place.path(it).display().to_string());
    let directories: Vec<&str> = directories.iter().map(String::as_str).collect();
    let fact = "${json:/etc/farewell/value#/v}";
    for (key, keys) in [
        (
            "name",
            format!("name = {fact:?}\nkind = \"wait\"\nfor = \"1s\"\n"),
        ),
        ("kind", format!("name = \"a\"\nkind = {fact:?}\n")),
        (
            "for",
            format!("name = \"a\"\nkind = \"wait\"\nfor = {fact:?}\n"),
        ),
        (
            "needs",
            format!("name = \"a\"\nkind = \"wait\"\nfor = \"1s\"\nneeds = [{fact:?}]\n"),
        ),
    ] {
        place.write("etc/farewell.toml", &format!("[[step]]\n{keys}"));
        place.write(
            "etc/value",
            &json!({ "v": "s3cret-evil\r\n<0>evil\u{1b}[2J" }).to_string(),
        );
        let said = place.run("farewell-generator", &directories);
        assert_eq!(said.code, 0, "{said:?}");
        let told = place.text("kmsg");
        assert!(
            told.contains(&format!("key \"{key}\": wrong")),
            "{key}: {told}"
        );
        assert!(!told.contains("evil"), "{key}: {told}");
        assert!(
            !told.contains(|it: char| it.is_control() && it != '\n'),
            "{key}: {told:?}"
        );
        assert!(
            told.lines()
                .all(|it| it.starts_with("<4>farewell-generator: ")),
            "{key}: {told:?}"
        );
    }
}
