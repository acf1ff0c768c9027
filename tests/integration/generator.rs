//! The binary as systemd's generator: the order and the stop timeout of farewell.service, from the configuration.

use std::fs;
use std::path::Path;

use crate::support::binary::Ended;
use crate::support::fuse::Hanging;
use crate::support::installed::Installed;

/// The generator as systemd runs it, the kernel log, and the drop-in that it wrote.
struct Generated {
    code: i32,
    told: String,
    drop_in: String,
}

fn generate(place: &Installed) -> Generated {
    let out = place.path("out");
    fs::create_dir_all(&out).expect("made");
    let (early, late) = (place.path("early"), place.path("late"));
    let directories = [&out, &early, &late].map(|it| it.to_str().expect("UTF-8"));
    let said = place.run("farewell-generator", &directories);
    assert_eq!(
        (said.stdout.as_str(), said.stderr.as_str()),
        ("", ""),
        "both are lost"
    );
    assert!(!early.exists() && !late.exists(), "it writes nowhere else");
    Generated {
        code: said.code,
        told: place.text("kmsg"),
        drop_in: place.text("out/farewell.service.d/05-sequence.conf"),
    }
}

/// The lines of a drop-in that systemd reads.
fn settings(made: &Generated) -> Vec<&str> {
    assert_eq!(made.code, 0);
    let lines = made.drop_in.lines();
    lines
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .collect()
}

const GOOD: &str = r#"
[farewell]
budget = { default = "40s", stop = "30m", reboot = "20s" }

[[step]]
name = "leave"
kind = "deregister"
registry = "file"
path = "/mnt/share-1/members/${hostname}"
needs = ["consul.service"]

[[step]]
name = "stop"
kind = "stop-unit"
units = ["app@1.service", "web.service"]
if-unit = "web.service"

[[step]]
name = "notice"
kind = "command"
argv = ["echo", "gone"]
"#;

