//! `farewell report`: past runs, from their records.

use std::io;

use super::{complain, print, store};
use crate::app::cli::{Options, exit};
use crate::history::pending::{PendingUndo, UndoState};
use crate::history::recorded_run::{self, RecordedRun, Summary};
use crate::history::state_dir::Store;
use crate::sys::clock::rfc3339;
use crate::sys::terminal::Capabilities;
use crate::text::elapsed;
use crate::text::sanitize::plain;
use crate::view::style::Style;
use crate::view::timeline;

/// Shows one past run, or a list of them.
pub fn report(options: &Options, run: Option<&str>, list: bool, as_json: bool) -> u8 {
    let store = store(options);
    let ids = match store.ids() {
        Ok(ids) => ids,
        Err(error) => {
            let place = store.directory().display();
            complain(&format!(
                "farewell report: {place}: {error}{}",
                whom_to_ask(&error)
            ));
            return exit::NOTHING;
        }
    };
    if list {
        return report_list(&store, &ids, as_json);
    }
    let chosen: Vec<&String> = match run {
        None => ids.last().into_iter().collect(),
        Some(run) => ids.iter().filter(|id| id.starts_with(run)).collect(),
    };
    match (chosen.as_slice(), run) {
        ([id], _) => show(&store, "report", id, as_json),
        ([], None) => nothing(&store, "report"),
        ([], Some(run)) => {
            complain(&format!(
                "farewell report: there is no run {run}; see `farewell report --list`"
            ));
            exit::NOTHING
        }
        (several, _) => {
            let several: Vec<&str> = several.iter().map(|id| id.as_str()).collect();
            complain(&format!(
                "farewell report: several runs begin like that: {}",
                several.join(", ")
            ));
            exit::NOTHING
        }
    }
}

/// Reports that there is no run to show.
pub fn nothing(store: &Store, verb: &str) -> u8 {
    complain(&format!(
        "farewell {verb}: no run is recorded in {}",
        store.directory().display()
    ));
    exit::NOTHING
}

/// Whether a run is in progress, by its lock.
pub fn is_running(store: &Store, id: &str) -> bool {
    store.holder().is_some_and(|holder| holder.run == id)
}

/// Reads a record, and whether its run is in progress.
pub fn read(store: &Store, id: &str) -> io::Result<(RecordedRun, bool)> {
    // In this order, so that a run that ends between the two does not look cut off.
    let running = is_running(store, id);
    let past = recorded_run::read(&store.path(id))?;
    let running = running && past.is_cut_off();
    Ok((past, running))
}

/// Shows the run of a record.
pub fn show(store: &Store, verb: &str, id: &str, as_json: bool) -> u8 {
    match read(store, id) {
        Ok((past, running)) => draw(verb, &past, running, as_json),
        Err(error) => return unreadable(store, verb, id, &error),
    }
    exit::OK
}

/// A hint for an ordinary user: records may hold what only root should see.
pub fn whom_to_ask(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; only root can read records: use sudo, or ask an administrator"
        }
        _ => "",
    }
}

/// Reports a record that cannot be read.
pub fn unreadable(store: &Store, verb: &str, id: &str, error: &io::Error) -> u8 {
    let place = store.path(id).display().to_string();
    complain(&format!(
        "farewell {verb}: {place}: {error}{}",
        whom_to_ask(error)
    ));
    exit::NOTHING
}

/// Shows a run.
pub fn draw(verb: &str, past: &RecordedRun, running: bool, as_json: bool) {
    if as_json {
        match serde_json::to_string_pretty(&Summary::of(past, running)) {
            Ok(text) => print(&format!("{text}\n")),
            Err(error) => complain(&format!("farewell {verb}: {error}")),
        }
        return;
    }
    let look = Capabilities::of(&io::stdout());
    let (width, _) = look.size();
    let style = Style {
        width,
        unicode: look.unicode,
        colour: look.colour,
    };
    let mut text = timeline::draw(&past.progress, !running, &style);
    if past.is_cut_off() && !running {
        text += &format!("cut off: {}\n", past.cut_off_at());
    }
    text.extend(past.pending.iter().filter_map(remnant_line));
    print(&text);
}

/// A line on what was left; `None` if the run itself has settled it.
fn remnant_line(pending: &PendingUndo) -> Option<String> {
    let (step, subject) = (plain(&pending.step), plain(&pending.intent.subject));
    match pending.state {
        UndoState::Pending => Some(format!(
            "{step}: left {subject}, to be undone by `farewell start`\n"
        )),
        UndoState::Undone(at) => Some(format!("{step}: undone {}: {subject}\n", rfc3339(at))),
        UndoState::Settled => None,
    }
}

fn report_list(store: &Store, ids: &[String], as_json: bool) -> u8 {
    if ids.is_empty() {
        return nothing(store, "report");
    }
    let mut summaries = Vec::new();
    for id in ids.iter().rev() {
        match read(store, id) {
            Ok((past, running)) => summaries.push((Summary::of(&past, running), past)),
            Err(error) => drop(unreadable(store, "report", id, &error)),
        }
    }
    if summaries.is_empty() {
        return exit::NOTHING;
    }
    if as_json {
        let all: Vec<_> = summaries.iter().map(|(summary, _)| summary).collect();
        match serde_json::to_string_pretty(&all) {
            Ok(text) => print(&format!("{text}\n")),
            Err(error) => complain(&format!("farewell report: {error}")),
        }
        return exit::OK;
    }
    for (summary, past) in &summaries {
        let progress = &past.progress;
        let good = progress
            .steps
            .iter()
            .filter(|step| step.state.is_good())
            .count();
        let started = rfc3339(progress.started);
        print(&format!(
            "{}  {}  {:<11}  {:<9}  {good} of {} steps went well, {}\n",
            summary.run,
            started.get(..19).unwrap_or_default().replace('T', " "),
            summary.trigger,
            summary.result,
            progress.steps.len(),
            elapsed::short(progress.at),
        ));
    }
    exit::OK
}
