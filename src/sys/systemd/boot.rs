//! Whether the units that systemd starts at this boot are up.

use std::collections::BTreeSet;

use super::unit::{Unit, UnitState};

/// How many units are examined to find out whether something starts one at boot.
const MAX_UNITS: usize = 200;

/// How far a unit has come after a boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootState {
    /// It is up: active, activated on demand by something active, or ended successfully.
    Up,
    /// systemd does not start it at this boot, with the reason.
    NotStarted(String),
    /// It is being started, or will be, with its state.
    Starting(String),
    /// It is not up, and nothing starts it, with its state.
    Down(String),
}

/// What a unit's [`BootState`] depends on beside the unit itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Around {
    /// Whether a socket, timer, path or automount that starts it is active.
    pub is_triggered: bool,
    /// Whether something starts it at boot; see [`starts_at_boot`].
    pub is_wanted: bool,
}

impl BootState {
    /// The boot state of `unit`, whose state and job are `state`.
    pub fn of(unit: &Unit, state: &UnitState, around: Around) -> BootState {
        let not_started = |why: &str| BootState::NotStarted(why.to_owned());
        let is = |how: &str| format!("is {how}");
        let detailed = |active: &str, detail: &str| is(&format!("{active} ({detail})"));
        match state.active.as_str() {
            "active" | "reloading" | "refreshing" => return BootState::Up,
            _ if state.is_to_start() => {
                return BootState::Starting(detailed(&state.active, "a start job is queued"));
            }
            "inactive" | "failed" => {}
            active => return BootState::Starting(detailed(active, &state.sub)),
        }
        match unit.load.as_str() {
            "not-found" | "" => return not_started("it does not exist"),
            "masked" => return not_started("it is masked"),
            _ if unit.is_transient => return not_started("it is transient"),
            "loaded" => {}
            load => return BootState::Down(detailed("not loaded", load)),
        }
        if state.active == "failed" {
            // Something has started it, unless a person did.
            return match around.is_wanted || unit.file_state != "disabled" {
                true => BootState::Down(detailed("failed", &unit.result)),
                false => not_started("it is disabled"),
            };
        }
        if unit.is_condition_unmet {
            return not_started("its conditions are not met");
        }
        let has_succeeded = unit.is_oneshot && unit.has_run && unit.result == "success";
        if around.is_triggered || has_succeeded {
            return BootState::Up;
        }
        match around.is_wanted {
            true => BootState::Down(detailed("inactive", "no job starts it")),
            false => not_started("nothing starts it at boot"),
        }
    }
}

/// Returns a unit and its state.
pub type Look<'a, E> = dyn FnMut(&str) -> Result<(Unit, UnitState), E> + 'a;

/// Whether something starts a unit at boot: the default target, or a unit that is active or about to be, wants it,
/// directly or through other units. A unit that `look` does not know starts nothing.
pub fn starts_at_boot<E>(
    unit: &Unit,
    default_target: &str,
    look: &mut Look<'_, E>,
) -> Result<bool, E> {
    let mut seen: BTreeSet<String> = unit.names.iter().cloned().collect();
    let mut open: Vec<String> = starters(unit).cloned().collect();
    while let Some(name) = open.pop() {
        if seen.len() > MAX_UNITS || !seen.insert(name.clone()) {
            continue;
        }
        let (starter, state) = look(&name)?;
        if starter.id == default_target || !state.is_down() || state.is_to_start() {
            return Ok(true);
        }
        open.extend(starters(&starter).cloned());
    }
    Ok(false)
}

