//! Who watches a run as it happens: a terminal and the journal.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::app::complain;
use crate::logging::{self, Sink};
use crate::report::dispatch::Reporter;
use crate::report::event_bus::EventBus;
use crate::report::journal::Journal;
use crate::report::terminal::Terminal;
use crate::sys::journal;
use crate::sys::terminal::Capabilities;

/// How long the reporters may take to finish when the run has ended.
const CLOSING: Duration = Duration::from_secs(2);

/// How long the journal may take to hear the last lines.
const LOG_CLOSING: Duration = Duration::from_millis(500);

/// Puts them to work. Standard output and error of a unit are both the journal's, which then has the events with their
/// fields, and no lines for people beside them.
pub fn add(events: &Arc<EventBus>, sink: Sink) {
    let stdout = io::stdout();
    if !journal::stdout_is_journal() {
        let look = Capabilities::of(&stdout);
        let terminal = Terminal::new(Box::new(stdout), look);
        add_one(
            events,
            "terminal",
            Some(Terminal::EVERY),
            Box::new(terminal),
        );
    }
    // Where standard error has lines for people, they hear of a run on standard output already.
    if sink == Sink::Journal || log::max_level() >= log::LevelFilter::Info {
        let every = Some(Journal::EVERY);
        add_one(events, "journal", every, Box::<Journal>::default());
    }
}

/// Puts a reporter to work, with a tick whenever `every` has passed. A run goes on without one that has no thread.
pub fn add_one(
    events: &EventBus,
    name: &str,
    every: Option<Duration>,
    reporter: Box<dyn Reporter>,
) {
    added(name, events.add(name, every, reporter));
}

/// Says so where a run goes on without a reporter.
pub fn added(name: &str, added: io::Result<()>) {
    if let Err(error) = added {
        complain(&format!(
            "farewell: goes on without its {name} reporter: {error}"
        ));
    }
}

/// Lets everybody finish.
pub fn close(events: &EventBus) {
    events.close(CLOSING);
    flush_log();
}

/// Lets the journal hear the last lines.
pub fn flush_log() {
    logging::flush(LOG_CLOSING);
}
