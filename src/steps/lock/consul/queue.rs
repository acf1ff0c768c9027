//! The wait for the lock: in the queue, and as the first one in it.

use std::time::{Duration, Instant};

use super::kv::{Key, Kv};
use super::{Consul, Place, VIA, held_by};
use crate::model::deadline::Deadline;
use crate::model::error::Failure;
use crate::step::Effect;
use crate::step::lock_state::{left_before, not_had};

/// How long one blocking query lasts.
const WATCH: Duration = Duration::from_secs(5);

/// The shortest pause before KEY is asked for again that nobody has and that is not to be had either: Consul keeps one
/// back for a while whose session was destroyed.
const PAUSE: Duration = Duration::from_secs(1);

const KEPT_BACK: &str = "held by nobody, but kept back by Consul for the session that had it";

/// What is too short for a blocking query after which all is as it was.
const SHORT: Duration = Duration::from_millis(100);

/// What came of asking for the lock itself.
enum Come {
    Held(Effect),
    /// Another session has it.
    Behind(Key),
    /// Nobody has it, and it is not to be had.
    KeptBack,
}

impl Consul {
    /// Waits until the lock is this one's.
    pub(super) fn wait(&self, kv: &Kv<'_>, end: Deadline) -> Result<Effect, Failure> {
        let scope = kv.scope;
        let every = self.times.renewal();
        let mut renewed = None::<Instant>;
        let mut held = "nobody knows who holds it".to_owned();
        // The lock itself, as long as nobody has changed it: it need not be asked for.
        let mut quiet = None::<Key>;
        let lock = self.key.get(scope.facts)?;
        let mut left = left_before(scope, VIA.name, "key", &lock);
        loop {
            let place = match self.custody.value() {
                Some(place) => place,
                None => {
                    let place = self.join(kv)?;
                    renewed = Some(Instant::now());
                    place
                }
            };
            let may_be_held = place.is_held || !left.is_empty();
            if !left.is_empty() {
                self.take_over(kv, &place, &left)?;
                left.clear();
            }
            if may_be_held && self.holds(kv, &place)? {
                return Ok(match place.is_held {
                    true => Effect::AlreadyDone,
                    false => Effect::Done,
                });
            }
            let is_due = renewed.is_none_or(|at| at.elapsed() >= every);
            let is_lost = is_due && !kv.renew(place.session())?;
            renewed = if is_due {
                Some(Instant::now())
            } else {
                renewed
            };
            let queue = kv.contenders(&place.lock)?;
            let at = queue.iter().position(|it| it.name == place.contender);
            // What is waited for: the contender before this one, or whoever has the key.
            let ahead = match at.filter(|_| !is_lost) {
                None => {
                    self.forget(kv, &place)?;
                    let remark = "its session had expired, and it had to join the queue again";
                    scope.voice.remark(remark);
                    None
                }
                Some(0) => match quiet.take() {
                    Some(other) => Some(other),
                    None => match self.come_first(kv, &place)? {
                        Come::Held(effect) => return Ok(effect),
                        Come::Behind(other) => {
                            held = held_by(&other);
                            Some(other)
                        }
                        Come::KeptBack => {
                            held = KEPT_BACK.to_owned();
                            None
                        }
                    },
                },
                Some(at) => {
                    let holder = kv.find(&place.lock)?;
                    let holder = holder.filter(|it| !it.session.is_empty());
                    let shown = held_by(holder.as_ref().unwrap_or(&queue[0]));
                    held = format!("{shown}, {at} before this one");
                    queue.into_iter().nth(at - 1)
                }
            };
            scope
                .voice
                .waiting(&format!("the lock {}, {held}", place.lock));
            let Some(left) = end.left().filter(|_| !scope.cancel.is_cancelled()) else {
                let noun = format!("the lock {} at {}", place.lock, kv.address());
                self.leave(kv)?;
                return Err(not_had(scope, &noun, &held));
            };
            let piece = (self.times.ttl / 3).min(WATCH).min(left);
            let begun = Instant::now();
            let is_changed = match ahead {
                Some(other) => {
                    let is_changed =
                        kv.watch(&other, piece.mul_f64(0.75 + fastrand::f64() / 4.0))?;
                    quiet = Some(other).filter(|it| it.name == place.lock && !is_changed);
                    is_changed
                }
                None => false,
            };
            // A query that does not block must not become a storm.
            if !is_changed && begun.elapsed() < SHORT {
                let pause = PAUSE.mul_f64(1.0 + fastrand::f64() / 5.0);
                let _ = scope.cancel.sleep(pause.min(left));
            }
        }
    }

    /// Whether the session has the lock, also where others are before it in the queue: it was taken over.
    fn holds(&self, kv: &Kv<'_>, place: &Place) -> Result<bool, Failure> {
        let is_held = kv
            .find(&place.lock)?
            .is_some_and(|it| it.session == place.session());
        if is_held {
            self.custody.ask(|it| {
                if let Some(place) = it {
                    place.is_held = true;
                }
            })?;
        }
        Ok(is_held)
    }

    /// Asks for the lock as the first one in the queue.
    fn come_first(&self, kv: &Kv<'_>, place: &Place) -> Result<Come, Failure> {
        if kv.acquire(&place.lock, place.session(), &place.holder)? {
            let effect = if place.is_held {
                Effect::AlreadyDone
            } else {
                Effect::Done
            };
            self.custody.ask(|it| {
                if let Some(place) = it {
                    place.is_held = true;
                }
            })?;
            return Ok(Come::Held(effect));
        }
        Ok(match kv.find(&place.lock)? {
            Some(other) if !other.session.is_empty() => Come::Behind(other),
            _ => Come::KeptBack,
        })
    }
}
