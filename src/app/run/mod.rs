//! `farewell run`: one run from its trigger to its record.

mod reporters;
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
use crate::history::state_dir::Holder;
use crate::logging::message_id;
use crate::logging::{self, Sink};
use crate::model::event::{self, Purpose};
use crate::model::trigger::Trigger;
use crate::plan::settings::{BUDGET, CLOSING, Restart};
use crate::report::event_bus::EventBus;
use crate::run::context::RunContext;
use crate::run::runner::{Control, Runner};
use crate::sys::systemd::is_command_of_unit;
use crate::sys::{host, process, signals};
use single_instance::Entry;

/// Runs the sequence.
pub fn run(options: &Options, trigger: Option<&str>, begun: Instant) -> u8 {
    let sink = logging::install(LevelFilter::Warn);
    let runner = Runner::default();
    let is_told_to_stop = stop_on_signals(runner.control());
    let started = SystemTime::now();
    let id = records::new_id(started);
    let detection = Detection {
        options,
        begun,
        id: &id,
        is_told_to_stop: &is_told_to_stop,
        sink,
    };
    let (detected, intake) = match detection.detect(trigger) {
        Ok(Some(found)) => found,
        Ok(None) => {
            observers::flush_log();
            return exit::OK;
        }
        Err(problems) => return refuse(&problems, sink),
    };
    let trigger = detected.cause.diagnosis().trigger();
    detected.log(&id);
    let store = store(options);
    let holder = Holder::this(&id, is_command_of_unit());
    let entry = match single_instance::admit(&store, &holder) {
        Ok(entry) => entry,
        Err(message) => {
            complain(&message);
            return exit::CUT_SHORT;
        }
    };
    let machine = host::machine();
    let events = Arc::new(EventBus::new(begun));
    events.set_store(store.clone(), machine.clone());
    let is_unlocked = matches!(entry, Entry::Unlocked(_));
    reporters::add(&events, store, sink, is_unlocked);
    reporters::add_of_machine(&events, begun, trigger, holder.by_systemd);
    let (lock, warning) = entry.into_parts();
    let warnings = (detected.warning().into_iter())
        .chain(intake.warnings)
        .chain(warning);
    let run = Arc::new(RunContext {
        id,
        purpose: Purpose::Farewell,
        machine,
        started,
        plan: intake.plan,
        trigger,
        begun,
        facts: intake.facts,
        http: super::http(super::kept(options)),
        sink: events.clone(),
    });
    let outcome = runner.run(&run, warnings.collect());
    // No process that a step started outlives the run.
    process::kill_all();
    observers::close(&events);
    drop(lock);
    exit_code(outcome.result)
}

fn exit_code(result: event::Result) -> u8 {
    match result {
        event::Result::Ok => exit::OK,
        event::Result::Failed => exit::FAILED,
        event::Result::CutShort => exit::CUT_SHORT,
    }
}

/// Stops the run at the first signal to stop, and at once at the second. The flag says whether there was one.
fn stop_on_signals(control: Control) -> Arc<AtomicBool> {
    let is_told = Arc::new(AtomicBool::new(false));
    let telling = is_told.clone();
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
    is_told
}

/// What finding the trigger, and the plan for it, needs.
struct Detection<'a> {
    options: &'a Options,
    begun: Instant,
    id: &'a str,
    is_told_to_stop: &'a AtomicBool,
    sink: Sink,
}

impl Detection<'_> {
    /// The trigger, given or found out, and what it runs; `None` if this run is skipped, which is logged.
    ///
    /// # Errors
    /// The problems of a configuration that cannot be run.
    fn detect(
        &self,
        trigger: Option<&str>,
    ) -> Result<Option<(DetectedTrigger, Intake)>, Vec<Problem>> {
        let take = |diagnosis| configuration::take(self.options, diagnosis, self.id);
        let smallest = || {
            let intake = take(Trigger::Stop.into());
            let budget = intake.map_or(BUDGET, |it| it.plan.smallest_budget());
            (budget, CLOSING)
        };
        let inquiry = Inquiry {
            begun: self.begun,
            budget: &smallest,
            is_told_to_stop: &|| self.is_told_to_stop.load(Ordering::Relaxed),
        };
        let detected = trigger.map_or_else(
            || DetectedTrigger::find_out(&inquiry),
            DetectedTrigger::given,
        );
        let intake = take(detected.cause.diagnosis());
        let restart = intake
            .as_ref()
            .map_or(Restart::Skip, |it| it.plan.restart());
        let before = detected.cause;
        let Some(detected) = skip::unless_skipped(detected, restart, &inquiry, self.sink) else {
            return Ok(None);
        };
        let intake = match detected.cause == before {
            true => intake,
            false => take(detected.cause.diagnosis()),
        };
        Ok(Some((detected, intake?)))
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
