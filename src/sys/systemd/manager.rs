//! PID 1 itself.

use std::collections::HashMap;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zbus::{DynamicType, OwnedObjectPath, OwnedVariant, Type};

use super::unit::{Unit, UnitState, own_interface};
use crate::model::deadline::Deadline;
use crate::sys::dbus::{Bus, BusError};
use crate::sys::signals;
use crate::sys::sync::Mutex;

/// PID 1's own socket, which root can use even without a bus.
const SOCKET: &str = "/run/systemd/private";

const NAME: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// A connection to PID 1, for one call at a time.
#[derive(Debug)]
pub struct Manager {
    bus: Mutex<Bus>,
}

/// A unit in a list: its name, description, load, active and sub state, the unit that it follows, its path, and its
/// job's id, type and path.
type ListedUnit = (
    String,
    String,
    String,
    String,
    String,
    String,
    OwnedObjectPath,
    u32,
    String,
    OwnedObjectPath,
);

/// A job in systemd's queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub unit: String,
    /// start, stop, restart …
    pub kind: String,
    /// waiting or running.
    pub state: String,
}

/// A socket unit, for which PID 1 itself listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    pub unit: String,
    /// The addresses it listens on, in systemd's notation: `127.0.0.1:8500`, `[::]:80`, `/run/app.sock`.
    pub listens: Vec<String>,
}

impl Manager {
    /// Root uses PID 1's own socket, as systemctl does, which needs no bus daemon. Others, and root if the socket does
    /// not answer, use the system bus.
    pub fn connect(deadline: Deadline) -> Result<Manager, BusError> {
        let own = signals::is_root().then(|| Bus::peer(Path::new(SOCKET), deadline));
        match own {
            Some(Ok(bus)) => Ok(Manager::over(bus)),
            Some(Err(_)) | None => Manager::connect_over_bus(deadline),
        }
    }

    /// As [`Manager::connect`], over the system bus alone.
    pub fn connect_over_bus(deadline: Deadline) -> Result<Manager, BusError> {
        Bus::system(NAME, deadline).map(Manager::over)
    }

    fn over(bus: Bus) -> Manager {
        Manager {
            bus: Mutex::new(bus),
        }
    }

    fn call<A, R>(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        arguments: &A,
        deadline: Deadline,
    ) -> Result<R, BusError>
    where
        A: Serialize + DynamicType,
        R: DeserializeOwned + Type,
    {
        self.bus
            .lock()
            .call(path, interface, method, arguments, deadline)
    }

    /// All jobs in the queue.
    pub fn jobs(&self, deadline: Deadline) -> Result<Vec<Job>, BusError> {
        type Row = (
            u32,
            String,
            String,
            String,
            OwnedObjectPath,
            OwnedObjectPath,
        );
        let rows: Vec<Row> = self.call(PATH, MANAGER, "ListJobs", &(), deadline)?;
        let job = |(_, unit, kind, state, _, _): Row| Job { unit, kind, state };
        Ok(rows.into_iter().map(job).collect())
    }

    /// The system state: running, degraded, stopping, maintenance …
    pub fn state(&self, deadline: Deadline) -> Result<String, BusError> {
        let arguments = (MANAGER, "SystemState");
        let state: OwnedVariant = self.call(PATH, PROPERTIES, "Get", &arguments, deadline)?;
        String::try_from(state).map_err(unexpected_answer)
    }

    /// Its version string: `252.38-1~deb12u1`, `257~rc1`.
    pub fn version(&self, deadline: Deadline) -> Result<String, BusError> {
        let arguments = (MANAGER, "Version");
        let version: OwnedVariant = self.call(PATH, PROPERTIES, "Get", &arguments, deadline)?;
        String::try_from(version).map_err(unexpected_answer)
    }

