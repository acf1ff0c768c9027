//! farewell under a real systemd: machines that are namespaces of this one (harness), and what must be true of them (cases).
//!
//! A machine boots a root file system's own `systemd --system` as PID 1 within a second or two, with farewell installed by
//! packer/install.sh, and ends by a real poweroff or reboot. Everything that is PID 1's is shown here; what needs a kernel,
//! a power button or a disk of its own is shown in tests/vm.
//!
//! The root is this machine's own; with `FAREWELL_RIG_ROOT=bullseye` (bookworm, trixie) it is one of that Debian release.

mod cases;
mod harness;
#[path = "../support/mod.rs"]
mod support;
