//! Two machines from one image, which Packer made as README.md says: nothing of the machine that it was built on is in it,
//! nor is one of the two like the other, and each leaves under its own name with the step that cloud-init gave it.

use std::fs;
use std::path::Path;

use crate::vm::lab::{End, Machine, Packed, Stage, block};

/// What a machine is, one `NAME VALUE` a line.
const IDENTITY: &str = r#"
echo "machine-id $(cat /etc/machine-id)"
echo "hostname $(hostname)"
echo "facts $(cat /run/farewell/facts.json)"
echo "random-seed $(sha256sum </var/lib/systemd/random-seed)"
for key in /etc/ssh/ssh_host_*_key.pub; do echo "$key $(cat "$key")"; done
"#;

const UNITS: &str =
    "systemctl is-enabled farewell.service farewell-arm.service farewell-rehearse.timer | xargs";

pub fn image(stage: &Stage) {
    let image = stage.packed();
    is_sealed(image);
    let registry = stage.empty_registry();
    // What an application does: it is told where the registry is, and registers when it starts.
    let registers = |name: &str| {
        format!(
            "\n  - path: /etc/registry\n    content: {url}\nruncmd:\n  - \
             [python3, -c, 'import base64, json, urllib.request as it; \
             it.urlopen(\"{url}/v3/kv/put\", json.dumps(dict(key=base64.b64encode(b\"members/i-{name}\").decode())).encode())']\n",
            url = registry.within("http://registry"),
        )
    };
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).expect("README.md");
    let user_data = block(&readme, "user-data").trim_end();
    let early = format!("{user_data}{}", registers("one"));
    // The same step, written when all units have been started.
    let late = format!(
        "{}{}  - install -D /root/late /etc/farewell/conf.d/50-notice.toml\n  - systemctl daemon-reload\n  - \
         systemctl start farewell\n",
        user_data.replace("/etc/farewell/conf.d/50-notice.toml", "/root/late"),
        registers("two")
    );
    let mut machines = [
        image.instance(stage, "one", "", &early),
        image.instance(stage, "two", "uninitialized\n", &late),
    ];
    for machine in &mut machines {
        machine.wait_for_shell();
        machine.wait_for_cloud_init();
        machine.wait_for_start();
        assert_eq!(machine.must(UNITS), "enabled enabled disabled");
    }
    let first_boot = "journalctl -b -t systemd | grep -c 'Detected first boot'";
    let boots = machines.each_mut().map(|it| it.run(first_boot).text);
    assert_eq!(boots, ["0\n", "1\n"]);
    assert_eq!(registry.members(), ["i-one", "i-two"]);
    let [one, two] = &mut machines;
    differ(one, two);
    let [one, two] = [("one", &["i-two"][..]), ("two", &[])];
    let [first, second] = machines;
    let ends = [(first, one), (second, two)].map(|(mut machine, (name, staying))| {
        machine.press_power_button();
        let end = machine.powered_off();
        assert_eq!(registry.members(), staying);
        left(&end, name);
        end
    });
    assert_ne!(ends[0].run().id(), ends[1].run().id());
}

/// Fails where something of the build machine is in the image.
fn is_sealed(image: &Packed) {
    assert!(
        image
            .said
            .contains("farewell check: 1 file; 1 step; no problems")
    );
    assert!(image.said.contains("this machine is sealed"));
    // From outside nobody could reach the machine that it was built on.
    let ports = image.qemu.matches("hostfwd=").count();
    assert_eq!(
        (ports, image.qemu.matches("hostfwd=tcp:127.0.0.1:").count()),
        (1, 1)
    );
    let made = &image.manifest["builds"][0]["files"][0]["name"];
    assert_eq!(made, "farewell.qcow2", "{}", image.manifest);
    assert_eq!(image.file("/etc/machine-id").as_deref(), Some(""));
    assert_eq!(image.file("/etc/hostname").as_deref(), Some(""));
    assert_eq!(image.file("/var/lib/systemd/random-seed"), None);
    assert_eq!(image.file("/home/builder/.ssh/authorized_keys"), None);
    for planted in [
        "/root/.bash_history",
        "/etc/credstore/token",
        "/var/log/it.log.1",
    ] {
        assert_eq!(image.file(planted), None, "{planted}");
        assert!(image.said.contains(&format!("removed {planted}")));
    }
    for empty in [
        "/tmp/farewell-image",
        "/var/lib/farewell",
        "/var/lib/cloud/instances",
        "/var/log/journal",
    ] {
        assert_eq!(image.names(empty), [""; 0], "{empty}");
    }
    let keys = image.names("/etc/ssh");
    assert!(
        !keys.is_empty() && !keys.iter().any(|it| it.starts_with("ssh_host")),
        "{keys:?}"
    );
    // And what it is for is there.
    let documents = image.names("/usr/share/doc/farewell");
    assert!(
        documents.iter().any(|it| it == "third-party-licenses.txt"),
        "{documents:?}"
    );
    assert!(image.file("/etc/farewell/farewell.toml").is_some());
    assert_eq!(image.names("/etc/farewell"), ["farewell.toml"]);
}

/// Fails where two machines are alike in anything that tells them apart.
fn differ(one: &mut Machine, two: &mut Machine) {
    let [one, two] = [one, two].map(|it| it.must(IDENTITY));
    let value = |text: &str, name: &str| {
        let mut lines = text.lines().filter_map(|it| it.split_once(' '));
        lines.find(|it| it.0 == name).map(|it| it.1.to_owned())
    };
    for name in [
        "machine-id",
        "hostname",
        "facts",
        "random-seed",
        "/etc/ssh/ssh_host_ed25519_key.pub",
    ] {
        let [mine, other] = [&one, &two].map(|it| value(it, name).unwrap_or_default());
        assert!(
            !mine.is_empty() && !other.is_empty(),
            "{name}: {one}\n{two}"
        );
    }
    // The second one may have made keys of more kinds: its boot was a first one, with all that is done on one.
    for (name, mine) in one.lines().filter_map(|it| it.split_once(' ')) {
        assert_ne!(Some(mine), value(&two, name).as_deref(), "{name}");
    }
    for (name, text) in [("one", &one), ("two", &two)] {
        assert_eq!(value(text, "hostname"), Some(format!("host-{name}")));
        assert!(!text.contains("build-machine"), "{text}");
    }
}

/// Fails unless a machine has left as the image and cloud-init say, under its own name.
fn left(end: &End, name: &str) {
    end.run()
        .is("poweroff", "ok")
        .step("leave", "done")
        .step("notice", "done");
    end.in_order(&[
        "farewell: step leave: done",
        &format!("host-{name} is leaving"),
        ": ok after",
    ]);
}
