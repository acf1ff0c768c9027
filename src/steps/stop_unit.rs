//! `stop-unit`: stops systemd units and waits until they are down, from inside a shutdown too.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use crate::config::section::Field;
use crate::config::section::{Secrecy, Section, unit_name};
use crate::deadline::{Deadline, Reason};
use crate::failure::{Failure, Word};
use crate::lapse;
use crate::step::{Action, Blueprint, Effect, Kind, Pace, Scope, Ties};
use crate::sys::bus::Trouble;
use crate::sys::cancel::Waited;
use crate::sys::systemd::{self, Manager, Process, Unit, UnitState};

/// The kind's entry in the table. Its keys:
///
/// - `units` (units; required): the name of a unit with its suffix, or a list of them; what triggers them (sockets,
///   timers, paths) is stopped before them
pub const KIND: Kind = Kind {
    name: "stop-unit",
    read,
    undo: None,
};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(200);

/// What is kept of the step's time to find out what still runs; PID 1 has much to do at a shutdown.
const LAST_WORDS: Duration = Duration::from_millis(1500);

/// How many processes are named of a unit that does not end.
const NAMED: usize = 5;

const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

struct StopUnit {
    units: Vec<Field<String>>,
}

fn read(section: &Section<'_>) -> Option<Blueprint> {
    let units = section.required("units", |section, key| {
        section.texts(key, instance, Secrecy::Public)
    });
    section.finish();
    let units = units?;
    let ties = Ties {
        units: units.clone(),
        ..Ties::default()
    };
    Some(Blueprint {
        ties,
        may_stop: true,
        ..Blueprint::new(StopUnit { units }, Pace::Polled)
    })
}

/// A unit that can be stopped: a template is none, and nothing can be ordered after one.
fn instance(name: &str) -> Result<String, String> {
    let unit = unit_name(name)?;
    match unit.split_once("@.") {
        Some((prefix, suffix)) => Err(format!(
            "`{name}` is a template; name its instances, like {prefix}@1.{suffix}"
        )),
        None if unit == systemd::UNIT => Err(format!(
            "{name} is what runs this sequence; it ends by itself"
        )),
        None => Ok(unit),
    }
}

impl Action for StopUnit {
    fn attempt(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        let mut stop = Stop {
            scope,
            manager: None,
        };
        let found = self.found(&mut stop)?;
        let is_down = |(_, unit): &(String, Unit)| unit.is_down();
        if found.iter().all(is_down) && !stop.has_trigger(&found)? {
            stop.remark(&found);
            return Ok(Effect::AlreadyDone);
        }
        // What would start them again comes first.
        let triggers = stop.end(&triggers(&found));
        let names: Vec<String> = found.into_iter().map(|(name, _)| name).collect();
        stop.end(&names).and(triggers)?;
        let ended = stop.look(names)?;
        stop.remark(&ended);
        Ok(Effect::Done)
    }

    fn rehearse(&self, scope: &Scope<'_>) -> Result<String, Failure> {
        let mut stop = Stop {
            scope,
            manager: None,
        };
        let found = self.found(&mut stop)?;
        let told: Vec<String> = found.iter().map(|(name, unit)| told(name, unit)).collect();
        Ok(format!("{}; nothing was stopped", told.join(", ")))
    }
}

impl StopUnit {
    /// The units by their configured names, as systemd has them.
    fn found(&self, stop: &mut Stop<'_>) -> Result<Vec<(String, Unit)>, Failure> {
        let units: Vec<String> = self
            .units
            .iter()
            .map(|unit| unit.get(stop.scope.facts))
            .collect::<Result<_, _>>()?;
        if !systemd::is_booted() {
            let cause = "systemd does not run here, so that no unit does";
            return Err(Failure::new(Word::Unit, units.join(", "), cause));
        }
        stop.look(units)
    }
}

/// What starts one of the units when something happens.
fn triggers(found: &[(String, Unit)]) -> Vec<String> {
    let triggers = found.iter().flat_map(|(_, unit)| &unit.triggered_by);
    let triggers: BTreeSet<&String> = triggers.collect();
    triggers.into_iter().cloned().collect()
}

