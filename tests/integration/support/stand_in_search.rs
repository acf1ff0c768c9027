//! A stand-in for a cluster of Elasticsearch's own distribution, which has the node shutdown interface: three nodes n1, n2
//! and n3. Its answers are those of Elastic's documentation, "Put shutdown", "Get shutdown" and "Delete shutdown"; those of
//! the other paths were seen on Elasticsearch 7.17.29.

use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

use super::servers::{answer, read_request};

/// What stands at n3, as the interface shows it.
#[derive(Clone, Default)]
pub struct Shutdown {
    pub kind: String,
    pub reason: String,
    /// How often it was asked for.
    pub looks: u32,
}

/// How it misbehaves, or not.
#[derive(Clone, Default)]
pub struct Manner {
    /// In progress for this many looks, before it is complete.
    pub looks: u32,
    /// Stalled instead of complete.
    pub stalls: bool,
    /// Every request is answered with this status.
    pub status: Option<&'static str>,
    /// PUT and DELETE are answered with this status and this body, and nothing is done.
    pub refusal: Option<(&'static str, &'static str)>,
    /// So many PUTs or DELETEs are done, and their connections closed without an answer.
    pub drops: u32,
    /// A setting is acknowledged and forgotten.
    pub forgets: bool,
    /// n3 is the only one of the three that holds data.
    pub is_lone: bool,
    /// The status, and how many shards relocate, initialise and are unassigned; else green, and none.
    pub health: Option<(&'static str, [u64; 3])>,
    /// n2 has a copy of n3's shard.
    pub has_copy: bool,
    /// Every request is answered with this.
    pub nonsense: Option<&'static str>,
}

#[derive(Default)]
struct State {
    manner: Manner,
    shutdown: Option<Shutdown>,
    heard: Vec<String>,
    settings: Value,
}

#[derive(Clone)]
pub struct StandInSearch {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl StandInSearch {
    pub fn start(manner: Manner) -> StandInSearch {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let search = StandInSearch {
            address: listener.local_addr().expect("an address"),
            state: Arc::default(),
        };
        search.lock().manner = manner;
        search.lock().settings = json!({"persistent": {}, "transient": {}});
        let shared = search.clone();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let search = shared.clone();
                std::thread::spawn(move || search.serve(stream));
            }
        });
        search
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn behave(&self, manner: Manner) {
        self.lock().manner = manner;
    }

    /// What stands at n3.
    pub fn shutdown(&self) -> Option<Shutdown> {
        self.lock().shutdown.clone()
    }

    /// Somebody else puts this there, or takes it away.
    pub fn put(&self, shutdown: Option<Shutdown>) {
        self.lock().shutdown = shutdown;
    }

    /// Method and path of every request so far that is no GET.
    pub fn changes(&self) -> Vec<String> {
        let heard = self.lock().heard.clone();
        heard
            .into_iter()
            .filter(|it| !it.starts_with("GET"))
            .collect()
    }

    pub fn heard(&self) -> usize {
        self.lock().heard.len()
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
        while let Some(request) = read_request(&mut reader) {
            let Some((status, body)) = self.reply(&request) else {
                return;
            };
            if stream
                .write_all(answer(&status, "", &body).as_bytes())
                .is_err()
            {
                return;
            }
        }
    }

