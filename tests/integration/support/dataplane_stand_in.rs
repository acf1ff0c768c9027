//! A stand-in for HAProxy's Data Plane API, which cannot be had as a package: it answers as the handlers of 3.4.2 and 2.9.27
//! do by their source (`handlers/runtime/servers`, `handlers/dataplane/stats`, `adapters`), by the runtime API of a real HAProxy
//! behind it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use super::loopback::{Asked, Loopback, Reply};

/// Who may ask.
pub const USER: &str = "farewell";
pub const PASSWORD: &str = "d4ta-plane-s3cret";

/// The versions of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V2,
    V3,
}

/// It ends with the test's process.
pub struct DataPlaneStandIn {
    pub url: String,
    state: Arc<State>,
}

struct State {
    /// The runtime API of the HAProxy behind it.
    socket: String,
    version: Version,
    is_silent: AtomicBool,
    is_gone: AtomicBool,
}

impl DataPlaneStandIn {
    pub fn start(socket: &str, version: Version) -> DataPlaneStandIn {
        DataPlaneStandIn::start_at(0, socket, version)
    }

    pub fn start_at(port: u16, socket: &str, version: Version) -> DataPlaneStandIn {
        let state = Arc::new(State {
            socket: socket.to_owned(),
            version,
            is_silent: AtomicBool::new(false),
            is_gone: AtomicBool::new(false),
        });
        let shared = state.clone();
        let server = Loopback::at(port, move |asked| shared.answer(asked));
        DataPlaneStandIn {
            url: server.url(),
            state,
        }
    }

    /// Says nothing any more, or speaks again.
    pub fn be_silent(&self, is_silent: bool) {
        self.state.is_silent.store(is_silent, Ordering::SeqCst);
    }

    /// Is there no more, or again.
    pub fn be_gone(&self, is_gone: bool) {
        self.state.is_gone.store(is_gone, Ordering::SeqCst);
    }
}

fn error(status: &'static str, message: &str) -> Reply {
    let code: u16 = status[..3].parse().expect("a status");
    Reply::text(
        status,
        &json!({"code": code, "message": message}).to_string(),
    )
}

impl State {
    /// What HAProxy says, with the severity before what is an error; `None` where it is not there.
    fn haproxy(&self, command: &str) -> Option<String> {
        let mut stream = UnixStream::connect(&self.socket).ok()?;
        let limit = Some(Duration::from_secs(60));
        stream.set_read_timeout(limit).expect("set");
        let line = format!("set severity-output number;{command}\n");
        stream.write_all(line.as_bytes()).ok()?;
        let mut said = String::new();
        stream.read_to_string(&mut said).ok()?;
        Some(said.trim_start_matches('\n').to_owned())
    }

    fn answer(&self, asked: &Asked) -> Reply {
        if self.is_gone.load(Ordering::SeqCst) {
            return Reply::Close;
        }
        if self.is_silent.load(Ordering::SeqCst) {
            return Reply::Silence;
        }
        let version = match self.version {
            Version::V2 => "/v2/services/haproxy/",
            Version::V3 => "/v3/services/haproxy/",
        };
        let own = asked.path.strip_prefix(version);
        // Version 2 looks for the path first, version 3 for who asks.
        if own.is_none() && self.version == Version::V2 {
            return not_found(asked);
        }
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
        if asked.header("authorization") != Some(&format!("Basic {pair}")) {
            return error("401 Unauthorized", "unauthorized");
        }
        let Some(path) = own else {
            return not_found(asked);
        };
        if path == "stats/native" {
            return self.statistics(asked);
        }
        let names = match self.version {
            Version::V3 => (path.strip_prefix("runtime/backends/"))
                .and_then(|rest| rest.split_once("/servers/")),
            Version::V2 => (path.strip_prefix("runtime/servers/"))
                .and_then(|server| Some((asked.value("backend")?, server))),
        };
        match names {
            Some((backend, server)) => self.server(asked, backend, server),
            None => not_found(asked),
        }
    }

