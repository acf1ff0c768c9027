//! The power button of a running machine: it leaves etcd while the application still answers, then waits for its clients,
//! then stops it, and not one request is lost.

use super::LEAVE_AND_STOP;
use crate::lab::Stage;

pub fn power_button(stage: &Stage) {
    let registry = stage.registry();
    let mut machine = stage.machine();
    machine.configure(&registry.within(LEAVE_AND_STOP));
    let clients = machine.clients(&registry);
    machine.press_power_button();
    let end = machine.powered_off();
    end.run().is("poweroff", "ok");
    end.in_order(&[
        "step leave: done",
        "step clients: done",
        "app: TERM",
        "app: ended",
        "step stop-app: done",
        "systemd: Stopped systemd-networkd.service",
    ]);
    registry.is_clean();
    clients.lost_nothing();
}
