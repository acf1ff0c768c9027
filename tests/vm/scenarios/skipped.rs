//! Runs that leave themselves out, and one that must not do so after all.

use super::{LEAVE_AND_STOP, left_first};
use crate::lab::Stage;

/// `/run/farewell/skip` is there: no farewell, and the journal says so as loudly as it can.
pub fn skip(stage: &Stage) {
    let registry = stage.registry();
    let mut machine = stage.machine();
    machine.configure(&registry.within(LEAVE_AND_STOP));
    machine.must("touch /run/farewell/skip && systemctl poweroff");
    let end = machine.powered_off();
    end.nothing_ran();
    let skipped = "farewell: /run/farewell/skip is there: this unit stops WITHOUT A FAREWELL \
                   (trigger poweroff: poweroff.target has a start job)";
    end.in_order(&[skipped, "app: TERM"]);
    registry.still_lists_member();
}

/// A poweroff that comes while a restart is leaving itself out still gets its farewell.
pub fn overtaken(stage: &Stage) {
    let registry = stage.registry();
    let mut machine = stage.machine();
    machine.configure(&registry.within(LEAVE_AND_STOP));
    // The run has found out why it takes place, and then reads its configuration: from a pipe, until that is closed.
    machine.must(
        "mkdir -p /run/farewell/conf.d && mkfifo /run/farewell/conf.d/held.toml
         systemctl restart --no-block farewell.service
         exec 3>/run/farewell/conf.d/held.toml
         rm /run/farewell/conf.d/held.toml
         systemctl poweroff
         until systemctl list-jobs | grep -q poweroff.target; do :; done",
    );
    let end = machine.powered_off();
    end.run()
        .is("poweroff", "ok")
        .seen("poweroff.target has a start job");
    end.in_order(&[
        "farewell: a restart is no farewell (restart = \"skip\"): nothing is run (farewell.service has a restart job)",
        "farewell: trigger poweroff",
    ]);
    left_first(&end);
    registry.is_clean();
}
