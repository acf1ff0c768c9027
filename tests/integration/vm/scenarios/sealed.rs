//! A machine that an image is built on, whose base has farewell already: it is sealed and shut down, and that is no farewell.

use crate::support::member::LEAVE_AND_STOP;
use crate::vm::lab::Stage;

pub fn sealed(stage: &Stage) {
    let registry = stage.registry();
    let mut machine = stage.machine();
    machine.configure(&registry.within(LEAVE_AND_STOP));
    machine.must("systemctl is-active farewell.service");
    machine.write(
        "/run/lab/seal.sh",
        include_str!("../../../../packer/seal.sh"),
    );
    machine.must("mkdir -p /etc/credstore; for it in /root/.bash_history /etc/credstore/token; do echo secret >$it; done");
    let said = machine.must("sh /run/lab/seal.sh --build-machine");
    for told in [
        "this machine is sealed",
        "removed /root/.bash_history",
        "removed /etc/credstore/token",
    ] {
        assert!(said.contains(told), "{told}: {said}");
    }
    // What it was, and what belongs to farewell, are gone; what the image is to have is there.
    machine.must(
        "set -e; test ! -s /etc/machine-id; test ! -e /var/lib/farewell; test ! -e /var/lib/systemd/random-seed
         test -z \"$(ls /var/log/journal)\"; test -z \"$(ls -A /etc/credstore)\"; test ! -e /root/.bash_history; test \"$(ls /run/farewell)\" = skip
         test -s /etc/farewell/farewell.toml; test \"$(hostname)\" = lab; test \"$(cat /etc/hostname)\" = lab
         systemctl is-enabled farewell.service farewell-arm.service",
    );
    machine.leave("systemctl poweroff");
    machine.powered_off().nothing_ran();
    registry.still_lists_member();
}
