//! `farewell-generator`, the name under which systemd runs this binary at boot and at each daemon-reload: from the
//! configuration to the order and the stop timeout of farewell.service; see systemd.generator(7).
//!
//! PID 1 waits for its generators, so this one reads only local files, sends no requests, and ends itself after a few seconds.
//! What it prints is lost, so it reports a broken configuration in the kernel log.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::app::runtime_dir::RuntimeDir;
use crate::config::facts::Facts;
use crate::config::fragments::{Source, Untrusted};
use crate::config::problem::Problem;
use crate::history::state_dir::Store;
use crate::model::secrets::mask;
use crate::model::trigger::Trigger;
use crate::plan::load::LoadedConfig;
use crate::plan::unit_ordering::{Learnt, Ordering};
use crate::sys::signals;
use crate::sys::systemd::{self, UNIT, UNIT_PATH, UnitFiles, chain};
use crate::sys::threads;
use crate::text::duration;
use crate::text::elapsed;
use crate::text::sanitize::plain;

/// The name of the link.
const NAME: &str = "farewell-generator";

/// The drop-in. Drop-ins are ordered by their file names over all directories: a low number lets an administrator's
/// `override.conf` win.
pub const DROP_IN: &str = "05-sequence.conf";

/// The drop-in of a template unit.
const TEMPLATE_DROP_IN: &str = "05-farewell.conf";

/// The time limit for reading the configuration. The boot waits for it; it takes some milliseconds, more on a cold disk.
const PATIENCE: Duration = Duration::from_secs(4);

/// The time limit for reading the unit files and the state directory: some hundred small files.
const FILES: Duration = Duration::from_secs(2);

/// The number of problems that are reported; the kernel log is small.
const MAX_REPORTED: usize = 10;

/// Generates the drop-ins if this process was called as the generator. Never fails: a boot must not depend on a farewell.
pub fn serve(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter();
    let program = PathBuf::from(arguments.next()?);
    if program.file_name()? != NAME {
        return None;
    }
    match arguments.next() {
        Some(directory) => generate(Path::new(&directory)),
        None => tell("called without the output directories that systemd passes"),
    }
    Some(ExitCode::SUCCESS)
}

fn generate(directory: &Path) {
    // The configuration may name a file on a dead mount.
    let asked = match threads::within(PATIENCE, demand) {
        Ok(Some(asked)) => asked,
        Ok(None) => Err(vec![format!(
            "the configuration could not be read within {}",
            elapsed::short(PATIENCE)
        )]),
        Err(error) => Err(vec![error.to_string()]),
    };
    match asked {
        Ok((ordering, stop_timeout)) => {
            let learnt = without_circles(&ordering, learnt());
            for template in ordering.templates(&learnt) {
                write_template(directory, &template);
            }
            write(
                directory,
                UNIT,
                DROP_IN,
                &drop_in(&ordering, stop_timeout, &learnt),
            );
        }
        Err(problems) => fall_back(directory, &problems),
    }
}

/// A run falls back to the last good plan, and so does the order.
fn fall_back(directory: &Path, problems: &[String]) {
    for problem in problems.iter().take(MAX_REPORTED) {
        tell(problem);
    }
    if problems.len() > MAX_REPORTED {
        let more = problems.len() - MAX_REPORTED;
        tell(&format!("and {more} more; see `farewell check`"));
    }
    let kept = RuntimeDir::locate(signals::is_root()).and_then(|kept| kept.order());
    let Some(text) = kept.as_deref().and_then(ours) else {
        return tell("farewell.service keeps its own order and timeout");
    };
    tell("farewell.service keeps the order of the last good plan");
    let templates = learnt().templates;
    for template in templates.iter().filter(|it| systemd::is_unit_name(it)) {
        write_template(directory, template);
    }
    write(directory, UNIT, DROP_IN, &text);
}

/// What the plan needs: the order, and the stop timeout.
fn demand() -> Result<(Ordering, Duration), Vec<String>> {
    let kept = RuntimeDir::locate(signals::is_root());
    let facts = kept.as_ref().map(RuntimeDir::facts).unwrap_or_default();
    let facts = Facts::new(Trigger::Stop, NAME).with_kept(facts);
    let through = |untrusted| LoadedConfig::through(&Source::installed(untrusted), Some(&facts));
    let loaded = through(Untrusted::Refused);
    if let Some(plan) = loaded.plan {
        return Ok((Ordering::of(&plan, &facts), plan.stop_timeout()));
    }
    let problems: Vec<String> = loaded.problems.iter().map(place).collect();
    // As in a run: the last good plan, else the part that is trusted.
    let is_kept = kept.is_some_and(|kept| kept.order().is_some());
    let trusted = (!is_kept).then(|| through(Untrusted::LeftOut));
    let Some(plan) = trusted.and_then(|loaded| loaded.plan) else {
        return Err(problems);
    };
    problems
        .iter()
        .take(MAX_REPORTED)
        .for_each(|problem| tell(problem));
    Ok((Ordering::of(&plan, &facts), plan.stop_timeout()))
}

