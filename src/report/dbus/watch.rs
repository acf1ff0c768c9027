//! Watches the run in progress over the bus.

use std::collections::HashMap;
use std::time::Duration;

use zbus::{Message, OwnedVariant};

use super::interface::{NAME, PATH, PROPERTIES, Row, Snapshot, Step};
use crate::model::deadline::{Deadline, Reason};
use crate::sys::dbus::{BUS, BUS_PATH, Bus, BusError, Incoming};

/// Match rules: changes of the run's properties, and the loss of its name.
const RULES: [&str; 2] = [
    "type='signal',sender='org.farewell.Agent1',path='/org/farewell/Agent1',\
     interface='org.freedesktop.DBus.Properties',member='PropertiesChanged'",
    "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',\
     member='NameOwnerChanged',arg0='org.farewell.Agent1'",
];

type Properties = HashMap<String, OwnedVariant>;

/// A run that is watched.
pub struct Watch {
    bus: Bus,
    /// The unique name of the connection that publishes the run; signals of others are ignored.
    owner: String,
    run: Snapshot,
}

/// What [`Watch::next`] saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The run has changed.
    Change,
    /// Nothing changed within the limit.
    Nothing,
    /// The run has left the bus, or the connection to the bus broke.
    Departure,
}

impl Watch {
    /// Finds the run in progress on the system bus.
    ///
    /// # Errors
    /// If there is no bus or no run on it, or one of them does not answer in time.
    pub fn begin(deadline: Deadline) -> Result<Watch, BusError> {
        let mut bus = Bus::system(BUS, deadline)?;
        // Before any property is read, so that no signal is missed in between.
        for rule in RULES {
            bus.call::<_, ()>(BUS_PATH, BUS, "AddMatch", &(rule,), deadline)?;
        }
        let owner: String = bus.call(BUS_PATH, BUS, "GetNameOwner", &(NAME,), deadline)?;
        let all = Message::method_call(PATH, "GetAll")
            .destination(owner.as_str())
            .interface(PROPERTIES)
            .build(&(NAME,))?;
        let properties: Properties = bus.answer(&all, deadline)?;
        let mut run = Snapshot::default();
        take(&mut run, properties)?;
        Ok(Watch { bus, owner, run })
    }

    /// The run as it was seen last.
    pub fn run(&self) -> &Snapshot {
        &self.run
    }

    /// Waits for the next change, for at most `limit`.
    pub fn next(&mut self, limit: Duration) -> Seen {
        let deadline = Deadline::after(limit, Reason::Attempt);
        loop {
            let message = match self.bus.signal(deadline) {
                Ok(message) => message,
                Err(BusError::TimedOut) => return Seen::Nothing,
                Err(_) => return Seen::Departure,
            };
            match self.see(&message) {
                Ok(Seen::Nothing) => {}
                Ok(seen) => return seen,
                // A signal that cannot be decoded is ignored; later ones may be fine.
                Err(error) => log::debug!("D-Bus: {error}"),
            }
        }
    }

    fn see(&mut self, signal: &Incoming) -> Result<Seen, BusError> {
        match signal.member() {
            "PropertiesChanged" if signal.sender() == self.owner => {
                let (_, properties, _): (String, Properties, Vec<String>) = signal.read()?;
                take(&mut self.run, properties)?;
                Ok(Seen::Change)
            }
            "NameOwnerChanged" if signal.sender() == BUS => {
                let (name, _, _): (String, String, String) = signal.read()?;
                match name == NAME {
                    true => Ok(Seen::Departure),
                    false => Ok(Seen::Nothing),
                }
            }
            _ => Ok(Seen::Nothing),
        }
    }
}

/// Applies properties; unknown ones are ignored.
fn take(run: &mut Snapshot, properties: Properties) -> Result<(), BusError> {
    for (name, value) in properties {
        match name.as_str() {
            "RunId" => run.run = value.try_into()?,
            "Trigger" => run.trigger = value.try_into()?,
            "Result" => {
                let result: String = value.try_into()?;
                run.result = Some(result).filter(|result| !result.is_empty());
            }
            "StartedUSec" => run.started_usec = value.try_into()?,
            "DeadlineUSec" => run.deadline_usec = value.try_into()?,
            "Steps" => {
                let rows: Vec<zbus::Structure<'_>> = value.try_into()?;
                run.steps = rows.into_iter().map(step).collect::<Result<_, _>>()?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn step(row: zbus::Structure<'_>) -> Result<Step, BusError> {
    let row: Row = row.try_into()?;
    let state = row.2.clone();
    Step::from_row(row).ok_or_else(|| BusError::Unexpected(format!("a step that is {state}")))
}