    /// The states of units, in the order of `names`: less than [`Manager::unit`] returns, but in a single short reply.
    pub fn states(&self, names: &[String], deadline: Deadline) -> Result<Vec<UnitState>, BusError> {
        let rows: Vec<ListedUnit> =
            self.call(PATH, MANAGER, "ListUnitsByNames", &(names,), deadline)?;
        if rows.len() != names.len() {
            let cause = format!("{} units instead of {}", rows.len(), names.len());
            return Err(BusError::Unexpected(cause));
        }
        // A row has the unit's own name, even if it was requested by an alias.
        let state = |(name, row): (&String, ListedUnit)| UnitState {
            name: name.clone(),
            ..listed(row)
        };
        Ok(names.iter().zip(rows).map(state).collect())
    }

    /// The loaded units, in any state, that match one of `patterns` (globs, as for `systemctl list-units`).
    pub fn matching(
        &self,
        patterns: &[String],
        deadline: Deadline,
    ) -> Result<Vec<UnitState>, BusError> {
        let states: &[&str] = &[];
        let arguments = (states, patterns);
        let rows: Vec<ListedUnit> =
            self.call(PATH, MANAGER, "ListUnitsByPatterns", &arguments, deadline)?;
        Ok(rows.into_iter().map(listed).collect())
    }

    /// A unit as systemd has it loaded; one that does not exist is returned as `not-found`.
    pub fn unit(&self, name: &str, deadline: Deadline) -> Result<Unit, BusError> {
        let path: OwnedObjectPath = self.call(PATH, MANAGER, "LoadUnit", &(name,), deadline)?;
        let mut values: HashMap<String, OwnedVariant> = HashMap::new();
        // The properties of its type's interface are read too, if they are needed.
        for interface in own_interface(name)
            .into_iter()
            .chain(["org.freedesktop.systemd1.Unit"])
        {
            let all: HashMap<String, OwnedVariant> =
                self.call(path.as_str(), PROPERTIES, "GetAll", &(interface,), deadline)?;
            values.extend(all);
        }
        Ok(Unit::of(values))
    }

    /// What a unit is ordered after; empty for a unit that is not loaded. `name` must be the unit's own name, not an
    /// alias.
    pub fn after(&self, name: &str, deadline: Deadline) -> Result<Vec<String>, BusError> {
        let path = format!("{PATH}/unit/{}", escape(name));
        let asked = ("org.freedesktop.systemd1.Unit", "After");
        let value: OwnedVariant = self.call(&path, PROPERTIES, "Get", &asked, deadline)?;
        value.try_into().map_err(unexpected_answer)
    }

    /// The socket units that are active.
    pub fn sockets(&self, deadline: Deadline) -> Result<Vec<Socket>, BusError> {
        let arguments: (&[&str], &[&str]) = (&["active"], &["*.socket"]);
        let rows: Vec<ListedUnit> =
            self.call(PATH, MANAGER, "ListUnitsByPatterns", &arguments, deadline)?;
        let socket = |row: ListedUnit| {
            let asked = ("org.freedesktop.systemd1.Socket", "Listen");
            let path = row.6.as_str();
            let value: OwnedVariant = self.call(path, PROPERTIES, "Get", &asked, deadline)?;
            let listens: Vec<(String, String)> = value.try_into().map_err(unexpected_answer)?;
            let listens = listens.into_iter().map(|(_, address)| address).collect();
            let unit = row.0;
            Ok(Socket { unit, listens })
        };
        rows.into_iter().map(socket).collect()
    }

