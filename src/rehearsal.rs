//! A rehearsal: every step asks what an attempt would need, side by side, and nothing is changed.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::facts::Facts;
use crate::deadline::{Deadline, Reason};
use crate::event::Stream;
use crate::failure::{Failure, Word};
use crate::intent::{Intent, Mark};
use crate::plan::gate::Plan;
use crate::run::{condition, panics};
use crate::step::{Scope, Voice};
use crate::sys::cancel::Cancel;
use crate::sys::http::Http;
use crate::sys::workers::{self, Next};

/// What a step's probe may take at most, and its conditions before it; less where an attempt has less.
const LONGEST: Duration = Duration::from_secs(10);

/// How long a probe may be late before its thread is left behind.
const SLACK: Duration = Duration::from_millis(250);

/// How many probes are made at the same time.
const AT_ONCE: usize = 16;

/// What a step's rehearsal came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An attempt would find what it needs.
    Ready {
        /// What was asked, and what the answer was.
        said: String,
        /// What somebody should look into all the same.
        warnings: Vec<String>,
    },
    /// It would be skipped, and why.
    Skipped(String),
    /// What an attempt would fail of, as things are now.
    Failed(Failure),
}

impl Answer {
    /// Its warnings; none where it is not ready.
    pub fn warnings(&self) -> &[String] {
        match self {
            Answer::Ready { warnings, .. } => warnings,
            Answer::Skipped(_) | Answer::Failed(_) => &[],
        }
    }
}

struct Stage {
    plan: Arc<Plan>,
    facts: Arc<Facts>,
    http: Http,
    /// Nobody turns it: a rehearsal leaves nothing behind that would have to be ended.
    cancel: Cancel,
}

/// Rehearses every step of the plan but the closings, whatever trigger it is for, and tells the answers in the plan's order, each one as
/// soon as those before it are known.
///
/// # Errors
/// When the process has no file descriptor left.
pub fn rehearse(
    plan: &Arc<Plan>,
    facts: &Arc<Facts>,
    http: Http,
    mut tell: impl FnMut(usize, &Answer),
) -> io::Result<Vec<Answer>> {
    let stage = Arc::new(Stage {
        plan: plan.clone(),
        facts: facts.clone(),
        http,
        cancel: Cancel::new()?,
    });
    let (sender, inbox) = mpsc::channel();
    // Closings, which stand at the end, ask for nothing that the steps did not ask for that owe them.
    let count = plan.steps.iter().filter(|it| !it.is_closing).count();
    let mut waiting: VecDeque<usize> = (0..count).collect();
    let mut running: Vec<(usize, Instant)> = Vec::new();
    let mut answers: Vec<Option<Answer>> = vec![None; count];
    let mut told = 0;
    loop {
        while running.len() < AT_ONCE
            && let Some(index) = waiting.pop_front()
        {
            let (its, sender) = (stage.clone(), sender.clone());
            let job = move || -> Next {
                let answer = its.answer(index);
                // Nobody hears of a probe that was left behind.
                Box::new(move || drop(sender.send((index, answer))))
            };
            match workers::start(job) {
                Ok(()) => running.push((index, Instant::now() + stage.limit(index) * 2 + SLACK)),
                Err(error) => {
                    let failure = Failure::new(Word::Io, "a thread for it", error.to_string());
                    answers[index] = Some(Answer::Failed(failure));
                }
            }
        }
        while let Some(Some(answer)) = answers.get(told) {
            tell(told, answer);
            told += 1;
        }
        let Some(late) = running.iter().map(|(_, late)| *late).min() else {
            return Ok(answers.into_iter().flatten().collect());
        };
        match inbox.recv_timeout(late.saturating_duration_since(Instant::now())) {
            Ok((index, answer)) => {
                if answers[index].is_none() {
                    answers[index] = Some(answer);
                }
                running.retain(|(at, _)| *at != index);
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                let now = Instant::now();
                for (index, _) in running.extract_if(.., |(_, late)| *late <= now) {
                    let cause = "did not end at its deadline and was left behind";
                    let failure = Failure::new(Word::TimedOut, plan.steps[index].kind, cause);
                    answers[index] = Some(Answer::Failed(failure));
                }
            }
        }
    }
}

impl Stage {
    /// What the probe of a step may take.
    fn limit(&self, index: usize) -> Duration {
        self.plan.steps[index].attempt_timeout.min(LONGEST)
    }

    fn answer(&self, index: usize) -> Answer {
        let step = &self.plan.steps[index];
        let deadline = || Deadline::after(self.limit(index), Reason::Attempt);
        let unmet =
            panics::caught(|| condition::unmet(step, &self.facts, deadline(), &self.cancel));
        match unmet {
            Ok(None) => {}
            Ok(Some(reason)) => return Answer::Skipped(reason),
            Err(failure) => return Answer::Failed(failure),
        }
        let remarks = Remarks::default();
        let scope = Scope {
            deadline: deadline(),
            attempt_timeout: self.limit(index),
            cancel: &self.cancel,
            facts: &self.facts,
            http: &self.http,
            voice: &remarks,
            needed: &self.plan.needed(index),
        };
        match panics::caught(|| step.action.rehearse(&scope)) {
            Ok(sentence) => remarks.behind(sentence),
            Err(failure) => Answer::Failed(failure),
        }
    }
}

/// Keeps what a step remarks, for the end of its sentence, and what it warns of.
#[derive(Default)]
struct Remarks {
    remarks: Mutex<Vec<String>>,
    warnings: Mutex<Vec<String>>,
}

impl Remarks {
    fn behind(self, sentence: String) -> Answer {
        let all =
            |list: Mutex<Vec<String>>| list.into_inner().unwrap_or_else(PoisonError::into_inner);
        let said = [vec![sentence], all(self.remarks)].concat().join("; ");
        Answer::Ready {
            said,
            warnings: all(self.warnings),
        }
    }
}

fn push(list: &Mutex<Vec<String>>, text: &str) {
    let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
    list.push(text.to_owned());
}

impl Voice for Remarks {
    fn waiting(&self, _: &str) {}

    fn output(&self, _: Stream, _: &str) {}

    /// Nothing is left behind by a rehearsal, so nothing is to be undone.
    fn intend(&self, _: &Intent) -> Mark {
        Mark { step: 0, number: 0 }
    }

    fn withdraw(&self, _: Mark) {}

    fn remark(&self, remark: &str) {
        push(&self.remarks, remark);
    }

    fn warn(&self, warning: &str) {
        push(&self.warnings, warning);
    }
}
