//! The order in which units are stopped: the reverse of After=, as in a shutdown.

use std::collections::BTreeMap;
use std::time::Duration;

use super::closure::Member;
use super::unit::Unit;

/// For each member, those that must be down before it is stopped: what is ordered after it, directly or through a
/// target, and what would start it again. Members of an ordering cycle do not wait for one another, and wait for the
/// same units.
pub fn waits(members: &[Member]) -> Vec<Vec<usize>> {
    let count = members.len();
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, member) in members.iter().enumerate() {
        let aliases = member.unit.names.iter().map(String::as_str);
        names.extend(aliases.chain([member.unit.id.as_str()]).map(|it| (it, at)));
    }
    let mut edges: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (at, member) in members.iter().enumerate() {
        let among = |list: &[String]| -> Vec<usize> {
            let at = |name: &String| names.get(name.as_str()).copied();
            list.iter().filter_map(at).collect()
        };
        let unit = &member.unit;
        let first: Vec<usize> = among(&unit.triggered_by)
            .into_iter()
            // The mount comes first: stopping the automount would detach it while it is in use.
            .filter(|trigger| !members[*trigger].unit.id.ends_with(".automount"))
            .chain(among(&unit.upheld_by))
            .collect();
        // What this one is ordered after waits for it (systemd shows an ordering at both ends), unless it is one of
        // those that come first.
        for earlier in among(&unit.after).into_iter().chain(behind(unit, members)) {
            if !first.contains(&earlier) {
                edges[earlier].push(at);
            }
        }
        edges[at].extend(first);
    }
    let reach: Vec<Vec<bool>> = (0..count).map(|at| reached(&edges, at)).collect();
    let in_circle = |a: usize, b: usize| a == b || reach[a][b] && reach[b][a];
    // What one member of a cycle waits for, all of them do.
    let waits = (0..count).map(|at| {
        let circle = (0..count).filter(|other| in_circle(at, *other));
        let mut all: Vec<usize> = circle.flat_map(|other| edges[other].clone()).collect();
        all.retain(|other| !in_circle(at, *other));
        all.sort_unstable();
        all.dedup();
        all
    });
    waits.collect()
}

/// The members that are ordered before `unit` through a target that both name.
fn behind<'a>(unit: &'a Unit, members: &'a [Member]) -> impl Iterator<Item = usize> + 'a {
    let targets: Vec<&String> = unit
        .after
        .iter()
        .filter(|name| name.ends_with(".target"))
        .collect();
    let is_behind = move |other: &Unit| other.before.iter().any(|it| targets.contains(&it));
    let earlier = members.iter().enumerate();
    earlier
        .filter(move |(_, member)| member.unit.id != unit.id && is_behind(&member.unit))
        .map(|(at, _)| at)
}

/// What is reached from `from` over at least one edge.
fn reached(edges: &[Vec<usize>], from: usize) -> Vec<bool> {
    let mut reached = vec![false; edges.len()];
    let mut queue = edges[from].clone();
    while let Some(at) = queue.pop() {
        if !std::mem::replace(&mut reached[at], true) {
            queue.extend(&edges[at]);
        }
    }
    reached
}

