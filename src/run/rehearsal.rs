//! A rehearsal: every step checks in parallel what an attempt would need, and changes nothing.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::clients::http::local_listener;
use crate::config::facts::{Facts, TriggerUse};
use crate::model::deadline::{Deadline, Reason};
use crate::model::error::{ErrorKind, Failure};
use crate::model::event::Stream;
use crate::model::intent::{Intent, IntentId};
use crate::model::trigger::Trigger;
use crate::plan::load::Plan;
use crate::run::{conditions, panics};
use crate::step::{AttemptContext, StepEvents};
use crate::sys::cancel::Cancel;
use crate::sys::http::Http;
use crate::sys::sync::Mutex;
use crate::sys::threads::{self, WhenIdle};

/// Limit of a step's conditions and probe; less if an attempt has less.
const LONGEST: Duration = Duration::from_secs(10);

/// How long a probe may be late before its thread is left behind.
const SLACK: Duration = Duration::from_millis(250);

/// How many probes are made at the same time.
const AT_ONCE: usize = 16;

/// The result of a step's rehearsal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An attempt would find what it needs.
    Ready {
        /// What was checked, and the result.
        said: String,
        /// What deserves attention all the same.
        warnings: Vec<String>,
    },
    /// It would be skipped, and why.
    Skipped(String),
    /// How an attempt would fail now.
    Failed(Failure),
}

impl Answer {
    /// Its warnings; empty unless it is ready.
    pub fn warnings(&self) -> &[String] {
        match self {
            Answer::Ready { warnings, .. } => warnings,
            Answer::Skipped(_) | Answer::Failed(_) => &[],
        }
    }
}

struct Rehearsal {
    plan: Arc<Plan>,
    facts: Arc<Facts>,
    http: Http,
    /// Never cancelled: a rehearsal starts nothing that would have to be ended.
    cancel: Cancel,
}

/// The result of a step's rehearsal on some triggers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The triggers, of those that the step runs on.
    pub triggers: Vec<Trigger>,
    /// The result on each of them.
    pub answer: Answer,
}

/// One probe of a step: made for the first of its triggers, and valid for all of them.
#[derive(Clone)]
struct Probe {
    index: usize,
    triggers: Vec<Trigger>,
}

/// Rehearses every step of the plan but the releases, once, and again for other triggers where the answer depended on
/// the trigger. Reports the answers in the plan's order, each step's as soon as those before it are known, with equal
/// answers merged.
pub fn rehearse(
    plan: &Arc<Plan>,
    facts: &Arc<Facts>,
    http: Http,
    mut tell: impl FnMut(usize, &[Verdict]),
) -> io::Result<Vec<Vec<Verdict>>> {
    let rehearsal = Arc::new(Rehearsal {
        plan: plan.clone(),
        facts: facts.clone(),
        http,
        cancel: Cancel::new()?,
    });
    // Releases, which come last, need nothing that the steps they belong to do not need.
    let count = plan.steps.iter().filter(|it| !it.is_release).count();
    let first = |index| Probe {
        index,
        triggers: in_order(&plan.steps[index].when),
    };
    let (sender, inbox) = mpsc::channel();
    let mut probes = Probes {
        rehearsal,
        sender,
        waiting: (0..count).map(first).collect(),
        running: Vec::new(),
        answers: vec![Vec::new(); count],
    };
    let mut told = 0;
    loop {
        probes.start();
        while told < count && !probes.is_open(told) {
            tell(told, &probes.answers[told]);
            told += 1;
        }
        let Some(late) = probes.running.iter().map(|(_, late)| *late).min() else {
            return Ok(probes.answers);
        };
        match inbox.recv_timeout(late.saturating_duration_since(Instant::now())) {
            Ok((probe, answer)) => probes.end(&probe, answer),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                probes.abandon_late()
            }
        }
    }
}

/// The answer of a probe, and how it depends on the trigger.
type Answered = (Answer, TriggerUse);

/// The probes of a rehearsal, each on its own thread, and their answers.
struct Probes {
    rehearsal: Arc<Rehearsal>,
    sender: mpsc::Sender<(Probe, Answered)>,
    waiting: VecDeque<Probe>,
    /// Each with the time at which it is late.
    running: Vec<(Probe, Instant)>,
    /// By the index of the step.
    answers: Vec<Vec<Verdict>>,
}

