//! The binary as systemd's generator: the order and the stop timeout of farewell.service, from the configuration.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::Dir;
use support::program::Said;

/// A place for /etc/farewell and /run/farewell, and for what is generated.
struct Place(Dir);

impl Place {
    fn new(name: &str, config: &str) -> Place {
        let dir = Dir::new(&format!("generator-{name}"));
        for part in ["etc", "run", "out"] {
            fs::create_dir(dir.0.join(part)).expect("made");
        }
        let place = Place(dir);
        place.configure(config);
        place
    }

    fn configure(&self, config: &str) {
        fs::write(self.0.0.join("etc/farewell.toml"), config).expect("written");
    }

    /// Runs the generator as systemd does, with this place's files where the installed ones are. The kernel log is a
    /// file here.
    fn generate(&self) -> Said {
        let script = "set -e; place=$1; program=$2; \
            mount -t tmpfs none /mnt; cp \"$program\" /mnt/farewell-generator; cp -a \"$place\" /mnt/place; \
            : >/mnt/kmsg; mount --bind /mnt/kmsg /dev/kmsg; \
            for name in etc run; do \
                mkdir -p /mnt/upper/$name/farewell /mnt/work/$name; \
                mount -t overlay -o lowerdir=/$name,upperdir=/mnt/upper/$name,workdir=/mnt/work/$name none /$name; \
                mount --bind /mnt/place/$name /$name/farewell; \
            done; \
            cd /; code=0; \
            env -i PATH=/usr/bin:/bin SYSTEMD_SCOPE=system /mnt/farewell-generator \
                /mnt/place/out /mnt/early /mnt/late </dev/null || code=$?; \
            cat /mnt/kmsg >&2; cat /mnt/place/out/farewell.service.d/05-sequence.conf 2>/dev/null || :; \
            ls /mnt/early /mnt/late 2>/dev/null || :; exit $code";
        Said::by(
            Command::new("unshare")
                .args(["-m", "--propagation", "private", "sh", "-c", script, "sh"])
                .arg(&self.0.0)
                .arg(env!("CARGO_BIN_EXE_farewell")),
        )
    }
}

/// The lines of a drop-in that systemd reads.
fn settings(said: &Said) -> Vec<&str> {
    assert_eq!(said.code, 0, "{said:?}");
    let lines = said.stdout.lines();
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
fn the_order_and_the_timeout_come_from_the_configuration() {
    let said = Place::new("good", GOOD).generate();
    assert_eq!(said.stderr, "", "silent when all is well");
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
    let mut found = settings(&said);
    assert_eq!(found.remove(0), "[Unit]");
    // The smallest budget and the time to close the record; a longer one is asked for by the run itself.
    let service = found.split_off(found.len() - 2);
    assert_eq!(service, ["[Service]", "TimeoutStopSec=25s"]);
    let mut found: Vec<String> = found.into_iter().map(str::to_owned).collect();
    found.sort();
    assert_eq!(found, after);
    assert!(!said.stdout.contains("Requires"), "{said:?}");
}

#[test]
fn without_a_configuration_the_defaults_are_said() {
    let place = Place::new("none", "");
    fs::remove_file(place.0.0.join("etc/farewell.toml")).expect("removed");
    let said = place.generate();
    assert_eq!(
        settings(&said),
        ["[Unit]", "[Service]", "TimeoutStopSec=1m35s"]
    );
    assert_eq!(said.stderr, "");
}

#[test]
fn a_broken_configuration_is_told_to_the_kernel_log_and_fails_nothing() {
    let place = Place::new(
        "broken",
        "[[step]]\nname = \"a\"\nkind = \"wiat\"\nfor = \"1s\"\n",
    );
    let said = place.generate();
    assert_eq!(settings(&said), Vec::<&str>::new());
    let told: Vec<&str> = said.stderr.lines().collect();
    assert_eq!(
        told,
        [
            "<4>farewell-generator: /etc/farewell/farewell.toml:3: step \"a\": key \"kind\": unknown kind `wiat`; did you \
             mean `wait`?",
            "<4>farewell-generator: farewell.service keeps its own order and timeout",
        ]
    );
}

#[test]
fn a_configuration_that_broke_since_boot_keeps_the_order_of_the_last_good_plan() {
    let place = Place::new("last-good", "nonsense");
    fs::write(
        place.0.0.join("run/sequence.conf"),
        "[Unit]\nAfter=app@1.service\n",
    )
    .expect("written");
    let said = place.generate();
    assert_eq!(settings(&said), ["[Unit]", "After=app@1.service"]);
    assert!(
        said.stderr
            .contains("stays ordered as the last good plan needs it"),
        "{said:?}"
    );
}

#[test]
fn what_is_not_known_yet_is_left_out_and_kept_facts_are_used() {
    let config = "[[step]]\nname = \"stop\"\nkind = \"stop-unit\"\nunits = [\"app@${env:FAREWELL_TEST_ZONE}.service\"]\n";
    let place = Place::new("unknown", config);
    let said = place.generate();
    assert!(
        said.stdout.contains("# Not known yet: step stop: "),
        "{said:?}"
    );
    assert!(!said.stdout.contains("After="), "{said:?}");
    let kept = r#"{"${env:FAREWELL_TEST_ZONE}": "b"}"#;
    fs::write(place.0.0.join("run/facts.json"), kept).expect("written");
    let said = place.generate();
    assert!(said.stdout.contains("After=app@b.service\n"), "{said:?}");
}

#[test]
fn a_configuration_that_does_not_answer_costs_the_boot_its_limit() {
    let place = Place::new("hangs", "");
    let path = place.0.0.join("etc/farewell.toml");
    fs::remove_file(&path).expect("removed");
    // Nobody ever writes to this one.
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("made");
    let begun = std::time::Instant::now();
    let said = place.generate();
    assert!(begun.elapsed().as_secs() < 30, "{said:?}");
    assert_eq!(settings(&said), Vec::<&str>::new());
    assert!(
        said.stderr.contains("could not be read within 5 s"),
        "{said:?}"
    );
}

#[test]
fn under_its_own_name_it_is_no_generator() {
    let said = Said::by(support::program::farewell().arg("/tmp"));
    assert_eq!(said.code, 64, "{said:?}");
    assert!(!Path::new("/tmp/farewell.service.d").exists());
}
