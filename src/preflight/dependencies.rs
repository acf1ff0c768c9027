//! What the steps rely on, looked at as a whole.

use std::collections::BTreeSet;

use super::interfaces::Interfaces;
use super::reliance::Requirement;
use super::resolved_peers::Addressed;
use super::{Inspection, Units, filesystems, needs, peers, sockets, stopped_peers};
use crate::config::facts::Facts;
use crate::plan::load::Plan;
use crate::sys::dbus::BusError;
use crate::sys::systemd::Unit;

/// What the steps rely on is looked at in this.
pub(super) struct Inspector<'a> {
    pub(super) plan: &'a Plan,
    pub(super) facts: &'a Facts,
    pub(super) peers: &'a [Addressed<'a>],
    pub(super) farewell: &'a Unit,
    /// What the configuration names: it is compared on its own.
    pub(super) named: BTreeSet<String>,
}

impl Inspector<'_> {
    /// Looks at what the steps rely on. Where one look fails the others are still taken.
    pub(super) fn look(&self, units: &mut Units<'_>, inspection: &mut Inspection) {
        let mut reliances = Vec::new();
        match peers::behind(self.peers, units, inspection) {
            Ok(found) => reliances.extend(found),
            Err(error) => unseen(inspection, "the peers on this machine", &error),
        }
        match sockets::behind(self.plan, self.facts, units, inspection) {
            Ok(found) => reliances.extend(found),
            Err(error) => unseen(inspection, "the unix sockets of the steps", &error),
        }
        match Interfaces::new() {
            Ok(interfaces) => reliances.extend(self.ways(interfaces, units, inspection)),
            Err(error) => {
                let remark = format!("the ways to the peers were not looked at: {error}");
                inspection.remarks.push(remark);
            }
        }
        let mut told = BTreeSet::new();
        for reliance in &reliances {
            match reliance.judge(self.farewell, &self.named, units) {
                // A name may have several addresses.
                Ok(Some(finding)) if told.insert(finding.message.clone()) => {
                    inspection.findings.push(finding);
                }
                Ok(_) => {}
                Err(error) => unseen(inspection, "what the steps rely on", &error),
            }
        }
        match needs::inspect(self.plan, self.farewell, &self.named, units) {
            Ok(findings) => inspection.findings.extend(findings),
            Err(error) => unseen(inspection, "`needs`", &error),
        }
        let (plan, facts) = (self.plan, self.facts);
        match stopped_peers::inspect(plan, facts, &reliances, self.farewell, units) {
            Ok(findings) => inspection.findings.extend(findings),
            Err(error) => unseen(inspection, "what the steps stop", &error),
        }
    }

    /// What the steps rely on for the ways to their peers and file systems.
    fn ways(
        &self,
        mut interfaces: Interfaces,
        units: &mut Units<'_>,
        inspection: &mut Inspection,
    ) -> Vec<Requirement<'_>> {
        let mut reliances = Vec::new();
        for peer in self.peers {
            match interfaces.behind(peer, units) {
                Ok(found) => reliances.extend(found),
                Err(error) => unseen(inspection, &format!("the way to {}", peer.endpoint), &error),
            }
        }
        match filesystems::behind(self.plan, self.facts, &mut interfaces, units, inspection) {
            Ok(found) => reliances.extend(found),
            Err(error) => unseen(inspection, "the file systems of the steps", &error),
        }
        if self.plan.uses_ip {
            match interfaces.of_this_machine(self.facts, self.farewell, &self.named, units) {
                Ok(finding) => inspection.findings.extend(finding),
                Err(error) => unseen(inspection, "who gives `${ip}` to this machine", &error),
            }
        }
        interfaces.remark(inspection);
        reliances
    }
}

fn unseen(inspection: &mut Inspection, what: &str, error: &BusError) {
    let remark = format!("{what} could not be looked at: systemd: {error}");
    if !inspection.remarks.contains(&remark) {
        inspection.remarks.push(remark);
    }
}
