//! Units that do not stop as others do: busy mounts, units that refuse, and a lock behind all of it.

use super::stop_closure::{are_down, said, stopping};
use crate::rig::harness::{Ending, Rig};

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_busy_mount_is_tried_again() {
    let machine = Rig::new()
        .unit(
            "data.mount",
            "[Mount]\nWhat=tmpfs\nWhere=/data\nType=tmpfs\n",
        )
        .configuration(&stopping("\"data.mount\"", ""))
        .boot();
    machine.must("systemctl start data.mount");
    let mut user = machine.start("cd /data && exec sleep 1000002");
    machine.wait_for("pgrep -x -f 'sleep 1000002'");
    let farewell = machine.start("systemctl start farewell && systemctl stop farewell");
    let pid = machine.must("pgrep -x -f 'sleep 1000002'");
    machine.wait_for(&format!("journalctl -u farewell -o cat | grep 'step stop waits for data.mount, which {pid} (sleep) keep busy'"));
    assert!(!user.is_over());
    machine.must("pkill -x -f 'sleep 1000002'");
    assert_eq!(farewell.end().code, 0);
    assert_eq!(machine.step("stop"), "done");
    // systemd remembers that it failed at first.
    assert_ne!(machine.state("data.mount"), "active");
    machine.must("! grep ' /data ' /proc/mounts");
}

/// As auditd.service: systemd stops it for a shutdown alone, and its ExecStop= is not left out there.
const REFUSING: &str = "[Unit]\nRefuseManualStop=yes\n[Service]\nExecStart=/bin/sleep infinity\nExecStop=/bin/sh -c 'echo 0 refusing stop >>/rig/log'\n";

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_unit_that_refuses_is_told_of_and_fails() {
    let machine = Rig::new()
        .unit("refusing.service", REFUSING)
        .wants("refusing.service")
        .configuration(&stopping("\"refusing.service\"", ""))
        .boot();
    let rehearsed = machine.sh("farewell rehearse");
    assert!(
        rehearsed
            .stdout
            .contains("refusing.service has RefuseManualStop=yes"),
        "{rehearsed:?}"
    );
    machine.farewell();
    assert_eq!(machine.step("stop"), "failed");
    let said = said(&machine, "stop");
    assert!(
        said.contains("refusing.service: systemd does not stop it")
            && said.contains("a shutdown stops it after farewell"),
        "{said}"
    );
    assert_eq!(machine.state("refusing.service"), "active");
    assert_eq!(machine.life().times("refusing", "stop"), 0);
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_unit_that_refuses_stops_in_a_shutdown() {
    let machine = Rig::new()
        .unit("refusing.service", REFUSING)
        .wants("refusing.service")
        .configuration(&stopping(
            "\"refusing.service\"",
            "[[step]]\nname = \"down\"\nkind = \"command\"\nargv = [\"sh\", \"-c\", \"! systemctl is-active refusing && grep 'refusing stop' /rig/log\"]\n",
        ))
        .boot();
    machine.wait_for("systemctl is-active refusing farewell");
    let end = machine.end("systemctl poweroff");
    assert_eq!(end.ending(), Ending::Off);
    end.run()
        .is("poweroff", "ok")
        .step("stop", "done")
        .step("down", "done");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_unit_that_refuses_stops_with_what_it_depends_on() {
    let machine = Rig::new()
        .app("app", 0.0)
        .unit(
            "refusing.service",
            &REFUSING.replace("[Unit]", "[Unit]\nPartOf=app.service"),
        )
        .wants("refusing.service")
        .configuration(&stopping("\"app.service\"", ""))
        .boot();
    machine.wait_for("systemctl is-active refusing app");
    machine.farewell();
    assert_eq!(machine.step("stop"), "done");
    are_down(&machine, &["app.service", "refusing.service"]);
    assert_eq!(machine.life().times("refusing", "stop"), 1);
    // What allowed it is gone.
    machine.must("systemctl start refusing");
    assert_ne!(machine.sh("systemctl stop refusing").code, 0);
    machine.must("! ls /run/systemd/system/refusing.service.d");
}

/// The next member of the fleet gets the lock when the application is down with all its parts, not before.
#[test]
#[ignore = "needs root; tests/run has it"]
fn a_lock_is_given_back_when_all_is_down() {
    const LOCKS: &str = r#"
import http.server, sys
class Lock(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        with open("/rig/log", "a") as log:
            print("%s lock %s" % (open("/proc/uptime").read().split()[0], self.path.split("/")[-1]), file=log)
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", 9999), Lock).serve_forever()
"#;
    let steps = "[farewell]\nbudget = \"300s\"\n\
        [[step]]\nname = \"lock\"\nkind = \"lock\"\nvia = \"fleetlock\"\nurl = \"http://127.0.0.1:9999\"\nneeds = [\"locks.service\"]\n\
        [[step]]\nname = \"stop\"\nkind = \"stop-unit\"\nunits = [\"umbrella.service\"]\ntimeout = \"120s\"\n";
    let part = crate::rig::harness::app("part", 2.0, "[Unit]\nPartOf=umbrella.service");
    let machine = Rig::new()
        .file("/locks.py", LOCKS)
        .unit(
            "locks.service",
            "[Unit]\nPartOf=umbrella.service\n[Service]\nExecStart=/usr/bin/python3 /locks.py\n",
        )
        .app("umbrella", 0.0)
        .unit("part.service", &part)
        .wants("part.service")
        .wants("locks.service")
        .configuration(steps)
        .boot();
    machine.wait_for_life("part", "start");
    machine.wait_for("curl -s -d x http://127.0.0.1:9999/x");
    machine.farewell();
    for step in ["lock", "stop", "release lock"] {
        assert_eq!(machine.step(step), "done", "{step}");
    }
    machine.life().in_order(&[
        "lock pre-reboot",
        "part TERM",
        "part end",
        "lock steady-state",
    ]);
}
