//! In which order units are stopped, and how: the reverse of After=, by a signal or by themselves, and in time.

use super::stop_closure::{are_down, said, stopping};
use crate::rig::harness::{Ending, Rig, app};

/// A broker needs its store to end well, so that the store ends last, on whichever trigger.
#[test]
#[ignore = "needs root; tests/run has it"]
fn the_reverse_of_after() {
    let machine = Rig::new()
        .app("zookeeper", 0.0)
        .unit(
            "kafka.service",
            &app("kafka", 1.0, "[Unit]\nAfter=zookeeper.service"),
        )
        .unit(
            "client.service",
            &app("client", 1.0, "[Unit]\nAfter=kafka.service"),
        )
        .wants("kafka.service")
        .wants("client.service")
        .configuration(&stopping(
            "\"zookeeper.service\", \"kafka.service\", \"client.service\"",
            "",
        ))
        .boot();
    let order = [
        "client TERM",
        "client end",
        "kafka TERM",
        "kafka end",
        "zookeeper TERM",
    ];
    for name in ["zookeeper", "kafka", "client"] {
        machine.wait_for_life(name, "start");
    }
    machine.farewell();
    assert_eq!(machine.step("stop"), "done");
    machine.life().in_order(&order);
    machine.must("systemctl start zookeeper kafka client farewell");
    machine.wait_until("all are up again", |it| {
        it.life().times("client", "start") == 2
    });
    let end = machine.end("systemctl poweroff");
    assert_eq!(end.ending(), Ending::Off);
    assert_eq!(end.step("stop"), "done");
    end.life().in_order(&order);
}

/// systemd breaks such a circle when it starts them; none of them waits for another one here.
#[test]
#[ignore = "needs root; tests/run has it"]
fn a_circle_stops_together() {
    let member =
        |name: &str, after: &str| app(name, 0.5, &format!("[Unit]\nAfter={after}.service"));
    let machine = Rig::new()
        .unit("a.service", &member("a", "b"))
        .unit("b.service", &member("b", "c"))
        .unit("c.service", &member("c", "a"))
        .unit("client.service", &member("client", "a"))
        .configuration(&stopping(
            "\"a.service\", \"b.service\", \"c.service\", \"client.service\"",
            "",
        ))
        .boot();
    machine.must("for u in a b c client; do systemctl start $u; done");
    for name in ["a", "b", "c", "client"] {
        machine.wait_for_life(name, "start");
    }
    machine.farewell();
    assert_eq!(machine.step("stop"), "done");
    for name in ["a", "b", "c"] {
        machine
            .life()
            .in_order(&["client end", &format!("{name} TERM")]);
    }
}

/// What waits for a unit that does not end is asked all the same before the time is over.
#[test]
#[ignore = "needs root; tests/run has it"]
fn grace_asks_those_that_still_wait() {
    let machine = Rig::new()
        .app("base", 0.0)
        .unit(
            "stuck.service",
            "[Unit]\nAfter=base.service\n[Service]\nExecStart=/bin/bash -c 'trap \"\" TERM; echo 0 stuck start >>/rig/log; while :; do sleep 1; done'\nTimeoutStopSec=100s\n",
        )
        .wants("stuck.service")
        .configuration(
            &stopping("\"base.service\", \"stuck.service\"", "grace = \"8s\"").replace("120s", "16s"),
        )
        .boot();
    machine.wait_for_life("base", "start");
    machine.wait_for_life("stuck", "start");
    let rehearsed = machine.sh("farewell rehearse");
    // 100 s of its own, and 90 s that systemd gives by default.
    let warning = "warning: stuck.service, then base.service may take 3m 10s to stop (TimeoutStopSec=), and the step has 16s";
    assert!(rehearsed.stdout.contains(warning), "{rehearsed:?}");
    machine.farewell();
    assert_eq!(machine.step("stop"), "timed-out");
    are_down(&machine, &["base.service"]);
    let said = said(&machine, "stop");
    assert!(
        said.contains("stuck.service is deactivating (stop-sigterm) for"),
        "{said}"
    );
    assert!(said.contains("(/bin/bash)"), "{said}");
    machine.must("systemctl kill -s KILL stuck.service");
}

/// A worker that finishes what it has on SIGQUIT, and takes SIGTERM for a hurry.
const WORKER: &str = r#"[Service]
Restart=always
ExecStart=/bin/bash -c 'say() { echo 0 worker $1 >>/rig/log; }; trap "say QUIT; quit=1" QUIT; trap "say TERM; exit 0" TERM; say start; while [ -z "$quit" ]; do sleep 0.1; done; for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.2; done; say finished; exit 0'
ExecStop=/bin/bash -c 'echo 0 worker stop >>/rig/log'
"#;

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_signal_in_place_of_the_stop() {
    let machine = Rig::new()
        .unit("worker.service", WORKER)
        .unit(
            "flapping.service",
            "[Service]\nExecStart=/bin/false\nRestart=always\nRestartSec=300s\n[Unit]\nStartLimitIntervalSec=0\n",
        )
        .wants("worker.service")
        .configuration(&stopping("\"worker.service\", \"flapping.service\"", "signal = \"SIGQUIT\""))
        .boot();
    machine.wait_for_life("worker", "start");
    machine.must("systemctl start --no-block flapping");
    machine.wait_for("[ $(systemctl show -P SubState flapping) = auto-restart ]");
    machine.farewell();
    assert_eq!(machine.step("stop"), "done");
    are_down(&machine, &["worker.service"]);
    assert_ne!(machine.state("flapping.service"), "activating");
    machine
        .life()
        .in_order(&["worker start", "worker QUIT", "worker finished"]);
    assert_eq!(machine.life().times("worker", "TERM"), 0);
    assert_eq!(
        machine.life().times("worker", "start"),
        1,
        "it was not started again"
    );
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn the_stop_follows_a_signal_in_time() {
    let machine = Rig::new()
        .app("app", 0.0)
        .configuration(
            &stopping("\"app.service\"", "signal = \"SIGCONT\"\ngrace = \"5s\"")
                .replace("120s", "10s"),
        )
        .boot();
    machine.wait_for_life("app", "start");
    machine.farewell();
    assert_eq!(machine.step("stop"), "done");
    assert!(machine.life().at("app", "TERM").is_some());
    machine.must("grep -F 'the end of app.service (SIGCONT sent to app.service)' /var/lib/farewell/runs/*.jsonl");
}
