//! One run at a time: who is let in, who is sent away, and who takes over.

use std::time::{Duration, Instant};

use crate::history::state_dir::{Admission, Holder, RunLock, Store};
use crate::sys::{files, takeover};

/// How long the lock of the state directory may take. A directory on a dead disk must not keep a run from its steps.
const LOCK_PATIENCE: Duration = Duration::from_millis(300);

/// How long a run that has the lock may take to write who it is.
const NAME_PATIENCE: Duration = Duration::from_secs(1);

/// How long a run that a person started may take to end when systemd's run takes over: in all, and before it is told
/// a second time.
const TAKE_OVER: [Duration; 2] = [Duration::from_secs(8), Duration::from_secs(5)];

/// How a run was let in.
pub enum Entry {
    /// As the only one.
    Alone(RunLock),
    /// Beside one that does not end; says so.
    Beside(String),
    /// Without the lock, since the state directory cannot be used; says so.
    Unlocked(String),
}

/// Lets this run in. systemd's run asks one that a person started to stop, and takes over.
///
/// # Errors
/// Who is in, and how to end that.
pub fn admit(store: &Store, holder: &Holder) -> Result<Entry, String> {
    let asked = Instant::now();
    let mut told = 0;
    loop {
        let (place, who) = (store.clone(), holder.clone());
        let admission = match files::within(LOCK_PATIENCE, move || place.enter(&who)) {
            Ok(Admission::Admitted(held)) => return Ok(Entry::Alone(held)),
            Ok(Admission::Occupied(other)) => other,
            Err(error) => {
                return Ok(Entry::Unlocked(format!(
                    "{}: {error}: this run may leave no record, and nothing keeps a second one from starting beside \
                     it",
                    store.directory().display()
                )));
            }
        };
        let Some(other) = admission else {
            // It has the lock, and has not written who it is yet.
            if asked.elapsed() > NAME_PATIENCE && holder.by_systemd {
                let warning =
                    "another run is on, which does not say who it is: this one runs beside it";
                return Ok(Entry::Beside(warning.to_owned()));
            }
            if asked.elapsed() > NAME_PATIENCE {
                return Err("farewell run: another run is on; wait until it has ended".to_owned());
            }
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        if !holder.by_systemd && other.is_undo {
            return Err(format!(
                "farewell run: {other} is on; wait until it has ended"
            ));
        }
        if !holder.by_systemd || other.by_systemd {
            return Err(format!(
                "farewell run: run {} is on (process {}); follow it with `farewell status --follow`, or end it with \
                 `kill {}`",
                other.run, other.pid, other.pid
            ));
        }
        let waited = asked.elapsed();
        if waited > TAKE_OVER[0] {
            let warning = format!("{other} does not end: this one runs beside it");
            return Ok(Entry::Beside(warning));
        }
        if told == 0 || (told == 1 && waited > TAKE_OVER[1]) {
            told += 1;
            log::warn!("{other} has to make way for systemd's run: it is told to stop");
            // It may have ended by now, which is what is wanted.
            if let Some(began) = other.began {
                let _ = takeover::terminate(other.pid, began);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
