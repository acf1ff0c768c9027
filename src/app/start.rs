//! `farewell start`: what is done when a machine has booted, or has come back, for the farewell to come.

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
use crate::preflight::addressed::{self, Addressed};
use crate::sys::files;
use crate::sys::systemd::Manager;

/// How long the units of the sequence are waited for, which may still be starting when this runs at boot.
const UNITS: Duration = Duration::from_secs(120);

/// How long the disk may take to keep room for a record.
const ROOM: Duration = Duration::from_secs(10);

/// How long PID 1 may take to answer; a daemon-reload runs every generator.
const ANSWER: Duration = Duration::from_secs(30);

/// Checks the configuration, keeps facts and plan, undoes what is pending, and looks whether this machine is ready for
/// its farewell. Each of these is done whatever became of the others.
pub fn start(options: &Options) -> u8 {
    logging::install(LevelFilter::Warn);
    // Looked up anew: what was kept before may be of another time.
    let facts = Facts::new(Trigger::Stop, "start");
    let mut loaded = LoadedConfig::through(&source(options), Some(&facts));
    loaded.look_at_facts(&facts);
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
                "farewell start: the configuration cannot be used, and no good plan is kept: THERE WOULD BE NO FAREWELL"
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
    // What is undone still goes by the interfaces that were there before.
    let undone = undo(options, Patience::Limited(UNITS));
    if is_installed && undone == UndoOutcome::Nothing {
        boot_wait::wait_for_all(plan, &facts, UNITS);
    }
    make_room(options);
    // systemd runs the installed configuration, whatever --config says.
    let is_ready = !is_installed || {
        let peers = addressed::peers(plan, &facts, Deadline::after(ANSWER, Reason::Attempt));
        let is_kept = keep_ways(options, &peers);
        is_ready(options, plan, &facts, &peers) && is_kept
    };
    match (is_sound, is_kept && is_ordered && is_ready) {
        (false, _) => exit::CONFIG,
        (true, false) => exit::FAILED,
        (true, true) => undone.code(),
    }
}

/// Undoes what earlier runs have left: when the units of the sequence are up, unless a person has given up waiting for
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

/// Keeps room on the disk for the next run's record.
fn make_room(options: &Options) {
    let store = store(options);
    let place = store.directory().display().to_string();
    if let Err(error) = files::within(ROOM, move || store.make_room()) {
        complain(&format!(
            "farewell start: {place}: no room could be kept for the record of the next run: {error}: where that cannot be \
             written, what the run leaves in other services is not undone"
        ));
    }
}

/// Keeps the plan, and every fact that could be had; one that cannot be had now keeps its value from before.
fn keep(options: &Options, plan: &Plan, files: &[(PathBuf, String)], facts: &Facts) -> bool {
    let write = |kept: &RuntimeDir| -> io::Result<()> {
        facts.look_at_machine();
        let mut values = kept.facts();
        values.extend(facts.found());
        // An earlier configuration may have had them elsewhere.
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
                "farewell start: {}: nothing could be kept for the shutdown: {error}",
                kept.directory().display()
            ));
        })
        .is_ok()
}

/// Keeps the interfaces that lead to the peers now: at the run nothing is sent over plain http where one is gone.
fn keep_ways(options: &Options, peers: &[Addressed<'_>]) -> bool {
    let Some(kept) = kept(options) else {
        return true;
    };
    let (before, ways) = (kept.ways(), addressed::ways(peers));
    for (address, interface) in &ways {
        let other = before.get(address).filter(|before| *before != interface);
        if let Some(before) = other {
            print(&format!(
                "farewell start: {address} was reached through {before}, and is through {interface} now\n"
            ));
        }
    }
    let written = kept.keep_ways(&ways).map_err(|error| {
        let place = kept.directory().display();
        complain(&format!(
            "farewell start: {place}: the interfaces that lead to the peers could not be kept: {error}"
        ));
    });
    written.is_ok()
}

/// Keeps what the generator makes of a plan that is good now.
fn keep_order(kept: &RuntimeDir, plan: &Plan, facts: &Facts, learnt: &Learnt) -> io::Result<()> {
    let ordering = Ordering::of(plan, facts);
    kept.keep_order(&generator::drop_in(&ordering, plan.stop_timeout(), learnt))
}

/// Learns from systemd what the order of farewell.service needs, before anything is waited for: the machine may end while
/// its units are starting. Returns whether what was learnt could be kept.
fn order(options: &Options, plan: &Plan, facts: &Facts) -> bool {
    let look = || preflight::inspect_order(plan, facts, Deadline::after(ANSWER, Reason::Attempt));
    // Why it cannot be looked at is told later.
    let Ok(inspection) = look() else {
        return true;
    };
    let is_kept = learn(options, plan, facts, inspection.learnt.as_ref());
    if inspection.is_stale() {
        reload();
    }
    is_kept
}

/// Keeps what systemd told for the generator: for this boot, and for the next one. Where it is kept already, nothing is
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
                "farewell start: {}: what systemd told of the order could not be kept: {error}",
                place.directory().display()
            ));
        }
    }
    if let Some(Err(error)) = now.map(|kept| keep_order(&kept, plan, facts, learnt)) {
        is_kept = false;
        complain(&format!(
            "farewell start: the order could not be kept: {error}"
        ));
    }
    is_kept
}

/// Has systemd read everything again, and farewell-generator make the order anew.
fn reload() {
    print(
        "farewell start: what systemd has loaded is older than the configuration: asks for a daemon-reload\n",
    );
    let deadline = Deadline::after(ANSWER, Reason::Attempt);
    let reloaded = Manager::connect(deadline).and_then(|manager| manager.reload(deadline));
    if let Err(error) = reloaded {
        complain(&format!("farewell start: daemon-reload: {error}"));
    }
}

/// Looks at what systemd has loaded. Where that is only older than the configuration (cloud-init wrote a drop-in, say), one
/// daemon-reload makes it new.
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
                "farewell start: this machine was not looked at: {reason}\n"
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

/// What may keep a stop from being done, since a unit's own settings let its processes run on.
fn leftovers(plan: &Plan, facts: &Facts) -> Vec<String> {
    let stops = preflight::stops(plan, facts, Deadline::after(ANSWER, Reason::Attempt));
    match stops {
        Ok(stops) => preflight::leftovers(plan, &stops),
        Err(reason) => vec![format!("what the steps stop was not looked at: {reason}")],
    }
}
