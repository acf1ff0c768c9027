//! farewell on real machines: Debian in QEMU with a real power button (lab), and what must be true of each end (scenarios).
//!
//! `tests/run vm` runs all of it, `tests/run vm NAME` one scenario. What a machine leaves lies in `target/vm/runs`.

mod lab;
mod scenarios;
#[path = "../support/mod.rs"]
mod support;

/// Makes a test of each scenario on each of its releases: `power_button::bookworm`.
macro_rules! table {
    ($($scenario:ident on $($release:ident)+;)*) => {
        $(mod $scenario {
            $(#[test]
            fn $release() {
                let (release, scenario) = (stringify!($release), stringify!($scenario));
                crate::lab::show(release, scenario, crate::scenarios::$scenario);
            })+
        })*
    };
}

table! {
    by_hand on bookworm trixie;
    configuration on bookworm trixie;
    credentials on bookworm trixie;
    kexec on bookworm trixie;
    launched on bookworm trixie;
    nfs on bookworm trixie;
    nfs_dies on bookworm trixie;
    overtaken on bookworm trixie;
    package on bookworm trixie;
    power_button on bookworm trixie;
    poweroff_f on bookworm trixie;
    reboot on bookworm trixie;
    reexec on bookworm trixie;
    registries on bookworm trixie;
    rehearsal on bookworm trixie;
    rescue on bookworm trixie;
    scheduled on bookworm trixie;
    skip on bookworm trixie;
    soft_reboot on trixie;
    start_fails on bookworm trixie;
    stop_units on bookworm trixie;
    sysrq on bookworm trixie;
    time on bookworm trixie;
    watched on bookworm trixie;
    without_bus on bookworm trixie;
    without_journal on bookworm trixie;
}
