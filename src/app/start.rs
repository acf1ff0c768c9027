//! `farewell start`: prepares a machine that has booted, or has come back, for its farewell.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

use super::undo::UndoOutcome;
use super::undo::boot_wait::{self, Patience};
use super::{complain, count, generator, kept, print, source, store};
use crate::app::cli::{Options, exit};
use crate::app::runtime_dir::RuntimeDir;
use crate::config::facts::Facts;
use crate::logging;
use crate::model::deadline::{Deadline, Reason};
use crate::model::trigger::Trigger;
use crate::plan::load::{LoadedConfig, Plan};
use crate::plan::unit_ordering::{Learnt, Ordering};
use crate::preflight;
use crate::preflight::resolved_peers::{self, Addressed};
use crate::sys::files;
use crate::sys::systemd::Manager;

/// How long to wait for the units of the sequence, which may still be starting at boot.
const UNITS: Duration = Duration::from_secs(120);

/// The time limit for reserving disk space for a record.
const ROOM: Duration = Duration::from_secs(10);

/// The time limit for an answer of PID 1; a daemon-reload runs every generator.
const ANSWER: Duration = Duration::from_secs(30);

/// Checks the configuration, saves facts and plan, undoes what is pending, and checks whether this machine is ready for
/// its farewell. Each of these is done even if another one fails.
pub fn start(options: &Options) -> u8 {
    logging::install(LevelFilter::Warn);
    // Read again: values saved earlier may be outdated.
    let facts = Facts::new(Trigger::Stop, "start");
    let mut loaded = LoadedConfig::through(&source(options), Some(&facts));
    loaded.check_facts(&facts);
    for problem in &loaded.problems {
        complain(&problem.to_string());
    }
    let is_sound = loaded.errors() == 0;
    let Some(plan) = &loaded.plan else {
        complain(match kept(options).and_then(|kept| kept.plan()) {
            Some(_) => {
                "farewell start: the configuration cannot be used: a farewell would run the last good plan"
            }
            None => {
                "farewell start: the configuration cannot be used, and there is no last good plan: THERE WOULD BE NO FAREWELL"
            }
        });
        undo(options, Patience::Limited(Duration::ZERO));
        return exit::CONFIG;
    };
    let is_kept = keep(options, plan, &loaded.files, &facts);
    let is_ordered = options.config.is_some() || order(options, plan, &facts);
    let is_installed = options.config.is_none();
    let steps = count(plan.steps.len(), "step");
    let done = if is_installed {
        "checked and kept"
    } else {
        "checked"
    };
    print(&format!("farewell start: {steps}, {done}\n"));
    // The undo still uses the interfaces that were saved before.
    let undone = undo(options, Patience::Limited(UNITS));
    if is_installed && undone == UndoOutcome::Nothing {
        boot_wait::wait_for_all(plan, &facts, UNITS);
    }
    make_room(options);
    // systemd runs the installed configuration, whatever --config says.
    let is_ready = !is_installed || {
        let peers = resolved_peers::peers(plan, &facts, Deadline::after(ANSWER, Reason::Attempt));
        let is_kept = keep_ways(options, &peers);
        is_ready(options, plan, &facts, &peers) && is_kept
    };
    match (is_sound, is_kept && is_ordered && is_ready) {
        (false, _) => exit::CONFIG,
        (true, false) => exit::FAILED,
        (true, true) => undone.code(),
    }
}

/// Undoes what earlier runs have left, once the units of the sequence are up, or at once if a person has chosen not to wait for
/// them.
pub fn undo_only(options: &Options, yes: bool) -> u8 {
    let patience = match yes {
        true => Patience::GivenUp,
        false => Patience::Limited(Duration::ZERO),
    };
    undo(options, patience).code()
}

fn undo(options: &Options, patience: Patience) -> UndoOutcome {
    let outcome = boot_wait::undo(options, patience);
    if outcome == UndoOutcome::Nothing {
        print("farewell start: nothing is to be undone\n");
    }
    outcome
}

/// Reserves disk space for the next run's record.
fn make_room(options: &Options) {
    let store = store(options);
    let place = store.directory().display().to_string();
    if let Err(error) = files::within(ROOM, move || store.make_room()) {
        complain(&format!(
            "farewell start: {place}: no disk space could be reserved for the record of the next run: {error}: if that cannot be \
             written, what the run leaves in other services is not undone"
        ));
    }
}

/// Saves the plan and every fact that is available; one that is not keeps its earlier value.
fn keep(options: &Options, plan: &Plan, files: &[(PathBuf, String)], facts: &Facts) -> bool {
    let write = |kept: &RuntimeDir| -> io::Result<()> {
        facts.look_at_machine();
        let mut values = kept.facts();
        values.extend(facts.found());
        // An earlier configuration may have named other paths.
        values.retain(|name, _| !facts.is_secret(name));
        kept.keep_facts(&values)?;
        kept.keep_plan(files)?;
        let learnt = kept.learnt().unwrap_or_default();
        keep_order(kept, plan, facts, &learnt)
    };
    let Some(kept) = kept(options) else {
        return true;
    };
    write(&kept)
        .map_err(|error| {
            complain(&format!(
                "farewell start: {}: nothing could be saved for the shutdown: {error}",
                kept.directory().display()
            ));
        })
        .is_ok()
}

