//! Ends that are no plain poweroff: one at a time that was set, rescue mode, and a soft reboot.

use crate::rig::harness::{Rig, Root, member, on_each_release, registry};
use crate::support::member::{LEAVE_AND_STOP, LEFT_AND_STOPPED, left_first};

on_each_release! {
    /// One that is scheduled: its time passes, and the machine leaves as it does at once.
    fn scheduled(rig: Rig) {
        let registry = registry();
        let machine = member(rig, &registry.within(LEAVE_AND_STOP)).boot();
        // As `shutdown -P` asks for it, which counts in minutes.
        machine.must(
            "at=$(($(date +%s) + 5))
            busctl call org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager \
                ScheduleShutdown st poweroff ${at}000000
            grep MODE=poweroff /run/systemd/shutdown/scheduled",
        );
        registry.still_lists_member();
        let end = machine.ended();
        end.run()
            .is("poweroff", "ok")
            .seen("poweroff.target has a start job");
        left_first(&end.journal);
        registry.is_clean();
    }

    /// `systemctl rescue`: the machine leaves, since all that made it a member is stopped. What ends then has left before.
    fn rescue(rig: Rig) {
        let registry = registry();
        let machine = member(rig, &registry.within(LEAVE_AND_STOP))
            // There is nobody at a console.
            .drop_in("rescue.service", "rig.conf", "[Service]\nExecStart=\nExecStart=/bin/sleep infinity\n")
            .boot();
        machine.must("systemctl --no-block rescue");
        machine.wait_for("systemctl is-active rescue.target");
        machine.wait_for("test \"$(systemctl is-active farewell.service app.service | xargs)\" = 'inactive inactive'");
        registry.is_clean();
        let end = machine.end("systemctl poweroff");
        end.run()
            .is("stop", "ok")
            .seen("the system goes to rescue mode");
        left_first(&end.journal);
    }
}

/// The machine leaves and comes back, on the same kernel and with what is in /run; and its next end is one like any other.
#[test]
#[ignore = "needs root; tests/run has it"]
fn soft_reboot() {
    let registry = registry();
    let machine = member(Rig::on(Root::Trixie), &registry.within(LEAVE_AND_STOP)).boot();
    let before = machine.property("app.service", "InvocationID");
    machine.must("systemctl soft-reboot");
    machine.wait_for(&format!(
        "test \"$(systemctl show -P InvocationID app.service)\" != {before} && systemctl is-active app.service"
    ));
    machine.wait_for_boot();
    registry.is_clean();
    registry.register();
    machine.wait_for_start();
    machine.must("systemctl is-active app.service");
    let end = machine.end("systemctl poweroff");
    let [first, second] = &end.runs()[..] else {
        panic!("not two runs");
    };
    first
        .is("soft-reboot", "ok")
        .seen("soft-reboot.target has a start job");
    second
        .is("poweroff", "ok")
        .seen("poweroff.target has a start job");
    let again = ["app: ready", "systemd: Finished farewell-start.service"];
    end.in_order(&[&LEFT_AND_STOPPED[..], &again, &LEFT_AND_STOPPED].concat());
    left_first(&end.journal);
    registry.is_clean();
}