/// How long the stop of all members takes if each uses all its time (TimeoutStopSec=): the longest chain, with its
/// units in stop order. The time is `None` if one of them has no limit.
pub fn longest<'a>(
    members: &'a [Member],
    waits: &[Vec<usize>],
) -> (Option<Duration>, Vec<&'a Unit>) {
    /// Stands for no limit; adding to it saturates.
    const ENDLESS: Duration = Duration::MAX;
    let own = |at: usize| match &members[at].unit {
        unit if unit.is_down() => Duration::ZERO,
        unit => unit.longest_stop().unwrap_or(ENDLESS),
    };
    // `waits` has no cycle, so that each member's time follows from those that it waits for.
    let mut time: Vec<Option<(Duration, Option<usize>)>> = vec![None; members.len()];
    let mut stack: Vec<usize> = (0..members.len()).collect();
    while let Some(at) = stack.pop() {
        if time[at].is_some() {
            continue;
        }
        let open: Vec<usize> = waits[at]
            .iter()
            .copied()
            .filter(|it| time[*it].is_none())
            .collect();
        if !open.is_empty() {
            stack.push(at);
            stack.extend(open);
            continue;
        }
        let before = waits[at].iter().filter_map(|it| Some((time[*it]?.0, *it)));
        let (longest, last) = before
            .max()
            .map_or((Duration::ZERO, None), |(time, it)| (time, Some(it)));
        time[at] = Some((longest.saturating_add(own(at)), last));
    }
    let end = (0..members.len()).max_by_key(|at| time[*at].map(|it| it.0));
    let mut chain = Vec::new();
    let mut next = end;
    while let Some(at) = next {
        if !own(at).is_zero() {
            chain.push(&members[at].unit);
        }
        next = time[at].and_then(|it| it.1);
    }
    chain.reverse();
    let total = end
        .and_then(|at| time[at])
        .map_or(Duration::ZERO, |it| it.0);
    ((total != ENDLESS).then_some(total), chain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::systemd::stop_cause::StopCause;

    fn member(id: &str, after: &[&str]) -> Member {
        let list = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let unit = Unit {
            id: id.to_owned(),
            names: vec![id.to_owned()],
            active: "active".to_owned(),
            after: list(after),
            stop_timeout: Some(Duration::from_secs(10)),
            ..Unit::default()
        };
        let cause = StopCause::Named;
        Member { unit, cause }
    }

    fn before(mut member: Member, before: &[&str]) -> Member {
        member.unit.before = before.iter().map(ToString::to_string).collect();
        member
    }

    #[test]
    fn each_one_waits_for_what_is_ordered_after_it() {
        let members = [
            member("zookeeper.service", &[]),
            member("kafka.service", &["zookeeper.service", "network.target"]),
            member("client.service", &["kafka.service"]),
            member("other.service", &[]),
        ];
        assert_eq!(waits(&members), [vec![1], vec![2], vec![], vec![]]);
    }

    #[test]
    fn a_target_in_between_orders_too() {
        let members = [
            before(member("db.service", &[]), &["stores.target"]),
            member("app.service", &["stores.target"]),
            member("late.service", &["other.target"]),
        ];
        assert_eq!(waits(&members), [vec![1], vec![], vec![]]);
    }

    #[test]
    fn what_triggers_goes_first_but_an_automount() {
        let mut app = member("app.service", &["app.socket"]);
        app.unit.triggered_by = vec!["app.socket".to_owned()];
        app.unit.upheld_by = vec!["keeper.service".to_owned()];
        let socket = before(member("app.socket", &[]), &["app.service"]);
        let keeper = member("keeper.service", &["app.service"]);
        let mut mount = member("mnt.mount", &["mnt.automount"]);
        mount.unit.triggered_by = vec!["mnt.automount".to_owned()];
        let automount = member("mnt.automount", &[]);
        let members = [app, socket, keeper, mount, automount];
        // The socket has Before=app.service, which alone would have it stopped last.
        assert_eq!(
            waits(&members),
            [vec![1, 2], vec![], vec![], vec![], vec![3]]
        );
    }

    #[test]
    fn an_ordering_circle_stops_together_and_still_after_others() {
        let members = [
            member("a.service", &["c.service"]),
            member("b.service", &["a.service"]),
            member("c.service", &["b.service"]),
            member("client.service", &["b.service"]),
            member("base.service", &[]),
            before(member("d.service", &["base.service"]), &[]),
        ];
        assert_eq!(
            waits(&members),
            [vec![3], vec![3], vec![3], vec![], vec![5], vec![]]
        );
    }

    #[test]
    fn the_longest_chain_is_found() {
        let mut members = [
            member("base.service", &[]),
            member("middle.service", &["base.service"]),
            member("top.service", &["middle.service"]),
            member("alone.service", &[]),
        ];
        let found = |members: &[Member]| {
            let (time, chain) = longest(members, &waits(members));
            let chain: Vec<String> = chain.iter().map(|it| it.id.clone()).collect();
            (time, chain.join(" "))
        };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(
            found(&members),
            (
                seconds(30),
                "top.service middle.service base.service".to_owned()
            )
        );
        members[1].unit.active = "inactive".to_owned();
        assert_eq!(
            found(&members),
            (seconds(20), "top.service base.service".to_owned())
        );
        members[3].unit.stop_timeout = None;
        assert_eq!(found(&members), (None, "alone.service".to_owned()));
        assert_eq!(longest(&[], &[]), (seconds(0), vec![]));
    }
}
