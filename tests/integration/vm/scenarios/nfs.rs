//! A share of another machine that is alive, not mounted, dead before the run, and dead in the middle of it.

use crate::vm::lab::{Machine, Stage};

const MOUNT: &str = "10.99.0.2:/ /mnt/shared nfs4 _netdev 0 0";

const APPLICATION: &str = "[Unit]\nAfter=mnt-shared.mount";

const SEQUENCE: &str = r#"
[farewell]
budget = "40s"

[[step]]
name = "storage"
kind = "wait-mounts"
paths = ["/mnt/shared"]
sync = true
timeout = "4s"

DISASTER
[[step]]
name = "leave"
kind = "deregister"
registry = "file"
path = "/mnt/shared/members/${hostname}"
timeout = "4s"

[[step]]
name = "copy"
kind = "command"
argv = ["sh", "-c", "echo here >/mnt/shared/notice"]
timeout = "4s"
grace = "1s"

[[step]]
name = "stop-app"
kind = "stop-unit"
units = ["app.service"]
"#;

const DISASTER: &str = r#"
[[step]]
name = "disaster"
kind = "command"
argv = ["ip", "-n", "server", "link", "set", "v1", "down"]
"#;

/// A machine that is a member, with its share mounted.
fn member(stage: &Stage, config: &str) -> Machine {
    let mut machine = stage.machine();
    machine.must(&format!(
        "/usr/lib/lab/nfs-server && echo '{MOUNT}' >>/etc/fstab"
    ));
    machine.write("/etc/systemd/system/app.service.d/shared.conf", APPLICATION);
    machine.must(
        "systemctl daemon-reload && systemctl start mnt-shared.mount
        systemctl restart app.service && touch /mnt/shared/members/lab",
    );
    machine.configure(config);
    machine
}

/// A path that is the bare directory below its mount is told from one that is mounted; what is mounted outlives the run and
/// the application, and the network outlives it.
pub fn nfs(stage: &Stage) {
    // The last one of three attempts ends long before the time does: it is that one's failure that is told.
    let few = SEQUENCE.replace("registry = \"file\"", "registry = \"file\"\nattempts = 3");
    let mut machine = member(stage, &few.replace("DISASTER", ""));
    machine.must("systemctl stop mnt-shared.mount && systemctl stop farewell.service");
    // What was written meanwhile went below the mount.
    machine.must(
        "rm /mnt/shared/notice && systemctl start mnt-shared.mount farewell.service app.service",
    );
    machine.must("test -e /mnt/shared/members/lab");
    machine.press_power_button();
    let end = machine.powered_off();
    let runs = end.runs();
    assert_eq!(runs.len(), 2);
    runs[0]
        .is("stop", "failed")
        .failed("storage", "mount")
        .says("storage", &["/mnt/shared", "not a mount point"])
        .took("storage", 3.5..=6.0)
        .failed("leave", "io")
        .step("stop-app", "done");
    runs[1]
        .is("poweroff", "ok")
        .step("storage", "done")
        .step("leave", "done")
        .step("copy", "done")
        .step("stop-app", "done");
    end.in_order(&[
        "trigger poweroff",
        "step leave: done",
        "step copy: done",
        "app: ended",
        "systemd: Stopped farewell.service",
        "systemd: Unmounted mnt-shared.mount",
        "systemd: Stopped target network.target",
        "systemd: Stopped systemd-networkd.service",
    ]);
}

/// A server that is dead costs the steps that need it their own time, before the run and in the middle of it.
pub fn nfs_dies(stage: &Stage) {
    let mut machine = member(stage, &SEQUENCE.replace("DISASTER", ""));
    machine.must("ip -n server link set v1 down && systemctl stop farewell.service");
    machine.must("ip -n server link set v1 up");
    machine.wait_for("timeout -s KILL 5 test -e /mnt/shared/members/lab");

    machine.must("systemctl start app.service farewell.service");
    machine.configure(&SEQUENCE.replace("DISASTER", DISASTER));
    machine.must("systemctl poweroff");
    machine.wait_for_console("Stopped farewell.service");
    // systemd itself would wait for the dead server for minutes.
    let end = machine.cut();
    let runs = end.runs();
    assert_eq!(runs.len(), 2);
    runs[0]
        .is("stop", "failed")
        .within(16.0)
        .failed("storage", "timed-out")
        .took("storage", 3.5..=5.5)
        .failed("leave", "timed-out")
        .took("leave", 3.5..=5.5)
        .failed("copy", "timed-out")
        .took("copy", 2.5..=5.5)
        .step("stop-app", "done");
    runs[1]
        .is("poweroff", "failed")
        .within(16.0)
        .step("storage", "done")
        .step("disaster", "done")
        .failed("leave", "timed-out")
        .took("leave", 3.5..=5.5)
        .failed("copy", "timed-out")
        .took("copy", 2.5..=5.5)
        .step("stop-app", "done");
    end.in_order(&[
        "trigger poweroff",
        "step disaster: done",
        "step leave: timed-out",
        "app: ended",
        "step stop-app: done",
        "systemd: Stopped farewell.service",
    ]);
}
