//! What a step reports of itself, kept.

use std::sync::{Mutex, MutexGuard};

use farewell::model::event::{Copied, Stream};
use farewell::model::intent::{Intent, IntentId};
use farewell::step::StepEvents;

/// Keeps everything that a step reports.
#[derive(Default)]
pub struct Recorder {
    waiting: Mutex<Vec<String>>,
    output: Mutex<Vec<(Stream, String)>>,
    remarks: Mutex<Vec<String>>,
    copied: Mutex<Vec<Copied>>,
    intents: Mutex<Vec<Intent>>,
    withdrawn: Mutex<Vec<IntentId>>,
}

fn locked<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    list.lock().expect("no panic")
}

impl StepEvents for Recorder {
    fn waiting(&self, what: &str) {
        locked(&self.waiting).push(what.to_owned());
    }

    fn output(&self, stream: Stream, line: &str) {
        locked(&self.output).push((stream, line.to_owned()));
    }

    fn remark(&self, remark: &str) {
        locked(&self.remarks).push(remark.to_owned());
    }

    fn copied(&self, copy: Copied) {
        locked(&self.copied).push(copy);
    }

    fn intend(&self, intent: &Intent) -> IntentId {
        let mut intents = locked(&self.intents);
        intents.push(intent.clone());
        IntentId {
            step: 0,
            number: u32::try_from(intents.len() - 1).expect("few"),
        }
    }

    fn withdraw(&self, intent: IntentId) {
        locked(&self.withdrawn).push(intent);
    }
}

impl Recorder {
    /// What it waited for, in order.
    pub fn waiting(&self) -> Vec<String> {
        locked(&self.waiting).clone()
    }

    /// The lines that its command printed.
    pub fn output(&self) -> Vec<(Stream, String)> {
        locked(&self.output).clone()
    }

    /// The same, from whichever stream they came.
    pub fn lines(&self) -> Vec<String> {
        let output = self.output().into_iter();
        output.map(|(_, line)| line).collect()
    }

    pub fn remarks(&self) -> Vec<String> {
        locked(&self.remarks).clone()
    }

    pub fn copied(&self) -> Vec<Copied> {
        locked(&self.copied).clone()
    }

    /// All that it declared, withdrawn or not.
    pub fn intents(&self) -> Vec<Intent> {
        locked(&self.intents).clone()
    }

    pub fn withdrawn(&self) -> Vec<IntentId> {
        locked(&self.withdrawn).clone()
    }

    /// What it declared and did not withdraw.
    pub fn pending(&self) -> Vec<Intent> {
        let withdrawn = self.withdrawn();
        let is_pending = |at: usize| !withdrawn.iter().any(|it| it.number as usize == at);
        let intents = self.intents().into_iter().enumerate();
        let pending = intents.filter(|(at, _)| is_pending(*at));
        pending.map(|(_, intent)| intent).collect()
    }
}
