//! What a stop waits for, and how it ended.

use super::stop::Stop;
use super::stopping::{StopPhase, StoppingUnit};
use crate::model::error::{ErrorKind, Failure};
use crate::step::Outcome;
use crate::sys::systemd::{Protection, StopCause};

/// How many units are named while the step waits.
const NAMED: usize = 5;

impl Stop<'_> {
    /// What it waits for, without elapsed times, since the record keeps every change.
    pub(super) fn waiting(&self) -> String {
        let open = || self.units.iter().filter(|it| !self.is_finished(it));
        let running: Vec<&StoppingUnit> = open().filter(|it| it.down.is_none()).collect();
        let Some(first) = running.first() else {
            return format!(
                "the processes of {} to end",
                list(open().map(StoppingUnit::name))
            );
        };
        if let Some(busy) = running.iter().find(|it| !it.busy.is_empty()) {
            return format!("{}, which {} keep busy", busy.name(), busy.busy.join(", "));
        }
        let asked = running
            .iter()
            .find(|it| !matches!(it.phase, StopPhase::Waiting));
        let asked = asked.unwrap_or(first);
        let state = match (&asked.phase, self.manner.signal) {
            (StopPhase::Signalled(_), Some((name, _))) => {
                format!("{name} sent to {}", asked.name())
            }
            _ if running.len() == 1 => asked.state.sub.clone(),
            _ => format!("{} is {}", asked.name(), asked.state.sub),
        };
        format!(
            "the end of {} ({state})",
            list(running.iter().map(|it| it.name()))
        )
    }

    /// What every unit still does that is not gone.
    pub(super) fn details(&self) -> String {
        let open = self.units.iter().filter(|it| !it.is_gone());
        let details: Vec<String> = open.map(|it| it.detail(&self.spared)).collect();
        details.join("; ")
    }

    /// The result, when nothing is left to wait for.
    pub(super) fn verdict(&mut self) -> Result<Outcome, Failure> {
        let mut wrong: Vec<Failure> = Vec::new();
        let mut remarks: Vec<String> = Vec::new();
        for stopping in &self.units {
            match &stopping.phase {
                StopPhase::Refused(failure) => wrong.push(failure.clone()),
                _ if stopping.is_gone() => {}
                _ if self.manner.leave_behind == Some(true) => {
                    remarks.push(stopping.detail(&self.spared));
                }
                _ => {
                    let cause = format!(
                        "{}: set `leave-behind = true` to allow that, or false to wait for them",
                        stopping.detail(&self.spared)
                    );
                    wrong.push(Failure::new(ErrorKind::Unit, "", cause));
                }
            }
        }
        let named = self
            .closure
            .spared
            .iter()
            .filter(|it| it.cause == StopCause::Named);
        for spared in named.filter(|it| !it.unit.is_down()) {
            let cause = format!("it is not stopped: {}", spared.spare);
            wrong.push(Failure::new(ErrorKind::Unit, &spared.unit.id, cause));
        }
        if let Some(first) = wrong.first() {
            let causes: Vec<String> = wrong.iter().map(ToString::to_string).collect();
            let failure = match causes.len() {
                1 => first.clone(),
                _ => Failure::new(ErrorKind::Unit, "", causes.join("; ")),
            };
            return Err(failure.retryable(false));
        }
        remarks.extend(self.remarks());
        if !remarks.is_empty() {
            self.client.context.events.remark(&remarks.join("; "));
        }
        Ok(Outcome::of_change(self.has_acted))
    }

    /// Remarks on a successful stop.
    fn remarks(&mut self) -> Vec<String> {
        let mut remarks = Vec::new();
        let along = self.closure.along();
        if !along.is_empty() {
            remarks.push(format!("with it stopped {}", along.join(", ")));
        }
        for stopping in &self.units {
            let name = stopping.name().to_owned();
            if stopping.state.active == "failed" {
                let unit = self
                    .client
                    .tell(|manager, deadline| manager.unit(&name, deadline));
                let result = unit
                    .map(|unit| format!(" ({})", unit.result))
                    .unwrap_or_default();
                remarks.push(format!("{name} is down, but failed{result}"));
            } else if !stopping.member.unit.exists() {
                remarks.push(format!("there is no unit {name}"));
            }
        }
        let missing = self.unmatched.iter();
        remarks.extend(missing.map(|pattern| format!("no unit matches {pattern}")));
        let upheld = self.closure.spared.iter();
        let upheld =
            upheld.filter(|it| it.spare == Protection::UpholdingTarget && !it.unit.is_down());
        remarks
            .extend(upheld.map(|it| format!("{} may start it again ({})", it.unit.id, it.cause)));
        remarks
    }
}

/// `a, b, c, d, e and 3 more`
fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let told = names[..names.len().min(NAMED)].join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => told,
        more => format!("{told} and {more} more"),
    }
}
