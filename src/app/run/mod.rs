//! `farewell run`: one run from its trigger to its record.

mod single_instance;
mod skip;
pub mod trigger;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use log::{Level, LevelFilter};

use super::configuration::{self, Intake};
use super::{complain, observers, store};
use crate::app::cli::{Options, exit};
use crate::app::run::trigger::{DetectedTrigger, Inquiry};
use crate::config::problem::Problem;
use crate::history::state_dir as records;
use crate::history::state_dir::{Holder, Store};
use crate::logging::message_id;
use crate::logging::{self, Sink};
use crate::model::event::{self, EventKind, Purpose};
use crate::model::trigger::Trigger;
use crate::plan::settings::{BUDGET, CLOSING, Restart};
use crate::report::console::Console;
use crate::report::dbus::DBus;
use crate::report::event_bus::EventBus;
use crate::report::record;
use crate::report::systemd::Systemd;
use crate::run::context::{EventSink, RunContext};
use crate::run::runner::Runner;
use crate::sys::systemd::is_command_of_unit;
use crate::sys::{dbus, host, process, signals};
use single_instance::Entry;

/// Runs the sequence.
pub fn run(options: &Options, trigger: Option<&str>, begun: Instant) -> u8 {
    let sink = logging::install(LevelFilter::Warn);
    let runner = Runner::default();
    let control = runner.control();
    let told = Arc::new(AtomicBool::new(false));
    let telling = told.clone();
    let listening = signals::on_stop(move || {
        if telling.swap(true, Ordering::Relaxed) {
            control.stop_at_once();
        } else {
            control.stop();
        }
    });
    if let Err(error) = listening {
        complain(&format!(
            "farewell run: signal handlers cannot be installed, so it cannot be stopped gracefully: {error}"
        ));
    }
    let started = SystemTime::now();
    let id = records::new_id(started);
    let smallest = || {
        let intake = configuration::take(options, Trigger::Stop.into(), &id);
        (
            intake.map_or(BUDGET, |it| it.plan.smallest_budget()),
            CLOSING,
        )
    };
    let inquiry = Inquiry {
        begun,
        budget: &smallest,
        is_told_to_stop: &|| told.load(Ordering::Relaxed),
    };
    let detected = trigger.map_or_else(
        || DetectedTrigger::find_out(&inquiry),
        DetectedTrigger::given,
    );
    let mut intake = configuration::take(options, detected.cause.diagnosis(), &id);
    let restart = intake
        .as_ref()
        .map_or(Restart::Skip, |it| it.plan.restart());
    let before = detected.cause;
    let Some(detected) = skip::unless_skipped(detected, restart, &inquiry, sink) else {
        observers::flush_log();
        return exit::OK;
    };
    let diagnosis = detected.cause.diagnosis();
    let trigger = diagnosis.trigger();
    if detected.cause != before {
        intake = configuration::take(options, diagnosis, &id);
    }
    let Intake {
        plan,
        facts,
        warnings,
    } = match intake {
        Ok(intake) => intake,
        Err(problems) => return refuse(&problems, sink),
    };
    let fields = [
        ("FAREWELL_RUN", id.as_str()),
        ("FAREWELL_TRIGGER", trigger.as_str()),
    ];
    let text = format!("trigger {trigger}: {}", detected.seen);
    let level = match detected.is_unknown() {
        true => Level::Warn,
        false => Level::Info,
    };
    message_id::TRIGGER.log(level, &text, &fields);
    let store = store(options);
    let holder = Holder::this(&id, is_command_of_unit());
    let entry = match single_instance::admit(&store, &holder) {
        Ok(entry) => entry,
        Err(message) => {
            complain(&message);
            return exit::CUT_SHORT;
        }
    };
    let events = Arc::new(EventBus::new(begun));
    events.set_store(store.clone(), host::machine());
    add_reporters(&events, store, sink, matches!(entry, Entry::Unlocked(_)));
    add_dbus(&events, begun, holder.by_systemd);
    // On a machine that stays up the console may be in use.
    let goes_down = trigger != Trigger::Stop && holder.by_systemd;
    if let Some(console) = goes_down.then(Console::new).flatten() {
        let every = Some(Console::EVERY);
        observers::add_one(&events, "console", every, Box::new(console));
    }
    let (held, warning) = match entry {
        Entry::Alone(held) => (Some(held), None),
        Entry::Beside(message) | Entry::Unlocked(message) => (None, Some(message)),
    };
    let unknown = (detected.is_unknown())
        .then(|| format!("the kind of this shutdown is unknown: {}", detected.seen));
    let warnings = unknown.into_iter().chain(warnings).chain(warning);
    let run = Arc::new(RunContext {
        id,
        purpose: Purpose::Farewell,
        machine: host::machine(),
        started,
        plan,
        trigger,
        begun,
        facts,
        http: super::http(super::kept(options)),
        sink: events.clone(),
    });
    let outcome = runner.run(&run, warnings.collect());
    // No process that a step started outlives the run.
    process::kill_all();
    observers::close(&events);
    drop(held);
    match outcome.result {
        event::Result::Ok => exit::OK,
        event::Result::Failed => exit::FAILED,
        event::Result::CutShort => exit::CUT_SHORT,
    }
}

/// Reports a configuration that cannot be run.
fn refuse(problems: &[Problem], sink: Sink) -> u8 {
    let told = problems.iter().map(ToString::to_string).chain([
        "farewell run: nothing was run: the configuration is wrong, see above and `farewell check`"
            .to_owned(),
    ]);
    for text in told {
        match sink {
            Sink::Journal => message_id::RUN_REFUSED.log(Level::Error, &text, &[]),
            Sink::Lines => complain(&text),
        }
    }
    observers::flush_log();
    exit::CONFIG
}

/// Starts the reporters. With `warned` the operator knows already that the state directory cannot be used.
fn add_reporters(events: &Arc<EventBus>, store: Store, sink: Sink, warned: bool) {
    // Weak, since the event bus owns the sender of the record's thread.
    let weak = Arc::downgrade(events);
    let complain = move |message: String| {
        if let Some(events) = weak.upgrade().filter(|_| !warned) {
            events.emit(EventKind::Warning { message });
        }
    };
    match record::start(store, events.written(), Box::new(complain), events.guard()) {
        Ok(record) => events.add_sink(record),
        Err(error) => observers::without("record", &error),
    }
    observers::add(events, sink);
    if let Some(systemd) = Systemd::new() {
        let every = Some(Systemd::EVERY);
        observers::add_one(events, "systemd", every, Box::new(systemd));
    }
}

/// Starts the D-Bus reporter if it may own the name: the policy allows it to root alone, and a bus that was
/// given by address is the caller's own. A run by hand on a machine without the policy goes without it silently.
fn add_dbus(events: &Arc<EventBus>, begun: Instant, by_systemd: bool) {
    let named = dbus::is_named();
    if !signals::is_root() && !named {
        return;
    }
    let sink = Arc::downgrade(events);
    let complain = move |cause: String| {
        let message = format!("this run is not visible on D-Bus: {cause}");
        match sink.upgrade().filter(|_| by_systemd || named) {
            Some(sink) => sink.emit(EventKind::Warning { message }),
            None => log::debug!("{message}"),
        }
    };
    match DBus::new(begun, Box::new(complain), events.guard()) {
        Ok(reporter) => observers::add_one(events, "D-Bus", None, Box::new(reporter)),
        Err(error) => observers::without("D-Bus", &error),
    }
}