    fn reply(&self, request: &str) -> Option<(String, String)> {
        let mut words = request.split(' ');
        let (method, path) = (words.next()?, words.next()?);
        let body: Value = request
            .split_once("\r\n\r\n")
            .map_or(Value::Null, |(_, body)| {
                serde_json::from_str(body).unwrap_or_default()
            });
        let mut state = self.lock();
        state.heard.push(format!("{method} {path}"));
        let manner = state.manner.clone();
        if let Some(status) = manner.status {
            let body = json!({"error": {"type": "security_exception", "reason": "missing authentication credentials"}, "status": 401});
            return Some((status.to_owned(), body.to_string()));
        }
        if let Some(text) = manner.nonsense {
            return Some(("200 OK".to_owned(), text.to_owned()));
        }
        let is_change = path.ends_with("/shutdown") && method != "GET";
        if let Some((status, body)) = manner.refusal.filter(|_| is_change) {
            return Some((status.to_owned(), body.to_owned()));
        }
        let acknowledged = json!({"acknowledged": true});
        let reply = match (method, path.split('?').next()?) {
            ("GET", "/_nodes/_all/http") => nodes(manner.is_lone),
            ("PUT", "/_nodes/ID-n3/shutdown") => {
                state.shutdown = Some(Shutdown {
                    kind: body["type"].as_str()?.to_owned(),
                    reason: body["reason"].as_str()?.to_owned(),
                    looks: 0,
                });
                acknowledged
            }
            ("DELETE", "/_nodes/ID-n3/shutdown") => {
                if state.shutdown.take().is_none() {
                    let body = json!({"error": {"type": "resource_not_found_exception", "reason": "node [ID-n3] is not currently shutting down"}, "status": 404});
                    return Some(("404 Not Found".to_owned(), body.to_string()));
                }
                acknowledged
            }
            ("GET", "/_nodes/ID-n3/shutdown") => {
                let shown = state.shutdown.as_mut().map(|it| {
                    it.looks += 1;
                    shown(it, &manner)
                });
                json!({"nodes": shown.into_iter().collect::<Vec<_>>()})
            }
            ("GET", "/_cluster/state/routing_nodes") => {
                let shard =
                    json!({"state": "STARTED", "primary": true, "shard": 0, "index": "logs"});
                let mut nodes = json!({"ID-n3": [shard]});
                if manner.has_copy && !path.contains("nodes.ID-n3") {
                    nodes["ID-n2"] = json!([shard]);
                }
                json!({"cluster_name": "c", "routing_nodes": {"nodes": nodes}})
            }
            ("GET", "/_cluster/health") => {
                let (status, [relocating, initializing, unassigned]) =
                    manner.health.unwrap_or(("green", [0; 3]));
                json!({
                    "cluster_name": "c", "status": status, "timed_out": false, "relocating_shards": relocating,
                    "initializing_shards": initializing, "unassigned_shards": unassigned,
                })
            }
            ("GET", "/_cluster/settings") => state.settings.clone(),
            ("PUT", "/_cluster/settings") => {
                if !manner.forgets {
                    state.settings["persistent"] = body["persistent"].clone();
                }
                acknowledged
            }
            _ => json!({}),
        };
        if manner.drops > 0 && method != "GET" {
            state.manner.drops -= 1;
            return None;
        }
        Some(("200 OK".to_owned(), reply.to_string()))
    }
}

fn nodes(is_lone: bool) -> Value {
    let node = |name: &str| {
        let roles = if is_lone && name != "n3" {
            json!(["master"])
        } else {
            json!(["data_hot", "master"])
        };
        (format!("ID-{name}"), json!({"name": name, "roles": roles}))
    };
    let nodes: serde_json::Map<String, Value> = ["n1", "n2", "n3"].map(node).into_iter().collect();
    json!({ "nodes": nodes })
}

fn shown(shutdown: &Shutdown, manner: &Manner) -> Value {
    let (status, left, explanation) = match shutdown.looks > manner.looks {
        false => ("IN_PROGRESS", 1, "shards are being moved"),
        true if manner.stalls => (
            "STALLED",
            1,
            "shard [0] [primary] of index [logs] cannot move, use the Cluster Allocation Explain API on this shard for details",
        ),
        true => ("COMPLETE", 0, "all shards have been moved"),
    };
    json!({
        "node_id": "ID-n3", "type": shutdown.kind.to_uppercase(), "reason": shutdown.reason,
        "shutdown_startedmillis": 1_624_406_108_685_u64, "status": status,
        "shard_migration": {"status": status, "shard_migrations_remaining": left, "explanation": explanation},
        "persistent_tasks": {"status": "COMPLETE"}, "plugins": {"status": "COMPLETE"},
    })
}
