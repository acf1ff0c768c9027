//! farewell on real machines: Debian in QEMU with a real power button (lab), and what must be true of each end (scenarios).
//!
//! `tests/run vm` shows each scenario on one release, `tests/run --long vm` on both, and `tests/run vm NAME` one scenario on
//! both. What a machine leaves lies in `target/vm/runs`.

mod lab;
mod scenarios;

macro_rules! test {
    ($scenario:ident $release:ident) => {
        #[test]
        #[ignore = "needs QEMU and root; tests/run has it"]
        fn $release() {
            let (release, scenario) = (stringify!($release), stringify!($scenario));
            crate::vm::lab::show(release, scenario, crate::vm::scenarios::$scenario);
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
    image on bookworm trixie;
    kexec on trixie bookworm;
    nfs on trixie bookworm;
    nfs_dies on bookworm trixie;
    package_installed on trixie bookworm;
    power_button on bookworm trixie;
    poweroff_f on trixie bookworm;
    provisioned on bookworm trixie;
    sealed on trixie bookworm;
    sysrq on trixie bookworm;
}
