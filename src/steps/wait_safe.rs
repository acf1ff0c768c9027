//! `wait-safe`: waits until the cluster can do without this member.

use crate::cluster::{Member, Membership};
use crate::clusters::CLUSTERS;
use crate::config::section::Section;
use crate::failure::Failure;
use crate::intent::Chain;
use crate::step::{self, Action, Blueprint, Effect, Kind, Pace, Scope};

/// The kind's entry in the table. Its keys:
///
/// - `cluster` (cluster; required): what must be safe, and so which other keys the step has
pub const KIND: Kind = Kind {
    name: "wait-safe",
    read,
    undo: Some(undo),
};

struct WaitSafe {
    membership: Box<dyn Membership>,
}

fn read(section: &Section<'_>) -> Option<Blueprint> {
    let choices: Vec<_> = CLUSTERS.iter().map(|it| (it.name, it.read)).collect();
    let read = section.required("cluster", |section, key| {
        section.choice(key, "cluster", &choices)
    })?;
    let member = read(section);
    section.finish();
    let Member {
        membership,
        ties,
        may_stop,
    } = member?;
    Some(Blueprint {
        ties,
        may_stop,
        ..Blueprint::new(WaitSafe { membership }, Pace::Polled)
    })
}

fn undo(chain: &Chain) -> Result<Box<dyn Action>, String> {
    let members = CLUSTERS.iter().map(|it| (it.name, it.undo));
    step::undo_of_member("cluster", members, chain)
}

impl Action for WaitSafe {
    fn attempt(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        self.membership.release(scope)
    }

    fn rehearse(&self, scope: &Scope<'_>) -> Result<String, Failure> {
        self.membership.rehearse(scope)
    }
}
