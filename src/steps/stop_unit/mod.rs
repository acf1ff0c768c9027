//! `stop-unit`: stops systemd units and what stops with them, and waits until all of it is down, even during a
//! shutdown.

mod client;
mod outcome;
mod rehearsal;
mod stop;
mod stopping;

use std::time::Duration;

use crate::config::section::Field;
use crate::config::section::{Section, unit_name};
use crate::config::text_kind::TextKind;
use crate::model::error::{ErrorKind, Failure};
use crate::step::{Action, AttemptContext, AttemptPolicy, Dependencies, Kind, Outcome, StepSpec};
use crate::sys::signals;
use crate::sys::systemd::{self, Closure};

use client::Client;
use stop::Stop;

/// The kind's entry in the table. Its keys:
///
/// - `units` (units; required): the name of a unit with its suffix, or a list of them; a pattern like
///   `worker@*.service` matches all units that are loaded when the step begins; what systemd would stop with them
///   (Requires=, Requisite=, BindsTo=, PartOf=, PropagatesStopTo=, the members of a slice) is stopped too, and what
///   triggers or upholds them is stopped first
/// - `signal` (signal; default none): a signal for the main process of each unit named here, sent instead of the unit's
///   stop, which follows when that process has ended
/// - `grace` (duration; default "10s"): this long before the end of the step's time, but never before half of it is
///   over, units that still wait for `signal`, or for the stop of others, are stopped at once
/// - `leave-behind` (boolean; default none): what to do with processes that outlive their unit because of KillMode= or
///   SendSIGKILL=: without it they fail the step 10 s after the unit is down; `false`: the step waits for them until
///   its deadline; `true`: they are reported, and the step is done
pub const KIND: Kind = Kind {
    name: "stop-unit",
    read,
    undo: None,
};

/// The default of `grace`.
const GRACE: Duration = Duration::from_secs(10);

struct StopUnit {
    units: Vec<Field<String>>,
    manner: Manner,
    /// The step's own time, for a rehearsal.
    timeout: Duration,
}

/// How units are stopped.
#[derive(Clone, Copy, Debug)]
struct Manner {
    /// The signal for the main process: its name and number.
    signal: Option<(&'static str, i32)>,
    /// How long before the deadline the remaining units are stopped.
    grace: Duration,
    /// What to do with processes that outlive their unit.
    leave_behind: Option<bool>,
}

fn read(section: &Section<'_>) -> Option<StepSpec> {
    let units = section.required("units", |section, key| {
        section.texts_at(TextKind::Pattern, key, instance)
    });
    let signal = section.word("signal").map(|name| {
        let known = signals::named(&name);
        if known.is_none() {
            let message = format!("`{name}` is not a signal; write it like SIGQUIT");
            section.problem("signal", message);
        }
        known
    });
    let grace = section.duration("grace");
    let leave_behind = section.boolean("leave-behind");
    let timeout = section.duration_elsewhere("timeout");
    section.finish();
    let (units, signal) = (units?, signal.map_or(Some(None), |known| known.map(Some))?);
    let dependencies = Dependencies {
        units: units.clone(),
        leave_behind,
        ..Dependencies::default()
    };
    let manner = Manner {
        signal,
        grace: grace.unwrap_or(GRACE),
        leave_behind,
    };
    let stop = StopUnit {
        units,
        manner,
        timeout: timeout.unwrap_or(crate::step::TIMEOUT),
    };
    Some(StepSpec {
        dependencies,
        // Processes that are left behind keep running.
        may_stop: leave_behind != Some(true),
        ..StepSpec::new(stop, AttemptPolicy::Polled)
    })
}

/// Accepts a unit or a pattern, but not a template, which can be neither stopped nor ordered.
fn instance(name: &str) -> Result<String, String> {
    let is_pattern = systemd::is_pattern(name);
    // The characters of a pattern are not allowed in a name.
    let plain: String = (name.chars())
        .map(|it| if "*?[]!^".contains(it) { 'x' } else { it })
        .collect();
    unit_name(if is_pattern { &plain } else { name }).map_err(|problem| {
        if is_pattern {
            format!(
                "`{name}` is not a pattern of units; write it with a suffix, like app@*.service"
            )
        } else {
            problem
        }
    })?;
    match name.split_once("@.") {
        Some((prefix, suffix)) => Err(format!(
            "`{name}` is a template; name its instances, like {prefix}@1.{suffix}, or all of them as {prefix}@*.{suffix}"
        )),
        None if systemd::OWN.contains(&name) => Err(format!(
            "{name} is farewell's own, and runs this sequence; it ends by itself"
        )),
        None => Ok(name.to_owned()),
    }
}

impl StopUnit {
    /// The configured names and patterns.
    fn names(&self, context: &AttemptContext<'_>) -> Result<Vec<String>, Failure> {
        let names = self.units.iter().map(|unit| unit.get(context.facts));
        let names: Vec<String> = names.collect::<Result<_, _>>()?;
        if !systemd::is_booted() {
            let cause = "systemd is not running on this machine, so there are no units";
            return Err(Failure::new(ErrorKind::Unit, names.join(", "), cause));
        }
        Ok(names)
    }
}

/// The closure of a stop of `names`.
fn closure(client: &mut Client<'_>, names: &[String]) -> Result<Closure, Failure> {
    let needed = (client.context.needed)();
    client.ask(&names.join(", "), |manager, deadline| {
        systemd::stop_of(manager, names, &needed, deadline)
    })
}

impl Action for StopUnit {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let names = self.names(context)?;
        let mut client = Client::new(context);
        let closure = closure(&mut client, &names)?;
        Stop::new(client, self.manner, closure, &names).run()
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let names = self.names(context)?;
        let mut client = Client::new(context);
        let closure = closure(&mut client, &names)?;
        rehearsal::told(&mut client, self, &names, &closure)
    }
}
