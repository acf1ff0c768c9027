//! Rehearses a stop.

use super::StopUnit;
use super::client::Client;
use crate::config::suggestion::did_you_mean;
use crate::model::error::{ErrorKind, Failure};
use crate::sys::systemd::{self, Closure, Member, Protection, StopCause, Unit};
use crate::text::duration;

/// One sentence on the units; what may go wrong becomes warnings.
pub(super) fn told(
    client: &mut Client<'_>,
    step: &StopUnit,
    names: &[String],
    closure: &Closure,
) -> Result<String, Failure> {
    let never = closure
        .spared
        .iter()
        .find(|it| it.cause == StopCause::Named);
    if let Some(never) = never {
        let cause = format!("a step does not stop it: {}", never.spare);
        return Err(Failure::new(ErrorKind::Unit, &never.unit.id, cause));
    }
    for warning in missing(client, names, closure)? {
        client.context.events.warn(&warning);
    }
    for warning in warnings(step, closure) {
        client.context.events.warn(&warning);
    }
    let named = closure
        .members
        .iter()
        .filter(|it| !matches!(it.cause, StopCause::Tied(..)));
    let mut told: Vec<String> = named.map(|it| state(&it.unit)).collect();
    let patterns = names.iter().filter(|name| systemd::is_pattern(name));
    let is_matched = |pattern: &&String| {
        let cause = StopCause::Matches((*pattern).clone());
        closure.members.iter().any(|it| it.cause == cause)
    };
    told.extend(
        patterns
            .filter(|it| !is_matched(it))
            .map(|it| format!("no unit matches {it} now")),
    );
    let mut sentence = told.join(", ");
    let along = closure.along();
    if !along.is_empty() {
        sentence += &format!("; with it would stop {}", along.join(", "));
    }
    let left = closure.left_alone();
    if !left.is_empty() {
        sentence += &format!("; not stopped: {}", left.join(", "));
    }
    Ok(sentence + "; nothing was stopped")
}

fn state(unit: &Unit) -> String {
    if unit.exists() {
        format!("{} is {} ({})", unit.id, unit.active, unit.sub)
    } else {
        format!(
            "{} is unknown to systemd, so that there is nothing to stop",
            unit.id
        )
    }
}

/// Names of units that do not exist, each with the loaded one that may be meant.
fn missing(
    client: &mut Client<'_>,
    names: &[String],
    closure: &Closure,
) -> Result<Vec<String>, Failure> {
    let is_missing = |it: &&Member| it.cause == StopCause::Named && !it.unit.exists();
    let missing: Vec<&Member> = closure.members.iter().filter(is_missing).collect();
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let all = ["*".to_owned()];
    let loaded = client.ask(&names.join(", "), |manager, deadline| {
        manager.matching(&all, deadline)
    })?;
    let tell = |member: &Member| {
        let name = &member.unit.id;
        let suffix = name.rsplit_once('.').map_or("", |(_, suffix)| suffix);
        // Missing units that a unit file names are listed, too.
        let known = loaded
            .iter()
            .map(|it| it.name.as_str())
            .filter(|it| *it != name);
        let known = known.filter(|it| it.rsplit_once('.').is_some_and(|it| it.1 == suffix));
        format!("{name} does not exist{}", did_you_mean(name, known))
    };
    Ok(missing.into_iter().map(tell).collect())
}

/// What may prevent the step from being done now.
fn warnings(step: &StopUnit, closure: &Closure) -> Vec<String> {
    let mut warnings = Vec::new();
    let (longest, chain) = systemd::longest(&closure.members, &systemd::waits(&closure.members));
    if longest.is_none_or(|longest| longest > step.timeout) {
        let chain: Vec<&str> = chain.iter().map(|unit| unit.id.as_str()).collect();
        let time = longest.map_or_else(|| "for ever".to_owned(), duration::print);
        warnings.push(format!(
            "{} may take {time} to stop (TimeoutStopSec=), and the step has {}: raise its `timeout`, or lower TimeoutStopSec=",
            chain.join(", then "),
            duration::print(step.timeout)
        ));
    }
    for spared in &closure.spared {
        if spared.spare == Protection::UpholdingTarget && !spared.unit.is_down() {
            let StopCause::Tied(_, unit) = &spared.cause else {
                continue;
            };
            warnings.push(format!(
                "{} has Upholds={unit} and is not stopped for it, so that it starts the unit again, but in a shutdown: name \
                 it in `units`",
                spared.unit.id
            ));
        }
    }
    for member in &closure.members {
        let unit = &member.unit;
        if unit.refuses_stop && !matches!(member.cause, StopCause::Tied(..)) {
            warnings.push(format!(
                "{} has RefuseManualStop=yes, so that systemd stops it in a shutdown alone, and `systemctl stop farewell` \
                 fails this step",
                unit.id
            ));
        }
    }
    if step.manner.leave_behind.is_none() {
        warnings.extend(closure.leftovers());
    }
    warnings
}
