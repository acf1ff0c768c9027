//! A soft reboot: the machine leaves and comes back, on the same kernel and with what is in /run; and its next end is one
//! like any other.

use super::{LEAVE_AND_STOP, LEFT_AND_STOPPED, left_first};
use crate::lab::Stage;

pub fn soft_reboot(stage: &Stage) {
    let registry = stage.registry();
    let mut machine = stage.machine();
    machine.configure(&registry.within(LEAVE_AND_STOP));
    machine.must("systemctl soft-reboot");
    machine.wait_for_boot();
    registry.is_clean();
    registry.register();
    machine.wait_for_start();
    machine.must("systemctl is-active app.service");
    machine.must("systemctl poweroff");
    let end = machine.powered_off();
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
    left_first(&end);
    registry.is_clean();
}