    fn statistics(&self, asked: &Asked) -> Reply {
        let said = self.haproxy("show stat").filter(|it| it.starts_with("# "));
        let Some(said) = said else {
            let process =
                json!({"runtimeAPI": self.socket, "error": "dial unix: connection refused"});
            return Reply::text(
                "500 Internal Server Error",
                &self.processes(process).to_string(),
            );
        };
        assert_eq!(asked.value("type"), Some("server"));
        let mut lines = said[2..].lines();
        let keys: Vec<_> = lines.next().expect("a head").split(',').collect();
        let mut rows = Vec::new();
        for line in lines {
            let fields: Vec<_> = line.split(',').collect();
            let field = |name: &str| {
                let at = keys.iter().position(|key| *key == name);
                fields
                    .get(at.expect("a column"))
                    .copied()
                    .unwrap_or_default()
            };
            if field("type") != "2" || asked.value("parent") != Some(field("pxname")) {
                continue;
            }
            let mut stats = serde_json::Map::new();
            for key in ["scur", "qcur"] {
                if let Ok(number) = field(key).parse::<u64>() {
                    stats.insert(key.to_owned(), number.into());
                }
            }
            stats.insert("status".to_owned(), field("status").into());
            rows.push(json!({
                "type": "server", "name": field("svname"), "backend_name": field("pxname"), "stats": stats,
            }));
        }
        let mut process = json!({"runtimeAPI": self.socket});
        // An empty list is left out.
        if !rows.is_empty() {
            process["stats"] = rows.into();
        }
        Reply::text("200 OK", &self.processes(process).to_string())
    }

    /// Version 2 has a list with one for each process.
    fn processes(&self, process: Value) -> Value {
        match self.version {
            Version::V2 => Value::Array(vec![process]),
            Version::V3 => process,
        }
    }

    /// The server as HAProxy has it now.
    fn runtime_server(&self, backend: &str, server: &str) -> Option<Value> {
        let said = self.haproxy(&format!("show servers state {backend}"))?;
        let row = said
            .lines()
            .find(|it| it.split(' ').nth(3) == Some(server))?;
        let fields: Vec<_> = row.split(' ').collect();
        // Read as hexadecimal, as the client library does.
        let bits = u32::from_str_radix(fields[6], 16).expect("bits");
        let admin_state = match bits {
            _ if bits & 0b10_0011 != 0 => "maint",
            _ if bits & 0b01_1000 != 0 => "drain",
            _ => "ready",
        };
        Some(
            json!({"backend_name": backend, "name": server, "address": fields[4], "admin_state": admin_state}),
        )
    }

    fn server(&self, asked: &Asked, backend: &str, server: &str) -> Reply {
        let found = || {
            let missing = format!("no data for {backend}/{server}: not found");
            self.runtime_server(backend, server)
                .ok_or_else(|| error("404 Not Found", &missing))
        };
        let now = match found() {
            Ok(now) => now,
            Err(missing) => return missing,
        };
        match asked.method.as_str() {
            "GET" => Reply::text("200 OK", &now.to_string()),
            "PUT" => {
                assert_eq!(asked.header("content-type"), Some("application/json"));
                let body: Value = serde_json::from_str(&asked.body).expect("JSON");
                let state = body["admin_state"].as_str().expect("a state");
                if now["admin_state"] != state {
                    let command = format!("set server {backend}/{server} state {state}");
                    let said = self.haproxy(&command).unwrap_or_default();
                    if let Some(cause) = said.strip_prefix("[3]:") {
                        let cause = format!("{} [3] {cause} [{command}]", self.socket);
                        return error("500 Internal Server Error", &cause);
                    }
                }
                match found() {
                    Ok(now) => Reply::text("200 OK", &now.to_string()),
                    Err(missing) => missing,
                }
            }
            _ => error("405 Method Not Allowed", "method is not allowed"),
        }
    }
}

fn not_found(asked: &Asked) -> Reply {
    error(
        "404 Not Found",
        &format!("path {} was not found", asked.path),
    )
}
