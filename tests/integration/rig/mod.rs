//! farewell under a real systemd: machines that are namespaces of this one (harness), and what must be true
//! of them, one file a topic.
//!
//! A machine boots a root file system's own `systemd --system` as PID 1 within a second or two, with farewell installed by
//! packer/install.sh, and ends by a real poweroff or reboot. Everything that is PID 1's is shown here; what needs a kernel,
//! a power button or a disk of its own is shown in vm/.
//!
//! The root is this machine's own; with `FAREWELL_RIG_ROOT=bullseye` (bookworm, trixie) it is one of that Debian release.

mod agent;
mod alone;
mod booting;
mod by_hand;
mod comes_back;
mod comes_back_lock;
mod configuration;
mod credentials;
mod facts;
mod harness;
mod members;
mod order_circles;
mod order_closure;
mod order_units;
mod other_ends;
mod package_scripts;
mod packages;
mod reexec;
mod registries;
mod rehearse_containers;
mod rehearse_mounts;
mod rehearse_order;
mod rehearse_ways;
mod shutdown;
mod skipped;
mod smoke;
mod stop_again;
mod stop_closure;
mod stop_odd;
mod stop_order;
mod stop_processes;
mod stop_units;
mod time;
mod trigger_silence;
mod watched;
