//! A node that is excluded from allocation, until nothing is left on it; and how it is let in again.

use std::time::{Duration, Instant};

use super::exclusion::Excluded;
use super::health::Seen;
use super::{Line, Node, Shard, Target};
use crate::model::deadline::{Deadline, Reason};
use crate::model::error::{Failure, Word};
use crate::model::intent::{Intent, Keys};
use crate::step::{Action, Effect, Scope};
use crate::sys::cancel::Waited;

/// How often the cluster is asked, half as often while nothing moves, when it is also asked why; behind each fourth
/// question, whether the node is still excluded.
const EVERY: Duration = Duration::from_millis(200);
const TURNS: u32 = 4;

/// How long nothing moves before it is asked why.
const STILL: Duration = Duration::from_secs(1);

/// Whether there is no other node that could take the shards.
pub fn has_nowhere_to_go(others: &[Node]) -> bool {
    !others.iter().any(|it| it.holds_data)
}

/// The failure of the last node that holds data.
pub fn lone(line: &Line<'_>, shards: &[Shard]) -> Failure {
    let cause = format!(
        "{} is the last node that can hold data, and {} on it: there is nowhere to move them to",
        line.node,
        count(shards)
    );
    line.failure(Word::Refused, cause)
}

fn count(shards: &[Shard]) -> String {
    match shards.len() {
        1 => "1 shard is".to_owned(),
        count => format!("{count} shards are"),
    }
}

/// Excludes the node from allocation and waits until nothing is left on it. `member` is the cluster's word, and `kept` what
/// its undo needs.
///
/// # Errors
/// What cannot pass: no permission, nowhere to move to, a shard that every other node has; else what was left at the
/// deadline.
pub fn leave(
    line: &Line<'_>,
    member: &str,
    kept: &Keys,
    node: &Node,
    others: &[Node],
) -> Result<Effect, Failure> {
    let name = &node.name;
    let shards = line.shards(node)?;
    if !node.holds_data && shards.is_empty() {
        let remark = format!("{name} holds no data");
        line.scope.voice.remark(&remark);
        return Ok(Effect::Done);
    }
    let excluded = Excluded::read(line)?;
    if excluded.has(name) && shards.is_empty() {
        return Ok(Effect::AlreadyDone);
    }
    let free = others
        .iter()
        .filter(|it| it.holds_data && !excluded.has(&it.name));
    if free.count() == 0 && !shards.is_empty() {
        return Err(lone(line, &shards));
    }
    let intent = Intent {
        member: member.to_owned(),
        noun: format!("the exclusion of node {name} from allocation"),
        thing: format!("exclusion of {name} at {}", kept["url"]),
        what: kept.clone(),
    };
    let mut what = String::new();
    empty(line, &intent, node, shards, &mut what)
        .map_err(|failure| line.scope.waited(&what, failure))
}

/// Excludes the node until nothing is left on it; `what` is what it waits for.
fn empty(
    line: &Line<'_>,
    intent: &Intent,
    node: &Node,
    mut shards: Vec<Shard>,
    what: &mut String,
) -> Result<Effect, Failure> {
    let name = &node.name;
    let mut watch = Watch::new(&shards);
    ensure(line, intent, name)?;
    loop {
        for _ in 0..TURNS {
            shards = line.shards(node)?;
            if shards.is_empty() {
                break;
            }
            let left = watch.tell(line, node, &shards)?;
            line.scope.voice.waiting(&left);
            *what = format!("still on {name}: {left}");
            if watch.pause(line) {
                return Err(line.failure(Word::TimedOut, what.as_str()));
            }
        }
        // Seen once more behind it: what is not excluded any more gets its shards back, and what is gone has none.
        if shards.is_empty() && Excluded::read(line)?.has(name) {
            return Ok(match line.find()? {
                Some(_) => Effect::Done,
                None => Effect::AlreadyDone,
            });
        }
        ensure(line, intent, name)?;
        if watch.pause(line) {
            return Err(line.failure(Word::TimedOut, what.as_str()));
        }
    }
}

/// Sees to it that the node is excluded: at first, and when somebody who excluded another node has lost its name.
fn ensure(line: &Line<'_>, intent: &Intent, name: &str) -> Result<(), Failure> {
    let mut longest = EVERY / 4;
    loop {
        let excluded = Excluded::read(line)?;
        if excluded.has(name) {
            return Ok(());
        }
        let mark = line.scope.intend(intent)?;
        if let Err(failure) = excluded.add(line, name) {
            // An answer that refuses leaves nothing; without an answer nobody knows.
            if !failure.passing {
                line.scope.withdraw(mark);
            }
            return Err(failure);
        }
        // Two that write at the same time do not meet again at the same time.
        let pause = longest.mul_f64(0.5 + fastrand::f64() / 2.0);
        longest = 2 * EVERY;
        if line.scope.cancel.sleep(pause) == Waited::Cancelled {
            return Err(line.failure(Word::TimedOut, "told to stop"));
        }
    }
}

/// What is left, and since when nothing has changed.
struct Watch {
    left: usize,
    since: Instant,
    cause: String,
    /// Whether the last look found that nothing but a change of the index or the cluster helps.
    was_everywhere: bool,
}

