//! What people do with the unit. A restart is no farewell; a stop is one, and the application stays down; a start makes the
//! machine ready again; and a poweroff in the middle of a stop waits for it, and does not say farewell twice.

use crate::rig::harness::{Rig, member, on_each_release, registry};
use crate::support::member::{LEAVE_AND_STOP, left_first};

/// Goes on only when the system is shutting down.
const GATE: &str = r#"
[[step]]
name = "gate"
kind = "command"
argv = ["sh", "-c", "touch /rig/gate; until systemctl list-jobs | grep -q poweroff.target; do sleep 0.1; done"]
when = ["stop"]
if-path = "/rig/gated"
timeout = "60s"
"#;

on_each_release! {
    fn stop_and_start(rig: Rig) {
        let registry = registry();
        let config = registry.within(&format!("{GATE}{LEAVE_AND_STOP}"));
        let machine = member(rig, &config).boot();

        machine.must("systemctl restart farewell.service");
        machine.must("systemctl is-active farewell.service app.service");
        // Whoever reads of that is told what it means.
        machine.wait_for("journalctl -x -u farewell.service | grep 'No sequence was run: the unit was only restarted'");
        registry.still_lists_member();
        machine.must("test -z \"$(ls /var/lib/farewell/runs | grep jsonl)\"");

        machine.must("systemctl stop farewell.service");
        registry.is_clean();
        for unit in ["farewell.service", "app.service"] {
            assert_eq!(machine.state(unit), "inactive", "{unit}");
        }

        machine.must("systemctl start app.service farewell.service");
        registry.register();
        machine.wait_for_start();
        machine.must("touch /rig/gated && systemctl stop --no-block farewell.service");
        machine.wait_for("test -e /rig/gate");
        let end = machine.end("systemctl poweroff");
        let [first, second] = &end.runs()[..] else {
            panic!("not two runs");
        };
        for run in [first, second] {
            run.is("stop", "ok")
                .seen("only farewell.service is stopped");
        }
        first.step("gate", "skipped");
        second.step("gate", "done");
        let restart = "farewell: a restart runs no farewell (restart = \"skip\"; farewell.service has a restart job)";
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
        left_first(&end.journal);
        registry.is_clean();
    }

    /// A run that a person starts, from a shell within another unit as from anywhere else, is one by hand; also where that
    /// shell has ended, so that PID 1 has become the parent of the run.
    fn run_by_hand(rig: Rig) {
        let config = "[[step]]\nname = \"nothing\"\nkind = \"wait\"\nfor = \"0s\"\n";
        let machine = rig.configuration(config).boot();
        machine.must("farewell run");
        machine.must("systemd-run --quiet --wait sh -c 'farewell run; exit $?'");
        machine.must("systemd-run --quiet --scope sh -c 'farewell run; exit $?'");
        machine.must(
            "systemd-run --quiet --wait sh -c \
            'sh -c \"(sleep 1; exec farewell run) &\"; until [ $(farewell report --list | grep -cw ok) = 4 ]; do sleep 0.1; done'",
        );
        let lines = machine.must("farewell report --list");
        let end = machine.end("systemctl poweroff");
        let runs = end.runs();
        assert_eq!(runs.len(), 5, "{lines}");
        for run in &runs[..4] {
            run.is_recorded("stop", "ok");
        }
        for by_hand in [&runs[1], &runs[3]] {
            by_hand.seen("trigger stop: started by hand");
        }
        runs[4].is("poweroff", "ok");
    }
}

/// A systemd before 248 does not tell a process that it is the command of a unit.
#[test]
#[ignore = "needs root; tests/run has it"]
fn without_the_process_id_of_the_command() {
    let registry = registry();
    let machine = member(Rig::new(), &registry.within(LEAVE_AND_STOP))
        .drop_in(
            "farewell.service",
            "old.conf",
            "[Service]\nUnsetEnvironment=SYSTEMD_EXEC_PID\n",
        )
        .boot();
    machine.must("systemctl restart farewell.service");
    registry.still_lists_member();
    let end = machine.end("systemctl reboot");
    end.run()
        .is("reboot", "ok")
        .seen("reboot.target has a start job");
    left_first(&end.journal);
    registry.is_clean();
}
