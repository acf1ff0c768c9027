//! A line of a record.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::error::{ErrorKind, Failure};
use crate::model::event::{Copied, StepName};
use crate::model::intent::Intent;
use crate::model::machine::Machine;

/// A line of a record.
#[derive(Serialize, Deserialize)]
pub(in crate::history) struct Line<'a> {
    /// Microseconds since the run's start.
    #[serde(default)]
    pub(in crate::history) at_usec: u64,
    #[serde(flatten)]
    pub(in crate::history) entry: Entry<'a>,
}

/// What happened. A step is named as in the plan; durations are in microseconds.
#[derive(Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(in crate::history) enum Entry<'a> {
    RunStarted {
        #[serde(default)]
        run: Cow<'a, str>,
        /// `id` (machine-id) and `product` (UUID), as far as they are known.
        #[serde(default)]
        machine: Cow<'a, Machine>,
        #[serde(default)]
        trigger: Cow<'a, str>,
        /// The wall clock at the start, RFC 3339.
        #[serde(default)]
        started: Cow<'a, str>,
        #[serde(default)]
        budget_usec: u64,
        #[serde(default)]
        reserve_usec: u64,
        #[serde(default)]
        steps: Cow<'a, [StepName]>,
    },
    StepStarted {
        step: Cow<'a, str>,
        /// The time limit of the step from now on.
        #[serde(default)]
        left_usec: u64,
    },
    AttemptFailed {
        step: Cow<'a, str>,
        /// The attempt that failed, from 1.
        attempt: u32,
        /// When the next attempt begins, from now.
        #[serde(default)]
        again_usec: u64,
        error: Error<'a>,
    },
    Waiting {
        step: Cow<'a, str>,
        /// What it waits for.
        message: Cow<'a, str>,
    },
    Intended {
        step: Cow<'a, str>,
        /// The step's kind, which knows how to undo it.
        #[serde(default)]
        kind: Cow<'a, str>,
        /// Which of the step's intents, from 0.
        #[serde(default)]
        number: u32,
        intent: Cow<'a, Intent>,
    },
    Settled {
        step: Cow<'a, str>,
        #[serde(default)]
        number: u32,
    },
    Copied {
        step: Cow<'a, str>,
        copy: Cow<'a, Copied>,
    },
    StepFinished {
        step: Cow<'a, str>,
        state: Cow<'a, str>,
        #[serde(default)]
        attempts: u32,
        /// How long it ran.
        #[serde(default)]
        duration_usec: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Error<'a>>,
        /// Why it was skipped or cancelled, or a remark.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Cow<'a, str>>,
    },
    Warning {
        message: Cow<'a, str>,
    },
    RunFinished {
        /// Why it was cut short.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Cow<'a, str>>,
        result: Cow<'a, str>,
    },
    /// An event of a newer farewell.
    #[serde(other)]
    Unknown,
}

/// What went wrong.
#[derive(Serialize, Deserialize)]
pub(in crate::history) struct Error<'a> {
    word: Cow<'a, str>,
    noun: Cow<'a, str>,
    cause: Cow<'a, str>,
    passing: bool,
}

impl<'a> From<&'a Failure> for Error<'a> {
    fn from(failure: &'a Failure) -> Error<'a> {
        Error {
            word: failure.kind.as_str().into(),
            noun: failure.subject.as_str().into(),
            cause: failure.cause.as_str().into(),
            passing: failure.retryable,
        }
    }
}

impl From<Error<'_>> for Failure {
    fn from(error: Error<'_>) -> Failure {
        let kind = ErrorKind::parse(&error.word);
        let cause = match kind {
            Some(_) => error.cause.into_owned(),
            // A word of a newer farewell.
            None => format!("{}: {}", error.word, error.cause),
        };
        let kind = kind.unwrap_or(ErrorKind::Io);
        Failure::new(kind, error.noun, cause).retryable(error.passing)
    }
}

/// Microseconds, as records and the journal count time.
pub fn usec(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
