//! `farewell status`: the run in progress, from D-Bus or its record, else the last one.

use std::io::{self, Write as _};
use std::time::{Duration, SystemTime};

use super::report::{self, draw, is_running, read, show};
use super::{complain, print, store};
use crate::app::cli::{Options, exit};
use crate::history::recorded_run::{self, RecordedRun};
use crate::history::state_dir::Store;
use crate::model::deadline::{Deadline, Reason};
use crate::report::dbus::interface::Snapshot;
use crate::report::dbus::snapshot;
use crate::report::dbus::watch::{Seen, Watch};
use crate::report::dispatch::{Feed, Update};
use crate::report::terminal::Terminal;
use crate::sys::files;
use crate::sys::terminal::Capabilities;

/// How often a run that is followed is read.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The time limit for reading a run from the bus.
const BUS_PATIENCE: Duration = Duration::from_secs(1);

/// The time limit for reading the record of a run that is on the bus too.
const DISK_PATIENCE: Duration = Duration::from_millis(300);

/// What a run may take beyond its budget to close everything; after that a silent bus is given up.
const CLOSING: Duration = Duration::from_secs(5);

/// Shows the run in progress, else the last one.
pub fn status(options: &Options, follow: bool, as_json: bool) -> u8 {
    let store = store(options);
    // `--state` asks for the runs that are recorded there.
    let watch = match options.state {
        None => on_bus(),
        Some(_) => None,
    };
    if let Some(watch) = watch {
        return match (is_recorded(&store, watch.run()), follow) {
            (true, true) => follow_record(&store, &watch.run().run),
            (true, false) => show(&store, "status", &watch.run().run, as_json),
            (false, true) => follow_bus(&store, watch),
            (false, false) => show_bus(&watch, as_json),
        };
    }
    let running = store.holder().map(|holder| holder.run);
    let last = match store.ids() {
        Ok(mut ids) => ids.pop(),
        Err(error) => {
            let place = store.directory().display();
            complain(&format!(
                "farewell status: {place}: {error}{}",
                report::whom_to_ask(&error)
            ));
            return exit::NOTHING;
        }
    };
    match running.filter(|run| store.path(run).exists()).or(last) {
        None => report::nothing(&store, "status"),
        Some(id) if follow => follow_record(&store, &id),
        Some(id) => show(&store, "status", &id, as_json),
    }
}

/// The run on D-Bus.
fn on_bus() -> Option<Watch> {
    let deadline = Deadline::after(BUS_PATIENCE, Reason::Attempt);
    Watch::begin(deadline).ok()
}

/// Whether the run on the bus is recorded here: its record then knows more,
/// above all when its steps began. Other users cannot read it, and a disk may lag behind or not answer.
fn is_recorded(store: &Store, run: &Snapshot) -> bool {
    let (store, id) = (store.clone(), run.run.clone());
    let looked = files::within(DISK_PATIENCE, move || read(&store, &id));
    looked.is_ok_and(|(past, running)| running && past.progress.ended() >= run.ended() as usize)
}

/// The time since the start of a run.
fn age(run: &Snapshot) -> Duration {
    let age = SystemTime::now().duration_since(snapshot::started(run));
    age.unwrap_or_default()
}

fn show_bus(watch: &Watch, as_json: bool) -> u8 {
    let run = watch.run();
    let Some(progress) = snapshot::progress(run, age(run)) else {
        return exit::NOTHING;
    };
    let past = RecordedRun {
        progress,
        torn: None,
        pending: Vec::new(),
    };
    draw("status", &past, run.result.is_none(), as_json);
    exit::OK
}

fn terminal() -> Feed {
    let stdout = io::stdout();
    let look = Capabilities::of(&stdout);
    Feed::of(Terminal::new(Box::new(stdout), look))
}

/// Shows a run as its own terminal would, from D-Bus.
fn follow_bus(store: &Store, mut watch: Watch) -> u8 {
    let mut terminal = terminal();
    let mut show_change = |before: Option<&Snapshot>, run: &Snapshot| {
        for event in snapshot::events(before, run, age(run)) {
            terminal.update(Update::Event(&event));
        }
        terminal.update(Update::Idle);
        terminal.update(Update::Tick(age(run)));
    };
    show_change(None, watch.run());
    loop {
        let known = watch.run().clone();
        if known.result.is_some() {
            return exit::OK;
        }
        let seen = watch.next(POLL_INTERVAL);
        show_change(Some(&known), watch.run());
        let overdue = known.deadline_usec.saturating_sub(known.started_usec);
        let overdue = age(&known) > Duration::from_micros(overdue) + CLOSING;
        if seen == Seen::Departure || (overdue && seen == Seen::Nothing) {
            break;
        }
    }
    drop(terminal);
    depart(store, watch.run())
}

/// Reports how a run ended that has left the bus without a final signal.
fn depart(store: &Store, run: &Snapshot) -> u8 {
    match read(store, &run.run) {
        Ok((_, true)) => follow_record(store, &run.run),
        Ok((past, false)) => {
            draw("status", &past, false, false);
            exit::OK
        }
        Err(error) => {
            print(&format!(
                "run {} has left D-Bus, and its record cannot be read here ({error})\n",
                run.run
            ));
            exit::OK
        }
    }
}

/// Shows a run as its own terminal would, from its record.
fn follow_record(store: &Store, id: &str) -> u8 {
    let mut terminal = terminal();
    let mut heard = 0;
    loop {
        let running = is_running(store, id);
        let events = match recorded_run::events(&store.path(id)) {
            Ok((events, _)) => events,
            Err(error) => return report::unreadable(store, "status", id, &error),
        };
        events
            .get(heard..)
            .unwrap_or_default()
            .iter()
            .for_each(|event| terminal.update(Update::Event(event)));
        heard = events.len();
        terminal.update(Update::Idle);
        if !running {
            break;
        }
        std::thread::sleep(POLL_INTERVAL);
        if let Ok((past, _)) = read(store, id) {
            let since = past.progress.started.elapsed().unwrap_or_default();
            terminal.update(Update::Tick(since));
        }
    }
    drop(terminal);
    match read(store, id) {
        Ok((past, false)) if past.is_cut_off() => {
            print(&format!("cut off: {}\n", past.cut_off_at()));
        }
        Ok(_) => {}
        Err(error) => return report::unreadable(store, "status", id, &error),
    }
    let _ = io::stdout().flush();
    exit::OK
}
