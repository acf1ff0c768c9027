//! Ends that nothing can come before; see README.md, "What is guaranteed, and what is not".

use crate::support::member::LEAVE_AND_STOP;
use crate::vm::lab::Stage;

/// `poweroff -f`: at once.
pub fn poweroff_f(stage: &Stage) {
    nothing_runs(stage, "poweroff -f");
}

/// The kernel's own key for it: at once too.
pub fn sysrq(stage: &Stage) {
    nothing_runs(stage, "echo o >/proc/sysrq-trigger");
}

fn nothing_runs(stage: &Stage, end: &str) {
    let registry = stage.registry();
    let mut machine = stage.machine();
    machine.configure(&registry.within(LEAVE_AND_STOP));
    // What is in the journal then is on the disk, with the power gone right afterwards.
    machine.must("journalctl --sync && sync -f /var/log/journal");
    machine.leave(end);
    let end = machine.powered_off();
    end.nothing_ran();
    end.in_order(&["farewell: farewell start: 5 steps, checked and kept"]);
    registry.still_lists_member();
}
