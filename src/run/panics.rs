//! A panic in a step is a defect in farewell, and a failure of that step alone.

use std::any::Any;
use std::cell::RefCell;
use std::io::Write as _;
use std::panic::{self, AssertUnwindSafe};

use crate::model::error::{ErrorKind, Failure};
use crate::model::secrets::mask;

/// Begins every message about a panic.
const DEFECT: &str = "a defect in farewell, please report it";

thread_local! {
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Turns panics of steps into failures instead of text on standard error. Any other panic prints one line, without a
/// backtrace. Called once per process.
pub fn catch_panics() {
    panic::set_hook(Box::new(|info| {
        // Without a backtrace, which would take longer than many steps.
        let place = info
            .location()
            .map_or_else(String::new, |location| format!(" at {location}"));
        if PLACE.with_borrow(Option::is_some) {
            PLACE.set(Some(place));
        } else {
            let line = format!("farewell: {DEFECT}: {}{place}", message(info.payload()));
            // If standard error is gone, there is nowhere left to report it.
            let _ = writeln!(std::io::stderr(), "{}", mask(&line));
        }
    }));
}

/// Does a step's work; a panic becomes a failure.
pub fn catch<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    PLACE.set(Some(String::new()));
    let worked = panic::catch_unwind(AssertUnwindSafe(work));
    let place = PLACE.take().unwrap_or_default();
    worked.unwrap_or_else(|payload| {
        let cause = format!("{DEFECT}: {}{place}", message(payload.as_ref()));
        Err(Failure::new(ErrorKind::Panic, "", cause))
    })
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
