//! `min-up`: a server is drained only while enough others of its backend are up.

use std::time::Duration;

use super::super::pause;
use super::place::Place;
use super::runtime::State;
use crate::model::deadline::{Deadline, Reason};
use crate::model::error::{ErrorKind, Failure};
use crate::step::AttemptContext;

/// Between two looks, in milliseconds: never the same for two that wait for each other.
const PAUSE: std::ops::Range<u64> = 100..300;

/// Drains a server that is ready as soon as `min_up` others are up beside it in every HAProxy, and are still up when it is
/// drained: where two did that at the same moment each is set ready again. After half of the time that is left it goes on
/// as it is: a machine that ends cannot wait for ever. What HAProxy does not answer is no matter here: the drain itself tells
/// of it.
///
/// # Errors
/// If the run was told to stop, or has no time left.
pub(super) fn drain(
    places: &mut [Place<'_>],
    min_up: i64,
    context: &AttemptContext<'_>,
) -> Result<(), Failure> {
    let half = context.deadline.left().unwrap_or_default() / 2;
    let until = Deadline::after(half, Reason::Timeout);
    loop {
        let lacking = match lacking(places, min_up, State::Ready) {
            None => {
                for place in places.iter_mut() {
                    let is_ready = |place: &Place<'_>| {
                        let seen = place.runtime.must();
                        seen.is_ok_and(|it| it.state == State::Ready)
                    };
                    if is_ready(place) {
                        let _ = place.set(State::Ready, State::Drain);
                    }
                }
                let Some(lacking) = self::lacking(places, min_up, State::Drain) else {
                    return Ok(());
                };
                for place in places.iter_mut().filter(|it| it.is_changed) {
                    let _ = place.take_back();
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

/// Where fewer than so many other servers are up, among those HAProxies in which the server is in this state.
fn lacking(places: &[Place<'_>], min_up: i64, state: State) -> Option<String> {
    places.iter().find_map(|place| {
        let seen = place.runtime.must().ok()?;
        let is_lacking = seen.state == state && seen.others_up < min_up;
        is_lacking.then(|| {
            format!(
                "{min_up} other servers to be up beside {}, where {} are",
                place.runtime.subject(),
                seen.others_up
            )
        })
    })
}
