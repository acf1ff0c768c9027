//! farewell on real machines: Debian in QEMU with a real power button (lab), and what must be true of each end (scenarios).
//!
//! `tests/run vm` shows each scenario on one release, `tests/run --long vm` on both, and `tests/run vm NAME` one scenario on
//! both. What a machine leaves lies in `target/vm/runs`.

mod lab;
mod scenarios;
#[path = "../support/mod.rs"]
mod support;

macro_rules! test {
    ($scenario:ident $release:ident) => {
        #[test]
        fn $release() {
            let (release, scenario) = (stringify!($release), stringify!($scenario));
            crate::lab::show(release, scenario, crate::scenarios::$scenario);
        }
    };
}

/// Makes a test of each scenario on each of its releases: `power_button::bookworm`.
macro_rules! table {
    ($($scenario:ident on $($release:ident $(+ $too:ident)?)+;)*) => {
        $(mod $scenario {
            $(test!($scenario $release); $(test!($scenario $too);)?)+
        })*
    };
}

// The release that stands first is the one that `tests/run` shows a scenario on without --long; a second one after a + too.
table! {
    by_hand on trixie bookworm;
    comes_back on bookworm trixie;
    configuration on bookworm trixie;
    credentials on trixie bookworm;
    image on bookworm trixie;
    kexec on trixie bookworm;
    launched on bookworm trixie;
    nfs on trixie bookworm;
    nfs_dies on bookworm trixie;
    overtaken on trixie bookworm;
    package on bookworm trixie;
    package_installed on bookworm + trixie;
    package_reinstalled on trixie bookworm;
    package_removed on bookworm trixie;
    package_upgraded on bookworm + trixie;
    power_button on bookworm trixie;
    poweroff_f on trixie bookworm;
    provisioned on bookworm trixie;
    reboot on bookworm trixie;
    reexec on trixie bookworm;
    registries on bookworm trixie;
    rehearsal on trixie bookworm;
    rescue on bookworm trixie;
    scheduled on trixie bookworm;
    sealed on trixie bookworm;
    skip on bookworm trixie;
    soft_reboot on trixie;
    start_fails on trixie bookworm;
    stop_units on bookworm trixie;
    sysrq on trixie bookworm;
    time on bookworm trixie;
    watched on trixie bookworm;
    without_bus on bookworm trixie;
    without_journal on trixie bookworm;
}
