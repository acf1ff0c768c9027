//! Names of units; see systemd.unit(5).

use super::is_pattern;

/// The types of units.
const TYPES: [&str; 11] = [
    "service",
    "socket",
    "target",
    "mount",
    "automount",
    "swap",
    "timer",
    "path",
    "slice",
    "scope",
    "device",
];

/// The longest name that systemd accepts, in bytes.
const LONGEST: usize = 255;

/// Whether `name` is the name of a unit or a template and nothing else, so that it may be written into a unit file.
pub fn is_unit_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    let is_type = |kind: &str| TYPES.contains(&kind);
    name.len() <= LONGEST
        && name.bytes().all(is_allowed)
        && stem(name)
            .is_some_and(|(stem, kind)| !stem.is_empty() && !stem.starts_with('@') && is_type(kind))
}

/// The name and the type: what is before and after the last dot.
pub(super) fn stem(unit: &str) -> Option<(&str, &str)> {
    unit.rsplit_once('.')
}

/// The template of an instance: `worker@.service` for `worker@1.service`, and for the pattern `worker@*.service`.
/// `None` for other units, and for patterns that match several templates.
pub fn template(unit: &str) -> Option<String> {
    let (name, kind) = stem(unit)?;
    let (prefix, instance) = name.split_once('@')?;
    let is_one = !prefix.is_empty() && !instance.is_empty() && !is_pattern(prefix);
    (is_one && !is_pattern(kind)).then(|| format!("{prefix}@.{kind}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_units_are_told_from_anything_else() {
        for name in [
            "app.service",
            "worker@1.service",
            "worker@.service",
            "mnt-a\\x2db.mount",
            "a:b_c.d.socket",
            "-.mount",
            "system-getty.slice",
        ] {
            assert!(is_unit_name(name), "{name}");
        }
        for name in [
            "",
            "app",
            ".service",
            "app.servic",
            "a b.service",
            "a.service\nExecStop=/bin/x",
            "a%i.service",
            "worker@*.service",
            "../x.service",
            "@1.service",
            "ä.service",
        ] {
            assert!(!is_unit_name(name), "{name:?}");
        }
        assert!(!is_unit_name(&format!("{}.service", "a".repeat(248))));
        assert!(is_unit_name(&format!("{}.service", "a".repeat(247))));
    }

    #[test]
    fn instances_and_patterns_have_a_template() {
        for (unit, of) in [
            ("worker@1.service", Some("worker@.service")),
            ("worker@*.service", Some("worker@.service")),
            ("worker@a?.service", Some("worker@.service")),
            ("worker@.service", None),
            ("worker.service", None),
            ("wor*@1.service", None),
            ("worker@1.*", None),
            ("*", None),
        ] {
            assert_eq!(template(unit).as_deref(), of, "{unit}");
        }
    }
}
