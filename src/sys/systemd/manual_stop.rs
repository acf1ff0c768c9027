//! A stop of units that refuse one by hand (RefuseManualStop=yes), which systemd stops for a dependency alone.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

/// Where drop-ins live until the machine ends; see systemd.unit(5).
const UNITS: &str = "/run/systemd/system";

/// After an administrator's own drop-ins, which have the setting that it takes back.
const FILE: &str = "zzz-farewell-stop.conf";

const TEXT: &str = "# Made by farewell, which stops this unit with another one, or in a shutdown; taken away afterwards.\n\
                    [Unit]\nRefuseManualStop=no\n";

/// Drop-ins that allow the stop of some units, until they are dropped. systemd has to read its units again to know of them,
/// and of their end.
#[derive(Debug)]
pub struct Permission {
    files: Vec<PathBuf>,
}

impl Permission {
    /// Writes the drop-ins.
    ///
    /// # Errors
    /// When one cannot be written; none is left then.
    pub fn of(units: &[String]) -> io::Result<Permission> {
        let mut permission = Permission { files: Vec::new() };
        for unit in units {
            let place = PathBuf::from(UNITS).join(format!("{unit}.d"));
            let is_new = !place.exists();
            fs::create_dir_all(&place)?;
            // Whatever the umask is: systemd warns of a unit file that not everybody can read.
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
            // What cannot be taken away is gone with the boot.
            let _ = fs::remove_file(file);
            if let Some(place) = file.parent() {
                // Only where nothing else is in it.
                let _ = fs::remove_dir(place);
            }
        }
    }
}
