//! The run in progress, watched on the bus.

use std::collections::HashMap;
use std::pin::Pin;
use std::time::Duration;

use zbus::export::futures_core::Stream as _;
use zbus::message::Header;
use zbus::{Message, MessageStream, OwnedVariant};

use super::agent::{BUS, BUS_PATH, NAME, PATH, PROPERTIES, Row, Snapshot, Step};
use super::{Bus, Trouble, within};
use crate::deadline::{Deadline, Reason};

/// What the bus is asked to pass on: changes of the run, and that it has left.
const RULES: [&str; 2] = [
    "type='signal',sender='org.farewell.Agent1',path='/org/farewell/Agent1',\
     interface='org.freedesktop.DBus.Properties',member='PropertiesChanged'",
    "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',\
     member='NameOwnerChanged',arg0='org.farewell.Agent1'",
];

type Properties = HashMap<String, OwnedVariant>;

/// A run that is watched.
pub struct Watch {
    signals: MessageStream,
    /// The unique name of the connection that has the run: what others send is not of it.
    owner: String,
    run: Snapshot,
}

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The run has changed.
    Change,
    /// Nothing, for as long as was waited.
    Nothing,
    /// The run has left the bus, or the bus has ended.
    Departure,
}

impl Watch {
    /// Finds the run in progress on the system bus.
    ///
    /// # Errors
    /// When there is no bus or no run on it, or one of them does not answer in time.
    pub fn begin(deadline: Deadline) -> Result<Watch, Trouble> {
        let bus = Bus::system(BUS, deadline)?;
        // Before anything is asked, so that no signal is missed in between.
        let signals = MessageStream::from(bus.connection());
        for rule in RULES {
            bus.call::<_, ()>(BUS_PATH, BUS, "AddMatch", &(rule,), deadline)?;
        }
        let owner: String = bus.call(BUS_PATH, BUS, "GetNameOwner", &(NAME,), deadline)?;
        let asked = bus.connection().call_method(
            Some(owner.as_str()),
            PATH,
            Some(PROPERTIES),
            "GetAll",
            &(NAME,),
        );
        let properties: Properties = within(deadline, asked)?.body().deserialize()?;
        let mut run = Snapshot::default();
        take(&mut run, properties)?;
        Ok(Watch {
            signals,
            owner,
            run,
        })
    }

    /// The run as it was seen last.
    pub fn run(&self) -> &Snapshot {
        &self.run
    }

    /// Waits for the next change, for at most `limit`.
    pub fn next(&mut self, limit: Duration) -> Seen {
        let deadline = Deadline::after(limit, Reason::Attempt);
        loop {
            let signals = &mut self.signals;
            let next = std::future::poll_fn(|context| Pin::new(&mut *signals).poll_next(context));
            let message = match within(deadline, async { Ok(next.await) }) {
                Err(Trouble::TimedOut) => return Seen::Nothing,
                Ok(Some(Ok(message))) => message,
                Ok(_) | Err(_) => return Seen::Departure,
            };
            match self.see(&message) {
                Ok(Seen::Nothing) => {}
                Ok(seen) => return seen,
                // What cannot be read is passed over; the properties that follow may be.
                Err(trouble) => log::debug!("D-Bus: {trouble}"),
            }
        }
    }

    fn see(&mut self, message: &Message) -> Result<Seen, Trouble> {
        let header = message.header();
        let is = |sender: &str, member: &str| is(&header, sender, member);
        if is(&self.owner, "PropertiesChanged") {
            let body = message.body();
            let (_, properties, _): (String, Properties, Vec<String>) = body.deserialize()?;
            take(&mut self.run, properties)?;
            return Ok(Seen::Change);
        }
        if is(BUS, "NameOwnerChanged") {
            let body = message.body();
            let (name, _, _): (String, String, String) = body.deserialize()?;
            if name == NAME {
                return Ok(Seen::Departure);
            }
        }
        Ok(Seen::Nothing)
    }
}

fn is(header: &Header<'_>, sender: &str, member: &str) -> bool {
    header.sender().is_some_and(|name| name.as_str() == sender)
        && header.member().is_some_and(|name| name.as_str() == member)
}

/// Takes properties into account; others than the known ones are passed over.
fn take(run: &mut Snapshot, properties: Properties) -> Result<(), Trouble> {
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

fn step(row: zbus::Structure<'_>) -> Result<Step, Trouble> {
    let row = Row::try_from(row)?;
    let state = row.2.clone();
    Step::from_row(row).ok_or_else(|| Trouble::Strange(format!("a step that is {state}")))
}
