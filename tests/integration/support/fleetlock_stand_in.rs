//! Stand-ins for the two FleetLock servers, coreos/airlock and poseidon/fleetlock: their replies are taken from their
//! handlers (`internal/server/pre_reboot.go` and `steady_state.go`, `internal/lock/semaphore.go`; `internal/server.go`,
//! `internal/encode.go`), without what stands behind them: etcd, and a Kubernetes API server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::loopback::{Asked, Loopback, Reply};

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Make {
    Airlock,
    Poseidon,
}

/// A request, and what became of it.
#[derive(Clone, Debug)]
pub struct Heard {
    pub at: Instant,
    pub is_release: bool,
    pub group: String,
    pub id: String,
    pub status: u16,
}

/// What it does instead of answering as it should.
#[derive(Clone)]
pub enum Trouble {
    /// Another answer: status line and body.
    Says(&'static str, String),
    /// It does what it is told after a while, and says nothing.
    Mute(Duration),
    /// It does nothing, and says nothing.
    Silent,
}

/// A server with one slot a group.
pub struct FleetLock {
    pub url: String,
    state: Arc<State>,
}

struct State {
    make: Make,
    /// The groups that airlock is configured with; poseidon's makes them as they come.
    groups: Vec<String>,
    holders: Mutex<BTreeMap<String, String>>,
    heard: Mutex<Vec<Heard>>,
    /// For the next request whose path ends so.
    trouble: Mutex<Vec<(&'static str, Trouble)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic")
}

impl FleetLock {
    pub fn start(make: Make) -> FleetLock {
        FleetLock::with_groups(make, &["default"])
    }

    pub fn with_groups(make: Make, groups: &[&str]) -> FleetLock {
        FleetLock::at(0, make, groups)
    }

    pub fn at(port: u16, make: Make, groups: &[&str]) -> FleetLock {
        let state = Arc::new(State {
            make,
            groups: groups.iter().map(ToString::to_string).collect(),
            holders: Mutex::default(),
            heard: Mutex::default(),
            trouble: Mutex::default(),
        });
        let shared = state.clone();
        let server = Loopback::at(port, move |asked| shared.answer(asked));
        FleetLock {
            url: server.url(),
            state,
        }
    }

    /// Who holds the slot of the group.
    pub fn holder(&self, group: &str) -> Option<String> {
        lock(&self.state.holders).get(group).cloned()
    }

    pub fn give(&self, group: &str, id: &str) {
        lock(&self.state.holders).insert(group.to_owned(), id.to_owned());
    }

    pub fn free(&self, group: &str) {
        lock(&self.state.holders).remove(group);
    }

    /// Every request that was understood so far.
    pub fn heard(&self) -> Vec<Heard> {
        lock(&self.state.heard).clone()
    }

    /// Pre-reboot or steady-state: what becomes of the next one.
    pub fn trouble(&self, path: &'static str, trouble: Trouble) {
        lock(&self.state.trouble).push((path, trouble));
    }
}

impl State {
    fn answer(&self, asked: &Asked) -> Reply {
        let is_release = match asked.path.as_str() {
            "/v1/pre-reboot" => false,
            "/v1/steady-state" => true,
            _ => return Reply::text("404 Not Found", "404 page not found\n"),
        };
        if self.make == Make::Poseidon && asked.method != "POST" {
            return self.error(
                "405 Method Not Allowed",
                "method_not_allowed",
                "required method POST",
            );
        }
        let body: Value = serde_json::from_str(&asked.body).unwrap_or_default();
        let text = |key: &str| {
            let text = body["client_params"][key].as_str();
            text.unwrap_or_default().to_owned()
        };
        let (id, group) = (text("id"), text("group"));
        if asked.header("fleet-lock-protocol") != Some("true") {
            return match self.make {
                Make::Airlock => self.error(
                    "400 Bad Request",
                    "invalid_client_identity",
                    "failed to validate client identity: wrong 'fleet-lock-protocol' header",
                ),
                Make::Poseidon => self.error(
                    "400 Bad Request",
                    "missing_header",
                    "missing required header fleet-lock-protocol: true",
                ),
            };
        }
        if id.is_empty() || group.is_empty() {
            let kind = match self.make {
                Make::Airlock => "invalid_client_identity",
                Make::Poseidon => "decode_error",
            };
            return self.error("400 Bad Request", kind, "error decoding message");
        }
        if self.make == Make::Airlock && !self.groups.contains(&group) {
            let said = format!("unknown group {group:?}");
            return self.error("400 Bad Request", "unknown_group", &said);
        }
        let trouble = {
            let mut troubles = lock(&self.trouble);
            let at = troubles
                .iter()
                .position(|(path, _)| asked.path.ends_with(path));
            at.map(|at| troubles.remove(at).1)
        };
        let note = |status: u16| {
            lock(&self.heard).push(Heard {
                at: Instant::now(),
                is_release,
                group: group.clone(),
                id: id.clone(),
                status,
            });
        };
        match trouble {
            Some(Trouble::Says(status, body)) => {
                note(status[..3].parse().expect("a status"));
                return Reply::text(status, &body);
            }
            Some(Trouble::Silent) => {
                note(0);
                return Reply::Silence;
            }
            Some(Trouble::Mute(time)) => {
                note(0);
                std::thread::sleep(time);
                let _ = self.act(is_release, &group, &id);
                return Reply::Silence;
            }
            None => {}
        }
        let (status, reply) = self.act(is_release, &group, &id);
        note(status);
        reply
    }

    fn act(&self, is_release: bool, group: &str, id: &str) -> (u16, Reply) {
        let mut holders = lock(&self.holders);
        let holder = holders.get(group).cloned();
        let is_own = holder.as_deref() == Some(id);
        match (self.make, is_release) {
            (_, false) if holder.is_none() || is_own => {
                holders.insert(group.to_owned(), id.to_owned());
                let said = match self.make {
                    Make::Airlock => "",
                    Make::Poseidon if is_own => "retained reboot lease",
                    Make::Poseidon => "obtained reboot lease",
                };
                (200, Reply::text("200 OK", said))
            }
            (Make::Airlock, false) => {
                let said = "all 1 semaphore slots currently locked";
                (
                    500,
                    self.error("500 Internal Server Error", "failed_lock", said),
                )
            }
            (Make::Poseidon, _) if !is_own && holder.is_some() => {
                let what = if is_release { "unlock" } else { "lock" };
                let holder = holder.unwrap_or_default();
                let said = format!("reboot lease {what} unavailable, held by {holder}");
                (423, self.error("423 Locked", "lock_held", &said))
            }
            (_, _) => {
                if is_own {
                    holders.remove(group);
                }
                let said = match self.make {
                    Make::Airlock => String::new(),
                    Make::Poseidon if is_own => format!("unlocked reboot lease for {id}"),
                    Make::Poseidon => "reboot lease already unlocked".to_owned(),
                };
                (200, Reply::text("200 OK", &said))
            }
        }
    }

    /// As each of them writes an error: airlock as plain text with a line break.
    fn error(&self, status: &'static str, kind: &str, value: &str) -> Reply {
        let content = match self.make {
            Make::Airlock => "text/plain; charset=utf-8",
            Make::Poseidon => "application/json",
        };
        let headers = format!("Content-Type: {content}\r\nX-Content-Type-Options: nosniff\r\n");
        let body = format!("{}\n", json!({"kind": kind, "value": value}));
        Reply::Answer(status, headers, body)
    }
}
