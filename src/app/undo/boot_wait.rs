//! The undo after a boot waits until the units that systemd starts at this boot are up again.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use super::retry;
use crate::app::cli::Options;
use crate::app::{complain, facts, kept, print, source, store, undo};
use crate::config::facts::Facts;
use crate::model::deadline::{Deadline, Reason};
use crate::model::trigger::Trigger;
use crate::plan::load::{LoadedConfig, Plan};
use crate::plan::unit_ordering::Ordering;
use crate::steps::KINDS;
use crate::sys::dbus::BusError;
use crate::sys::host;
use crate::sys::systemd::{
    self, Around, BootState, Manager, Orders, START_UNIT, Unit, UnitState, is_pattern,
    starts_at_boot,
};
use crate::text::elapsed;

/// The interval between two checks of the units.
const EVERY: Duration = Duration::from_millis(500);

/// The interval between two renewals of held locks.
const RENEWAL: Duration = Duration::from_secs(15);

/// The time limit for an answer of PID 1; a daemon-reload runs every generator.
const ANSWER: Duration = Duration::from_secs(30);

/// How long to wait for the units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// For at most this long.
    Limited(Duration),
    /// Not at all: what is pending is undone whatever their state.
    GivenUp,
}

/// The names, and patterns of names, of the units that must be up before anything is undone: those of the
/// configuration, else of the last good plan.
fn units(options: &Options) -> Result<BTreeSet<String>, String> {
    let facts = facts(options, Trigger::Stop, "start");
    let loaded = LoadedConfig::through(&source(options), Some(&facts));
    if loaded.files.is_empty() {
        return Ok(BTreeSet::new());
    }
    let last_good = || {
        let good = kept(options)?.plan()?;
        LoadedConfig::through(&good.source(), Some(&facts)).plan
    };
    match loaded.plan.or_else(last_good) {
        Some(plan) => Ok(of(&Ordering::of(&plan, &facts))),
        None => Err(
            "the configuration cannot be used, so the units that must be up first are unknown"
                .to_owned(),
        ),
    }
}

fn of(ordering: &Ordering) -> BTreeSet<String> {
    ordering.units.union(&ordering.stopped).cloned().collect()
}

/// Undoes what is pending once the units are up, and schedules another attempt while something still is.
pub fn undo(options: &Options, patience: Patience) -> undo::UndoOutcome {
    let (store, machine) = (store(options), host::machine());
    let facts = facts(options, Trigger::Stop, "start");
    let is_pending = undo::is_pending(&store, &machine);
    if is_pending && let Patience::Limited(limit) = patience {
        retry::begin(options);
        let units = if systemd::is_booted() {
            units(options)
        } else {
            Ok(BTreeSet::new())
        };
        let renew = |facts: &Facts| undo::renew(&store, &machine, facts, KINDS);
        let up = units.and_then(|units| wait(&units, limit, &mut || renew(&facts)));
        if let Err(reason) = up {
            renew(&facts);
            complain(&format!(
                "farewell start: nothing is undone: {reason}. Locks stay held; `farewell start --undo-only --yes` \
                 undoes it anyway"
            ));
            return undo::UndoOutcome::Pending;
        }
    }
    let conditions = match patience {
        Patience::Limited(_) => undo::Conditions::Heeded,
        Patience::GivenUp => undo::Conditions::GivenUp,
    };
    let outcome = undo::undo_under(conditions, &store, &machine, facts, KINDS, undo::LIMIT);
    if matches!(
        outcome,
        undo::UndoOutcome::Nothing | undo::UndoOutcome::Undone
    ) {
        retry::end(options, outcome);
    }
    outcome
}

/// Waits for at most `limit` until the units of a plan have started or failed: the sockets that they listen on are inspected
/// then.
pub fn wait_for_all(plan: &Plan, facts: &Facts, limit: Duration) {
    // Their state does not matter here.
    let _ = wait(&of(&Ordering::of(plan, facts)), limit, &mut || {});
}

