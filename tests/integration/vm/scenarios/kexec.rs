//! A machine that ends while it still boots. Its farewell was armed early in the boot, and waits for nobody.

use crate::support::member::{LEAVE_AND_STOP, LEFT_AND_STOPPED, left_first};
use crate::vm::lab::Stage;

/// A kexec; and before the application, which takes 40 s to start, is there again, the machine is powered off.
pub fn kexec(stage: &Stage) {
    let registry = stage.registry();
    let mut machine = stage.machine();
    machine.write("/etc/app.env", "START_SECONDS=40");
    machine.configure(&registry.within(LEAVE_AND_STOP));
    machine.must("kexec -l /boot/vmlinuz-* --initrd=$(echo /boot/initrd.img-*) --reuse-cmdline");
    machine.must("systemctl kexec");
    machine.wait_for_boot();
    registry.is_clean();
    registry.register();
    machine.wait_for("test $(systemctl show -P ActiveState app.service) = activating");
    machine.wait_for("journalctl -b -t app | grep -q starting");
    machine.must("systemctl poweroff");
    let end = machine.powered_off();
    let [first, second] = &end.runs()[..] else {
        panic!("not two runs");
    };
    first.is("kexec", "ok").seen("kexec.target has a start job");
    second
        .is("poweroff", "ok")
        .seen("poweroff.target has a start job");
    let again = ["systemd: Finished farewell.service", "app: starting"];
    end.in_order(&[&LEFT_AND_STOPPED[..], &again, &LEFT_AND_STOPPED].concat());
    left_first(&end.journal);
    registry.is_clean();
}
