//! Without D-Bus, or without the journal, a machine leaves and stops its application all the same.

use crate::rig::harness::{Rig, member, on_each_release, registry};
use crate::support::member::LEAVE_AND_STOP;

on_each_release! {
    fn without_bus(rig: Rig) {
        let registry = registry();
        let machine = member(rig, &registry.within(LEAVE_AND_STOP)).boot();
        machine.must("systemctl stop dbus.socket dbus.service");
        let bus = machine.sh("busctl list");
        assert_ne!(bus.code, 0, "{bus:?}");
        let end = machine.end("systemctl poweroff");
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

    fn without_journal(rig: Rig) {
        let registry = registry();
        let machine = member(rig, &registry.within(LEAVE_AND_STOP)).boot();
        machine.must(
            "systemctl mask -q --runtime --now systemd-journald.socket systemd-journald-dev-log.socket \
            systemd-journald-audit.socket systemd-journald.service",
        );
        let journald = machine.sh("pidof systemd-journald");
        assert_ne!(journald.code, 0, "{journald:?}");
        let end = machine.end("systemctl poweroff");
        end.run()
            .is_recorded("poweroff", "ok")
            // Nobody waited for the journal.
            .within(60.0)
            .step("leave", "done")
            .step("settle", "done")
            .step("clients", "done")
            .step("stop-app", "done")
            .step("storage", "done");
        assert!(!end.journal.says("step leave"));
        for part in ["begins: trigger poweroff, 5 steps", ": ok after"] {
            assert!(end.console().contains(part), "{part}");
        }
        registry.is_clean();
    }
}
