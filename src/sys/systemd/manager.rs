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

/// Where PID 1 listens itself, for root alone, whether there is a bus or not.
const SOCKET: &str = "/run/systemd/private";

const NAME: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// A connection to PID 1; one question at a time.
#[derive(Debug)]
pub struct Manager {
    bus: Mutex<Bus>,
}

/// A unit in a list: its name, description, load, active and sub state, whom it follows, its path, and its job's id, type
/// and path.
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
    /// Its unit.
    pub unit: String,
    /// start, stop, restart …
    pub kind: String,
    /// waiting or running.
    pub state: String,
}

/// A socket unit, which PID 1 itself listens for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Its unit.
    pub unit: String,
    /// What it listens at, as systemd writes it: `127.0.0.1:8500`, `[::]:80`, `/run/app.sock`.
    pub listens: Vec<String>,
}

impl Manager {
    /// Root goes to PID 1's own socket, as systemctl does: it needs no bus, and no daemon in between. Others, and root
    /// where that does not answer, go over the system bus.
    ///
    /// # Errors
    /// When neither answers in time.
    pub fn connect(deadline: Deadline) -> Result<Manager, BusError> {
        let own = signals::is_root().then(|| Bus::peer(Path::new(SOCKET), deadline));
        match own {
            Some(Ok(bus)) => Ok(Manager::over(bus)),
            Some(Err(_)) | None => Manager::connect_over_bus(deadline),
        }
    }

    /// As [`Manager::connect`], over the system bus alone.
    ///
    /// # Errors
    /// When there is no bus, or it does not answer in time.
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
    ///
    /// # Errors
    /// See [`BusError`].
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

    /// How the system is: running, degraded, stopping, maintenance …
    ///
    /// # Errors
    /// See [`BusError`].
    pub fn state(&self, deadline: Deadline) -> Result<String, BusError> {
        let arguments = (MANAGER, "SystemState");
        let state: OwnedVariant = self.call(PATH, PROPERTIES, "Get", &arguments, deadline)?;
        String::try_from(state).map_err(unexpected_answer)
    }

    /// Its version, as it writes it: `252.38-1~deb12u1`, `257~rc1`.
    ///
    /// # Errors
    /// See [`BusError`].
    pub fn version(&self, deadline: Deadline) -> Result<String, BusError> {
        let arguments = (MANAGER, "Version");
        let version: OwnedVariant = self.call(PATH, PROPERTIES, "Get", &arguments, deadline)?;
        String::try_from(version).map_err(unexpected_answer)
    }

    /// Where units stand now, in the order of `names`: less than [`Manager::unit`] says, in one short answer.
    ///
    /// # Errors
    /// See [`BusError`].
    pub fn states(&self, names: &[String], deadline: Deadline) -> Result<Vec<UnitState>, BusError> {
        let rows: Vec<ListedUnit> =
            self.call(PATH, MANAGER, "ListUnitsByNames", &(names,), deadline)?;
        if rows.len() != names.len() {
            let cause = format!("{} units in the place of {}", rows.len(), names.len());
            return Err(BusError::Unexpected(cause));
        }
        // A row has the unit's own name, where it was asked for under an alias.
        let state = |(name, row): (&String, ListedUnit)| UnitState {
            name: name.clone(),
            ..listed(row)
        };
        Ok(names.iter().zip(rows).map(state).collect())
    }

    /// The units that systemd has loaded and that match one of `patterns` (globs, as `systemctl list-units` takes them), in
    /// whatever state. Names of unit files that are not loaded are not among them.
    ///
    /// # Errors
    /// See [`BusError`].
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

