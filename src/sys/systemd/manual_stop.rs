//! Stops units with RefuseManualStop=yes, which systemd stops only because of a dependency.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

/// The directory of runtime drop-ins; see systemd.unit(5).
const UNITS: &str = "/run/systemd/system";

/// Sorts after an administrator's drop-ins, whose setting it overrides.
const FILE: &str = "zzz-farewell-stop.conf";

const TEXT: &str = "# Made by farewell, which stops this unit with another one, or in a shutdown; taken away afterwards.\n\
                    [Unit]\nRefuseManualStop=no\n";

/// Drop-ins that allow a manual stop of some units, removed when this is dropped. systemd must reload its units after
/// both.
#[derive(Debug)]
pub struct Permission {
    files: Vec<PathBuf>,
}

impl Permission {
    /// Writes the drop-ins.
    ///
    /// # Errors
    /// If one cannot be written; then all are removed.
    pub fn of(units: &[String]) -> io::Result<Permission> {
        let mut permission = Permission { files: Vec::new() };
        for unit in units {
            let place = PathBuf::from(UNITS).join(format!("{unit}.d"));
            let is_new = !place.exists();
            fs::create_dir_all(&place)?;
            // Whatever the umask is: systemd warns of unit files that are not world-readable.
            if is_new {
                fs::set_permissions(&place, Permissions::from_mode(0o755))?;
            }
            let file = place.join(FILE);
            permission.files.push(file.clone());
            fs::write(&file, TEXT)?;
            fs::set_permissions(&file, Permissions::from_mode(0o644))?;
        }
        Ok(permission)
    }
}

impl Drop for Permission {
    fn drop(&mut self) {
        for file in &self.files {
            // What cannot be removed is gone after a reboot.
            let _ = fs::remove_file(file);
            if let Some(place) = file.parent() {
                // Only where nothing else is in it.
                let _ = fs::remove_dir(place);
            }
        }
    }
}
