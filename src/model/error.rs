//! What went wrong, as a word for machines, the thing it happened to, and a cause for people.

use std::fmt;

/// The machine words of the contract, one for every way a step can fail.
///
/// They appear as `error.word` in records, as `FAREWELL_ERROR` in the journal, and in `farewell report --json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Word {
    /// A limit was reached: of an attempt, of the step, or of the run's budget.
    TimedOut,
    /// No connection: the name, the refused port, or a reset.
    Unreachable,
    /// The peer said no: 401, 403, or its protocol's own refusal.
    Refused,
    /// A certificate or a handshake.
    Tls,
    /// Any other unexpected HTTP status.
    Status,
    /// An answer that is not what the protocol says.
    Protocol,
    /// A process ended with an unexpected exit code.
    ExitStatus,
    /// A process was ended by a signal.
    Signalled,
    /// A systemd unit is not in the state that it should be in.
    Unit,
    /// A path is not mounted, or does not answer.
    Mount,
    /// D-Bus did not do what was asked.
    Bus,
    /// Reading or writing failed.
    Io,
    /// A fact, a credential or a configured value cannot be used.
    Config,
    /// A defect in farewell itself; the other steps went on.
    Panic,
}

impl Word {
    const ALL: [(Word, &'static str); 14] = [
        (Word::TimedOut, "timed-out"),
        (Word::Unreachable, "unreachable"),
        (Word::Refused, "refused"),
        (Word::Tls, "tls"),
        (Word::Status, "status"),
        (Word::Protocol, "protocol"),
        (Word::ExitStatus, "exit-status"),
        (Word::Signalled, "signalled"),
        (Word::Unit, "unit"),
        (Word::Mount, "mount"),
        (Word::Bus, "bus"),
        (Word::Io, "io"),
        (Word::Config, "config"),
        (Word::Panic, "panic"),
    ];

    /// The word as the contract spells it.
    pub fn as_str(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(word, _)| *word == self)
            .map_or("io", |(_, text)| text)
    }

    /// The word that the contract spells `text`, if there is one.
    pub fn parse(text: &str) -> Option<Word> {
        Self::ALL
            .iter()
            .find(|(_, name)| *name == text)
            .map(|(word, _)| *word)
    }

    /// Whether a failure of this kind usually passes by itself, so that another attempt is worth its time.
    fn passes(self) -> bool {
        matches!(
            self,
            Word::TimedOut | Word::Unreachable | Word::Mount | Word::Bus
        )
    }
}

impl fmt::Display for Word {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// One failure of one attempt.
///
/// Displayed as `noun: cause`; the word travels beside it. Neither part may hold a secret: what is shown of a peer's
/// answer goes through [`crate::model::secrets::mask`] when the failure becomes an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The machine word.
    pub word: Word,
    /// What it happened to: a URL, a path, a program.
    pub noun: String,
    /// What happened, in one sentence without a full stop.
    pub cause: String,
    /// Whether another attempt may succeed.
    pub passing: bool,
}

impl Failure {
    /// A failure that is retried if its word is one of those that pass (timed-out, unreachable, mount, bus).
    pub fn new(word: Word, noun: impl Into<String>, cause: impl Into<String>) -> Self {
        Failure {
            word,
            noun: noun.into(),
            cause: cause.into(),
            passing: word.passes(),
        }
    }

    /// The same failure, with the kind's own judgement on whether it can pass.
    pub fn passing(mut self, passing: bool) -> Self {
        self.passing = passing;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.noun.is_empty() {
            out.write_str(&self.cause)
        } else {
            write!(out, "{}: {}", self.noun, self.cause)
        }
    }
}

impl std::error::Error for Failure {}
