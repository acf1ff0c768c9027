//! `wait-connections`: waits until local TCP ports have no connection left through which data may still flow.

use std::time::Duration;

use crate::config::section::Section;
use crate::model::error::{ErrorKind, Failure};
use crate::step::{Action, AttemptContext, AttemptPolicy, Kind, Outcome, StepSpec};
use crate::sys::tcp_connections::{self, Port};

/// The kind's entry in the table. Its keys:
///
/// - `ports` (integers from 1 to 65535; required): a local TCP port, or a list of them
/// - `remaining` (integer from 0 to 4294967295; default 0): the number of connections that may be left on all ports
///   together
pub const KIND: Kind = Kind {
    name: "wait-connections",
    read,
    undo: None,
};

/// Between two checks.
const EVERY: Duration = Duration::from_millis(200);

struct WaitConnections {
    ports: Vec<u16>,
    remaining: usize,
}

fn read(section: &Section<'_>) -> Option<StepSpec> {
    let ports = section.required("ports", |section, key| section.integers(key, 1..=65535));
    let remaining = section.integer("remaining", 0..=i64::from(u32::MAX));
    section.finish();
    let mut ports: Vec<u16> = ports?
        .into_iter()
        .filter_map(|port| u16::try_from(port).ok())
        .collect();
    // A port that is listed twice must not be counted twice.
    ports.sort_unstable();
    ports.dedup();
    let action = WaitConnections {
        ports,
        remaining: remaining
            .and_then(|it| usize::try_from(it).ok())
            .unwrap_or(0),
    };
    Some(StepSpec::new(action, AttemptPolicy::Polled))
}

impl Action for WaitConnections {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        // A server may end with its last connection.
        let mut served: Vec<bool> = vec![false; self.ports.len()];
        loop {
            let found = self.look()?;
            for (served, port) in served.iter_mut().zip(&found) {
                *served |= port.is_served || port.connections > 0;
            }
            if total(&found) <= self.remaining {
                if let Some(unserved) = self.unserved(&served) {
                    context.events.remark(&unserved);
                }
                return Ok(Outcome::Done);
            }
            let subject = self.subject(&found);
            context.events.waiting(&subject);
            if !context.pause(EVERY) {
                return Err(Failure::new(ErrorKind::TimedOut, subject, "still open"));
            }
        }
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let found = self.look()?;
        let served: Vec<bool> = found.iter().map(|port| port.is_served).collect();
        if let Some(unserved) = self.unserved(&served) {
            let warning = format!(
                "{unserved}: if the application is running, check `ports`, since a run would wait for nothing"
            );
            context.events.warn(&warning);
        }
        if total(&found) > 0 {
            return Ok(format!("{} now", self.subject(&found)));
        }
        let ports: Vec<String> = self.ports.iter().map(u16::to_string).collect();
        let plural = if ports.len() == 1 { "" } else { "s" };
        let ports = ports.join(", ");
        Ok(format!("no connection on port{plural} {ports} now"))
    }
}

fn total(found: &[Port]) -> usize {
    found.iter().map(|port| port.connections).sum()
}

impl WaitConnections {
    /// What each port has.
    fn look(&self) -> Result<Vec<Port>, Failure> {
        tcp_connections::of(&self.ports)
            .map_err(|error| Failure::new(ErrorKind::Io, "/proc/net/tcp", error.to_string()))
    }

    /// `no process listens on port 8081`, if a port was not served.
    fn unserved(&self, served: &[bool]) -> Option<String> {
        let ports = self.ports.iter().zip(served);
        let ports: Vec<String> = ports
            .filter(|(_, served)| !**served)
            .map(|(port, _)| port.to_string())
            .collect();
        let plural = if ports.len() == 1 { "" } else { "s" };
        (!ports.is_empty())
            .then(|| format!("no process listens on port{plural} {}", ports.join(", ")))
    }

    /// `3 connections on port 8080, 1 connection on port 8443`.
    fn subject(&self, found: &[Port]) -> String {
        let parts: Vec<String> = self
            .ports
            .iter()
            .zip(found)
            .filter(|(_, found)| found.connections > 0)
            .map(|(port, found)| {
                let plural = if found.connections == 1 { "" } else { "s" };
                format!("{} connection{plural} on port {port}", found.connections)
            })
            .collect();
        parts.join(", ")
    }
}