impl Watch {
    fn new(shards: &[Shard]) -> Watch {
        Watch {
            left: shards.len(),
            since: Instant::now(),
            cause: String::new(),
            was_everywhere: false,
        }
    }

    /// Whether the time is over after it.
    fn pause(&self, line: &Line<'_>) -> bool {
        let pause = if self.cause.is_empty() {
            EVERY
        } else {
            2 * EVERY
        };
        let deadline = line.scope.deadline;
        let next = Deadline::after(pause, Reason::Attempt).earlier(deadline);
        line.scope.cancel.sleep_until(next) == Waited::Cancelled || deadline.left().is_none()
    }

    /// What is waited for.
    fn tell(&mut self, line: &Line<'_>, node: &Node, shards: &[Shard]) -> Result<String, Failure> {
        let stays = shards.iter().find(|it| !it.moves);
        if shards.len() != self.left || shards.iter().any(|it| it.moves) {
            *self = Watch::new(shards);
        }
        if let Some(shard) = stays.filter(|_| self.since.elapsed() >= STILL) {
            self.since = Instant::now();
            self.explain(line, node, shard)?;
        }
        let moving = shards.iter().filter(|it| it.moves).count();
        let shown: Vec<String> = shards.iter().take(3).map(ToString::to_string).collect();
        let more = if shards.len() > shown.len() {
            " …"
        } else {
            ""
        };
        Ok(format!(
            "{} to move, {moving} of them on their way: {}{more}{}",
            match shards.len() {
                1 => "1 shard".to_owned(),
                count => format!("{count} shards"),
            },
            shown.join(", "),
            self.cause
        ))
    }

    fn explain(&mut self, line: &Line<'_>, node: &Node, shard: &Shard) -> Result<(), Failure> {
        let Some(obstacle) = line.obstacle(shard, node)? else {
            return Ok(());
        };
        // While other copies are on their way, a node can have one that it will not keep.
        let is_everywhere = obstacle.is_everywhere && !line.is_moving()?;
        if is_everywhere && self.was_everywhere {
            let cause = format!(
                "{shard} can never leave {}: every other node that may hold it has a copy already (as many replicas as other \
                 nodes); lower number_of_replicas or add a node",
                node.name
            );
            return Err(line.failure(Word::Refused, cause));
        }
        self.was_everywhere = is_everywhere;
        self.cause = format!("; {shard} stays: {}", obstacle.cause);
        Ok(())
    }
}

/// Asks what [`leave`] would need, or [`Line::wait_for_health`] on a machine that comes back.
///
/// # Errors
/// What it would fail of.
pub fn rehearse(line: &Line<'_>) -> Result<String, Failure> {
    let (name, address) = (&line.node, line.address());
    let Some((node, others)) = line.find()? else {
        line.scope
            .warn_of_absence(&format!("node {name}"), "`node` and `url`");
        return Ok(format!(
            "node {name} at {address}: not there, nothing to leave"
        ));
    };
    let shards = line.shards(&node)?;
    if line.scope.facts.comes_back().is_possible() {
        let health = match line.health(&node)? {
            Seen::Good(None) => "good enough".to_owned(),
            Seen::Good(Some(remark)) => remark,
            Seen::Bad(seen) => {
                let warning = format!(
                    "the cluster's health is not good enough now, and would be waited for: {seen}"
                );
                line.scope.voice.warn(&warning);
                seen
            }
        };
        return Ok(format!(
            "node {name} at {address}: there, {} on it; no shard is moved, since it comes back; the cluster's health: {health}",
            count(&shards)
        ));
    }
    let excluded = Excluded::read(line)?;
    if has_nowhere_to_go(&others) && !shards.is_empty() {
        return Err(lone(line, &shards));
    }
    let already = if excluded.has(name) {
        ", excluded already"
    } else {
        ""
    };
    Ok(format!(
        "node {name} at {address}: there{already}, {} on it, and {} other nodes can hold data; reading is allowed; whether \
         the cluster's settings may be changed is not shown",
        count(&shards),
        others.iter().filter(|it| it.holds_data).count()
    ))
}

/// Lets a node in again that was excluded, and leaves the other names where they are.
pub struct Readmission(pub Target);

impl Action for Readmission {
    fn attempt(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        let line = self.0.open(scope)?;
        let excluded = Excluded::read(&line)?;
        if !excluded.has_anywhere(&line.node) {
            return Ok(Effect::AlreadyDone);
        }
        excluded.remove(&line, &line.node)?;
        if Excluded::read(&line)?.has_anywhere(&line.node) {
            return Err(line.strange(format!(
                "{} is excluded after it was let in again",
                line.node
            )));
        }
        Ok(Effect::Done)
    }

    fn rehearse(&self, scope: &Scope<'_>) -> Result<String, Failure> {
        let line = self.0.open(scope)?;
        let is = if Excluded::read(&line)?.has_anywhere(&line.node) {
            "is"
        } else {
            "is not"
        };
        Ok(format!("node {} {is} excluded from allocation", line.node))
    }
}
