//! Failures: a word for machines, the subject, and a cause for people.

use std::fmt;

use crate::model::word_enum::word_enum;

word_enum! {
    /// The error words of the contract.
    ///
    /// They appear as `error.word` in records, as `FAREWELL_ERROR` in the journal, and in `farewell report --json`.
    pub enum ErrorKind {
        /// A limit was reached: of an attempt, of the step, or of the run's budget.
        TimedOut = "timed-out",
        /// No connection: name lookup, refused connection, or reset.
        Unreachable = "unreachable",
        /// The peer refused: 401, 403, or its protocol's equivalent.
        Refused = "refused",
        /// A certificate or a handshake.
        Tls = "tls",
        /// Any other unexpected HTTP status.
        Status = "status",
        /// An answer that violates the protocol.
        Protocol = "protocol",
        /// A process ended with an unexpected exit code.
        ExitStatus = "exit-status",
        /// A process was ended by a signal.
        Signalled = "signalled",
        /// A systemd unit is not in the state that it should be in.
        Unit = "unit",
        /// A path is not mounted, or does not answer.
        Mount = "mount",
        /// D-Bus did not do what was asked.
        Bus = "bus",
        /// Reading or writing failed.
        Io = "io",
        /// A fact, a credential or a configured value cannot be used.
        Config = "config",
        /// A defect in farewell itself; the other steps went on.
        Panic = "panic",
    }
}

impl ErrorKind {
    /// Whether a failure of this kind is usually temporary, so that another attempt makes sense.
    fn passes(self) -> bool {
        matches!(
            self,
            ErrorKind::TimedOut | ErrorKind::Unreachable | ErrorKind::Mount | ErrorKind::Bus
        )
    }
}

/// One failure of one attempt.
///
/// Displayed as `subject: cause`, without the word. Text from a peer's answer is masked by
/// [`crate::model::secrets::mask`] when the failure becomes an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The machine word.
    pub kind: ErrorKind,
    /// What failed: a URL, a path, a program.
    pub subject: String,
    /// What happened, in one sentence without a full stop.
    pub cause: String,
    /// Whether another attempt may succeed.
    pub retryable: bool,
    /// How many addresses of a peer accepted the connection and closed it without an answer. Some servers reject a
    /// request in this way; one that is shutting down does so, too.
    pub closings: usize,
}

impl Failure {
    /// A failure that is retryable if its kind is (timed-out, unreachable, mount, bus).
    pub fn new(kind: ErrorKind, subject: impl Into<String>, cause: impl Into<String>) -> Self {
        Failure {
            kind,
            subject: subject.into(),
            cause: cause.into(),
            retryable: kind.passes(),
            closings: 0,
        }
    }

    /// The same failure, explicitly retryable or not.
    pub fn retryable(mut self, retryable: bool) -> Self {
        self.retryable = retryable;
        self
    }

    /// The same failure, retryable if it was so before or if `condition` is true.
    pub fn retryable_if(self, condition: bool) -> Self {
        let retryable = self.retryable || condition;
        self.retryable(retryable)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.subject.is_empty() {
            out.write_str(&self.cause)
        } else {
            write!(out, "{}: {}", self.subject, self.cause)
        }
    }
}

impl std::error::Error for Failure {}
