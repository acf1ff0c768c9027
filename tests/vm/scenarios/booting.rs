//! Machines that end while they still boot. Their farewell was armed early in the boot, and waits for nobody.

use super::{LEAVE_AND_STOP, LEFT_AND_STOPPED, left_first};
use crate::lab::{Installed, Stage};

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
    left_first(&end);
    registry.is_clean();
}

/// A new machine whose power button is pressed as soon as its farewell is armed, and until it hears that.
pub fn launched(stage: &Stage) {
    let registry = stage.registry();
    let config = registry.within(LEAVE_AND_STOP);
    let mut machine = stage.booting(&[Installed::text("/etc/farewell/farewell.toml", &config)]);
    machine.wait_for_boot();
    machine.press_power_button();
    let end = machine.powered_off();
    end.run()
        .is("poweroff", "ok")
        .seen("poweroff.target has a start job");
    registry.is_clean();
}
