//! `farewell-generator`, the name under which systemd runs this binary at boot and at each daemon-reload: from the
//! configuration to the order and the stop timeout of farewell.service; see systemd.generator(7).
//!
//! PID 1 waits for its generators, so this one reads local files alone, asks nobody, and ends itself after a few seconds.
//! What it prints is lost; the kernel log is what is left to tell of a broken configuration.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::config::duration;
use crate::config::facts::Facts;
use crate::config::fragments::Source;
use crate::kept::Kept;
use crate::lapse;
use crate::plan::gate::{Passage, Plan};
use crate::plan::ordering::Ordering;
use crate::secrets::mask;
use crate::sys::signals;
use crate::sys::systemd::UNIT;
use crate::sys::workers;
use crate::trigger::Trigger;

/// The name of the link.
const NAME: &str = "farewell-generator";

/// What is written. Drop-ins are ordered by their file names over all directories: a low number lets an administrator's
/// `override.conf` win.
pub const DROP_IN: &str = "05-sequence.conf";

/// How long it may take. The boot waits for it; it takes some milliseconds, and more on a disk that is cold.
const PATIENCE: Duration = Duration::from_secs(4);

/// How many problems are told; the kernel log is small.
const TOLD: usize = 10;

/// Generates, where this process was called as the generator. Never fails: a boot does not depend on a farewell.
pub fn serve(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter();
    let program = PathBuf::from(arguments.next()?);
    if program.file_name()? != NAME {
        return None;
    }
    match arguments.next() {
        Some(directory) => generate(Path::new(&directory)),
        None => tell("called without the directory to write to, as systemd gives it"),
    }
    Some(ExitCode::SUCCESS)
}

fn generate(directory: &Path) {
    // A configuration may name a file on a mount that is dead.
    let made = match workers::within(PATIENCE, sequence) {
        Ok(Some(made)) => made,
        Ok(None) => Err(vec![format!(
            "the configuration could not be read within {}",
            lapse::short(PATIENCE)
        )]),
        Err(error) => Err(vec![error.to_string()]),
    };
    let text = made.unwrap_or_else(|problems| {
        for problem in problems.iter().take(TOLD) {
            tell(problem);
        }
        if problems.len() > TOLD {
            let more = problems.len() - TOLD;
            tell(&format!("and {more} more; see `farewell check`"));
        }
        // A run falls back to the last good plan too.
        let kept = Kept::locate(signals::is_root()).and_then(|kept| kept.order());
        tell(match kept {
            Some(_) => "farewell.service stays ordered as the last good plan needs it",
            None => "farewell.service keeps its own order and timeout",
        });
        kept.unwrap_or_default()
    });
    if text.is_empty() {
        return;
    }
    let place = directory.join(format!("{UNIT}.d"));
    let written = fs::create_dir_all(&place).and_then(|()| fs::write(place.join(DROP_IN), text));
    if let Err(error) = written {
        tell(&format!("{}: {error}", place.display()));
    }
}

/// The drop-in.
///
/// # Errors
/// Everything that is wrong with the configuration.
fn sequence() -> Result<String, Vec<String>> {
    let kept = Kept::locate(signals::is_root());
    let facts = kept.as_ref().map(Kept::facts).unwrap_or_default();
    let facts = Facts::new(Trigger::Stop, NAME).with_kept(facts);
    let passage = Passage::through(&Source::installed(), Some(&facts));
    match passage.plan {
        Some(plan) => Ok(drop_in(&plan, &facts)),
        None => Err(passage.problems.iter().map(ToString::to_string).collect()),
    }
}

/// The order and the stop timeout of farewell.service for a plan, as a drop-in; see systemd.unit(5).
pub fn drop_in(plan: &Plan, facts: &Facts) -> String {
    let ordering = Ordering::of(plan, facts);
    let mut text = format!(
        "# Made by {NAME} from the configuration, at boot and at each `systemctl daemon-reload`.\n\
         # Not to be replaced by a file of this name: an override.conf (`systemctl edit farewell`) comes after it.\n"
    );
    for unknown in &ordering.unknown {
        text += &format!("# Not known yet: {}\n", mask(unknown).replace('\n', " "));
    }
    text += "\n[Unit]\n";
    for unit in ordering.after() {
        text += &format!("After={}\n", unit.replace('%', "%%"));
    }
    let timeout = duration::print(plan.stop_timeout()).replace(' ', "");
    text += &format!("\n[Service]\nTimeoutStopSec={timeout}\n");
    text
}

/// One line for the kernel log, and so for the journal.
fn tell(problem: &str) {
    const WARNING: u8 = 4;
    let line = format!("<{WARNING}>{NAME}: {}\n", mask(problem).replace('\n', " "));
    let told: io::Result<()> = OpenOptions::new()
        .append(true)
        .open("/dev/kmsg")
        .and_then(|mut log| log.write_all(line.as_bytes()));
    if told.is_err() {
        // By hand, as a plain user: there is a standard error then.
        let _ = io::stderr().write_all(&line.as_bytes()[3..]);
    }
}