    /// The commands of exited services that are still active (RemainAfterExit=), which usually set something up and
    /// remove it at stop: the unit, and the words of its ExecStart=, ExecStop= and ExecStopPost=.
    pub fn lasting_commands(&self, deadline: Deadline) -> Result<Vec<(String, String)>, BusError> {
        /// `a(sasbttttuii)`: path, argv, whether failure is ignored, times, pid, code, status.
        type Command = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);
        let arguments: (&[&str], &[&str]) = (&["exited"], &["*.service"]);
        let rows: Vec<ListedUnit> =
            self.call(PATH, MANAGER, "ListUnitsByPatterns", &arguments, deadline)?;
        let mut found = Vec::new();
        for row in rows {
            let mut words = String::new();
            for property in ["ExecStart", "ExecStop", "ExecStopPost"] {
                let asked = ("org.freedesktop.systemd1.Service", property);
                let value: OwnedVariant =
                    self.call(row.6.as_str(), PROPERTIES, "Get", &asked, deadline)?;
                let commands: Vec<Command> = value.try_into().map_err(unexpected_answer)?;
                let argv = commands.into_iter().map(|command| command.1.join(" "));
                words.extend(argv.flat_map(|argv| [argv, "\n".to_owned()]));
            }
            found.push((row.0, words));
        }
        Ok(found)
    }

    /// Stops a unit regardless of ordering (`ignore-dependencies`): only in this mode a stop during a shutdown does not
    /// wait for the unit that requests it. Returns when the job is queued, not when it has ended.
    ///
    /// # Errors
    /// See [`BusError`]; `org.freedesktop.systemd1.NoSuchUnit` for a unit that is not loaded.
    pub fn stop(&self, unit: &str, deadline: Deadline) -> Result<(), BusError> {
        let arguments = (unit, "ignore-dependencies");
        let _job: OwnedObjectPath = self.call(PATH, MANAGER, "StopUnit", &arguments, deadline)?;
        Ok(())
    }

    /// Starts a unit, unless that would cancel a queued job (`fail`), such as that of a shutdown. Returns when the job
    /// is queued.
    pub fn start(&self, unit: &str, deadline: Deadline) -> Result<(), BusError> {
        let arguments = (unit, "fail");
        let _job: OwnedObjectPath = self.call(PATH, MANAGER, "StartUnit", &arguments, deadline)?;
        Ok(())
    }

    /// The default target, by its own name.
    pub fn default_target(&self, deadline: Deadline) -> Result<String, BusError> {
        let name: String = self.call(PATH, MANAGER, "GetDefaultTarget", &(), deadline)?;
        Ok(self.unit(&name, deadline)?.id)
    }

    /// Starts a unit regardless of ordering (`ignore-dependencies`): only in this mode a unit can be started during a
    /// shutdown. Returns when the job is queued.
    pub fn start_at_once(&self, unit: &str, deadline: Deadline) -> Result<(), BusError> {
        let arguments = (unit, "ignore-dependencies");
        let _job: OwnedObjectPath = self.call(PATH, MANAGER, "StartUnit", &arguments, deadline)?;
        Ok(())
    }

    /// Stops a unit in order: after the units that are ordered after it and are being stopped. Returns when the job is
    /// queued.
    pub fn stop_in_turn(&self, unit: &str, deadline: Deadline) -> Result<(), BusError> {
        let arguments = (unit, "replace");
        let _job: OwnedObjectPath = self.call(PATH, MANAGER, "StopUnit", &arguments, deadline)?;
        Ok(())
    }

    /// Sends a signal to the main process of a service.
    ///
    /// # Errors
    /// See [`BusError`]; an error reply if the unit has no main process.
    pub fn signal_main(&self, unit: &str, signal: i32, deadline: Deadline) -> Result<(), BusError> {
        self.call(PATH, MANAGER, "KillUnit", &(unit, "main", signal), deadline)
    }

    /// Makes systemd reload its units and run the generators, and waits for it (`systemctl daemon-reload`).
    pub fn reload(&self, deadline: Deadline) -> Result<(), BusError> {
        self.call(PATH, MANAGER, "Reload", &(), deadline)
    }
}

fn listed(row: ListedUnit) -> UnitState {
    UnitState {
        name: row.0.clone(),
        id: row.0,
        active: row.3,
        sub: row.4,
        job: row.8,
    }
}

/// Escapes a unit's name for its object path: anything but a letter or digit becomes `_` and its code.
fn escape(name: &str) -> String {
    let bytes = name.bytes().enumerate();
    let escaped = bytes.map(|(at, byte)| match byte {
        byte if byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit()) => {
            char::from(byte).to_string()
        }
        byte => format!("_{byte:02x}"),
    });
    escaped.collect()
}

fn unexpected_answer(error: zbus::Error) -> BusError {
    BusError::Unexpected(error.to_string())
}
