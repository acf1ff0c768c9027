//! What a case lays into a machine before it boots.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use super::keeper::Keeper;
use super::machine::Machine;
use super::network;
use super::root::Root;

/// A machine that has not booted yet.
#[must_use]
pub struct Rig {
    root: Root,
    files: Vec<(String, Content)>,
    logind: bool,
    unbooted: bool,
    networked: bool,
}

enum Content {
    File(Vec<u8>, u32),
    Link(String),
}

/// The unit file of an application `name` that ends `seconds` after SIGTERM and writes its life to /rig/log; `more` are
/// lines of [Service], or further sections.
pub fn app(name: &str, seconds: f64, more: &str) -> String {
    format!("[Service]\nExecStart=/usr/local/bin/app {name} {seconds}\n{more}\n")
}

impl Rig {
    /// On the root that this run of the tests is for.
    pub fn new() -> Rig {
        Rig::on(Root::chosen())
    }

    /// On this root.
    pub fn on(root: Root) -> Rig {
        // Made here and not at the boot: a case may have a network of its own by then, in which nothing can be fetched.
        root.layer();
        Rig {
            root,
            files: Vec::new(),
            logind: false,
            unbooted: false,
            networked: false,
        }
    }

    /// A file, with mode 644.
    pub fn file(mut self, path: &str, content: impl AsRef<[u8]>) -> Rig {
        let content = Content::File(content.as_ref().to_vec(), 0o644);
        self.files.push((path.to_owned(), content));
        self
    }

    /// A file that only root reads, as a credential is.
    pub fn secret(mut self, path: &str, content: &str) -> Rig {
        let content = Content::File(content.as_bytes().to_vec(), 0o600);
        self.files.push((path.to_owned(), content));
        self
    }

    /// A program.
    pub fn executable(mut self, path: &str, content: impl AsRef<[u8]>) -> Rig {
        let content = Content::File(content.as_ref().to_vec(), 0o755);
        self.files.push((path.to_owned(), content));
        self
    }

    /// A symbolic link.
    pub fn link(mut self, path: &str, target: &str) -> Rig {
        let content = Content::Link(target.to_owned());
        self.files.push((path.to_owned(), content));
        self
    }

    /// A unit in /etc/systemd/system.
    pub fn unit(self, name: &str, text: &str) -> Rig {
        self.file(&format!("/etc/systemd/system/{name}"), text)
    }

    /// A drop-in of a unit.
    pub fn drop_in(self, unit: &str, name: &str, text: &str) -> Rig {
        self.file(&format!("/etc/systemd/system/{unit}.d/{name}"), text)
    }

    /// multi-user.target wants this unit, of /etc/systemd/system: it starts at the boot.
    pub fn wants(self, unit: &str) -> Rig {
        let template = match unit.split_once('@') {
            Some((name, instance)) => {
                let (_, kind) = instance.rsplit_once('.').expect("a unit's name");
                format!("{name}@.{kind}")
            }
            None => unit.to_owned(),
        };
        self.link(
            &format!("/etc/systemd/system/multi-user.target.wants/{unit}"),
            &format!("/etc/systemd/system/{template}"),
        )
    }

    /// An application of that name (see `app`) that starts at the boot.
    pub fn app(self, name: &str, seconds: f64) -> Rig {
        let unit = format!("{name}.service");
        self.unit(&unit, &app(name, seconds, "")).wants(&unit)
    }

    /// /etc/farewell/farewell.toml.
    pub fn configuration(self, toml: &str) -> Rig {
        self.file("/etc/farewell/farewell.toml", toml)
    }

    /// With logind, which `systemctl poweroff` and the power button go to.
    pub fn logind(mut self) -> Rig {
        self.logind = true;
        self
    }

    /// With systemd-networkd, and a cable to the test, which is at 10.0.2.2 (`registry`) there; one machine a test.
    pub fn networked(mut self) -> Rig {
        self.networked = true;
        let units = "/usr/lib/systemd/system";
        let wants = "/etc/systemd/system";
        self.file("/etc/systemd/network/10-host0.network", network::MACHINE)
            .file(
                "/etc/hosts",
                "127.0.0.1 localhost\n127.0.1.1 lab\n10.0.2.2 registry\n",
            )
            .link(
                &format!("{wants}/multi-user.target.wants/systemd-networkd.service"),
                &format!("{units}/systemd-networkd.service"),
            )
            .link(
                &format!(
                    "{wants}/network-online.target.wants/systemd-networkd-wait-online.service"
                ),
                &format!("{units}/systemd-networkd-wait-online.service"),
            )
    }

    /// Boots without waiting until everything has started.
    pub fn unbooted(mut self) -> Rig {
        self.unbooted = true;
        self
    }

    /// Boots it; it is up, or failed units are the only thing that is wrong.
    pub fn boot(self) -> Machine {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let test = std::thread::current()
            .name()
            .unwrap_or("case")
            .replace("::", "-");
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        if self.networked {
            network::enter();
        }
        let keeper = Keeper::new(
            &format!("{test}-{}-{number}", std::process::id()),
            self.root,
            |files| self.lay(files),
        );
        Machine::boot(keeper, self.networked, self.unbooted)
    }

    fn lay(&self, files: &Path) {
        let id: String = fs::read_to_string("/proc/sys/kernel/random/uuid").expect("an ID");
        let id = Content::File(id.replace('-', "").into_bytes(), 0o444);
        lay(files, "/etc/machine-id", &id);
        if self.logind {
            let unit = Content::Link("/usr/lib/systemd/system/systemd-logind.service".to_owned());
            let place = "/etc/systemd/system/multi-user.target.wants/systemd-logind.service";
            lay(files, place, &unit);
            // Its sandbox wants more than there is in a namespace.
            let sandbox = "[Service]\nPrivateTmp=no\nProtectControlGroups=no\nProtectKernelModules=no\n\
                ProtectKernelLogs=no\nProtectHostname=no\nProtectClock=no\nProtectHome=no\nProtectSystem=no\n\
                ProtectProc=default\nDeviceAllow=\nDevicePolicy=auto\nSystemCallFilter=\nReadWritePaths=\nWatchdogSec=0\n\
                RestrictNamespaces=no\nMemoryDenyWriteExecute=no\nExecStartPre=\n";
            let place = "/etc/systemd/system/systemd-logind.service.d/rig.conf";
            lay(files, place, &Content::File(sandbox.into(), 0o644));
        } else {
            // systemctl and farewell shall not start it.
            let mask = Content::Link("/dev/null".to_owned());
            lay(files, "/etc/systemd/system/systemd-logind.service", &mask);
            let mask = Content::Link("/dev/null".to_owned());
            lay(
                files,
                "/etc/systemd/system/dbus-org.freedesktop.login1.service",
                &mask,
            );
        }
        for (path, content) in &self.files {
            lay(files, path, content);
        }
    }
}

fn lay(files: &Path, path: &str, content: &Content) {
    let path = files.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    // The last one holds.
    let _ = fs::remove_file(&path);
    match content {
        Content::Link(target) => symlink(target, &path).expect("linked"),
        Content::File(content, mode) => {
            fs::write(&path, content).expect("written");
            fs::set_permissions(&path, PermissionsExt::from_mode(*mode)).expect("set");
        }
    }
}
