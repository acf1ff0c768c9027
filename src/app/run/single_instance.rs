//! One run at a time: a new run is admitted, refused, or takes over from the run in progress.

use std::thread;
use std::time::{Duration, Instant};

use crate::history::state_dir::{Admission, Holder, RunLock, Store};
use crate::sys::{files, takeover};

/// How long taking the lock of the state directory may last. A directory on a dead disk must not keep a run from its steps.
const LOCK_TIMEOUT: Duration = Duration::from_millis(300);

/// How long a run that has the lock may take to write its name into it.
const NAME_TIMEOUT: Duration = Duration::from_secs(1);

/// When the run in progress gets a second SIGTERM, which ends it at once.
const SECOND_SIGTERM: Duration = Duration::from_secs(5);

/// When systemd's run stops waiting for the run in progress.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(8);

/// The pause between two attempts to take the lock.
const PAUSE: Duration = Duration::from_millis(20);

/// How a run was admitted.
pub enum Entry {
    /// As the only one.
    Alone(RunLock),
    /// Beside a run that does not end: the warning that says so.
    Beside(String),
    /// Without the lock, because the state directory cannot be used: the warning that says so.
    Unlocked(String),
}

impl Entry {
    /// The lock, which is held until it is dropped, and the warning.
    pub fn into_parts(self) -> (Option<RunLock>, Option<String>) {
        match self {
            Entry::Alone(lock) => (Some(lock), None),
            Entry::Beside(warning) | Entry::Unlocked(warning) => (None, Some(warning)),
        }
    }
}

/// What a run does about the one that has the lock.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    /// Tries again.
    Wait,
    /// Asks the other run to stop, and tries again.
    Terminate,
    /// Starts beside it, with this warning.
    StartBeside(String),
    /// Does not run, for this reason.
    Refuse(String),
}

/// Decides what a run does about the one that has the lock. `other` is its holder, or `None` while it has not written its
/// name; `waited` is the time since the first attempt, and `signals` the number of SIGTERMs sent so far.
fn decide(by_systemd: bool, other: Option<&Holder>, waited: Duration, signals: usize) -> Decision {
    let Some(other) = other else {
        return match (waited > NAME_TIMEOUT, by_systemd) {
            (false, _) => Decision::Wait,
            (true, true) => Decision::StartBeside(
                "another run is in progress and has not written its name: this run starts beside it".to_owned(),
            ),
            (true, false) => {
                let reason = "farewell run: another run is in progress; wait until it has ended";
                Decision::Refuse(reason.to_owned())
            }
        };
    };
    if !by_systemd && other.is_undo {
        return Decision::Refuse(format!(
            "farewell run: {other} is in progress; wait until it has ended"
        ));
    }
    if !by_systemd || other.by_systemd {
        return Decision::Refuse(format!(
            "farewell run: run {} is in progress (process {}); follow it with `farewell status --follow`, or end it with \
             `kill {}`",
            other.run, other.pid, other.pid
        ));
    }
    if waited > TAKEOVER_TIMEOUT {
        return Decision::StartBeside(format!("{other} does not end: this run starts beside it"));
    }
    match signals {
        0 => Decision::Terminate,
        1 if waited > SECOND_SIGTERM => Decision::Terminate,
        _ => Decision::Wait,
    }
}

/// Admits this run. systemd's run asks one that a person started to stop, and takes over.
///
/// # Errors
/// A sentence that says which run is in progress and how to end it.
pub fn admit(store: &Store, holder: &Holder) -> Result<Entry, String> {
    let asked = Instant::now();
    let mut signals = 0;
    loop {
        let (directory, own) = (store.clone(), holder.clone());
        let other = match files::within(LOCK_TIMEOUT, move || directory.enter(&own)) {
            Ok(Admission::Admitted(lock)) => return Ok(Entry::Alone(lock)),
            Ok(Admission::Occupied(other)) => other,
            Err(error) => {
                return Ok(Entry::Unlocked(format!(
                    "{}: {error}: this run may leave no record, and a second run could start beside it",
                    store.directory().display()
                )));
            }
        };
        match decide(holder.by_systemd, other.as_ref(), asked.elapsed(), signals) {
            Decision::Wait => {}
            Decision::Terminate => {
                signals += 1;
                terminate(other.as_ref());
            }
            Decision::StartBeside(warning) => return Ok(Entry::Beside(warning)),
            Decision::Refuse(reason) => return Err(reason),
        }
        thread::sleep(PAUSE);
    }
}

fn terminate(other: Option<&Holder>) {
    let Some(other) = other else {
        return;
    };
    log::warn!("{other} must make way for systemd's run: sending SIGTERM");
    if let Some(began) = other.began {
        // An error means that it has ended meanwhile.
        let _ = takeover::terminate(other.pid, began);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(by_systemd: bool, is_undo: bool) -> Holder {
        Holder {
            run: "R1".to_owned(),
            pid: 7,
            began: Some(1),
            by_systemd,
            is_undo,
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_run_by_hand_never_takes_over() {
        for other in [
            holder(false, false),
            holder(true, false),
            holder(false, true),
        ] {
            let decision = decide(false, Some(&other), seconds(0), 0);
            assert!(
                matches!(&decision, Decision::Refuse(it) if it.contains("R1 ")),
                "{decision:?}"
            );
        }
        assert_eq!(decide(false, None, seconds(1), 0), Decision::Wait);
        let late = decide(false, None, seconds(2), 0);
        assert!(matches!(late, Decision::Refuse(_)), "{late:?}");
    }

    #[test]
    fn systemds_run_takes_over_from_one_by_hand_and_from_an_undo() {
        for other in [holder(false, false), holder(false, true)] {
            let decide = |waited, signals| decide(true, Some(&other), seconds(waited), signals);
            assert_eq!(decide(0, 0), Decision::Terminate);
            assert_eq!(decide(4, 1), Decision::Wait);
            assert_eq!(decide(6, 1), Decision::Terminate);
            assert_eq!(decide(7, 2), Decision::Wait);
            assert!(matches!(decide(9, 2), Decision::StartBeside(_)));
        }
    }

    #[test]
    fn systemds_run_does_not_wait_for_a_run_without_a_name() {
        assert_eq!(decide(true, None, seconds(1), 0), Decision::Wait);
        let late = decide(true, None, seconds(2), 0);
        assert!(matches!(late, Decision::StartBeside(_)), "{late:?}");
    }

    #[test]
    fn systemds_second_run_is_refused() {
        let decision = decide(true, Some(&holder(true, false)), seconds(0), 0);
        assert!(matches!(decision, Decision::Refuse(_)), "{decision:?}");
    }
}