    /// A unit as systemd has it loaded; one that does not exist is there too, as `not-found`.
    ///
    /// # Errors
    /// See [`BusError`].
    pub fn unit(&self, name: &str, deadline: Deadline) -> Result<Unit, BusError> {
        let path: OwnedObjectPath = self.call(PATH, MANAGER, "LoadUnit", &(name,), deadline)?;
        let mut values: HashMap<String, OwnedVariant> = HashMap::new();
        // The interface of its type is asked too, where its keys matter.
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

    /// What a unit is ordered after, by the names that systemd has for those units; none for a unit that it does not
    /// have. `name` is the unit's own, and no alias.
    ///
    /// # Errors
    /// See [`BusError`].
    pub fn after(&self, name: &str, deadline: Deadline) -> Result<Vec<String>, BusError> {
        let path = format!("{PATH}/unit/{}", escape(name));
        let asked = ("org.freedesktop.systemd1.Unit", "After");
        let value: OwnedVariant = self.call(&path, PROPERTIES, "Get", &asked, deadline)?;
        value.try_into().map_err(unexpected_answer)
    }

    /// The socket units that are active.
    ///
    /// # Errors
    /// See [`BusError`].
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

    /// The commands of the services that have ended and count as active (RemainAfterExit=), which are those that set
    /// something up and take it away again: the unit, and the words of its ExecStart=, ExecStop= and ExecStopPost=.
    ///
    /// # Errors
    /// See [`BusError`].
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

    /// Stops a unit, whatever else waits for what: in this mode alone a stop from within a shutdown does not wait for the
    /// one who asks for it (`ignore-dependencies`). Returns when the job is in the queue, not when it has ended.
    ///
    /// # Errors
    /// See [`BusError`]; a unit that is not loaded is `org.freedesktop.systemd1.NoSuchUnit`.
    pub fn stop(&self, unit: &str, deadline: Deadline) -> Result<(), BusError> {
        let arguments = (unit, "ignore-dependencies");
        let _job: OwnedObjectPath = self.call(PATH, MANAGER, "StopUnit", &arguments, deadline)?;
        Ok(())
    }

    /// Starts a unit, unless that would take back a job that is in the queue (`fail`): a shutdown goes before. Returns when
    /// the job is in the queue.
    ///
    /// # Errors
    /// See [`BusError`].
    pub fn start(&self, unit: &str, deadline: Deadline) -> Result<(), BusError> {
        let arguments = (unit, "fail");
        let _job: OwnedObjectPath = self.call(PATH, MANAGER, "StartUnit", &arguments, deadline)?;
        Ok(())
    }

    /// The target that is started at the boot, by its own name.
    ///
    /// # Errors
    /// See [`BusError`].
    pub fn default_target(&self, deadline: Deadline) -> Result<String, BusError> {
        let name: String = self.call(PATH, MANAGER, "GetDefaultTarget", &(), deadline)?;
        Ok(self.unit(&name, deadline)?.id)
    }

    /// Starts a unit, whatever else waits for what (`ignore-dependencies`): in this mode alone something can be started
    /// from within a shutdown. Returns when the job is in the queue.
    ///
    /// # Errors
    /// See [`BusError`].
    pub fn start_at_once(&self, unit: &str, deadline: Deadline) -> Result<(), BusError> {
        let arguments = (unit, "ignore-dependencies");
        let _job: OwnedObjectPath = self.call(PATH, MANAGER, "StartUnit", &arguments, deadline)?;
        Ok(())
    }

    /// Stops a unit when it is its turn: after those that are ordered after it and are being stopped. Returns when the job
    /// is in the queue.
    ///
    /// # Errors
    /// See [`BusError`].
    pub fn stop_in_turn(&self, unit: &str, deadline: Deadline) -> Result<(), BusError> {
        let arguments = (unit, "replace");
        let _job: OwnedObjectPath = self.call(PATH, MANAGER, "StopUnit", &arguments, deadline)?;
        Ok(())
    }

    /// Sends a signal to the main process of a service.
    ///
    /// # Errors
    /// See [`BusError`]; a unit without a main process is refused.
    pub fn signal_main(&self, unit: &str, signal: i32, deadline: Deadline) -> Result<(), BusError> {
        self.call(PATH, MANAGER, "KillUnit", &(unit, "main", signal), deadline)
    }

    /// Has systemd read its units again and run the generators, and waits until it has (`systemctl daemon-reload`).
    ///
    /// # Errors
    /// See [`BusError`].
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

/// A unit's name in the path of its object: what is no letter or digit is written as `_` and its code.
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
