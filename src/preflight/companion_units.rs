//! Checks the other units of farewell: that which starts farewell.service early in the boot, and
//! farewell-start.service.

use super::{Finding, Inspection, Units};
use crate::sys::systemd::{ARM_UNIT, START_UNIT, UNIT, Unit};

/// Checks that the other units exist, and are enabled together with farewell.service.
pub(super) fn inspect(farewell: &Unit, units: &mut Units<'_>, inspection: &mut Inspection) {
    let mut found: Vec<Unit> = Vec::new();
    for name in [ARM_UNIT, START_UNIT] {
        match units.get(name) {
            Ok(unit) => found.push(unit),
            Err(error) => {
                let remark = format!("cannot check {name}: {error}");
                return inspection.remarks.push(remark);
            }
        }
    }
    let [arm, start] = found.as_slice() else {
        return;
    };
    let messages = [beside(start), paired(farewell, arm)];
    let finding = |message| Finding {
        message,
        is_stale: false,
    };
    let found = messages.into_iter().flatten().map(finding);
    inspection.findings.extend(found);
}

/// What is wrong with farewell-start.service.
fn beside(start: &Unit) -> Option<String> {
    (start.load != "loaded").then(|| {
        format!(
            "{START_UNIT} is {}, so that nothing is checked, kept or undone at boot: {}",
            start.load,
            match start.load.as_str() {
                "masked" => format!("run `systemctl unmask {START_UNIT}`"),
                _ => "install farewell's units again".to_owned(),
            }
        )
    })
}

/// What is wrong if only one of the two is enabled.
fn paired(farewell: &Unit, arm: &Unit) -> Option<String> {
    let is_enabled = |unit: &Unit| unit.file_state.starts_with("enabled");
    match (is_enabled(farewell), is_enabled(arm)) {
        (true, false) => {
            let state = match arm.file_state.as_str() {
                "" => &arm.load,
                state => state,
            };
            Some(format!(
                "{ARM_UNIT} is {state} while {UNIT} is enabled, so that no farewell runs if the machine goes down while it boots: run \
                 `systemctl unmask {ARM_UNIT}` and `systemctl enable {UNIT}`, which enables both"
            ))
        }
        (false, true) if farewell.load == "loaded" => Some(format!(
            "{UNIT} is {} while {ARM_UNIT} is enabled and starts it at each boot: run `systemctl enable {UNIT}`, or \
             `systemctl disable {UNIT}`, which disables both",
            farewell.file_state
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_enabled_with_the_other() {
        let with = |id: &str, load: &str, file_state: &str| Unit {
            id: id.to_owned(),
            load: load.to_owned(),
            file_state: file_state.to_owned(),
            ..Unit::default()
        };
        for (own, arm, part) in [
            ("enabled", "enabled", None),
            ("enabled-runtime", "enabled", None),
            ("disabled", "disabled", None),
            (
                "enabled",
                "disabled",
                Some("farewell-arm.service is disabled while"),
            ),
            (
                "enabled",
                "masked",
                Some("farewell-arm.service is masked while"),
            ),
            (
                "disabled",
                "enabled",
                Some("farewell.service is disabled while"),
            ),
        ] {
            let told = paired(&with(UNIT, "loaded", own), &with(ARM_UNIT, "loaded", arm));
            match part {
                Some(part) => assert!(told.is_some_and(|it| it.contains(part)), "{own} {arm}"),
                None => assert_eq!(told, None, "{own} {arm}"),
            }
        }
        let masked = with(UNIT, "masked", "masked");
        assert_eq!(paired(&masked, &with(ARM_UNIT, "loaded", "enabled")), None);
        assert_eq!(beside(&with(START_UNIT, "loaded", "static")), None);
        let told = beside(&with(START_UNIT, "masked", "masked")).expect("a finding");
        assert!(
            told.contains("systemctl unmask farewell-start.service"),
            "{told}"
        );
    }
}
