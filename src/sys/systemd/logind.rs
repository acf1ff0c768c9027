//! logind, which knows of most shutdowns before PID 1 begins them: org.freedesktop.login1(5).

use std::collections::HashMap;

use zbus::OwnedVariant;

use crate::model::deadline::Deadline;
use crate::sys::dbus::{Bus, BusError};

const NAME: &str = "org.freedesktop.login1";
const PATH: &str = "/org/freedesktop/login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// What logind knows of a shutdown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logind {
    /// Whether one has begun. logind does not know of a shutdown that was requested from PID 1 directly.
    pub is_preparing: bool,
    /// Its kind: `poweroff`, `reboot`, `halt`, `kexec`, `soft-reboot`. `None` if unknown: before systemd 254 a power
    /// button has no kind.
    pub kind: Option<String>,
}

impl Logind {
    /// Asks logind, without starting it.
    ///
    /// # Errors
    /// See [`BusError`]; [`BusError::NoConnection`] also if logind does not run.
    pub fn ask(deadline: Deadline) -> Result<Logind, BusError> {
        let mut bus = Bus::system(NAME, deadline)?;
        if !bus.has_owner(NAME, deadline)? {
            return Err(BusError::NoConnection("logind does not run".to_owned()));
        }
        let values = bus.call(PATH, PROPERTIES, "GetAll", &(MANAGER,), deadline)?;
        Ok(Logind::of(values))
    }

    fn of(mut values: HashMap<String, OwnedVariant>) -> Logind {
        let mut take = |name: &str| values.remove(name);
        let metadata = take("PreparingForShutdownWithMetadata")
            .and_then(|it| HashMap::<String, OwnedVariant>::try_from(it).ok());
        let announced = metadata
            .and_then(|mut it| it.remove("type"))
            .and_then(|it| String::try_from(it).ok());
        let scheduled = take("ScheduledShutdown")
            .and_then(|it| <(String, u64)>::try_from(it).ok())
            .map(|(kind, _)| kind);
        let is_preparing = take("PreparingForShutdown")
            .and_then(|it| bool::try_from(it).ok())
            .unwrap_or_default();
        // A shutdown that is scheduled for later has not begun.
        let kind = announced
            .into_iter()
            .chain(scheduled)
            .find(|kind| is_preparing && !kind.is_empty());
        Logind { is_preparing, kind }
    }
}

#[cfg(test)]
mod tests {
    use zbus::wire::Variant;

    use super::*;

    fn owned(value: Variant<'_>) -> OwnedVariant {
        OwnedVariant::try_from(value).expect("owned")
    }

    fn seen(is_preparing: bool, scheduled: &str, announced: Option<&str>) -> Logind {
        let mut values = HashMap::from([
            (
                "PreparingForShutdown".to_owned(),
                owned(is_preparing.into()),
            ),
            (
                "ScheduledShutdown".to_owned(),
                owned(Variant::from((scheduled, u64::MAX))),
            ),
        ]);
        if let Some(kind) = announced {
            let metadata = HashMap::from([
                ("preparing", Variant::from(is_preparing)),
                ("type", Variant::from(kind)),
            ]);
            values.insert(
                "PreparingForShutdownWithMetadata".to_owned(),
                owned(Variant::from(metadata)),
            );
        }
        Logind::of(values)
    }

    #[test]
    fn a_kind_counts_only_for_a_shutdown_that_has_begun() {
        let kind = |logind: Logind| logind.kind;
        assert_eq!(kind(seen(true, "reboot", None)).as_deref(), Some("reboot"));
        // A power button, as 252 tells it, and as later ones do.
        assert_eq!(
            seen(true, "", None),
            Logind {
                is_preparing: true,
                kind: None
            }
        );
        assert_eq!(
            kind(seen(true, "", Some("poweroff"))).as_deref(),
            Some("poweroff")
        );
        // shutdown -r +60.
        assert_eq!(seen(false, "reboot", None), Logind::default());
        assert_eq!(seen(false, "", None), Logind::default());
    }
}
