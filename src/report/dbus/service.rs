//! Answers method calls to a run on the bus: its properties, and introspection.
//!
//! Written here because zbus' own object server (`#[interface]` with its runtime, zbus 6.2) makes the program 565 kB larger,
//! 5.8 MB instead of 5.2, which is over the limit of 5 MiB. A run of one step costs 740,000 instructions with it and 320,000
//! with this, and it has no limit for what callers may cost.

use zbus::Message;
use zbus::message::{Flags, Header};

use super::interface::{NAME, PATH, PROPERTIES, Property, Snapshot};
use crate::sys::dbus::{BusError, Incoming, LONGEST_CALL};
use crate::sys::host;

const INTROSPECTABLE: &str = "org.freedesktop.DBus.Introspectable";
const PEER: &str = "org.freedesktop.DBus.Peer";

/// The introspection data of the object at [`PATH`], in the D-Bus specification's format.
const INTERFACES: &str = include_str!("agent1.xml");

/// An error reply: the last part of its name below org.freedesktop.DBus.Error, and a sentence that repeats nothing of
/// what the caller sent.
struct Refusal(&'static str, String);

/// The reply to a call; `None` where the caller expects none.
pub(super) fn answer(run: &Snapshot, call: &Incoming) -> zbus::Result<Option<Message>> {
    let header = call.header()?;
    let is_silent = header.primary().flags().contains(Flags::NO_REPLY_EXPECTED);
    if is_silent {
        return Ok(None);
    }
    if call.is_too_long {
        let sentence = format!("a call has at most {LONGEST_CALL} bytes");
        return Refusal("LimitsExceeded", sentence)
            .answer(&header)
            .map(Some);
    }
    let (path, member) = (call.path(), call.member());
    // The interface is optional in a call.
    let of = |name: &str| [name, ""].contains(&call.interface());
    let reply = Message::method_return(&header);
    let refusal = match member {
        "Ping" if of(PEER) => return reply.build(&()).map(Some),
        "GetMachineId" if of(PEER) => match host::machine_id() {
            Ok(id) => return reply.build(&(id,)).map(Some),
            Err(error) => Refusal("Failed", error.to_string()),
        },
        "Introspect" if of(INTROSPECTABLE) => match introspect(path) {
            Some(xml) => return reply.build(&(xml,)).map(Some),
            None => Refusal::no_object(),
        },
        _ if path != PATH => Refusal::no_object(),
        "Get" if of(PROPERTIES) => match get(run, call) {
            Ok(value) => return reply.build(&(value,)).map(Some),
            Err(refusal) => refusal,
        },
        "GetAll" if of(PROPERTIES) => match named(call) {
            Ok(()) => return reply.build(&(run.properties(),)).map(Some),
            Err(refusal) => refusal,
        },
        "Set" if of(PROPERTIES) => {
            let sentence = "a run's properties are read-only";
            Refusal("PropertyReadOnly", sentence.to_owned())
        }
        _ => Refusal("UnknownMethod", "there is no such method".to_owned()),
    };
    refusal.answer(&header).map(Some)
}

fn get<'a>(run: &'a Snapshot, call: &Incoming) -> Result<Property<'a>, Refusal> {
    let (interface, name): (String, String) = call.read().map_err(Refusal::of)?;
    known(&interface)?;
    let value = run.properties().remove(name.as_str());
    value.ok_or_else(|| Refusal("UnknownProperty", "there is no such property".to_owned()))
}

/// Checks that the interface a call names exists.
fn named(call: &Incoming) -> Result<(), Refusal> {
    let interface: String = call.read().map_err(Refusal::of)?;
    known(&interface)
}

fn known(interface: &str) -> Result<(), Refusal> {
    match interface {
        NAME => Ok(()),
        _ => Err(Refusal(
            "UnknownInterface",
            format!("only {NAME} has properties here"),
        )),
    }
}

/// The introspection data of a path: the object, or the next node on the way to it.
fn introspect(path: &str) -> Option<String> {
    let below = PATH.strip_prefix(path.trim_end_matches('/'))?;
    if below.is_empty() {
        return Some(INTERFACES.to_owned());
    }
    let name = below.strip_prefix('/')?.split('/').next()?;
    Some(format!("<node>\n  <node name=\"{name}\"/>\n</node>\n"))
}

impl Refusal {
    fn of(_: BusError) -> Refusal {
        let sentence = "the arguments are not those that introspection shows";
        Refusal("InvalidArgs", sentence.to_owned())
    }

    fn no_object() -> Refusal {
        let sentence = format!("there is no such object; the run is {PATH}");
        Refusal("UnknownObject", sentence)
    }

    fn answer(self, call: &Header<'_>) -> zbus::Result<Message> {
        let Refusal(name, sentence) = self;
        let name = format!("org.freedesktop.DBus.Error.{name}");
        Message::error(call, name).build(&(sentence,))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_the_object_can_be_found() {
        let on_the_way = |path: &str| introspect(path).expect("a node");
        assert!(on_the_way("/").contains("<node name=\"org\"/>"));
        assert!(on_the_way("/org").contains("<node name=\"farewell\"/>"));
        assert!(on_the_way("/org/farewell").contains("<node name=\"Agent1\"/>"));
        assert_eq!(introspect(PATH).as_deref(), Some(INTERFACES));
        for elsewhere in ["/or", "/org/fare", "/org/farewell/Agent1/x", "/com", ""] {
            let found = introspect(elsewhere);
            assert!(found.is_none() || elsewhere.is_empty(), "{elsewhere}");
        }
    }

    #[test]
    fn what_is_there_is_what_is_told() {
        for name in Snapshot::default().properties().keys() {
            let property = format!("<property name=\"{name}\" type=");
            assert!(INTERFACES.contains(&property), "{name}");
        }
        assert_eq!(INTERFACES.matches("<property ").count(), 9);
    }
}