impl Probes {
    /// Starts as many as may run at the same time.
    fn start(&mut self) {
        while self.running.len() < AT_ONCE
            && let Some(probe) = self.waiting.pop_front()
        {
            let (its, sender) = (self.rehearsal.clone(), self.sender.clone());
            let asked = probe.clone();
            let job = move || -> WhenIdle {
                let answer = its.answer(&asked);
                // The receiver of an abandoned probe is gone.
                Box::new(move || drop(sender.send((asked, answer))))
            };
            match threads::start(job) {
                Ok(()) => {
                    let limit = self.rehearsal.limit(probe.index);
                    self.running
                        .push((probe, Instant::now() + limit * 2 + SLACK));
                }
                Err(error) => {
                    let failure = Failure::new(ErrorKind::Io, "a thread for it", error.to_string());
                    self.add(probe.index, probe.triggers, Answer::Failed(failure));
                }
            }
        }
    }

    /// Whether an answer of this step is still missing.
    fn is_open(&self, index: usize) -> bool {
        let mut open = self.running.iter().map(|(it, _)| it).chain(&self.waiting);
        open.any(|it| it.index == index)
    }

    /// Records the answer of a probe, and queues another probe for those of its triggers to which it does not apply.
    fn end(&mut self, probe: &Probe, (answer, asked): Answered) {
        let is_its =
            |(it, _): &(Probe, Instant)| it.index == probe.index && it.triggers == probe.triggers;
        let Some(at) = self.running.iter().position(is_its) else {
            // It was abandoned and reported before.
            return;
        };
        self.running.swap_remove(at);
        let (same, others) = split(&probe.triggers, asked);
        self.add(probe.index, same, answer);
        self.waiting
            .extend(others.into_iter().map(|triggers| Probe {
                index: probe.index,
                triggers,
            }));
    }

    /// Gives up those that are late.
    fn abandon_late(&mut self) {
        let now = Instant::now();
        let late: Vec<Probe> = (self.running)
            .extract_if(.., |(_, late)| *late <= now)
            .map(|(probe, _)| probe)
            .collect();
        for probe in late {
            let cause = "did not end at its deadline and was abandoned";
            let kind = self.rehearsal.plan.steps[probe.index].kind;
            let failure = Failure::new(ErrorKind::TimedOut, kind, cause);
            self.add(probe.index, probe.triggers, Answer::Failed(failure));
        }
    }

    fn add(&mut self, index: usize, triggers: Vec<Trigger>, answer: Answer) {
        add(&mut self.answers[index], triggers, answer);
    }
}

/// The triggers, with the one to rehearse first in front.
fn in_order(when: &[Trigger]) -> Vec<Trigger> {
    let mut triggers: Vec<Trigger> = Trigger::ALL.into_iter().rev().collect();
    triggers.retain(|it| when.contains(it));
    triggers
}

/// Splits the triggers of a probe into those for which its answer holds, according to what it used of the first one,
/// and groups of others that need probes of their own.
fn split(triggers: &[Trigger], asked: TriggerUse) -> (Vec<Trigger>, Vec<Vec<Trigger>>) {
    let Some((first, others)) = triggers.split_first() else {
        return (Vec::new(), Vec::new());
    };
    match asked {
        TriggerUse::Nothing => (triggers.to_vec(), Vec::new()),
        TriggerUse::Return => {
            let is_same = |it: &&Trigger| it.restarts() == first.restarts();
            let same = triggers.iter().filter(is_same).copied().collect();
            let others: Vec<Trigger> = others.iter().filter(|it| !is_same(it)).copied().collect();
            (
                same,
                if others.is_empty() {
                    Vec::new()
                } else {
                    vec![others]
                },
            )
        }
        TriggerUse::ErrorKind => (vec![*first], others.iter().map(|it| vec![*it]).collect()),
    }
}

/// Adds an answer, merged with an equal one.
fn add(verdicts: &mut Vec<Verdict>, triggers: Vec<Trigger>, answer: Answer) {
    match verdicts.iter_mut().find(|it| it.answer == answer) {
        Some(same) => same.triggers.extend(triggers),
        None => verdicts.push(Verdict { triggers, answer }),
    }
    for verdict in verdicts {
        let all = Trigger::ALL.into_iter();
        verdict.triggers = all.filter(|it| verdict.triggers.contains(it)).collect();
    }
}

impl Rehearsal {
    /// The time limit of a step's probe.
    fn limit(&self, index: usize) -> Duration {
        self.plan.steps[index].attempt_timeout.min(LONGEST)
    }

