//! File systems that steps use: a FUSE daemon in another unit, and automounts that are unmounted when nobody uses them.

use super::rehearse_containers::complaints;
use crate::rig::harness::{Ending, Rig};

/// The smallest FUSE file system that can be mounted: it answers FUSE_INIT, and has an empty root directory.
const DAEMON: &str = "#!/usr/bin/python3
import os, struct, subprocess
fuse = os.open('/dev/fuse', os.O_RDWR)
subprocess.run(['mount', '-i', '-t', 'fuse', '-o', f'fd={fuse},rootmode=40000,user_id=0,group_id=0', 'stand-in', '/mnt/served'],
               pass_fds=[fuse], check=True)
while True:
    request = os.read(fuse, 1 << 18)
    _, opcode, unique = struct.unpack_from('<IIQ', request)
    if opcode == 26:
        answer = struct.pack('<IIII', 7, 31, 0, 0) + struct.pack('<HHI', 0, 0, 4096) + bytes(40)
        os.write(fuse, struct.pack('<IiQ', 16 + len(answer), 0, unique) + answer)
    elif opcode not in (2, 42):
        os.write(fuse, struct.pack('<IiQ', 16, -38, unique))
";

#[test]
#[ignore = "needs root; tests/run has it"]
fn the_daemon_of_a_fuse_file_system_is_needed() {
    let step = |needs: &str| {
        format!(
            "[[step]]\nname = \"shared\"\nkind = \"wait-mounts\"\npaths = [\"/mnt/served\"]\n{needs}\n"
        )
    };
    let machine = Rig::new()
        .executable("/usr/local/sbin/daemon", DAEMON)
        .unit(
            "stand-in-fuse.service",
            "[Service]\nExecStartPre=/bin/mkdir -p /mnt/served\nExecStart=/usr/local/sbin/daemon\nExecStopPost=-/bin/umount -l /mnt/served\n",
        )
        .wants("stand-in-fuse.service")
        .configuration(&step(""))
        .boot();
    machine.wait_for("grep -q ' /mnt/served .* fuse ' /proc/self/mountinfo");
    let told = complaints(&machine);
    assert!(
        told.contains("step shared uses /mnt/served (fuse from stand-in), which stand-in-fuse.service serves: systemd ends it")
            && told.contains("add `needs = [\"stand-in-fuse.service\"]` to the step"),
        "{told}"
    );
    machine.configure(&step("needs = [\"stand-in-fuse.service\"]"));
}

const MOUNT: &str = "[Mount]\nWhat=/usr/share\nWhere=/mnt/store\nOptions=bind\n";
const AUTOMOUNT: &str =
    "[Automount]\nWhere=/mnt/store\nTimeoutIdleSec=10s\n[Install]\nWantedBy=multi-user.target\n";

/// What touches the automount, waits for longer than its idle timeout, and touches it again.
fn uses() -> String {
    let script =
        "ls /mnt/store/doc >/dev/null && sleep 25 && timeout 20 ls /mnt/store/doc >/dev/null";
    format!(
        "[farewell]\nbudget = \"180s\"\n\
         [[step]]\nname = \"store\"\nkind = \"wait-mounts\"\npaths = [\"/mnt/store\"]\ntimeout = \"60s\"\n\
         [[step]]\nname = \"use\"\nkind = \"command\"\nargv = [\"/bin/sh\", \"-c\", \"{script}\"]\nif-path = \"/mnt/store\"\ntimeout = \"90s\"\n"
    )
}

fn automounted() -> Rig {
    Rig::new()
        .unit("mnt-store.mount", MOUNT)
        .unit("mnt-store.automount", AUTOMOUNT)
        .wants("mnt-store.automount")
        .configuration(&uses())
}

/// "Host is down" is what it says within a shutdown when nothing is mounted there.
#[test]
#[ignore = "needs root; tests/run has it"]
fn an_automount_that_is_not_mounted_is_mounted_for_the_run() {
    let machine = automounted().boot();
    machine.wait_until("nothing uses it", |it| {
        it.state("mnt-store.mount") == "inactive"
    });
    let end = machine.end("systemctl poweroff");
    assert_eq!(end.ending(), Ending::Off);
    end.run()
        .is("poweroff", "ok")
        .step("store", "done")
        .step("use", "done");
    end.journal.in_order(&[
        "Mounted mnt-store.mount",
        "step use: done",
        "Unmounted mnt-store.mount",
    ]);
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn an_automount_that_is_mounted_stays_so_as_long_as_the_run() {
    let machine = automounted().boot();
    machine.must("ls /mnt/store/doc >/dev/null");
    let end = machine.end("ls /mnt/store/doc >/dev/null; systemctl poweroff");
    assert_eq!(end.ending(), Ending::Off);
    end.run().is("poweroff", "ok").step("use", "done");
}