/// Where a problem is, for the kernel log, which more people read than the configuration: a message may repeat the value
/// of a fact.
fn place(problem: &Problem) -> String {
    let Problem {
        file, line, step, ..
    } = problem;
    if *line == 0 {
        // The whole file cannot be read: the system's error.
        return problem.to_string();
    }
    let mut text = format!("{}:{line}: ", file.display());
    if let Some(step) = step {
        text += &format!("step {step}: ");
    }
    if let Some(key) = &problem.key {
        text += &format!("key \"{key}\": ");
    }
    text + "wrong; see `farewell check`"
}

/// What `farewell start` has learnt from systemd: at this boot, else at an earlier one if /var is mounted already.
fn learnt() -> Learnt {
    let is_root = signals::is_root();
    let now = RuntimeDir::locate(is_root).and_then(|kept| kept.learnt());
    now.or_else(|| {
        let before = move || {
            let store = Store::locate(None, is_root);
            RuntimeDir::for_good(store.directory()).learnt()
        };
        threads::within(FILES, before).ok().flatten().flatten()
    })
    .unwrap_or_default()
}

/// Adds the units that their files order after farewell.service: before anything was learnt systemd would break the cycle
/// by dropping the start of the application, or the farewell.
fn without_circles(ordering: &Ordering, mut learnt: Learnt) -> Learnt {
    let Ok(Some(files)) = threads::within(FILES, || UnitFiles::read(&UNIT_PATH)) else {
        tell("the unit files could not be read in time: ordering cycles were not detected");
        return learnt;
    };
    let after = ordering.after(&learnt);
    for unit in after.union(&ordering.templates(&learnt)) {
        if let Some(chain) = chain(unit, UNIT, |unit| files.after(unit)) {
            tell(&format!(
                "{UNIT} is not ordered after {unit}, which is ordered after it ({}): see `farewell rehearse`",
                chain.join(" after ")
            ));
            learnt.circles.insert(unit.clone());
        }
    }
    learnt
}

/// The order and the stop timeout of farewell.service, as a drop-in; see systemd.unit(5).
pub fn drop_in(ordering: &Ordering, stop_timeout: Duration, learnt: &Learnt) -> String {
    let mut text = format!(
        "# Made by {NAME} from the configuration, at boot and at each `systemctl daemon-reload`.\n\
         # Not to be replaced by a file of this name: an override.conf (`systemctl edit farewell`) comes after it.\n"
    );
    // Only the names of steps and keys: a value may be anything.
    for unknown in &ordering.unknown {
        text += &format!(
            "# Not known yet: {} of step {}\n",
            unknown.key, unknown.step
        );
    }
    text += "\n[Unit]\n";
    for unit in ordering.after(learnt) {
        text += &format!("After={unit}\n");
    }
    let timeout = duration::print(stop_timeout).replace(' ', "");
    text += &format!("\n[Service]\nTimeoutStopSec={timeout}\n");
    text
}

/// The settings of a drop-in that was saved, without its comments: an earlier version wrote values into them. `None` if
/// it has a line that [`drop_in`] does not write.
fn ours(text: &str) -> Option<String> {
    let is_ours = |line: &&str| match line.split_once('=') {
        None => matches!(*line, "" | "[Unit]" | "[Service]"),
        Some(("After", unit)) => systemd::is_unit_name(unit),
        Some(("TimeoutStopSec", time)) => {
            !time.contains(char::is_control) && duration::parse(time).is_ok()
        }
        Some(_) => false,
    };
    let lines = text.split('\n').filter(|line| !line.starts_with('#'));
    let lines: Vec<&str> = lines.collect();
    lines.iter().all(is_ours).then(|| lines.join("\n"))
}

/// Orders every instance of a template, including those that are started later.
fn write_template(directory: &Path, template: &str) {
    let text = format!(
        "# Made by {NAME}: a step of the farewell stops instances of this template.\n\n[Unit]\nBefore={UNIT}\n"
    );
    write(directory, template, TEMPLATE_DROP_IN, &text);
}

/// Writes a drop-in of a unit.
fn write(directory: &Path, unit: &str, name: &str, text: &str) {
    if text.is_empty() {
        return;
    }
    let place = directory.join(format!("{unit}.d"));
    let written = fs::create_dir_all(&place).and_then(|()| fs::write(place.join(name), text));
    if let Err(error) = written {
        tell(&format!("{}: {error}", place.display()));
    }
}

/// One line for the kernel log, and so for the journal.
fn tell(problem: &str) {
    const WARNING: u8 = 4;
    let line = format!("<{WARNING}>{NAME}: {}\n", plain(&mask(problem)));
    let told: io::Result<()> = OpenOptions::new()
        .append(true)
        .open("/dev/kmsg")
        .and_then(|mut log| log.write_all(line.as_bytes()));
    if told.is_err() {
        // Called by hand as an ordinary user, who sees standard error.
        let _ = io::stderr().write_all(&line.as_bytes()[3..]);
    }
}
