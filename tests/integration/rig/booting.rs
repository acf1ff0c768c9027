//! Machines that end while they still boot. Their farewell was armed early in the boot, and waits for nobody.

use crate::rig::harness::{Rig, member, on_each_release, registry};
use crate::support::member::{LEAVE_AND_STOP, LEFT_AND_STOPPED, left_first};

on_each_release! {
    /// A new machine that is told to end as soon as its farewell is armed, while its application starts.
    fn launched(rig: Rig) {
        let registry = registry();
        let machine = member(rig, &registry.within(LEAVE_AND_STOP))
            .file("/etc/app.env", "START_SECONDS=600\n")
            .unbooted()
            .boot();
        machine.wait_for("systemctl is-active farewell.service farewell-arm.service");
        machine.wait_for("test $(systemctl show -P ActiveState app.service) = activating");
        machine.wait_for("journalctl -t app | grep -q starting");
        let end = machine.end("systemctl poweroff");
        end.run()
            .is("poweroff", "ok")
            .seen("poweroff.target has a start job");
        end.in_order(&[&["app: starting"], &LEFT_AND_STOPPED[..]].concat());
        left_first(&end.journal);
        registry.is_clean();
    }

    /// kexec.target, and then a poweroff while the application starts again.
    fn kexec_target(rig: Rig) {
        let registry = registry();
        let machine = member(rig, &registry.within(LEAVE_AND_STOP)).boot();
        machine.must("echo START_SECONDS=600 >/etc/app.env");
        let end = machine.end("systemctl start --no-block kexec.target");
        registry.is_clean();
        registry.register();
        let machine = end.boot_unwaited();
        machine.wait_for("systemctl is-active farewell.service farewell-arm.service");
        machine.wait_for("test $(systemctl show -P ActiveState app.service) = activating");
        machine.wait_for("journalctl -b -t app | grep -q starting");
        let end = machine.end("systemctl poweroff");
        let [first, second] = &end.runs()[..] else {
            panic!("not two runs");
        };
        first.is("kexec", "ok").seen("kexec.target has a start job");
        second
            .is("poweroff", "ok")
            .seen("poweroff.target has a start job");
        let again = ["app: starting"];
        end.in_order(&[&LEFT_AND_STOPPED[..], &again, &LEFT_AND_STOPPED].concat());
        left_first(&end.journal);
        registry.is_clean();
    }
}
