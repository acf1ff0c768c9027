//! What people do with the unit. A restart is no farewell; a stop is one, and the application stays down; a start makes the
//! machine ready again; and a poweroff in the middle of a stop waits for it, and does not say farewell twice.

use super::{LEAVE_AND_STOP, left_first};
use crate::lab::Stage;

/// Goes on only when the system is shutting down.
const GATE: &str = r#"
[[step]]
name = "gate"
kind = "command"
argv = ["sh", "-c", "touch /run/lab/gate; until systemctl list-jobs | grep -q poweroff.target; do sleep 0.1; done"]
when = ["stop"]
if-path = "/run/lab/gated"
"#;

pub fn by_hand(stage: &Stage) {
    let registry = stage.registry();
    let mut machine = stage.machine();
    machine.configure(&registry.within(&format!("{GATE}{LEAVE_AND_STOP}")));

    machine.must("systemctl restart farewell.service");
    machine.must("systemctl is-active farewell.service app.service");
    // Whoever reads of that is told what it means.
    machine.must("journalctl -x -u farewell.service | grep 'No sequence was run: the unit was only restarted'");
    registry.still_lists_member();
    machine.must("test ! -e /var/lib/farewell/runs");

    machine.must("systemctl stop farewell.service");
    registry.is_clean();
    let state = "systemctl show -P ActiveState farewell.service app.service | xargs";
    assert_eq!(machine.must(state), "inactive inactive");

    machine.must("systemctl start app.service farewell.service");
    registry.register();
    machine.wait_for_start();
    machine.must("touch /run/lab/gated && systemctl stop --no-block farewell.service");
    machine.wait_for("test -e /run/lab/gate");
    machine.must("systemctl poweroff");
    let end = machine.powered_off();
    let [first, second] = &end.runs()[..] else {
        panic!("not two runs");
    };
    for run in [first, second] {
        run.is("stop", "ok")
            .seen("only farewell.service is stopped");
    }
    first.step("gate", "skipped");
    second.step("gate", "done");
    let restart = "farewell: a restart is no farewell (restart = \"skip\"): nothing is run (farewell.service has a restart job)";
    end.in_order(&[
        restart,
        "trigger stop",
        "app: ended",
        ": ok after",
        "app: starting",
        "farewell: farewell start: 6 steps, checked and kept",
        "trigger stop",
        "systemd-logind: ",
        "farewell: step gate: done",
    ]);
    left_first(&end);
    registry.is_clean();
}
