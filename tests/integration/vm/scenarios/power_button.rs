//! The power button of a running machine: it leaves etcd while the application still answers, then waits for its clients,
//! then stops it, and not one request is lost. An inhibitor keeps the machine from hearing its button, and nothing happens.

use crate::support::member::{LEAVE_AND_STOP, left_first};
use crate::vm::lab::Stage;

pub fn power_button(stage: &Stage) {
    let registry = stage.registry();
    let mut machine = stage.machine();
    machine.configure(&registry.within(LEAVE_AND_STOP));
    machine.must(
        "systemd-run --unit inhibitor systemd-inhibit --what=handle-power-key --mode=block sleep infinity",
    );
    machine.wait_for("systemd-inhibit --list | grep -q handle-power-key");
    machine.tap_power_button();
    machine.wait_for("journalctl -b -u systemd-logind | grep -q 'Power key pressed'");
    // logind does one thing after the other: once it answers, it has done with the button what it does.
    let going_down = "busctl get-property org.freedesktop.login1 /org/freedesktop/login1 \
                      org.freedesktop.login1.Manager PreparingForShutdown";
    assert_eq!(machine.must(going_down), "b false");
    machine.must("systemctl is-active farewell.service app.service && systemctl stop inhibitor");
    let clients = machine.clients(&registry);
    machine.press_power_button();
    let end = machine.powered_off();
    end.run()
        .is("poweroff", "ok")
        .seen("poweroff.target has a start job");
    left_first(&end.journal);
    registry.is_clean();
    clients.lost_nothing();
}