#[test]
#[ignore = "needs root; tests/run has it"]
fn the_order_and_the_timeout_come_from_the_configuration() {
    let made = generate(&Installed::with("generator-good", GOOD));
    assert_eq!(made.told, "", "silent when all is well");
    let host = fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    let host = host.trim().replace('-', "\\x2d");
    let member = format!("mnt-share\\x2d1-members-{host}");
    let mounts = ["mnt", &member, "mnt-share\\x2d1-members", "mnt-share\\x2d1"];
    let mut after: Vec<String> = ["app@1.service", "consul.service", "web.service"]
        .map(|unit| format!("After={unit}"))
        .to_vec();
    for mount in mounts {
        after.push(format!("After={mount}.mount"));
        after.push(format!("After={mount}.automount"));
    }
    after.sort();
    let mut found = settings(&made);
    assert_eq!(found.remove(0), "[Unit]");
    // The largest budget and the time to close the record: a daemon-reload forgets what the run asks for itself.
    let service = found.split_off(found.len() - 2);
    assert_eq!(service, ["[Service]", "TimeoutStopSec=30m5s"]);
    let mut found: Vec<String> = found.into_iter().map(str::to_owned).collect();
    found.sort();
    assert_eq!(found, after);
    assert!(!made.drop_in.contains("Requires"));
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn without_a_configuration_the_defaults_are_said() {
    let made = generate(&Installed::new("generator-none"));
    assert_eq!(
        settings(&made),
        ["[Unit]", "[Service]", "TimeoutStopSec=1m35s"]
    );
    assert_eq!(made.told, "");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_broken_configuration_is_told_to_the_kernel_log_and_fails_nothing() {
    let broken = "[[step]]\nname = \"a\"\nkind = \"wiat\"\nfor = \"1s\"\n";
    let made = generate(&Installed::with("generator-broken", broken));
    assert_eq!(settings(&made), Vec::<&str>::new());
    let told: Vec<&str> = made.told.lines().collect();
    assert_eq!(
        told,
        [
            "<4>farewell-generator: /etc/farewell/farewell.toml:3: step \"a\": key \"kind\": wrong; see `farewell check`",
            "<4>farewell-generator: farewell.service keeps its own order and timeout",
        ]
    );
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_configuration_that_broke_since_boot_keeps_the_order_of_the_last_good_plan() {
    let place = Installed::with("generator-last-good", "nonsense");
    place.write("run/sequence.conf", "[Unit]\nAfter=app@1.service\n");
    let made = generate(&place);
    assert_eq!(settings(&made), ["[Unit]", "After=app@1.service"]);
    let kept = "keeps the order of the last good plan";
    assert!(made.told.contains(kept), "{}", made.told);
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn what_is_not_known_yet_is_left_out_and_kept_facts_are_used() {
    let config = "[[step]]\nname = \"stop\"\nkind = \"stop-unit\"\nunits = [\"app@${env:FAREWELL_TEST_ZONE}.service\"]\n";
    let place = Installed::with("generator-unknown", config);
    let made = generate(&place);
    assert!(
        made.drop_in
            .contains("# Not known yet: units of step stop\n"),
        "{}",
        made.drop_in
    );
    assert_eq!(settings(&made)[1], "[Service]", "{}", made.drop_in);
    place.write("run/facts.json", r#"{"${env:FAREWELL_TEST_ZONE}": "b"}"#);
    assert_eq!(settings(&generate(&place))[1], "After=app@b.service");
}

const STOPS: &str = "[[step]]\nname = \"stop\"\nkind = \"stop-unit\"\nunits = [\"app@1.service\", \"web.service\"]\n";

/// The units that farewell.service is ordered after.
fn ordered(made: &Generated) -> Vec<&str> {
    let lines = settings(made).into_iter();
    lines.filter_map(|it| it.strip_prefix("After=")).collect()
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn what_its_files_order_after_farewell_is_left_out() {
    let place = Installed::with("generator-circle", STOPS);
    let mut made = generate(&place);
    assert_eq!(ordered(&made), ["app@1.service", "web.service"]);
    // Each in its turn closes a circle for app@1.service alone: (file, text).
    for (file, text) in [
        (
            "app@.service",
            "[Unit]\nAfter=network.target \\\n  farewell.service\n",
        ),
        (
            "app@1.service",
            "[Unit]\n# After=nothing\nAfter=farewell-start.service\n",
        ),
        ("app@.service.d/x.conf", "[Unit]\nAfter=farewell.service\n"),
        ("app-.service.d/x.conf", "[Unit]\nBefore=app@1.service\n"),
        (
            "other.service",
            "[Unit]\nAfter=farewell.service\nBefore=app@1.service\n",
        ),
        (
            "other@.service",
            "[Unit]\nAfter=farewell.service\nBefore=app@1.service\n",
        ),
        (
            "farewell.service.d/x.conf",
            "[Unit]\nBefore=app@1.service\n",
        ),
    ] {
        let units = place.path("units");
        if units.exists() {
            fs::remove_dir_all(&units).expect("removed");
        }
        place.write(&format!("units/{file}"), text);
        // The units that are shipped; the second has the line that makes the one above a circle.
        place.write("units/farewell.service", "[Unit]\nAfter=basic.target\n");
        place.write(
            "units/farewell-start.service",
            "[Unit]\nAfter=farewell.service\n",
        );
        made = generate(&place);
        let is_one = file != "app-.service.d/x.conf";
        let expected: &[&str] = match is_one {
            true => &["web.service"],
            false => &["app@1.service", "web.service"],
        };
        assert_eq!(ordered(&made), expected, "{file}");
        let told = "farewell.service is not ordered after app@1.service, which is ordered after it (app@1.service after ";
        assert_eq!(made.told.contains(told), is_one, "{file}: {}", made.told);
    }
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn what_systemd_does_not_read_closes_no_circle() {
    let place = Installed::with("generator-no-circle", STOPS);
    place.write(
        "units/app@.service",
        "[Service]\nAfter=farewell.service\n[Unit]\n;After=farewell.service\n",
    );
    place.write(
        "units/app@.service.d/readme.txt",
        "[Unit]\nAfter=farewell.service\n",
    );
    place.write(
        "units/third.service",
        "[Unit]\nAfter=farewell.service\nBefore=other.service\n",
    );
    std::os::unix::fs::symlink("/dev/null", place.path("units/web.service")).expect("a link");
    place.write(
        "units/web.service.d/x.conf",
        "[Unit]\nAfter=farewell.service\n",
    );
    // Nobody ever writes to this one.
    let pipe = place.path("units/pipe.service");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .expect("run")
            .success()
    );
    let made = generate(&place);
    assert_eq!(ordered(&made), ["app@1.service", "web.service"]);
    assert_eq!(made.told, "");
}

/// What `farewell start` learnt is of this boot or of one before it, and names of units only.
#[test]
#[ignore = "needs root; tests/run has it"]
fn what_was_learnt_is_in_the_order() {
    let place = Installed::with("generator-learnt", STOPS);
    let learnt = r#"{
        "along": {
            "web.service": ["queue.service", "x.service\nExecStop=/bin/evil", "../x.service", "%n.service", "farewell.service"],
            "gone.service": ["stray.service"]
        },
        "circles": ["app@1.service"]
    }"#;
    place.write("state/order.json", learnt);
    let made = generate(&place);
    assert_eq!(ordered(&made), ["queue.service", "web.service"]);
    assert!(!made.drop_in.contains("evil"), "{}", made.drop_in);
    // What is of this boot is newer.
    place.write(
        "run/order.json",
        r#"{"along": {"web.service": ["late.service"]}}"#,
    );
    let order = ["app@1.service", "late.service", "web.service"];
    assert_eq!(ordered(&generate(&place)), order);
    // What others could have written is not believed.
    fs::remove_file(place.path("run/order.json")).expect("removed");
    let anybody = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o666);
    fs::set_permissions(place.path("state/order.json"), anybody).expect("set");
    assert_eq!(ordered(&generate(&place)), ["app@1.service", "web.service"]);
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn values_are_not_written_into_comments() {
    let config = "[[step]]\nname = \"stop\"\nkind = \"stop-unit\"\nunits = [\"app@${env:FAREWELL_TEST_ZONE}.service\"]\n";
    let place = Installed::with("generator-comment", config);
    place.write(
        "run/facts.json",
        r#"{"${env:FAREWELL_TEST_ZONE}": "b\n[Service]\rExecStop=/bin/evil \\"}"#,
    );
    let made = generate(&place);
    assert!(
        made.drop_in
            .contains("# Not known yet: units of step stop\n"),
        "{}",
        made.drop_in
    );
    assert!(!made.drop_in.contains("evil"), "{}", made.drop_in);
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_configuration_that_does_not_answer_costs_the_boot_its_limit() {
    let place = Installed::new("generator-hangs");
    let dead = place.path("dead");
    fs::create_dir(&dead).expect("made");
    let _hanging = Hanging::mount(&dead, false);
    std::os::unix::fs::symlink(dead.join("x"), place.path("etc/farewell.toml")).expect("a link");
    let made = generate(&place);
    assert_eq!(settings(&made), Vec::<&str>::new());
    assert!(
        made.told.contains("could not be read within 4 s"),
        "{}",
        made.told
    );
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn what_is_no_regular_file_is_not_opened() {
    let place = Installed::new("generator-fifo");
    // Nobody ever writes to this one.
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    nix::unistd::mkfifo(&place.path("etc/fact"), mode).expect("made");
    for path in ["/etc/farewell/fact", "/dev/zero", "/dev/tty", "/etc"] {
        place.write(
            "etc/farewell.toml",
            &format!(
                "[[step]]\nname = \"stop\"\nkind = \"stop-unit\"\nunits = [\"a.service\", \"b@${{file:{path}}}.service\"]\n\
                 [[step]]\nname = \"tell\"\nkind = \"command\"\nargv = [\"true\"]\nif-path = \"/x/${{json:{path}#/a}}\"\n"
            ),
        );
        let made = generate(&place);
        assert_eq!(ordered(&made), ["a.service"], "{path}: {}", made.drop_in);
        assert_eq!(made.told, "", "{path}");
        let unknown = made.drop_in.matches("# Not known yet: ").count();
        assert_eq!(unknown, 2, "{path}: {}", made.drop_in);
    }
}

/// An earlier version wrote values into comments, and systemd ends a line at a carriage return.
#[test]
#[ignore = "needs root; tests/run has it"]
fn what_was_kept_of_the_last_good_plan_is_settings_alone() {
    let place = Installed::with("generator-kept", "nonsense");
    let good = "[Unit]\nAfter=app@1.service\n\n[Service]\nTimeoutStopSec=1m35s\n";
    let comment = "# Not known yet: step stop: `b\r[Service]\rExecStop=/bin/evil` is no name\n";
    place.write("run/sequence.conf", &format!("{comment}{good}"));
    let made = generate(&place);
    let expected = [
        "[Unit]",
        "After=app@1.service",
        "[Service]",
        "TimeoutStopSec=1m35s",
    ];
    assert_eq!(settings(&made), expected);
    assert!(!made.drop_in.contains("evil"), "{}", made.drop_in);
    for line in [
        "ExecStop=/bin/evil",
        "After=a.service\rExecStop=/bin/evil",
        "TimeoutStopSec=1s\rExecStop=/bin/evil",
        "[Install]",
        "evil",
    ] {
        place.write("run/sequence.conf", &format!("{good}{line}\n"));
        fs::remove_dir_all(place.path("out")).expect("removed");
        let made = generate(&place);
        assert_eq!(settings(&made), Vec::<&str>::new(), "{line:?}");
    }
}

#[test]
fn under_its_own_name_it_is_no_generator() {
    let said = Ended::of(crate::support::binary::farewell().arg("/tmp"));
    assert_eq!(said.code, 64, "{said:?}");
    assert!(!Path::new("/tmp/farewell.service.d").exists());
}
