//! The kinds of journal entries and their `MESSAGE_ID`s.

use log::{Level, Record};

use crate::sys::journal;

/// A kind of journal entry.
#[derive(Debug)]
pub struct Message {
    /// Its name in the manual and the catalog.
    pub name: &'static str,
    /// Its `MESSAGE_ID`, which never changes.
    pub id: &'static str,
    /// Its explanation in the catalog.
    pub meaning: &'static str,
}

impl Message {
    /// Logs an entry of this kind that is not an event of a run, with its fields beside the `MESSAGE_ID`.
    pub fn log(&self, level: Level, text: &str, fields: &[(&'static str, &str)]) {
        let id = [("MESSAGE_ID", self.id)];
        let fields: Vec<(&str, &str)> = id.iter().chain(fields).copied().collect();
        log::logger().log(
            &Record::builder()
                .args(format_args!("{text}"))
                .level(level)
                .target("farewell::run")
                .key_values(&fields)
                .build(),
        );
    }
}

macro_rules! messages {
    ($($constant:ident $name:literal $id:expr, $meaning:literal;)*) => {
        $(#[doc = $meaning]
        pub const $constant: Message = Message { name: $name, id: $id, meaning: $meaning };)*

        /// All kinds of entries, each with its own `MESSAGE_ID`; the catalog is made from this table.
        pub const MESSAGES: &[&Message] = &[$(&$constant),*];
    };
}

messages! {
    RUN_STARTED "run-started" "c99830aa2109ae570c830a412ef4c629",
        "A run has begun: FAREWELL_TRIGGER has its trigger, FAREWELL_LEFT_USEC its time limit.";
    RUN_SKIPPED "run-skipped" "77131a0c796145fdbc69ffc9770e7102",
        "No sequence was run: the unit was only restarted, or /run/farewell/skip exists.";
    RUN_REFUSED "run-refused" "b238e928dfef4f008a47141c8f26cc84",
        "No sequence was run: the configuration is wrong, and no last good plan was kept in this boot.";
    TRIGGER "trigger" "86da654a8a0b4961b54fbc4e3be9086c",
        "Why the run takes place: FAREWELL_TRIGGER has the trigger, and the message what it was detected from.";
    RUN_OK "run-ok" "67656958f82d4fe850dbb8bb3adba71f",
        "A run has ended, and every step is done or was skipped by its conditions.";
    RUN_FAILED "run-failed" "be9e33f7f0b0ad43c97fa9d43d7c016d",
        "A run has ended, and at least one step failed. `farewell report` shows which one, and why.";
    RUN_CUT_SHORT "run-cut-short" "7852f937cc6b0e7d65816f434da18cc4",
        "A run was ended before its last step: its budget was spent, or it was told to stop.";
    UNDO_FOUND "undo-found" "aa635db7b445bb475c683e457a577e17",
        "An earlier run left something to undo. What another machine left, of which this one's disk is a \
         copy, is not undone here.";
    UNDO_STARTED "undo-started" "0e2ccbcbbd13d716b7d50b59f4cfac60",
        "`farewell start` has begun to undo what earlier runs left; FAREWELL_LEFT_USEC has the time limit.";
    UNDO_OK "undo-ok" "bfc1b0f77260b1c3ea33c714f010116b",
        "Everything that earlier runs left is undone.";
    UNDO_FAILED "undo-failed" "f466a50cb065a7865317bfae412c534a",
        "Something that an earlier run left could not be undone; the next `farewell start` tries again.";
    STEP_STARTED "step-started" "73dbe7f74304484f8750dd19af6a0230",
        "A step has begun; FAREWELL_LEFT_USEC has its time limit.";
    STEP_WAITING "step-waiting" "d76d0d8d30afc761b2ad498fd77db446",
        "A step is still running; the message says what it waits for and how much time is left.";
    STEP_NOTED "step-noted" "9847f0d947661c8a2f604af2148ddfa9",
        "A detail of what a step does, such as which units stop with those that it names.";
    STEP_OUTPUT "step-output" "761eb4931f83b94d124ac80bc01b2833",
        "A line that a step's command has written.";
    STEP_INTENDS "step-intends" "0138986a636120a9aea548967402f1c2",
        "A step is about to change something that outlives a reboot. `farewell start` undoes it from the run's record.";
    ATTEMPT_FAILED "attempt-failed" "40f15c7f37b4d9a039ca910defa2a84b",
        "An attempt of a step failed, and will be repeated.";
    STEP_DONE "step-done" "8060ee7a664c78d6e0f0c8a73383ee7a",
        "A step is done: its effect was verified, or was there before.";
    STEP_SKIPPED "step-skipped" "716f1a3380e04bf1dda5aa2921e3d77c",
        "A step was skipped because of its own conditions.";
    STEP_FAILED "step-failed" "6f0bded7e21c73b813d70a9e4c31b1f9",
        "A step failed or ran out of time; FAREWELL_ERROR has the error word.";
    STEP_CANCELLED "step-cancelled" "c79189345fddd83cc24fad32dfd1e916",
        "A step did not begin, or was ended, because the run was told to stop.";
    WARNING "warning" "30311fb3769ebaf015bdf4d713b04d50",
        "Something that deserves attention but is not the failure of a step.";
    DROPPED "entries-dropped" journal::DROPPED,
        "journald accepted no entries for so long that some were dropped; the run's record has them all.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_id() {
        for (index, message) in MESSAGES.iter().enumerate() {
            assert_eq!(message.id.len(), 32, "{}", message.name);
            assert!(
                message
                    .id
                    .bytes()
                    .all(|it| it.is_ascii_digit() || (b'a'..=b'f').contains(&it))
            );
            let twin = |other: &&Message| other.id == message.id || other.name == message.name;
            assert!(!MESSAGES[..index].iter().any(twin), "{}", message.name);
        }
    }
}
