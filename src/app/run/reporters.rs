//! The reporters of a run: the record, the terminal and the journal, systemd, D-Bus, and the console.

use std::sync::Arc;
use std::time::Instant;

use crate::app::observers;
use crate::history::state_dir::Store;
use crate::logging::Sink;
use crate::model::event::EventKind;
use crate::model::trigger::Trigger;
use crate::report::console::Console;
use crate::report::dbus::DBus;
use crate::report::event_bus::EventBus;
use crate::report::record;
use crate::report::systemd::Systemd;
use crate::run::context::EventSink;
use crate::sys::{dbus, signals};

/// Starts the reporters. With `warned` the operator knows already that the state directory cannot be used.
pub(super) fn add(events: &Arc<EventBus>, store: Store, sink: Sink, warned: bool) {
    // Weak, since the event bus owns the sender of the record's thread.
    let weak = Arc::downgrade(events);
    let complain = move |message: String| {
        if let Some(events) = weak.upgrade().filter(|_| !warned) {
            events.emit(EventKind::Warning { message });
        }
    };
    match record::start(store, events.written(), Box::new(complain), events.guard()) {
        Ok(record) => events.add_sink(record),
        Err(error) => observers::without("record", &error),
    }
    observers::add(events, sink);
    if let Some(systemd) = Systemd::new() {
        let every = Some(Systemd::EVERY);
        observers::add_one(events, "systemd", every, Box::new(systemd));
    }
}

/// Starts the D-Bus reporter and, when the machine shuts down, the console reporter. While it stays up, the console may be in
/// use.
pub(super) fn add_of_machine(
    events: &Arc<EventBus>,
    begun: Instant,
    trigger: Trigger,
    by_systemd: bool,
) {
    add_dbus(events, begun, by_systemd);
    let goes_down = trigger != Trigger::Stop && by_systemd;
    if let Some(console) = goes_down.then(Console::new).flatten() {
        let every = Some(Console::EVERY);
        observers::add_one(events, "console", every, Box::new(console));
    }
}

/// Starts the D-Bus reporter if it may own the name: the policy allows it to root alone, and a bus that was
/// given by address is the caller's own. A run by hand on a machine without the policy goes without it silently.
fn add_dbus(events: &Arc<EventBus>, begun: Instant, by_systemd: bool) {
    let named = dbus::is_named();
    if !signals::is_root() && !named {
        return;
    }
    let sink = Arc::downgrade(events);
    let complain = move |cause: String| {
        let message = format!("this run is not visible on D-Bus: {cause}");
        match sink.upgrade().filter(|_| by_systemd || named) {
            Some(sink) => sink.emit(EventKind::Warning { message }),
            None => log::debug!("{message}"),
        }
    };
    match DBus::new(begun, Box::new(complain), events.guard()) {
        Ok(reporter) => observers::add_one(events, "D-Bus", None, Box::new(reporter)),
        Err(error) => observers::without("D-Bus", &error),
    }
}