/// What systemd says of a unit that is to be stopped, and of what would start it again.
fn told(name: &str, unit: &Unit) -> String {
    if !unit.exists() {
        return format!("{name} is unknown to systemd, so that there is nothing to stop");
    }
    let triggers = match unit.triggered_by.as_slice() {
        [] => String::new(),
        triggers => format!(", after {}", triggers.join(", ")),
    };
    format!("{name} is {} ({}){triggers}", unit.active, unit.sub)
}

/// One attempt's talk with PID 1.
struct Stop<'a> {
    scope: &'a Scope<'a>,
    /// Made anew after each trouble: `daemon-reexec` cuts every connection.
    manager: Option<Manager>,
}

impl Stop<'_> {
    /// Asks PID 1, again after each trouble that may pass.
    fn ask<T>(
        &mut self,
        noun: &str,
        question: impl Fn(&Manager, Deadline) -> Result<T, Trouble>,
    ) -> Result<T, Failure> {
        loop {
            let deadline = self.scope.request();
            let answer = match self.manager.take() {
                Some(manager) => Ok(manager),
                None => Manager::connect(deadline),
            };
            let answer = answer.and_then(|manager| {
                let answer = question(&manager, deadline);
                // A refusal is an answer too.
                if matches!(answer, Ok(_) | Err(Trouble::Refused(..))) {
                    self.manager = Some(manager);
                }
                answer
            });
            let trouble = match answer {
                Ok(value) => return Ok(value),
                Err(trouble) => trouble,
            };
            let is_final = matches!(trouble, Trouble::Refused(..));
            if is_final || self.pause() == Waited::Cancelled || self.scope.deadline.left().is_none()
            {
                return Err(trouble.failure(noun));
            }
        }
    }

    fn pause(&self) -> Waited {
        let next = Deadline::after(EVERY, Reason::Attempt);
        self.scope
            .cancel
            .sleep_until(self.scope.deadline.earlier(next))
    }

    /// The units as systemd has them.
    fn look(&mut self, names: Vec<String>) -> Result<Vec<(String, Unit)>, Failure> {
        let look = |name: String| {
            let unit = self.ask(&name, |manager, deadline| manager.unit(&name, deadline))?;
            Ok((name, unit))
        };
        names.into_iter().map(look).collect()
    }

    /// Where units stand now.
    fn states(&mut self, names: &[String]) -> Result<Vec<UnitState>, Failure> {
        self.ask(&names.join(", "), |manager, deadline| {
            manager.states(names, deadline)
        })
    }

    /// Whether something is still active that would start one of the units again.
    fn has_trigger(&mut self, found: &[(String, Unit)]) -> Result<bool, Failure> {
        let triggers = triggers(found);
        if triggers.is_empty() {
            return Ok(false);
        }
        let states = self.states(&triggers)?;
        Ok(states.iter().any(|state| !state.is_down()))
    }

    /// Stops units and waits until all of them are down. One that cannot be stopped costs the others nothing.
    fn end(&mut self, names: &[String]) -> Result<(), Failure> {
        let (mut left, mut refused) = (Vec::new(), None);
        for name in names {
            match self.stop(name) {
                Ok(()) => left.push(name.clone()),
                Err(failure) => refused = refused.or(Some(failure)),
            }
        }
        let mut still = None;
        let mut what = format!("the end of {}", left.join(", "));
        while !left.is_empty() {
            let states = match self.states(&left) {
                Ok(states) => states,
                // At a shutdown PID 1 has much to do. What is known is told also where it answers too late.
                Err(failure) if self.scope.deadline.left().is_none() => {
                    let cause = format!("systemd: {}", failure.cause);
                    return Err(Failure::new(Word::TimedOut, what, still.unwrap_or(cause)));
                }
                Err(failure) => return Err(failure),
            };
            let running: Vec<&UnitState> = states.iter().filter(|it| !it.is_down()).collect();
            left.retain(|name| running.iter().any(|state| state.name == *name));
            let Some(first) = running.first() else { break };
            what = format!("the end of {} ({})", left.join(", "), first.sub);
            self.scope.voice.waiting(&what);
            if still.is_none() && self.scope.deadline.left() <= Some(LAST_WORDS) {
                still = Some(self.still_there(&running));
            }
            if self.pause() == Waited::Cancelled {
                return Err(Failure::new(Word::TimedOut, what, "told to stop"));
            }
            if self.scope.deadline.left().is_none() {
                let cause = || self.still_there(&running);
                return Err(Failure::new(
                    Word::TimedOut,
                    what,
                    still.unwrap_or_else(cause),
                ));
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Queues the stop of a unit. What systemd refuses to stop by itself gets its signal during a shutdown, where a stop job
    /// of the shutdown's own keeps it down.
    fn stop(&mut self, name: &str) -> Result<(), Failure> {
        let stopped = self.ask(name, |manager, deadline| {
            match manager.stop(name, deadline) {
                Err(trouble) if trouble.is(NO_SUCH_UNIT) => Ok(None),
                Err(trouble @ Trouble::Refused(..)) => {
                    if manager.state(deadline)? == "stopping" {
                        manager.terminate(name, deadline)?;
                        return Ok(Some(trouble));
                    }
                    Err(trouble)
                }
                Err(trouble) => Err(trouble),
                Ok(()) => Ok(None),
            }
        });
        match stopped {
            Ok(None) => Ok(()),
            Ok(Some(trouble)) => {
                let remark =
                    format!("{name} got SIGTERM, since systemd would not stop it: {trouble}");
                self.scope.voice.remark(&remark);
                Ok(())
            }
            // A unit that must not be stopped by hand, say; another attempt would hear the same.
            Err(failure) => Err(Failure {
                word: if failure.passing {
                    failure.word
                } else {
                    Word::Unit
                },
                ..failure
            }),
        }
    }

    /// What is still there of the units that did not end: their state, since when, and their processes, as far as PID 1 tells
    /// it in time.
    fn still_there(&mut self, running: &[&UnitState]) -> String {
        let deadline = self.scope.deadline;
        let manager = self.manager.take();
        let manager = manager.map_or_else(|| Manager::connect(deadline), Ok);
        let tell = |state: &&UnitState| {
            let UnitState {
                name, active, sub, ..
            } = state;
            let known = format!("{name} is {active} ({sub})");
            let asked = manager.as_ref().map_err(Clone::clone).and_then(|manager| {
                let unit = manager.unit(name, deadline)?;
                Ok((unit, manager.processes(name, deadline)?))
            });
            asked.map_or(known, |(unit, processes)| detail(name, &unit, &processes))
        };
        running.iter().map(tell).collect::<Vec<_>>().join("; ")
    }

    /// Tells of units that ended, but not well.
    fn remark(&self, ended: &[(String, Unit)]) {
        let bad = ended.iter().filter(|(_, unit)| unit.active == "failed");
        let mut remarks: Vec<String> = bad
            .map(|(name, unit)| format!("{name} is down, but failed ({})", unit.result))
            .collect();
        let gone = ended.iter().filter(|(_, unit)| !unit.exists());
        remarks.extend(gone.map(|(name, _)| format!("there is no unit {name}")));
        if !remarks.is_empty() {
            self.scope.voice.remark(&remarks.join("; "));
        }
    }
}

/// What a unit does that has not ended, since when, and with which processes.
fn detail(name: &str, unit: &Unit, processes: &[Process]) -> String {
    let since = unit
        .since
        .and_then(|since| SystemTime::now().duration_since(since).ok());
    let since = since.map_or_else(String::new, |since| format!(" for {}", lapse::whole(since)));
    let mut told: Vec<String> = processes
        .iter()
        .take(NAMED)
        .map(|process| {
            let program = process.command.split(' ').next().unwrap_or_default();
            format!("{} ({program})", process.pid)
        })
        .collect();
    if processes.len() > NAMED {
        told.push(format!("{} more", processes.len() - NAMED));
    }
    let told = if told.is_empty() {
        "no process".to_owned()
    } else {
        format!("processes {}", told.join(", "))
    };
    format!(
        "{name} is {} ({}){since}, with {told}",
        unit.active, unit.sub
    )
}
