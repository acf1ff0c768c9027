//! `farewell run`: one run from its trigger to its record.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use log::LevelFilter;

use super::admission::{self, Entry};
use super::{complain, source, store};
use crate::broadcast::Broadcast;
use crate::cli::{Options, exit};
use crate::config::facts::Facts;
use crate::config::problem::Problem;
use crate::event::{self, Happening, StepName};
use crate::history::store::{self as records, Holder, Store};
use crate::logging::{self, Sink};
use crate::plan::gate::{Passage, Plan};
use crate::plan::head::Restart;
use crate::reporters;
use crate::reporters::record::Record;
use crate::reporters::systemd::Systemd;
use crate::reporters::terminal::Terminal;
use crate::run::errand::{Audience, Errand};
use crate::run::runner::{Outcome, Runner};
use crate::sys::http::Http;
use crate::sys::terminal::Look;
use crate::sys::{bus, journal, process, signals};
use crate::trigger::Trigger;

/// How long the reporters may take to finish when the run has ended.
const CLOSING: Duration = Duration::from_secs(2);

/// How long the journal may take to hear the last lines.
const LOG_CLOSING: Duration = Duration::from_millis(500);

/// Runs the sequence.
pub fn run(options: &Options, trigger: Option<&str>, begun: Instant) -> u8 {
    let sink = logging::install(LevelFilter::Warn);
    let runner = Runner::default();
    let control = runner.control();
    let told = AtomicBool::new(false);
    let listening = signals::on_stop(move || {
        if told.swap(true, Ordering::Relaxed) {
            control.stop_at_once();
        } else {
            control.stop();
        }
    });
    if let Err(error) = listening {
        complain(&format!(
            "farewell run: signals cannot be caught, so it cannot be told to stop: {error}"
        ));
    }
    let started = SystemTime::now();
    let id = records::new_id(started);
    let restart = trigger == Some("restart");
    let trigger = trigger.and_then(Trigger::parse).unwrap_or(Trigger::Stop);
    let facts = Facts::new(trigger, id.clone());
    let passage = Passage::through(&source(options), Some(&facts));
    let Some(plan) = passage.plan else {
        passage
            .problems
            .iter()
            .for_each(|problem| complain(&problem.to_string()));
        complain(
            "farewell run: nothing was run: the configuration is wrong, as told above; see `farewell check`",
        );
        return exit::CONFIG;
    };
    if restart && plan.restart() == Restart::Skip {
        let message = "a restart is no farewell (restart = \"skip\"): nothing is run";
        match sink {
            Sink::Journal => log::info!("{message}"),
            Sink::Lines => complain(&format!("farewell run: {message}")),
        }
        return exit::OK;
    }
    let store = store(options);
    let holder = Holder::this(&id, signals::is_started_by_systemd());
    let entry = match admission::admit(&store, &holder) {
        Ok(entry) => entry,
        Err(message) => {
            complain(&message);
            return exit::CUT_SHORT;
        }
    };
    let broadcast = Arc::new(Broadcast::new(begun));
    add_reporters(&broadcast, store, sink, matches!(entry, Entry::Unlocked(_)));
    add_dbus(&broadcast, begun, holder.by_systemd);
    let (held, warning) = match entry {
        Entry::Alone(held) => (Some(held), None),
        Entry::Beside(message) | Entry::Unlocked(message) => (None, Some(message)),
    };
    broadcast.hear(Happening::RunStarted {
        run: id,
        trigger,
        started,
        budget: plan.budget(trigger),
        reserve: plan.reserve(trigger),
        steps: names(&plan),
    });
    let problems = passage.problems.iter().map(Problem::sentence);
    problems
        .chain(warning)
        .for_each(|message| broadcast.hear(Happening::Warning { message }));
    let errand = Arc::new(Errand {
        plan,
        trigger,
        begun,
        facts,
        http: Http::default(),
        audience: broadcast.clone(),
    });
    let outcome = runner.run(&errand).unwrap_or_else(|error| {
        let reason = Some(format!("nothing was run: {error}"));
        Outcome {
            result: event::Result::CutShort,
            reason,
        }
    });
    let result = outcome.result;
    broadcast.hear(Happening::RunFinished {
        result,
        reason: outcome.reason,
    });
    // Nothing that a step started outlives the run, whatever the step could see to.
    process::kill_all();
    broadcast.close(CLOSING);
    logging::flush(LOG_CLOSING);
    drop(held);
    match result {
        event::Result::Ok => exit::OK,
        event::Result::Failed => exit::FAILED,
        event::Result::CutShort => exit::CUT_SHORT,
    }
}

fn names(plan: &Plan) -> Arc<[StepName]> {
    plan.steps
        .iter()
        .map(|step| StepName {
            name: step.name.clone(),
            kind: step.kind.to_owned(),
        })
        .collect()
}

/// Puts everybody to work who has somebody to tell. Standard output and error of a unit are both the journal's, which
/// then has the events with their fields, and no lines for people beside them. Who was `warned` of the state directory
/// does not hear of it again.
fn add_reporters(broadcast: &Arc<Broadcast>, store: Store, sink: Sink, warned: bool) {
    // Weak, since the broadcast owns the reporter's thread.
    let audience = Arc::downgrade(broadcast);
    let complain = move |message: String| {
        if let Some(audience) = audience.upgrade().filter(|_| !warned) {
            audience.hear(Happening::Warning { message });
        }
    };
    let record = Record::new(store, broadcast.written(), Box::new(complain));
    add(broadcast, "record", None, Box::new(record));
    let stdout = io::stdout();
    if !journal::stdout_is_journal() {
        let look = Look::of(&stdout);
        let terminal = Terminal::new(Box::new(stdout), look);
        add(
            broadcast,
            "terminal",
            Some(Terminal::EVERY),
            Box::new(terminal),
        );
    }
    // Where standard error has lines for people, they hear of a run on standard output already.
    if sink == Sink::Journal || log::max_level() >= log::LevelFilter::Info {
        let every = Some(reporters::journal::Journal::EVERY);
        add(
            broadcast,
            "journal",
            every,
            Box::<reporters::journal::Journal>::default(),
        );
    }
    if let Some(systemd) = Systemd::new() {
        add(
            broadcast,
            "systemd",
            Some(Systemd::EVERY),
            Box::new(systemd),
        );
    }
}

/// Puts the reporter on D-Bus to work where it may have the name: the policy gives it to root alone, and a bus that was
/// named is the caller's own. A run by hand, on a machine without the policy, goes without it and says nothing.
fn add_dbus(broadcast: &Arc<Broadcast>, begun: Instant, by_systemd: bool) {
    let named = bus::is_named();
    if !signals::is_root() && !named {
        return;
    }
    let audience = Arc::downgrade(broadcast);
    let complain = move |cause: String| {
        let message = format!("this run cannot be seen on D-Bus: {cause}");
        match audience.upgrade().filter(|_| by_systemd || named) {
            Some(audience) => audience.hear(Happening::Warning { message }),
            None => log::debug!("{message}"),
        }
    };
    let begin = |at_work| reporters::dbus::begin(begun, Box::new(complain), at_work);
    told("D-Bus", broadcast.add_desk(begin));
}

fn add(
    broadcast: &Broadcast,
    name: &str,
    every: Option<Duration>,
    reporter: Box<dyn crate::reporter::Reporter>,
) {
    told(name, broadcast.add(name, every, reporter));
}

fn told(name: &str, added: io::Result<()>) {
    if let Err(error) = added {
        complain(&format!(
            "farewell run: goes on without its {name} reporter: {error}"
        ));
    }
}
