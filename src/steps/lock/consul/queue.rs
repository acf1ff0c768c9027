//! The wait for the lock: in the queue, and as the first one in it.

use std::time::{Duration, Instant};

use super::client::{Client, Key};
use super::{Consul, MEMBER, Place, held_by};
use crate::model::deadline::Deadline;
use crate::model::error::Failure;
use crate::step::Outcome;
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
    Held(Outcome),
    /// Another session has it.
    Behind(Key),
    /// Nobody has it, and it is not to be had.
    KeptBack,
}

impl Consul {
    /// Waits until the lock is this one's.
    pub(super) fn wait(&self, client: &Client<'_>, end: Deadline) -> Result<Outcome, Failure> {
        let context = client.context;
        let every = self.times.renewal();
        let mut renewed = None::<Instant>;
        let mut held = "nobody knows who holds it".to_owned();
        // The lock itself, as long as nobody has changed it: it need not be asked for.
        let mut quiet = None::<Key>;
        let lock = self.key.get(context.facts)?;
        let mut left = left_before(context, MEMBER.name, "key", &lock);
        loop {
            let place = match self.state.value() {
                Some(place) => place,
                None => {
                    let place = self.join(client)?;
                    renewed = Some(Instant::now());
                    place
                }
            };
            let may_be_held = place.is_held || !left.is_empty();
            if !left.is_empty() {
                self.take_over(client, &place, &left)?;
                left.clear();
            }
            if may_be_held && self.holds(client, &place)? {
                return Ok(match place.is_held {
                    true => Outcome::AlreadyDone,
                    false => Outcome::Done,
                });
            }
            let is_due = renewed.is_none_or(|at| at.elapsed() >= every);
            let is_lost = is_due && !client.renew(place.session())?;
            renewed = if is_due {
                Some(Instant::now())
            } else {
                renewed
            };
            let queue = client.contenders(&place.lock)?;
            let at = queue.iter().position(|it| it.name == place.contender);
            // What is waited for: the contender before this one, or whoever has the key.
            let ahead = match at.filter(|_| !is_lost) {
                None => {
                    self.forget(client, &place)?;
                    let remark = "its session had expired, and it had to join the queue again";
                    context.events.remark(remark);
                    None
                }
                Some(0) => match quiet.take() {
                    Some(other) => Some(other),
                    None => match self.come_first(client, &place)? {
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
                    let holder = client.find(&place.lock)?;
                    let holder = holder.filter(|it| !it.session.is_empty());
                    let shown = held_by(holder.as_ref().unwrap_or(&queue[0]));
                    held = format!("{shown}, {at} before this one");
                    queue.into_iter().nth(at - 1)
                }
            };
            context
                .events
                .waiting(&format!("the lock {}, {held}", place.lock));
            let Some(left) = end.left().filter(|_| !context.cancel.is_cancelled()) else {
                let subject = format!("the lock {} at {}", place.lock, client.address());
                self.leave(client)?;
                return Err(not_had(context, &subject, &held));
            };
            let piece = (self.times.ttl / 3).min(WATCH).min(left);
            let begun = Instant::now();
            let is_changed = match ahead {
                Some(other) => {
                    let is_changed =
                        client.watch(&other, piece.mul_f64(0.75 + fastrand::f64() / 4.0))?;
                    quiet = Some(other).filter(|it| it.name == place.lock && !is_changed);
                    is_changed
                }
                None => false,
            };
            // A query that does not block must not become a storm.
            if !is_changed && begun.elapsed() < SHORT {
                let pause = PAUSE.mul_f64(1.0 + fastrand::f64() / 5.0);
                let _ = context.cancel.sleep(pause.min(left));
            }
        }
    }

    /// Whether the session has the lock, also where others are before it in the queue: it was taken over.
    fn holds(&self, client: &Client<'_>, place: &Place) -> Result<bool, Failure> {
        let is_held = client
            .find(&place.lock)?
            .is_some_and(|it| it.session == place.session());
        if is_held {
            self.state.ask(|it| {
                if let Some(place) = it {
                    place.is_held = true;
                }
            })?;
        }
        Ok(is_held)
    }

    /// Asks for the lock as the first one in the queue.
    fn come_first(&self, client: &Client<'_>, place: &Place) -> Result<Come, Failure> {
        if client.acquire(&place.lock, place.session(), &place.holder)? {
            let effect = if place.is_held {
                Outcome::AlreadyDone
            } else {
                Outcome::Done
            };
            self.state.ask(|it| {
                if let Some(place) = it {
                    place.is_held = true;
                }
            })?;
            return Ok(Come::Held(effect));
        }
        Ok(match client.find(&place.lock)? {
            Some(other) if !other.session.is_empty() => Come::Behind(other),
            _ => Come::KeptBack,
        })
    }
}