    /// The answer of a probe, and how it used the trigger.
    fn answer(&self, probe: &Probe) -> (Answer, TriggerUse) {
        let trigger = probe.triggers.first().copied().unwrap_or(Trigger::Stop);
        let facts = self.facts.on(trigger);
        (self.ask(probe.index, &facts), facts.asked())
    }

    fn ask(&self, index: usize, facts: &Facts) -> Answer {
        let step = &self.plan.steps[index];
        if !step.uses.is_empty() {
            let facts = step.uses.join(", ");
            return Answer::Ready {
                said: format!(
                    "not asked: {facts} is known only in a run, when it has been captured"
                ),
                warnings: Vec::new(),
            };
        }
        let deadline = || Deadline::after(self.limit(index), Reason::Attempt);
        let unmet = panics::catch(|| conditions::unmet(step, facts, deadline(), &self.cancel));
        match unmet {
            Ok(None) => {}
            Ok(Some(reason)) => return Answer::Skipped(reason),
            Err(failure) => return Answer::Failed(failure),
        }
        let remarks = Remarks::default();
        let context = AttemptContext {
            deadline: deadline(),
            attempt_timeout: self.limit(index),
            cancel: &self.cancel,
            facts,
            http: &self.http,
            events: &remarks,
            needed: &|| self.plan.needed(index),
        };
        for warning in local_listener::warnings(&step.dependencies, facts) {
            remarks.warn(&warning);
        }
        match panics::catch(|| step.action.rehearse(&context)) {
            Ok(sentence) => remarks.append_to(sentence),
            Err(failure) => Answer::Failed(failure),
        }
    }
}

/// Collects a step's remarks, which are appended to its sentence, and its warnings.
#[derive(Default)]
struct Remarks {
    remarks: Mutex<Vec<String>>,
    warnings: Mutex<Vec<String>>,
}

impl Remarks {
    fn append_to(self, sentence: String) -> Answer {
        let said = [vec![sentence], self.remarks.into_inner()].concat();
        Answer::Ready {
            said: said.join("; "),
            warnings: self.warnings.into_inner(),
        }
    }
}

fn push(list: &Mutex<Vec<String>>, text: &str) {
    let mut list = list.lock();
    list.push(text.to_owned());
}

impl StepEvents for Remarks {
    fn waiting(&self, _: &str) {}

    fn output(&self, _: Stream, _: &str) {}

    /// A rehearsal leaves nothing that would have to be undone.
    fn intend(&self, _: &Intent) -> IntentId {
        IntentId { step: 0, number: 0 }
    }

    fn withdraw(&self, _: IntentId) {}

    fn remark(&self, remark: &str) {
        push(&self.remarks, remark);
    }

    fn warn(&self, warning: &str) {
        push(&self.warnings, warning);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::trigger::Trigger::{Halt, Kexec, Poweroff, Reboot, SoftReboot, Stop};

    #[test]
    fn triggers_are_told_apart_by_what_was_asked_of_them() {
        let all = in_order(&Trigger::ALL);
        assert_eq!(all, [Stop, SoftReboot, Kexec, Reboot, Halt, Poweroff]);
        assert_eq!(split(&all, TriggerUse::Nothing), (all.clone(), vec![]));
        let (same, others) = split(&all, TriggerUse::Return);
        assert_eq!(same, [Stop, Halt, Poweroff]);
        assert_eq!(others, [vec![SoftReboot, Kexec, Reboot]]);
        let (same, others) = split(&[Reboot, Halt], TriggerUse::ErrorKind);
        assert_eq!((same, others), (vec![Reboot], vec![vec![Halt]]));
        assert_eq!(split(&[Reboot], TriggerUse::Return), (vec![Reboot], vec![]));
    }

    #[test]
    fn answers_that_are_the_same_are_one() {
        let ready = |said: &str| Answer::Ready {
            said: said.to_owned(),
            warnings: Vec::new(),
        };
        let mut verdicts = Vec::new();
        add(&mut verdicts, vec![Stop, Poweroff], ready("a"));
        add(&mut verdicts, vec![Reboot], ready("b"));
        add(&mut verdicts, vec![Halt], ready("a"));
        let triggers: Vec<_> = verdicts.iter().map(|it| it.triggers.clone()).collect();
        assert_eq!(triggers, [vec![Poweroff, Halt, Stop], vec![Reboot]]);
    }
}
