//! Values that steps of a run have captured.

use std::collections::BTreeMap;

use super::template::Fact;
use crate::model::secrets;
use crate::sys::sync::Mutex;

/// The captured values, by the facts that stand for them.
#[derive(Default)]
pub(super) struct CapturedValues(Mutex<BTreeMap<String, Captured>>);

struct Captured {
    value: String,
    is_secret: bool,
}

impl CapturedValues {
    /// Adds a value. A secret is masked in every output from then on.
    pub(super) fn insert(&self, fact: &Fact, value: String, is_secret: bool) {
        if is_secret {
            secrets::hide(&value);
        }
        let captured = Captured { value, is_secret };
        self.0.lock().insert(fact.to_string(), captured);
    }

    pub(super) fn get(&self, fact: &Fact) -> Option<String> {
        let captured = self.0.lock();
        captured.get(&fact.to_string()).map(|it| it.value.clone())
    }

    pub(super) fn is_secret(&self, fact: &Fact) -> bool {
        let captured = self.0.lock();
        (captured.get(&fact.to_string())).is_some_and(|it| it.is_secret)
    }
}
