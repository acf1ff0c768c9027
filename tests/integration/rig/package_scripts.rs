//! A package of farewell is upgraded in both of debhelper's ways, and removed: none of that is a farewell. A stop by hand
//! is one again, and so is the poweroff at the end.

use crate::rig::harness::{Rig, member, on_each_release, registry};
use crate::support::member::{LEAVE_AND_STOP, left_first};

/// Makes and installs version $1 with the script $2, whose text is $3.
const INSTALL: &str = r#"
install_version() {
    dir=/rig/package; rm -rf $dir; mkdir -p $dir/DEBIAN
    printf 'Package: farewell\nVersion: %s\nArchitecture: all\nMaintainer: lab <lab@lab>\nDescription: farewell\n' $1 >$dir/DEBIAN/control
    stop='[ "$1" != remove ] || deb-systemd-invoke stop farewell.service'
    printf '#!/bin/sh\nset -e\n%s\n' "$stop" >$dir/DEBIAN/prerm
    printf '#!/bin/sh\nset -e\n%s\n' "$3" >$dir/DEBIAN/$2
    chmod 755 $dir/DEBIAN/prerm $dir/DEBIAN/$2
    dpkg-deb -Znone -b $dir $dir.deb && dpkg -i $dir.deb
}
set -e
"#;

on_each_release! {
    fn in_both_ways(rig: Rig) {
        let registry = registry();
        let machine = member(rig, &registry.within(LEAVE_AND_STOP)).boot();
        // That of a container's image keeps packages from starting and restarting anything.
        machine.must("rm -f /usr/sbin/policy-rc.d");
        for script in [
            "install_version 1 postinst ''",
            "install_version 2 postinst 'deb-systemd-invoke restart farewell.service'",
            "install_version 3 preinst 'deb-systemd-invoke stop farewell.service'",
            "systemctl start farewell.service app.service && dpkg -r farewell",
        ] {
            machine.must(&format!("{INSTALL}{script}"));
            registry.still_lists_member();
            machine.must("systemctl is-active app.service");
        }
        machine.must("systemctl start farewell.service && systemctl stop farewell.service");
        registry.is_clean();
        // Whose start was cut short by that has not failed.
        assert_eq!(machine.property("farewell-start.service", "Result"), "success");
        machine.must("systemctl start farewell.service app.service");
        registry.register();
        let end = machine.end("systemctl poweroff");
        let [first, second] = &end.runs()[..] else {
            panic!("not two runs");
        };
        first
            .is("stop", "ok")
            .seen("only farewell.service is stopped");
        second
            .is("poweroff", "ok")
            .seen("poweroff.target has a start job");
        let left_out = "farewell: a restart runs no farewell (restart = \"skip\"; ";
        let at_work = |status| format!("{left_out}dpkg is changing the package ({status}))");
        end.in_order(&[
            &format!("{left_out}farewell.service has a restart job)"),
            &at_work("install half-installed"),
            &at_work("deinstall half-configured"),
            "farewell: trigger stop",
            "farewell: trigger poweroff",
        ]);
        left_first(&end.journal);
        registry.is_clean();
    }
}
