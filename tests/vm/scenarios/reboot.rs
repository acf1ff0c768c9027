//! A reboot, and back up: the machine is armed, checked, and knows of its farewell. One of the units that it stops comes
//! after multi-user.target, and orders nothing in a circle. Then it is halted.

use super::{LEAVE_AND_STOP, LEFT_AND_STOPPED, left_first};
use crate::lab::Stage;

const LATE: &str = "
[Unit]
After=multi-user.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/logger -t late started
ExecStop=/usr/bin/logger -t late stopped

[Install]
WantedBy=multi-user.target
";

pub fn reboot(stage: &Stage) {
    let registry = stage.registry();
    let mut machine = stage.machine();
    machine.write("/etc/systemd/system/late.service", LATE);
    machine.must("systemctl enable late.service");
    let both = LEAVE_AND_STOP.replace("\"app.service\"", "\"late.service\", \"app.service\"");
    machine.configure(&registry.within(&both));
    machine.must("systemctl reboot");
    machine.wait_for_boot();
    registry.is_clean();
    registry.register();
    machine.wait_for_start();
    machine.must("systemctl is-active app.service late.service");
    let listed = machine.must("farewell report --list");
    assert!(
        listed.contains("reboot") && listed.contains("ok"),
        "{listed}"
    );
    machine.must("systemctl halt");
    let end = machine.halted();
    let [first, second] = &end.runs()[..] else {
        panic!("not two runs");
    };
    first
        .is("reboot", "ok")
        .seen("reboot.target has a start job");
    second.is("halt", "ok").seen("halt.target has a start job");
    assert!(!end.journal.says("ordering cycle"));
    let (before, after) = LEFT_AND_STOPPED.split_at(2);
    let started = [
        "systemd-journald: Journal stopped",
        "systemd: Finished farewell.service",
        "app: starting",
        "late: started",
        "systemd: Finished farewell-start.service",
    ];
    end.in_order(&[after, &started, before, &["late: stopped"]].concat());
    left_first(&end);
    registry.is_clean();
}