/// Waits until all units that systemd starts at this boot are up, and calls `between` every few seconds meanwhile.
///
/// # Errors
/// The units that are not up, with their states: at once if one has failed, else after `limit`.
fn wait(
    units: &BTreeSet<String>,
    limit: Duration,
    between: &mut dyn FnMut(),
) -> Result<(), String> {
    let end = Deadline::after(limit, Reason::Timeout);
    let mut renewed = None::<Instant>;
    let mut is_told = false;
    while systemd::is_booted() && !units.is_empty() {
        let waiting = match Look::take(units) {
            Ok(look) if !look.down.is_empty() => return Err(look.down.join(", ")),
            Ok(look) if !look.starting.is_empty() => look.starting.join(", "),
            Ok(look) if look.later.is_empty() => return Ok(()),
            Ok(look) => return Err(look.later.join(", ")),
            Err(error) => format!("systemd does not report the state of the units ({error})"),
        };
        if end.left().is_none() {
            return Err(waiting);
        }
        if renewed.is_none_or(|at| at.elapsed() >= RENEWAL) {
            between();
            renewed = Some(Instant::now());
        }
        if !std::mem::replace(&mut is_told, true) {
            let limit = elapsed::whole(limit);
            print(&format!(
                "farewell start: waiting for at most {limit}: {waiting}\n"
            ));
        }
        thread::sleep(EVERY);
    }
    Ok(())
}

/// The units that are not up: one phrase each.
#[derive(Default)]
struct Look {
    starting: Vec<String>,
    /// Units that start only when this process has ended.
    later: Vec<String>,
    down: Vec<String>,
}

impl Look {
    fn take(units: &BTreeSet<String>) -> Result<Look, BusError> {
        let deadline = Deadline::after(ANSWER, Reason::Attempt);
        let manager = Manager::connect(deadline)?;
        let (patterns, mut names): (Vec<String>, Vec<String>) =
            units.iter().cloned().partition(|it| is_pattern(it));
        if !patterns.is_empty() {
            let found = manager.matching(&patterns, deadline)?;
            names.extend(found.into_iter().map(|it| it.name));
        }
        let default = manager.default_target(deadline)?;
        let is_start = systemd::unit_of("self").as_deref() == Some(START_UNIT);
        let mut look = Look::default();
        for name in names {
            let (unit, state) = of_name(&manager, &name, deadline)?;
            let around = around(&manager, &unit, &state, &default, deadline)?;
            let (list, how) = match BootState::of(&unit, &state, around) {
                BootState::Up | BootState::NotStarted(_) => continue,
                BootState::Down(how) => (&mut look.down, how),
                BootState::Starting(_)
                    if is_start && waits_for_this(&manager, &name, deadline)? =>
                {
                    let how =
                        format!("is ordered after {START_UNIT}, and starts when that has ended");
                    (&mut look.later, how)
                }
                BootState::Starting(how) => (&mut look.starting, how),
            };
            list.push(format!("{name} {how}"));
        }
        Ok(look)
    }
}

fn of_name(
    manager: &Manager,
    name: &str,
    deadline: Deadline,
) -> Result<(Unit, UnitState), BusError> {
    let unit = manager.unit(name, deadline)?;
    let mut states = manager.states(&[name.to_owned()], deadline)?;
    let missing = || BusError::Unexpected(format!("no state of {name}"));
    Ok((unit, states.pop().ok_or_else(missing)?))
}

fn around(
    manager: &Manager,
    unit: &Unit,
    state: &UnitState,
    default: &str,
    deadline: Deadline,
) -> Result<Around, BusError> {
    // None of it matters for a unit that is up or about to be.
    if !state.is_down() || state.is_to_start() {
        return Ok(Around::default());
    }
    let triggers = manager.states(&unit.triggered_by, deadline)?;
    let mut look = |name: &str| of_name(manager, name, deadline);
    Ok(Around {
        is_triggered: triggers.iter().any(|it| it.active == "active"),
        is_wanted: starts_at_boot(unit, default, &mut look)?,
    })
}

/// Whether a unit starts only when farewell-start.service has ended: waiting for it would be a deadlock.
fn waits_for_this(manager: &Manager, unit: &str, deadline: Deadline) -> Result<bool, BusError> {
    let chain = Orders::new(manager, deadline).chain(unit, START_UNIT, None)?;
    Ok(chain.is_some())
}
