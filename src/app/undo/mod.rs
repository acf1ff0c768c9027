//! `farewell start` undoes what earlier runs have left.

pub mod boot_wait;
pub mod plan;
mod retry;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use log::{Level, LevelFilter};

use super::observers;
use super::{complain, print};
use crate::app::cli::exit;
use crate::app::runtime_dir::RuntimeDir;
use crate::config::facts::Facts;
use crate::history::pending::PendingUndo;
use crate::history::state_dir as records;
use crate::history::state_dir::{Admission, Holder, RunLock, Store};
use crate::history::survey::Survey;
use crate::logging::message_id;
use crate::logging::{self, Sink};
use crate::model::deadline::{Deadline, Reason};
use crate::model::event::{Purpose, Result};
use crate::model::intent::READY;
use crate::model::machine::Machine;
use crate::model::trigger::Trigger;
use crate::report::event_bus::EventBus;
use crate::run::context::RunContext;
use crate::run::runner::Runner;
use crate::step::Kind;
use crate::sys::clock::rfc3339;
use crate::sys::{files, signals};
use crate::text::sanitize::plain;

/// The time limit of a whole undo.
pub const LIMIT: Duration = Duration::from_secs(2 * 60);

/// The time limit for an answer of the state directory.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait for the lock of the state directory, and the interval between two attempts.
const OCCUPIED: Duration = Duration::from_secs(10);
const EVERY: Duration = Duration::from_millis(100);

/// The time limit for the renewal of one lock.
const RENEWAL: Duration = Duration::from_secs(5);

/// Whether the conditions of an undo, such as a lock's `ready`, count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conditions {
    /// They must hold.
    Heeded,
    /// They are ignored: a person has decided so.
    GivenUp,
}

/// How an undo ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UndoOutcome {
    /// There was nothing to undo.
    Nothing,
    /// Everything is undone.
    Undone,
    /// Something is still pending, or that is unknown.
    Pending,
    /// A run, or another undo, is in progress: nothing was done.
    Occupied,
}

impl UndoOutcome {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            UndoOutcome::Nothing | UndoOutcome::Undone => exit::OK,
            UndoOutcome::Pending => exit::FAILED,
            UndoOutcome::Occupied => exit::CUT_SHORT,
        }
    }
}

/// Undoes everything that the runs of `store` have left on this `machine`, in at most `limit`, with the undos of
/// `kinds`, and reports it as a run. `facts` are needed for credentials.
///
/// It holds the lock of the store meanwhile, so that it never acts beside a run or another undo: if
/// one is in progress, it does nothing. systemd's run takes precedence: it ends an undo with SIGTERM, as it ends a run that
/// a person has started, and what was not undone by then stays pending. SIGTERM and SIGINT end an undo in progress,
/// and after it they end the process with 75.
pub fn undo(
    store: &Store,
    machine: &Machine,
    facts: Facts,
    kinds: &[Kind],
    limit: Duration,
) -> UndoOutcome {
    undo_under(Conditions::Heeded, store, machine, facts, kinds, limit)
}

/// As [`undo`].
pub fn undo_under(
    conditions: Conditions,
    store: &Store,
    machine: &Machine,
    facts: Facts,
    kinds: &[Kind],
    limit: Duration,
) -> UndoOutcome {
    let sink = logging::install(LevelFilter::Warn);
    let Some(survey) = survey(store, machine) else {
        return UndoOutcome::Pending;
    };
    tell_foreign(&survey, sink);
    for (pending, owner) in &survey.moved {
        tell_moved(pending, owner, machine);
    }
    let is_moved = !survey.moved.is_empty();
    if survey.pending.is_empty() && survey.unreadable.is_empty() {
        return match is_moved {
            true => UndoOutcome::Pending,
            false => UndoOutcome::Nothing,
        };
    }
    let id = records::new_id(SystemTime::now());
    let _held = match enter(store, &id) {
        Ok(held) => held,
        Err((outcome, message)) => {
            complain(&format!("farewell start: nothing is undone: {message}"));
            return outcome;
        }
    };
    // Read again: the previous holder of the lock may have undone it.
    let Some(mut survey) = self::survey(store, machine) else {
        return UndoOutcome::Pending;
    };
    for (path, error) in &survey.unreadable {
        complain(&format!(
            "farewell start: {}: {error}: anything that it left is not undone",
            path.display()
        ));
    }
    for pending in &survey.pending {
        tell(sink, &format!("{}: pending", sketch(pending)));
    }
    if conditions == Conditions::GivenUp {
        let pending = survey.pending.iter_mut();
        pending.for_each(|it| drop(it.intent.what.remove(READY)));
    }
    let is_whole = survey.unreadable.is_empty() && !is_moved;
    let is_undone = survey.pending.is_empty()
        || perform(survey.pending, id, facts, kinds, limit, sink) == Result::Ok;
    match (is_undone, is_whole) {
        (true, true) => UndoOutcome::Undone,
        _ => UndoOutcome::Pending,
    }
}

/// Whether runs of `store` have left something on this `machine` that is not undone yet, or that is unknown.
pub(super) fn is_pending(store: &Store, machine: &Machine) -> bool {
    survey(store, machine).is_none_or(|it| !it.pending.is_empty() || !it.unreadable.is_empty())
}

