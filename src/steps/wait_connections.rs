//! `wait-connections`: waits until local TCP ports have no established connection left.

use std::time::Duration;

use crate::config::section::Section;
use crate::deadline::{Deadline, Reason};
use crate::failure::{Failure, Word};
use crate::step::{Action, Blueprint, Effect, Kind, Pace, Scope};
use crate::sys::cancel::Waited;
use crate::sys::sockets;

/// The kind's entry in the table. Its keys:
///
/// - `ports` (integers from 1 to 65535; required): a local TCP port, or a list of them
/// - `remaining` (integer from 0 to 4294967295; default 0): how many connections all ports together may still have
pub const KIND: Kind = Kind {
    name: "wait-connections",
    read,
    undo: None,
};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(200);

struct WaitConnections {
    ports: Vec<u16>,
    remaining: usize,
}

fn read(section: &Section<'_>) -> Option<Blueprint> {
    let ports = section.required("ports", |section, key| section.integers(key, 1..=65535));
    let remaining = section.integer("remaining", 0..=i64::from(u32::MAX));
    section.finish();
    let mut ports: Vec<u16> = ports?
        .into_iter()
        .filter_map(|port| u16::try_from(port).ok())
        .collect();
    // A port that is written twice must not be counted twice.
    ports.sort_unstable();
    ports.dedup();
    let action = WaitConnections {
        ports,
        remaining: remaining
            .and_then(|it| usize::try_from(it).ok())
            .unwrap_or(0),
    };
    Some(Blueprint::new(action, Pace::Polled))
}

impl Action for WaitConnections {
    fn attempt(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        let mut told = String::new();
        loop {
            let counts = self.count()?;
            if counts.iter().sum::<usize>() <= self.remaining {
                return Ok(Effect::Done);
            }
            let noun = self.noun(&counts);
            if noun != told {
                scope.voice.waiting(&noun);
                told.clone_from(&noun);
            }
            let next = scope
                .deadline
                .earlier(Deadline::after(EVERY, Reason::Attempt));
            let waited = scope.cancel.sleep_until(next);
            let cause = match waited {
                Waited::Elapsed if scope.deadline.left().is_some() => continue,
                Waited::Elapsed => {
                    format!(
                        "still there when the {} was over",
                        scope.deadline.reason().noun()
                    )
                }
                Waited::Cancelled => "told to stop".to_owned(),
            };
            return Err(Failure::new(Word::TimedOut, noun, cause));
        }
    }

    fn rehearse(&self, _: &Scope<'_>) -> Result<String, Failure> {
        let counts = self.count()?;
        if counts.iter().sum::<usize>() > 0 {
            return Ok(format!("{} now", self.noun(&counts)));
        }
        let ports: Vec<String> = self.ports.iter().map(u16::to_string).collect();
        let plural = if ports.len() == 1 { "" } else { "s" };
        let ports = ports.join(", ");
        Ok(format!("no connection on port{plural} {ports} now"))
    }
}

impl WaitConnections {
    /// The connections of each port.
    fn count(&self) -> Result<Vec<usize>, Failure> {
        sockets::established(&self.ports)
            .map_err(|error| Failure::new(Word::Io, "/proc/net/tcp", error.to_string()))
    }

    /// `3 connections on port 8080, 1 connection on port 8443`.
    fn noun(&self, counts: &[usize]) -> String {
        let parts: Vec<String> = self
            .ports
            .iter()
            .zip(counts)
            .filter(|(_, count)| **count > 0)
            .map(|(port, count)| {
                let plural = if *count == 1 { "" } else { "s" };
                format!("{count} connection{plural} on port {port}")
            })
            .collect();
        parts.join(", ")
    }
}
