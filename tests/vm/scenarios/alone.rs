//! Without D-Bus, or without the journal, a machine leaves and stops its application all the same.

use super::LEAVE_AND_STOP;
use crate::lab::Stage;

pub fn without_bus(stage: &Stage) {
    let registry = stage.registry();
    let mut machine = stage.machine();
    machine.configure(&registry.within(LEAVE_AND_STOP));
    machine.must("systemctl stop dbus.socket dbus.service");
    let bus = machine.run("busctl list");
    assert_ne!(bus.code, 0, "{bus:?}");
    machine.must("systemctl poweroff");
    let end = machine.powered_off();
    end.run().is("poweroff", "ok").step("stop-app", "done");
    end.in_order(&[
        "trigger poweroff: poweroff.target has a start job",
        "step leave: done",
        "app: ended",
        "step stop-app: done",
        "systemd: Stopped systemd-networkd.service",
    ]);
    registry.is_clean();
}

pub fn without_journal(stage: &Stage) {
    let registry = stage.registry();
    let mut machine = stage.machine();
    machine.configure(&registry.within(LEAVE_AND_STOP));
    machine.must(
        "systemctl mask -q --runtime --now systemd-journald.socket systemd-journald-dev-log.socket \
        systemd-journald-audit.socket systemd-journald.service",
    );
    let journald = machine.run("pidof systemd-journald");
    assert_ne!(journald.code, 0, "{journald:?}");
    machine.must("systemctl poweroff");
    let end = machine.powered_off();
    end.run()
        .is_recorded("poweroff", "ok")
        .within(20.0)
        .step("leave", "done")
        .step("settle", "done")
        .step("clients", "done")
        .step("stop-app", "done")
        .step("storage", "done");
    assert!(!end.journal.says("step leave"));
    for part in ["begins: trigger poweroff, 5 steps", ": ok after"] {
        assert!(end.console.contains(part), "{part}");
    }
    registry.is_clean();
}
