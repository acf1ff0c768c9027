//! The reporters that run and undo share: a terminal and the journal.

use std::io;
use std::time::Duration;

use crate::app::complain;
use crate::logging::{self, Sink};
use crate::report::dispatch::Reporter;
use crate::report::event_bus::EventBus;
use crate::report::journal::Journal;
use crate::report::terminal::Terminal;
use crate::sys::detached::Detached;
use crate::sys::journal;
use crate::sys::terminal::Capabilities;

/// How long the reporters may take to finish when the run has ended.
const CLOSING: Duration = Duration::from_secs(2);

/// The time limit for sending the last lines to the journal.
const LOG_CLOSING: Duration = Duration::from_millis(500);

/// Starts them. Standard output and error of a unit both go to the journal, which then has the events with their
/// fields, without the terminal's lines beside them.
pub fn add(events: &EventBus, sink: Sink) {
    let stdout = io::stdout();
    if !journal::stdout_is_journal() {
        let look = Capabilities::of(&stdout);
        match Detached::new(stdout, events.guard()) {
            Ok(out) => {
                let terminal = Terminal::new(Box::new(out), look);
                let every = Some(Terminal::EVERY);
                add_one(events, "terminal", every, Box::new(terminal));
            }
            Err(error) => without("terminal", &error),
        }
    }
    // If standard error gets plain lines, standard output already shows the run.
    if sink == Sink::Journal || log::max_level() >= log::LevelFilter::Info {
        let every = Some(Journal::EVERY);
        add_one(events, "journal", every, Box::<Journal>::default());
    }
}

/// Starts a reporter, with a tick every `every`. If no thread is available, the run goes on without it.
pub fn add_one(
    events: &EventBus,
    name: &str,
    every: Option<Duration>,
    reporter: Box<dyn Reporter>,
) {
    if let Err(error) = events.add(every, reporter) {
        without(name, &error);
    }
}

/// Says that a run goes on without a reporter.
pub fn without(name: &str, error: &io::Error) {
    complain(&format!(
        "farewell: goes on without its {name} reporter: {error}"
    ));
}

/// Waits for the reporters to finish.
pub fn close(events: &EventBus) {
    events.close(CLOSING);
    flush_log();
}

/// Sends the last lines to the journal.
pub fn flush_log() {
    logging::flush(LOG_CLOSING);
}
