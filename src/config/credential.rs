//! Reads credentials from where systemd puts them.

use std::env;
use std::io;
use std::path::PathBuf;

use crate::sys::{file_trust, files};

/// A credential without trailing white space, from where systemd puts it or would look for it: see systemd.exec(5),
/// LoadCredential=.
pub(super) fn credential(name: &str) -> Result<String, String> {
    let directory = env::var_os("CREDENTIALS_DIRECTORY")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    // In ExecStop= the variable is unset on systemd 257, while the directory is still there.
    let places = [
        "/run/credentials/farewell.service",
        // The same directory, as units/strict.conf shows it to a run in a mount namespace of its own.
        "/run/farewell/credentials",
        "/etc/credstore",
        "/run/credstore",
        "/usr/lib/credstore",
    ];
    for place in directory.into_iter().chain(places.map(PathBuf::from)) {
        let path = place.join(name);
        match std::fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(format!("{}: {error}", path.display())),
            Ok(about) => {
                file_trust::keeps_secret(&path, &about)?;
                let text =
                    files::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                return Ok(text.trim_end().to_owned());
            }
        }
    }
    Err(format!(
        "no file `{name}` in $CREDENTIALS_DIRECTORY, /run/credentials/farewell.service or a credential store \
         (/etc/credstore, /run/credstore, /usr/lib/credstore)"
    ))
}
