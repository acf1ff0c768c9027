//! A member of a registry that goes down in each of a machine's ways: it leaves first, then stops its application, and only
//! then loses its storage, its network and its journal.

use crate::rig::harness::{Ending, Rig, member, on_each_release, registry};
use crate::support::member::{LEAVE_AND_STOP, LEFT_AND_STOPPED, left_first};

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

on_each_release! {
    /// A poweroff.
    fn poweroff(rig: Rig) {
        let registry = registry();
        let machine = member(rig, &registry.within(LEAVE_AND_STOP)).boot();
        machine.wait_for("systemctl is-active app.service && mountpoint /srv/shared");
        let end = machine.end("systemctl poweroff");
        assert_eq!(end.ending(), Ending::Off);
        end.run()
            .is("poweroff", "ok")
            .seen("poweroff.target has a start job");
        left_first(&end.journal);
        registry.is_clean();
    }

    /// A reboot, and back up: the machine is armed, checked, and knows of its farewell. One of the units that it stops comes
    /// after multi-user.target, and orders nothing in a circle. Then it is halted.
    fn reboot(rig: Rig) {
        let registry = registry();
        let both = LEAVE_AND_STOP.replace("\"app.service\"", "\"late.service\", \"app.service\"");
        let machine = member(rig, &registry.within(&both))
            .unit("late.service", LATE)
            .wants("late.service")
            .boot();
        let end = machine.end("systemctl reboot");
        assert_eq!(end.ending(), Ending::Reboot);
        registry.is_clean();
        let machine = end.boot();
        registry.register();
        machine.wait_for_start();
        machine.must("systemctl is-active app.service late.service");
        let listed = machine.must("farewell report --list");
        assert!(listed.contains("reboot") && listed.contains("ok"), "{listed}");
        let end = machine.end("systemctl halt");
        assert_eq!(end.ending(), Ending::Off);
        let [first, second] = &end.runs()[..] else {
            panic!("not two runs");
        };
        first
            .is("reboot", "ok")
            .seen("reboot.target has a start job");
        second.is("halt", "ok").seen("halt.target has a start job");
        assert!(!end.journal.says("ordering cycle"));
        let (before, after) = LEFT_AND_STOPPED.split_at(3);
        let started = [
            "systemd-journald: Journal stopped",
            "app: starting",
            "late: started",
            "systemd: Finished farewell-start.service",
        ];
        end.in_order(&[after, &started, before].concat());
        // journald reads the socket of farewell and those of services apart: what they say at the same moment has no order.
        let last = end.journal.clone().since("farewell: trigger ");
        last.in_order(&[before[0], "late: stopped", "app: TERM"]);
        left_first(&end.journal);
        registry.is_clean();
    }
}