fn starters(unit: &Unit) -> impl Iterator<Item = &String> {
    [
        &unit.wanted_by,
        &unit.required_by,
        &unit.bound_by,
        &unit.upheld_by,
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(active: &str, sub: &str, job: &str) -> UnitState {
        UnitState {
            name: "app.service".to_owned(),
            id: "app.service".to_owned(),
            active: active.to_owned(),
            sub: sub.to_owned(),
            job: job.to_owned(),
        }
    }

    fn loaded() -> Unit {
        Unit {
            load: "loaded".to_owned(),
            result: "success".to_owned(),
            ..Unit::default()
        }
    }

    const WANTED: Around = Around {
        is_triggered: false,
        is_wanted: true,
    };

    #[test]
    fn what_is_up_and_what_is_not() {
        let of = |unit: &Unit, it: UnitState| BootState::of(unit, &it, WANTED);
        let unit = loaded();
        assert_eq!(of(&unit, state("active", "running", "")), BootState::Up);
        assert_eq!(of(&unit, state("reloading", "reload", "")), BootState::Up);
        let starting = [
            state("activating", "auto-restart", ""),
            state("activating", "start", "start"),
            state("inactive", "dead", "start"),
            state("failed", "failed", "restart"),
            state("deactivating", "stop-sigterm", ""),
        ];
        for it in starting {
            let standing = of(&unit, it.clone());
            assert!(
                matches!(standing, BootState::Starting(_)),
                "{it:?}: {standing:?}"
            );
        }
        let crashed = Unit {
            result: "exit-code".to_owned(),
            ..loaded()
        };
        let failed = BootState::Down("is failed (exit-code)".to_owned());
        assert_eq!(of(&crashed, state("failed", "failed", "")), failed);
        // A job that was dropped, since a unit that it requires has failed.
        let left = of(&unit, state("inactive", "dead", ""));
        assert_eq!(
            left,
            BootState::Down("is inactive (no job starts it)".to_owned())
        );
        let broken = Unit {
            load: "bad-setting".to_owned(),
            ..loaded()
        };
        let standing = of(&broken, state("inactive", "dead", ""));
        assert!(matches!(standing, BootState::Down(_)), "{standing:?}");
    }

    #[test]
    fn what_systemd_does_not_start_is_not_waited_for() {
        let dead = || state("inactive", "dead", "");
        let is_left_out = |unit: &Unit, it: UnitState, around: Around| {
            matches!(BootState::of(unit, &it, around), BootState::NotStarted(_))
        };
        for load in ["masked", "not-found"] {
            let unit = Unit {
                load: load.to_owned(),
                ..Unit::default()
            };
            assert!(is_left_out(&unit, dead(), WANTED), "{load}");
        }
        assert!(is_left_out(&loaded(), dead(), Around::default()));
        let failed = || state("failed", "failed", "");
        let by_hand = Unit {
            file_state: "disabled".to_owned(),
            ..loaded()
        };
        assert!(is_left_out(&by_hand, failed(), Around::default()));
        assert!(!is_left_out(&by_hand, failed(), WANTED));
        assert!(!is_left_out(&loaded(), failed(), Around::default()));
        for change in [
            |unit: &mut Unit| unit.is_transient = true,
            |unit: &mut Unit| unit.is_condition_unmet = true,
        ] {
            let mut unit = loaded();
            change(&mut unit);
            assert!(is_left_out(&unit, dead(), WANTED), "{unit:?}");
        }
    }

    #[test]
    fn an_active_trigger_and_a_oneshot_that_succeeded_are_up() {
        let dead = state("inactive", "dead", "");
        let triggered = Around {
            is_triggered: true,
            is_wanted: true,
        };
        assert_eq!(BootState::of(&loaded(), &dead, triggered), BootState::Up);
        let mut once = Unit {
            is_oneshot: true,
            has_run: true,
            ..loaded()
        };
        assert_eq!(BootState::of(&once, &dead, WANTED), BootState::Up);
        once.has_run = false;
        let standing = BootState::of(&once, &dead, WANTED);
        assert!(matches!(standing, BootState::Down(_)), "{standing:?}");
    }

    #[test]
    fn the_default_target_starts_what_it_wants_through_others() {
        let wanted_by = |id: &str, by: &[&str]| Unit {
            id: id.to_owned(),
            names: vec![id.to_owned()],
            wanted_by: by.iter().map(|it| (*it).to_owned()).collect(),
            ..loaded()
        };
        let units = [
            wanted_by("app.service", &["app.target"]),
            wanted_by("app.target", &["multi-user.target", "app.target"]),
            wanted_by("multi-user.target", &["graphical.target"]),
            wanted_by("graphical.target", &[]),
            wanted_by("circle.service", &["circle.service", "other.service"]),
            wanted_by("other.service", &["circle.service"]),
        ];
        let starts = |name: &str, default: &str, active: &str| {
            let find = |name: &str| {
                units
                    .iter()
                    .find(|it| it.id == name)
                    .expect("known")
                    .clone()
            };
            let mut look = |name: &str| -> Result<_, ()> {
                let active = if name == active { "active" } else { "inactive" };
                Ok((find(name), state(active, "", "")))
            };
            starts_at_boot(&find(name), default, &mut look).expect("no error")
        };
        assert!(starts("app.service", "graphical.target", ""));
        assert!(starts("app.service", "multi-user.target", ""));
        assert!(!starts("app.service", "rescue.target", ""));
        // Its target was started by hand.
        assert!(starts("app.service", "rescue.target", "app.target"));
        assert!(!starts("circle.service", "graphical.target", ""));
    }
}
