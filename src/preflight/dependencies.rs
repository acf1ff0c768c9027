//! Checks everything that the steps depend on.

use std::collections::BTreeSet;

use super::interfaces::Interfaces;
use super::requirement::Requirement;
use super::resolved_peers::Addressed;
use super::{Inspection, Units, filesystems, needs, peers, sockets, stopped_peers};
use crate::config::facts::Facts;
use crate::plan::load::Plan;
use crate::sys::dbus::BusError;
use crate::sys::systemd::Unit;

/// The inputs of the check.
pub(super) struct Inspector<'a> {
    pub(super) plan: &'a Plan,
    pub(super) facts: &'a Facts,
    pub(super) peers: &'a [Addressed<'a>],
    pub(super) farewell: &'a Unit,
    /// Units that the configuration names, which are compared separately.
    pub(super) named: BTreeSet<String>,
}

impl Inspector<'_> {
    /// Checks what the steps depend on. If one check fails, the others are still made.
    pub(super) fn inspect(&self, units: &mut Units<'_>, inspection: &mut Inspection) {
        let mut requirements = Vec::new();
        match peers::behind(self.peers, units, inspection) {
            Ok(found) => requirements.extend(found),
            Err(error) => unseen(inspection, "the peers on this machine", &error),
        }
        match sockets::behind(self.plan, self.facts, units, inspection) {
            Ok(found) => requirements.extend(found),
            Err(error) => unseen(inspection, "the unix sockets of the steps", &error),
        }
        match Interfaces::new() {
            Ok(interfaces) => requirements.extend(self.ways(interfaces, units, inspection)),
            Err(error) => {
                let remark = format!("cannot check the routes to the peers: {error}");
                inspection.remarks.push(remark);
            }
        }
        let mut told = BTreeSet::new();
        for requirement in &requirements {
            match requirement.judge(self.farewell, &self.named, units) {
                // A name may have several addresses.
                Ok(Some(finding)) if told.insert(finding.message.clone()) => {
                    inspection.findings.push(finding);
                }
                Ok(_) => {}
                Err(error) => unseen(inspection, "what the steps depend on", &error),
            }
        }
        match needs::inspect(self.plan, self.farewell, &self.named, units) {
            Ok(findings) => inspection.findings.extend(findings),
            Err(error) => unseen(inspection, "`needs`", &error),
        }
        let (plan, facts) = (self.plan, self.facts);
        match stopped_peers::inspect(plan, facts, &requirements, self.farewell, units) {
            Ok(findings) => inspection.findings.extend(findings),
            Err(error) => unseen(inspection, "what the steps stop", &error),
        }
    }

    /// What the steps depend on to reach their peers and file systems.
    fn ways(
        &self,
        mut interfaces: Interfaces,
        units: &mut Units<'_>,
        inspection: &mut Inspection,
    ) -> Vec<Requirement<'_>> {
        let mut requirements = Vec::new();
        for peer in self.peers {
            match interfaces.behind(peer, units) {
                Ok(found) => requirements.extend(found),
                Err(error) => unseen(
                    inspection,
                    &format!("the route to {}", peer.endpoint),
                    &error,
                ),
            }
        }
        match filesystems::behind(self.plan, self.facts, &mut interfaces, units, inspection) {
            Ok(found) => requirements.extend(found),
            Err(error) => unseen(inspection, "the file systems of the steps", &error),
        }
        if self.plan.uses_ip {
            match interfaces.of_this_machine(self.facts, self.farewell, &self.named, units) {
                Ok(finding) => inspection.findings.extend(finding),
                Err(error) => unseen(inspection, "what assigns the address of `${ip}`", &error),
            }
        }
        interfaces.remark(inspection);
        requirements
    }
}

fn unseen(inspection: &mut Inspection, what: &str, error: &BusError) {
    let remark = format!("cannot check {what}: systemd: {error}");
    if !inspection.remarks.contains(&remark) {
        inspection.remarks.push(remark);
    }
}