/// Renews held locks while they cannot be released, and reports failures.
pub(super) fn renew(store: &Store, machine: &Machine, facts: &Facts, kinds: &[Kind]) {
    let Some(survey) = survey(store, machine) else {
        return;
    };
    match crate::app::undo::plan::renew(survey.pending, kinds, facts, RENEWAL) {
        Ok(errors) => errors.iter().for_each(|(subject, failure)| {
            complain(&format!(
                "farewell start: {subject} is not renewed: {failure}"
            ));
        }),
        Err(error) => complain(&format!("farewell start: nothing is renewed: {error}")),
    }
}

fn survey(store: &Store, machine: &Machine) -> Option<Survey> {
    let (place, owner) = (store.clone(), machine.clone());
    files::within(PATIENCE, move || Survey::of(&place, &owner))
        .map_err(|error| {
            let directory = store.directory().display();
            complain(&format!(
                "farewell start: {directory}: {error}: it is unknown what has to be undone"
            ));
        })
        .ok()
}

/// Takes the lock of the store, and waits for its holder, unless that is systemd's run, which ends with the machine.
fn enter(store: &Store, id: &str) -> std::result::Result<RunLock, (UndoOutcome, String)> {
    let end = Deadline::after(OCCUPIED, Reason::Timeout);
    loop {
        let (place, holder) = (store.clone(), Holder::this_undo(id));
        let other = match files::within(PATIENCE, move || place.enter(&holder)) {
            Ok(Admission::Admitted(held)) => return Ok(held),
            Ok(Admission::Occupied(other)) => other,
            // Without the lock a run may be in progress, and the undo could not be recorded.
            Err(error) => {
                let message = format!("{}: {error}", store.directory().display());
                return Err((UndoOutcome::Pending, message));
            }
        };
        let is_ending = other.as_ref().is_some_and(|it| it.by_systemd);
        if is_ending || end.left().is_none() {
            let name = other.map_or("another run".to_owned(), |it| it.to_string());
            return Err((UndoOutcome::Occupied, format!("{name} is in progress")));
        }
        thread::sleep(EVERY);
    }
}

fn perform(
    pending: Vec<PendingUndo>,
    id: String,
    facts: Facts,
    kinds: &[Kind],
    limit: Duration,
    sink: Sink,
) -> Result {
    let (begun, trigger) = (Instant::now(), Trigger::Stop);
    let runner = Runner::default();
    let (control, is_over) = (runner.control(), Arc::new(AtomicBool::new(false)));
    let over = is_over.clone();
    let listening = signals::on_stop(move || {
        if over.load(Ordering::Acquire) {
            std::process::exit(exit::CUT_SHORT.into());
        }
        control.stop();
    });
    if let Err(error) = listening {
        complain(&format!(
            "farewell start: signal handlers cannot be installed, so signals end it at once: {error}"
        ));
    }
    let plan = crate::app::undo::plan::plan(pending, kinds, limit);
    let events = Arc::new(EventBus::new(begun));
    observers::add(&events, sink);
    let run = Arc::new(RunContext {
        id,
        purpose: Purpose::Undo,
        machine: Machine::default(),
        started: SystemTime::now(),
        plan,
        trigger,
        begun,
        facts,
        // Interfaces are the machine's, whatever the configuration.
        http: super::http(RuntimeDir::locate(signals::is_root())),
        sink: events.clone(),
    });
    let outcome = runner.run(&run, Vec::new());
    observers::close(&events);
    is_over.store(true, Ordering::Release);
    outcome.result
}

/// Reports in one line what another machine has left, if this disk is a copy of its disk.
fn tell_foreign(survey: &Survey, sink: Sink) {
    if let Some(first) = survey.foreign.first() {
        let others = match survey.foreign.len() - 1 {
            0 => String::new(),
            others => format!(" and {others} more"),
        };
        let text = format!(
            "{}{others}: left by another machine (this disk is a copy of its disk): not undone here",
            sketch(first)
        );
        tell(sink, &text);
    }
}

/// Reports what is pending under this machine's id on other hardware, and what to do about it.
fn tell_moved(pending: &PendingUndo, owner: &Machine, machine: &Machine) {
    let name = |machine: &Machine| {
        let (id, product) = (machine.id.as_deref(), machine.product.as_deref());
        let (id, product) = (id.unwrap_or("unknown"), product.unwrap_or("unknown"));
        format!("machine-id {id}, product UUID {product}")
    };
    complain(&format!(
        "farewell start: {}: pending, and not undone: it was left on {}, and this is {}. Where this machine was moved or \
         restored, undo it by hand; where it is a copy, the other machine undoes it, and this one needs a machine-id of its \
         own. Then remove the record: rm {}",
        sketch(pending),
        name(owner),
        name(machine),
        pending.record.display()
    ));
}

/// What was left, and by which step, run and when.
fn sketch(pending: &PendingUndo) -> String {
    let run = pending.record.file_stem().unwrap_or_default();
    format!(
        "{} (step {} of run {}, {})",
        pending.intent.subject,
        pending.step,
        run.display(),
        rfc3339(pending.since)
    )
}

fn tell(sink: Sink, text: &str) {
    match sink {
        Sink::Journal => message_id::UNDO_FOUND.log(Level::Info, text, &[]),
        Sink::Lines => print(&format!("{}\n", plain(text))),
    }
}