/// Saves the interfaces that lead to the peers now: the run sends nothing over plain HTTP if one of them is gone.
fn keep_ways(options: &Options, peers: &[Addressed<'_>]) -> bool {
    let Some(kept) = kept(options) else {
        return true;
    };
    let (before, ways) = (kept.ways(), resolved_peers::ways(peers));
    for (address, interface) in &ways {
        let other = before.get(address).filter(|before| *before != interface);
        if let Some(before) = other {
            print(&format!(
                "farewell start: {address} was reached through {before}, and is reached through {interface} now\n"
            ));
        }
    }
    let written = kept.keep_ways(&ways).map_err(|error| {
        let place = kept.directory().display();
        complain(&format!(
            "farewell start: {place}: the interfaces that lead to the peers could not be saved: {error}"
        ));
    });
    written.is_ok()
}

/// Saves what the generator makes of a good plan.
fn keep_order(kept: &RuntimeDir, plan: &Plan, facts: &Facts, learnt: &Learnt) -> io::Result<()> {
    let ordering = Ordering::of(plan, facts);
    kept.keep_order(&generator::drop_in(&ordering, plan.stop_timeout(), learnt))
}

/// Learns from systemd what the order of farewell.service needs, before waiting for anything: the machine may end while
/// its units are starting. Returns whether it could be saved.
fn order(options: &Options, plan: &Plan, facts: &Facts) -> bool {
    let look = || preflight::inspect_order(plan, facts, Deadline::after(ANSWER, Reason::Attempt));
    // The reason is reported later.
    let Ok(inspection) = look() else {
        return true;
    };
    let is_kept = learn(options, plan, facts, inspection.learnt.as_ref());
    if inspection.is_stale() {
        reload();
    }
    is_kept
}

/// Saves what systemd reported for the generator: for this boot and the next one. If it is saved already, nothing is
/// written.
fn learn(options: &Options, plan: &Plan, facts: &Facts, learnt: Option<&Learnt>) -> bool {
    let Some(learnt) = learnt else {
        return true;
    };
    let now = kept(options);
    let before = RuntimeDir::for_good(store(options).directory());
    let mut is_kept = true;
    for place in now.iter().chain([&before]) {
        if place.learnt().as_ref() == Some(learnt) {
            continue;
        }
        if let Err(error) = place.keep_learnt(learnt) {
            is_kept = false;
            complain(&format!(
                "farewell start: {}: what systemd reported of the order could not be saved: {error}",
                place.directory().display()
            ));
        }
    }
    if let Some(Err(error)) = now.map(|kept| keep_order(&kept, plan, facts, learnt)) {
        is_kept = false;
        complain(&format!(
            "farewell start: the order could not be saved: {error}"
        ));
    }
    is_kept
}

/// Makes systemd reload, and so run farewell-generator again.
fn reload() {
    print(
        "farewell start: systemd has loaded an older configuration: requesting a daemon-reload\n",
    );
    let deadline = Deadline::after(ANSWER, Reason::Attempt);
    let reloaded = Manager::connect(deadline).and_then(|manager| manager.reload(deadline));
    if let Err(error) = reloaded {
        complain(&format!("farewell start: daemon-reload: {error}"));
    }
}

/// Compares what systemd has loaded with the plan. If that is only outdated (cloud-init wrote a drop-in, say), one
/// daemon-reload updates it.
fn is_ready(options: &Options, plan: &Plan, facts: &Facts, peers: &[Addressed<'_>]) -> bool {
    let look = || preflight::inspect(plan, facts, peers, Deadline::after(ANSWER, Reason::Attempt));
    let mut inspected = look();
    if let Ok(inspection) = &inspected {
        learn(options, plan, facts, inspection.learnt.as_ref());
        if inspection.is_stale() {
            reload();
            inspected = look();
        }
    }
    match inspected {
        Err(reason) => {
            print(&format!(
                "farewell start: this machine was not inspected: {reason}\n"
            ));
            true
        }
        Ok(inspection) => {
            for finding in &inspection.findings {
                complain(&format!("farewell start: {}", finding.message));
            }
            for remark in &inspection.remarks {
                print(&format!("farewell start: {remark}\n"));
            }
            for remark in leftovers(plan, facts) {
                print(&format!("farewell start: {remark}\n"));
            }
            if inspection.findings.is_empty() {
                print(&format!("farewell start: {}\n", inspection.summary));
            }
            inspection.findings.is_empty()
        }
    }
}

/// Processes that may survive a stop, since their unit's settings let them run on.
fn leftovers(plan: &Plan, facts: &Facts) -> Vec<String> {
    let stops = preflight::stops(plan, facts, Deadline::after(ANSWER, Reason::Attempt));
    match stops {
        Ok(stops) => preflight::leftovers(plan, &stops),
        Err(reason) => vec![format!(
            "the units that the steps stop were not inspected: {reason}"
        )],
    }
}
