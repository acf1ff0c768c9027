//! Runs that leave themselves out, and one that must not do so after all.

use crate::rig::harness::{Held, Rig, member, on_each_release, registry};
use crate::support::member::{LEAVE_AND_STOP, left_first};

on_each_release! {
    /// `/run/farewell/skip` is there: no farewell, and the journal says so as loudly as it can.
    fn skip(rig: Rig) {
        let registry = registry();
        let machine = member(rig, &registry.within(LEAVE_AND_STOP)).boot();
        machine.must("systemctl is-active app.service");
        let end = machine.end("mkdir -p /run/farewell; touch /run/farewell/skip && systemctl poweroff");
        end.nothing_ran();
        let skipped = "farewell: /run/farewell/skip exists: this unit stops WITHOUT A FAREWELL \
                       (trigger poweroff: poweroff.target has a start job)";
        end.in_order(&[skipped, "app: TERM"]);
        registry.still_lists_member();
    }

    /// A poweroff that comes while a restart is leaving itself out still gets its farewell.
    fn overtaken(rig: Rig) {
        let registry = registry();
        let machine = member(rig, &registry.within(LEAVE_AND_STOP)).boot();
        let drop_in = "/run/farewell/conf.d/held.toml";
        machine.must("mkdir -p /run/farewell/conf.d");
        machine.write(drop_in, "");
        // The run has found out why it takes place, and then reads its configuration, where it is kept waiting.
        let held = Held::new(&machine.path(drop_in));
        machine.must("systemctl restart --no-block farewell.service");
        held.wait_for_reader();
        machine.must("systemctl poweroff; until systemctl list-jobs | grep -q poweroff.target; do :; done");
        drop(held);
        let end = machine.ended();
        end.run()
            .is("poweroff", "ok")
            .seen("poweroff.target has a start job");
        end.in_order(&[
            "farewell: a restart runs no farewell (restart = \"skip\"; farewell.service has a restart job)",
            "farewell: trigger poweroff",
        ]);
        left_first(&end.journal);
        registry.is_clean();
    }
}
