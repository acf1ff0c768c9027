//! Values from a user's file, and what PID 1 makes of them.

use crate::rig::harness::Rig;

const STOP: &str = r#"
[[step]]
name = "stop"
kind = "stop-unit"
units = ["app@${json:/srv/app/zone.json#/zone}.service"]
"#;

/// systemd ends a line at a carriage return too.
const ATTACK: &str = r#"{"zone": "x\r[Service]\rExecStop=\rExecStop=/usr/bin/touch /rig/evil\r#"}"#;

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_value_from_a_users_file_adds_nothing_to_the_unit() {
    let machine = Rig::new()
        .unit("app@.service", "[Service]\nExecStart=/bin/sleep infinity\n")
        .wants("app@1.service")
        .file("/srv/app/zone.json", r#"{"zone": "1"}"#)
        .configuration(STOP)
        .boot();
    let before = machine.property("farewell.service", "ExecStop");
    assert!(before.contains("farewell"), "{before}");
    machine.write("/srv/app/zone.json", ATTACK);
    machine.must("systemctl daemon-reload");
    let argv = |text: &str| {
        text.split(" ; ")
            .find(|it| it.starts_with("argv[]="))
            .map(str::to_owned)
    };
    let after = machine.property("farewell.service", "ExecStop");
    assert_eq!(argv(&after), argv(&before), "{after}");
    machine.must("systemctl stop farewell.service");
    assert_eq!(machine.step("stop"), "failed");
    assert_ne!(machine.sh("test -e /rig/evil").code, 0);
    let made = machine.read("/run/systemd/generator/farewell.service.d/05-sequence.conf");
    assert!(
        made.contains("# Not known yet: units of step stop\n"),
        "{made}"
    );
}
