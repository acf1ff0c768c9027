//! A system bus of a test's own: a real dbus-daemon with the policy that is shipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What Debian's /usr/share/dbus-1/system.conf says of who may do what: nobody may own a name or call anybody unless a
/// policy of its own says so.
const SYSTEM: &str = r#"
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Introspectable"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Properties"/>
  </policy>
  <policy user="root">
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Monitoring"/>
  </policy>
"#;

/// A bus that listens in a directory, ended when this is dropped.
pub struct Daemon {
    child: Child,
    socket: PathBuf,
}

impl Daemon {
    /// Starts it in `directory`, with farewell's policy or without, and waits until it listens.
    pub fn start(directory: &Path, with_policy: bool) -> Daemon {
        let socket = directory.join("bus");
        let policy = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/units/org.farewell.Agent1.conf"
        );
        let include = match with_policy {
            true => format!("<include>{policy}</include>"),
            false => String::new(),
        };
        let config = directory.join("bus.conf");
        let text = format!(
            "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN\"\n \
             \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n<busconfig>\n<type>system</type>\n\
             <listen>unix:path={}</listen>\n<auth>EXTERNAL</auth>{SYSTEM}{include}\n</busconfig>\n",
            socket.display()
        );
        fs::write(&config, text).expect("written");
        let _ = fs::remove_file(&socket);
        let child = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", config.display()))
            .args(["--nofork", "--nopidfile", "--nosyslog"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("dbus-daemon");
        let daemon = Daemon { child, socket };
        let begun = Instant::now();
        while std::os::unix::net::UnixStream::connect(&daemon.socket).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "no bus");
            std::thread::sleep(Duration::from_millis(2));
        }
        daemon
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}
