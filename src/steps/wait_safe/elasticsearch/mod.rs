//! `elasticsearch`: prepares this node's shutdown, or excludes it from allocation, and waits until it has no shards.

mod shutdown;

use crate::clients::http::peer_ids;
use crate::clients::search::{self, ExclusionUndo, Target};
use crate::config::section::{Section, read_kept};
use crate::model::error::Failure;
use crate::model::intent::Chain;
use crate::step::{Action, AttemptContext, AttemptPolicy, Member, Outcome, StepSpec};
use shutdown::{NodeShutdown, ShutdownUndo};

/// The cluster's word.
const NAME: &str = "elasticsearch";

/// The cluster's entry in the table. Its keys:
///
/// - those of every [`Target`]
///
/// Source: Elasticsearch's documentation, "Put shutdown", "Get shutdown", "Delete shutdown" (7.13 and later), and for the
/// other way "Cluster-level shard allocation filtering". It asks
///
/// - GET `/_nodes/_all/http`: whether the cluster knows the node, as in OpenSearch.
/// - GET `/_cluster/health`, on a machine that comes back: until it is good enough, as in OpenSearch. `restart` is complete
///   at once, whatever the cluster is like.
/// - PUT `/_nodes/ID/shutdown`: type `remove` on a machine that is gone, `restart` on one that comes back. 405, or 400 "no
///   handler", of a server without that interface: then the node is excluded from allocation, as in OpenSearch, unless it
///   comes back.
/// - GET `/_nodes/ID/shutdown`: it is done at `COMPLETE`; `STALLED` is waited for and reported with its explanation; a
///   preparation that somebody deleted is made again.
///
/// The last node that can hold data is refused, unless nothing is on it, or it comes back.
///
/// Both stick. The undo is DELETE `/_nodes/ID/shutdown`, where what stands there is of this step and not of somebody else
/// since; 404 is already undone. Of the exclusion: as in OpenSearch.
pub const MEMBER: Member = Member {
    name: NAME,
    read,
    undo: Some(undo),
};

struct Elasticsearch(Target);

fn read(section: &Section<'_>) -> Option<StepSpec> {
    let target = Target::read(section)?;
    target.warn_of_secrets(section);
    let dependencies = target.dependencies();
    Some(StepSpec {
        dependencies,
        ..StepSpec::new(Elasticsearch(target), AttemptPolicy::Polled)
    })
}

fn undo(chain: &Chain) -> Result<Box<dyn Action>, String> {
    let what = &chain.last().what;
    let target = read_kept(what, Target::read)?;
    Ok(match what.get(shutdown::ID) {
        Some(id) => {
            let id = id.text().ok_or("the record keeps no node's ID")?;
            Box::new(ShutdownUndo::new(target, peer_ids::node_id(&id)?))
        }
        None => Box::new(ExclusionUndo(target)),
    })
}

impl Action for Elasticsearch {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let client = self.0.open(context)?;
        let Some((node, others)) = client.find()? else {
            return Ok(Outcome::AlreadyDone);
        };
        let comes_back = context.facts.comes_back().is_possible();
        if comes_back {
            client.wait_for_health(&node)?;
        }
        let kept = self.0.keep(context.facts)?;
        let shutdown = NodeShutdown::new(&client, &node, &others);
        match shutdown.make(NAME, &kept)? {
            Some(outcome) => Ok(outcome),
            None if comes_back => Ok(Outcome::Done),
            None => search::leave(&client, NAME, &kept, &node, &others),
        }
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        search::rehearse(&self.0.open(context)?)
    }
}
