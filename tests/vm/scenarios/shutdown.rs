//! Ends that are no plain poweroff: one at a time that was set, and rescue mode.

use super::{LEAVE_AND_STOP, left_first};
use crate::lab::Stage;

/// `shutdown -P +1`: the minute passes, and the machine leaves as it does at once.
pub fn scheduled(stage: &Stage) {
    let registry = stage.registry();
    let mut machine = stage.machine();
    machine.configure(&registry.within(LEAVE_AND_STOP));
    machine.must("shutdown -P +1");
    machine.must("grep MODE=poweroff /run/systemd/shutdown/scheduled");
    registry.still_lists_member();
    // logind goes by the clock on the wall.
    machine.must("date -s '+1 minute'");
    let end = machine.powered_off();
    end.run()
        .is("poweroff", "ok")
        .seen("poweroff.target has a start job");
    left_first(&end);
    registry.is_clean();
}

/// `systemctl rescue`: the machine leaves, since all that made it a member is stopped. What ends then has left before.
pub fn rescue(stage: &Stage) {
    let registry = stage.registry();
    let mut machine = stage.machine();
    machine.configure(&registry.within(LEAVE_AND_STOP));
    machine.must("systemctl --no-block rescue");
    machine.wait_for("systemctl is-active rescue.target");
    machine.wait_for("test \"$(systemctl is-active farewell.service app.service | xargs)\" = 'inactive inactive'");
    registry.is_clean();
    machine.must("systemctl poweroff");
    let end = machine.powered_off();
    end.run()
        .is("stop", "ok")
        .seen("the system goes to rescue mode");
    left_first(&end);
}
