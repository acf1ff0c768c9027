//! Excludes a node from allocation until it has no shards, and lets it in again.

use std::time::{Duration, Instant};

use super::exclusion::AllocationExclusions;
use super::health::HealthCheck;
use super::{Client, Node, Shard, Target};
use crate::model::error::{ErrorKind, Failure};
use crate::model::intent::{Intent, Keys};
use crate::step::{Action, AttemptContext, Outcome, Poll, late};

/// The poll interval; twice as long while nothing moves, when the reason is requested, too. Every fourth poll also
/// checks whether the node is still excluded.
const EVERY: Duration = Duration::from_millis(200);
const TURNS: u32 = 4;

/// How long nothing moves before the reason is requested.
const STILL: Duration = Duration::from_secs(1);

/// Whether there is no other node that could take the shards.
pub fn has_nowhere_to_go(others: &[Node]) -> bool {
    !others.iter().any(|it| it.holds_data)
}

/// The failure of the last node that holds data.
pub fn last_data_node(client: &Client<'_>, shards: &[Shard]) -> Failure {
    let cause = format!(
        "{} is the last node that can hold data, and {} on it: there is nowhere to move them to",
        client.node,
        count(shards)
    );
    client.failure(ErrorKind::Refused, cause)
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
/// At once if it cannot succeed: no permission, nowhere to move to, a shard that every other node has; else what was
/// left at the deadline.
pub fn leave(
    client: &Client<'_>,
    member: &str,
    kept: &Keys,
    node: &Node,
    others: &[Node],
) -> Result<Outcome, Failure> {
    let name = &node.name;
    let shards = client.shards(node)?;
    if !node.holds_data && shards.is_empty() {
        let remark = format!("{name} holds no data");
        client.context.events.remark(&remark);
        return Ok(Outcome::Done);
    }
    let excluded = AllocationExclusions::read(client)?;
    if excluded.has(name) && shards.is_empty() {
        return Ok(Outcome::AlreadyDone);
    }
    let free = others
        .iter()
        .filter(|it| it.holds_data && !excluded.has(&it.name));
    if free.count() == 0 && !shards.is_empty() {
        return Err(last_data_node(client, &shards));
    }
    let intent = Intent {
        member: member.to_owned(),
        subject: format!("the exclusion of node {name} from allocation"),
        thing: format!("exclusion of {name} at {}", kept["url"]),
        what: kept.clone(),
    };
    ensure(client, &intent, name)?;
    let mut watch = MoveProgress::new(&shards);
    let mut what = String::new();
    let mut turn = 0;
    (client.context).poll(&|| client.address(), &mut || {
        turn += 1;
        let mut is_empty = false;
        if turn % (TURNS + 1) > 0 {
            let shards = client.shards(node)?;
            is_empty = shards.is_empty();
            if !is_empty {
                what = watch.describe(client, node, &shards)?;
                return Ok(Poll::Pending(what.clone(), watch.pause()));
            }
        }
        // Checked once more afterwards: a node that is no longer excluded gets its shards back, and one that is gone
        // has none.
        if is_empty && AllocationExclusions::read(client)?.has(name) {
            return Ok(Poll::Ready(match client.find()? {
                Some(_) => Outcome::Done,
                None => Outcome::AlreadyDone,
            }));
        }
        ensure(client, &intent, name)?;
        Ok(Poll::Pending(what.clone(), watch.pause()))
    })
}

/// Ensures that the node is excluded: at first, and after a concurrent write has lost its name.
fn ensure(client: &Client<'_>, intent: &Intent, name: &str) -> Result<(), Failure> {
    let mut longest = EVERY / 4;
    loop {
        let excluded = AllocationExclusions::read(client)?;
        if excluded.has(name) {
            return Ok(());
        }
        let intent_id = client.context.intend(intent)?;
        if let Err(failure) = excluded.add(client, name) {
            // An error reply changes nothing; without an answer the effect is unknown.
            if !failure.retryable {
                client.context.withdraw(intent_id);
            }
            return Err(failure);
        }
        // Spreads concurrent writers.
        let pause = longest.mul_f64(0.5 + fastrand::f64() / 2.0);
        longest = 2 * EVERY;
        if !client.context.pause(pause) {
            let what = format!("{name} to be excluded from allocation");
            return Err(late(client.address(), &what));
        }
    }
}

/// What is left, and when it last changed.
struct MoveProgress {
    left: usize,
    since: Instant,
    cause: String,
    /// Whether the last poll found that only a change of the index or the cluster helps.
    was_everywhere: bool,
}

impl MoveProgress {
    fn new(shards: &[Shard]) -> MoveProgress {
        MoveProgress {
            left: shards.len(),
            since: Instant::now(),
            cause: String::new(),
            was_everywhere: false,
        }
    }

    /// The pause before the next check.
    fn pause(&self) -> Duration {
        match self.cause.as_str() {
            "" => EVERY,
            _ => 2 * EVERY,
        }
    }

    /// What is waited for.
    fn describe(
        &mut self,
        client: &Client<'_>,
        node: &Node,
        shards: &[Shard],
    ) -> Result<String, Failure> {
        let stays = shards.iter().find(|it| !it.moves);
        if shards.len() != self.left || shards.iter().any(|it| it.moves) {
            *self = MoveProgress::new(shards);
        }
        if let Some(shard) = stays.filter(|_| self.since.elapsed() >= STILL) {
            self.since = Instant::now();
            self.explain(client, node, shard)?;
        }
        let moving = shards.iter().filter(|it| it.moves).count();
        let shown: Vec<String> = shards.iter().take(3).map(ToString::to_string).collect();
        let more = if shards.len() > shown.len() {
            " …"
        } else {
            ""
        };
        Ok(format!(
            "{} to move from {}, {moving} of them on their way: {}{more}{}",
            match shards.len() {
                1 => "1 shard".to_owned(),
                count => format!("{count} shards"),
            },
            node.name,
            shown.join(", "),
            self.cause
        ))
    }

    fn explain(&mut self, client: &Client<'_>, node: &Node, shard: &Shard) -> Result<(), Failure> {
        let Some(move_refusal) = client.move_refusal(shard, node)? else {
            return Ok(());
        };
        // While other copies move, a node may hold one that it will not keep.
        let is_everywhere = move_refusal.is_everywhere && !client.is_moving()?;
        if is_everywhere && self.was_everywhere {
            let cause = format!(
                "{shard} can never leave {}: every other node that may hold it has a copy already (as many replicas as other \
                 nodes); lower number_of_replicas or add a node",
                node.name
            );
            return Err(client.failure(ErrorKind::Refused, cause));
        }
        self.was_everywhere = is_everywhere;
        self.cause = format!("; {shard} stays: {}", move_refusal.cause);
        Ok(())
    }
}

/// Asks what [`leave`] would need, or [`Client::wait_for_health`] on a machine that comes back.
pub fn rehearse(client: &Client<'_>) -> Result<String, Failure> {
    let (name, address) = (&client.node, client.address());
    let Some((node, others)) = client.find()? else {
        client
            .context
            .warn_of_absence(&format!("node {name}"), "`node` and `url`");
        return Ok(format!(
            "node {name} at {address}: not there, nothing to leave"
        ));
    };
    let shards = client.shards(&node)?;
    if client.context.facts.comes_back().is_possible() {
        let health = match client.health(&node)? {
            HealthCheck::Sufficient(None) => "good enough".to_owned(),
            HealthCheck::Sufficient(Some(remark)) => remark,
            HealthCheck::Insufficient(seen) => {
                let warning = format!(
                    "the cluster's health is not good enough now, and would be waited for: {seen}"
                );
                client.context.events.warn(&warning);
                seen
            }
        };
        return Ok(format!(
            "node {name} at {address}: there, {} on it; no shard is moved, since it comes back; the cluster's health: {health}",
            count(&shards)
        ));
    }
    let excluded = AllocationExclusions::read(client)?;
    if has_nowhere_to_go(&others) && !shards.is_empty() {
        return Err(last_data_node(client, &shards));
    }
    let already = if excluded.has(name) {
        ", excluded already"
    } else {
        ""
    };
    Ok(format!(
        "node {name} at {address}: there{already}, {} on it, and {} other nodes can hold data; reading is allowed; whether \
         the cluster's settings may be changed is not known",
        count(&shards),
        others.iter().filter(|it| it.holds_data).count()
    ))
}

/// Removes a node's exclusion, and leaves the other names.
pub struct ExclusionUndo(pub Target);

impl Action for ExclusionUndo {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let client = self.0.open(context)?;
        let excluded = AllocationExclusions::read(&client)?;
        if !excluded.has_anywhere(&client.node) {
            return Ok(Outcome::AlreadyDone);
        }
        excluded.remove(&client, &client.node)?;
        if AllocationExclusions::read(&client)?.has_anywhere(&client.node) {
            return Err(client.unexpected_answer(format!(
                "{} is excluded after it was let in again",
                client.node
            )));
        }
        Ok(Outcome::Done)
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let client = self.0.open(context)?;
        let is = if AllocationExclusions::read(&client)?.has_anywhere(&client.node) {
            "is"
        } else {
            "is not"
        };
        Ok(format!(
            "node {} {is} excluded from allocation",
            client.node
        ))
    }
}
