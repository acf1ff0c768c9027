//! `min-up`: a server is drained only while enough others of its backend are up.

use std::time::Duration;

use super::super::pause;
use super::runtime::State;
use super::target::Target;
use crate::model::deadline::{Deadline, Reason};
use crate::model::error::{ErrorKind, Failure};
use crate::step::AttemptContext;

/// The pause between two checks, in milliseconds; random, so that two machines that wait for each other do not stay in step.
const PAUSE: std::ops::Range<u64> = 100..300;

/// Drains the server once `min_up` others are up in every HAProxy. Afterwards it checks again: if another server was drained
/// at the same moment, it sets its own ready again and waits. After half of the remaining time it drains anyway, since a
/// machine that shuts down cannot wait for ever. A HAProxy that does not answer is ignored here: the drain itself reports it.
///
/// # Errors
/// If the run was told to stop, or has no time left.
pub(super) fn drain(
    targets: &mut [Target<'_>],
    min_up: i64,
    context: &AttemptContext<'_>,
) -> Result<(), Failure> {
    let half = context.deadline.left().unwrap_or_default() / 2;
    let until = Deadline::after(half, Reason::Timeout);
    loop {
        let lacking = match lacking(targets, min_up, State::Ready) {
            None => {
                for target in targets.iter_mut() {
                    let is_ready = |target: &Target<'_>| {
                        let seen = target.runtime.must();
                        seen.is_ok_and(|it| it.state == State::Ready)
                    };
                    if is_ready(target) {
                        let _ = target.set(State::Ready, State::Drain);
                    }
                }
                let Some(lacking) = self::lacking(targets, min_up, State::Drain) else {
                    return Ok(());
                };
                for target in targets.iter_mut().filter(|it| it.is_changed) {
                    let _ = target.take_back();
                }
                context.events.note(&format!(
                    "set ready again, since another one was drained meanwhile: {lacking}"
                ));
                lacking
            }
            Some(lacking) => lacking,
        };
        context.events.waiting(&lacking);
        if until.left().is_none() {
            let loud =
                format!("drained all the same when half of the step's time was over: {lacking}");
            context.events.note(&loud);
            context.events.warn(&loud);
            return Ok(());
        }
        let jitter = Duration::from_millis(fastrand::u64(PAUSE));
        if let Some(over) = pause(context, jitter) {
            return Err(Failure::new(ErrorKind::TimedOut, lacking, over));
        }
    }
}

/// Which HAProxy has fewer than `min_up` other servers up, of those in which the server is in this state.
fn lacking(targets: &[Target<'_>], min_up: i64, state: State) -> Option<String> {
    targets.iter().find_map(|target| {
        let seen = target.runtime.must().ok()?;
        let is_lacking = seen.state == state && seen.others_up < min_up;
        is_lacking.then(|| {
            format!(
                "{min_up} other servers to be up beside {}, where {} are",
                target.runtime.subject(),
                seen.others_up
            )
        })
    })
}
