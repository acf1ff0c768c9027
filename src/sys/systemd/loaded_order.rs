//! The order of units as systemd has them loaded.

use std::collections::BTreeMap;

use super::manager::Manager;
use super::ordering_chain::chain;
use crate::model::deadline::Deadline;
use crate::sys::dbus::BusError;

/// What units are ordered after; each is read once.
pub struct Orders<'a> {
    manager: &'a Manager,
    deadline: Deadline,
    known: BTreeMap<String, Vec<String>>,
    error: Option<BusError>,
}

impl<'a> Orders<'a> {
    /// Nothing is read yet.
    pub fn new(manager: &'a Manager, deadline: Deadline) -> Orders<'a> {
        Orders {
            manager,
            deadline,
            known: BTreeMap::new(),
            error: None,
        }
    }

    /// The shortest chain from `from` to `to` in which each unit is ordered after the next one, without `except`; see
    /// [`chain()`].
    ///
    /// # Errors
    /// If systemd did not answer for one of the units.
    pub fn chain(
        &mut self,
        from: &str,
        to: &str,
        except: Option<&str>,
    ) -> Result<Option<Vec<String>>, BusError> {
        let found = chain(from, to, |unit| match Some(unit) == except {
            true => Vec::new(),
            false => self.after(unit),
        });
        match (found, self.error.take()) {
            (None, Some(error)) => Err(error),
            (found, _) => Ok(found),
        }
    }

    fn after(&mut self, unit: &str) -> Vec<String> {
        if let Some(known) = self.known.get(unit) {
            return known.clone();
        }
        // There are hundreds of devices, and they do not order anything.
        let is_asked = self.error.is_none() && !unit.ends_with(".device");
        let after = if is_asked {
            self.manager.after(unit, self.deadline)
        } else {
            Ok(Vec::new())
        };
        match after {
            Ok(after) => {
                self.known.insert(unit.to_owned(), after.clone());
                after
            }
            Err(error) => {
                self.error = Some(error);
                Vec::new()
            }
        }
    }
}
