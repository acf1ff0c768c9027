//! A stand-in for a Nomad agent, which cannot be had as a package: it answers as Nomad 2.0.6 was seen to, and as the
//! handlers in Nomad's `command/agent/node_endpoint.go` and `nomad/node_endpoint.go` say.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::loopback::{Asked, Loopback, Reply};

/// The ID of the agent's own node.
pub const NODE: &str = "5d1b0b5a-2f0d-4d8e-9d0f-0123456789ab";

/// How the agent fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// It takes a drain, and says nothing to it and to all that follows.
    SilentAfterDrain,
    /// It takes a drain, and is not there from then on.
    GoneAfterDrain,
    /// It refuses every change.
    Forbidding,
}

/// The agent. It ends with the test's process.
pub struct NomadStandIn {
    pub url: String,
    state: Arc<State>,
}

struct State {
    cluster: Mutex<Cluster>,
    changed: Condvar,
    token: Option<&'static str>,
}

struct Cluster {
    index: u64,
    drain: Value,
    eligible: bool,
    last_drain: Value,
    /// Name, type of the job, status.
    allocations: Vec<(String, &'static str, &'static str)>,
    /// How long an allocation takes to move away; zero: it never does.
    pace: Duration,
    /// Whether each allocation is as long as its job makes it.
    bulky: bool,
    /// Whether somebody has looked for allocations since the drain began: nothing moves before.
    looked: bool,
    fault: Fault,
    silent: bool,
    gone: bool,
    heard: Vec<String>,
    bodies: Vec<Value>,
}

impl NomadStandIn {
    pub fn start() -> NomadStandIn {
        NomadStandIn::start_at(0, None)
    }

    /// At this port, and wanting this token.
    pub fn start_at(port: u16, token: Option<&'static str>) -> NomadStandIn {
        let state = Arc::new(State {
            cluster: Mutex::new(Cluster {
                index: 10,
                drain: Value::Null,
                eligible: true,
                last_drain: Value::Null,
                allocations: Vec::new(),
                pace: Duration::from_millis(250),
                bulky: false,
                looked: false,
                fault: Fault::None,
                silent: false,
                gone: false,
                heard: Vec::new(),
                bodies: Vec::new(),
            }),
            changed: Condvar::new(),
            token,
        });
        let shared = state.clone();
        let server = Loopback::at(port, move |asked| shared.answer(asked));
        NomadStandIn {
            url: server.url(),
            state,
        }
    }

    fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.state.cluster.lock().expect("lock")
    }

    /// Allocations that run: a name, and the type of its job.
    pub fn run(&self, allocations: &[(&str, &'static str)]) {
        let mut cluster = self.cluster();
        let running = |(name, kind): &(&str, &'static str)| ((*name).to_owned(), *kind, "running");
        cluster.allocations = allocations.iter().map(running).collect();
    }

    /// Makes each allocation as long as a job can be.
    pub fn be_bulky(&self) {
        self.cluster().bulky = true;
    }

    /// How long an allocation takes to move away; zero: it never does.
    pub fn set_pace(&self, pace: Duration) {
        self.cluster().pace = pace;
    }

    pub fn set_fault(&self, fault: Fault) {
        let mut cluster = self.cluster();
        cluster.fault = fault;
        (cluster.silent, cluster.gone) = (false, false);
    }

    pub fn set_eligible(&self, eligible: bool) {
        self.cluster().eligible = eligible;
    }

    /// Begins a drain, as an operator does.
    pub fn drain_by_hand(&self) {
        let body = json!({"DrainSpec": {"Deadline": 60_000_000_000_i64, "IgnoreSystemJobs": true}});
        self.state.drain(&body);
    }

    /// Ends it.
    pub fn undrain_by_hand(&self) {
        self.state
            .drain(&json!({"DrainSpec": null, "MarkEligible": true}));
    }

    pub fn is_eligible(&self) -> bool {
        let cluster = self.cluster();
        cluster.eligible && cluster.drain.is_null()
    }

    pub fn drains(&self) -> bool {
        !self.cluster().drain.is_null()
    }

    /// The names of what runs.
    pub fn running(&self) -> Vec<String> {
        let cluster = self.cluster();
        let running = cluster.allocations.iter().filter(|it| it.2 == "running");
        running.map(|it| it.0.clone()).collect()
    }

    /// Method and target of every request.
    pub fn heard(&self) -> Vec<String> {
        self.cluster().heard.clone()
    }

    /// The bodies of all changes.
    pub fn bodies(&self) -> Vec<Value> {
        self.cluster().bodies.clone()
    }

    /// Connections find nobody, or somebody again.
    pub fn be_gone(&self, gone: bool) {
        self.cluster().gone = gone;
    }
}

impl State {
    fn answer(self: &Arc<Self>, asked: &Asked) -> Reply {
        {
            let mut cluster = self.cluster.lock().expect("lock");
            let line = asked.whole.lines().next().unwrap_or_default();
            let line = line.trim_end_matches(" HTTP/1.1").to_owned();
            cluster.heard.push(line);
            if cluster.gone {
                return Reply::Close;
            }
            if cluster.silent {
                return Reply::Silence;
            }
        }
        if self
            .token
            .is_some_and(|token| asked.header("x-nomad-token") != Some(token))
        {
            return Reply::text("403 Forbidden", "Permission denied");
        }
        let Some(rest) = asked.path.strip_prefix("/v1/") else {
            return Reply::text("404 Not Found", "404 page not found");
        };
        let own = format!("node/{NODE}");
        match (asked.method.as_str(), rest) {
            ("GET", "agent/self") => {
                let stats = json!({"client": {"node_id": NODE}, "nomad": {"server": "true"}});
                Reply::text("200 OK", &json!({"config": {}, "member": {}, "stats": stats}).to_string())
            }
            ("GET", path) if path == own => self.held_back(asked, |cluster| {
                json!({
                    "ID": NODE,
                    "Name": "n1",
                    "Status": "ready",
                    "Drain": !cluster.drain.is_null(),
                    "DrainStrategy": cluster.drain,
                    "SchedulingEligibility": if cluster.eligible { "eligible" } else { "ineligible" },
                    "LastDrain": cluster.last_drain,
                })
            }),
            ("GET", path) if path.strip_suffix("/allocations") == Some(&own) => {
                self.held_back(asked, |cluster| {
                    let allocation = |(name, kind, status): &(String, &str, &str)| {
                        let meta = "x".repeat(if cluster.bulky { 4_500_000 } else { 0 });
                        let job = json!({"Type": kind, "Meta": {"x": meta}});
                        json!({"Name": name, "NodeID": NODE, "ClientStatus": status, "Job": job})
                    };
                    cluster.allocations.iter().map(allocation).collect()
                })
            }
            ("GET", "allocations") => {
                // As if it knew no filter, so that another node's are among them.
                let filter = asked.value("filter").unwrap_or_default();
                assert!(filter.starts_with(&format!("NodeID%20%3D%3D%20%22{NODE}%22%20and%20")));
                assert_eq!(asked.value("namespace"), Some("%2A"));
                self.held_back(asked, |cluster| {
                    let stub = |(name, kind, status): &(String, &str, &str)| {
                        json!({"Name": name, "NodeID": NODE, "ClientStatus": status, "JobType": kind})
                    };
                    let other = json!({"Name": "x", "NodeID": "other", "ClientStatus": "running", "JobType": "service"});
                    let own = cluster.allocations.iter().map(stub);
                    own.chain([other]).collect()
                })
            }
            ("PUT" | "POST", path) if path.strip_suffix("/drain") == Some(&own) => {
                let body: Value = serde_json::from_str(&asked.body).expect("JSON");
                if self.cluster.lock().expect("lock").fault == Fault::Forbidding {
                    return Reply::text("403 Forbidden", "Permission denied");
                }
                self.drain(&body);
                let mut cluster = self.cluster.lock().expect("lock");
                cluster.bodies.push(body);
                let index = cluster.index;
                match cluster.fault {
                    Fault::SilentAfterDrain => {
                        cluster.silent = true;
                        return Reply::Silence;
                    }
                    Fault::GoneAfterDrain => {
                        cluster.fault = Fault::None;
                        cluster.gone = true;
                    }
                    Fault::None | Fault::Forbidding => {}
                }
                let body = json!({"EvalCreateIndex": 0, "EvalIDs": null, "Index": index, "NodeModifyIndex": index});
                Reply::text("200 OK", &body.to_string())
            }
            ("GET", path) if path.starts_with("node/") => {
                Reply::text("404 Not Found", "node not found")
            }
            (_, path) if path.ends_with("/drain") => {
                Reply::text("500 Internal Server Error", "node not found")
            }
            _ => Reply::text("405 Method Not Allowed", "Invalid method"),
        }
    }

    /// What `show` makes of the state, once it is newer than the index that was asked with, or the wait is over.
    fn held_back(&self, asked: &Asked, show: impl Fn(&Cluster) -> Value) -> Reply {
        let since: u64 = asked
            .value("index")
            .map_or(0, |it| it.parse().expect("an index"));
        let wait = asked.value("wait").unwrap_or("300000ms");
        let wait: u64 = wait.trim_end_matches("ms").parse().expect("milliseconds");
        let end = Instant::now() + Duration::from_millis(wait);
        let mut cluster = self.cluster.lock().expect("lock");
        while since > 0 && cluster.index <= since {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            cluster = self.changed.wait_timeout(cluster, left).expect("lock").0;
        }
        let headers = format!("X-Nomad-Index: {}\r\n", cluster.index);
        let shown = show(&cluster).to_string();
        // Whole allocations that are too long to be read tell nothing yet.
        cluster.looked |= asked.path == "/v1/allocations"
            || asked.path.ends_with("/allocations") && !cluster.bulky;
        self.changed.notify_all();
        Reply::Answer("200 OK", headers, shown)
    }

    fn change(&self, change: impl FnOnce(&mut Cluster)) {
        let mut cluster = self.cluster.lock().expect("lock");
        cluster.index += 1;
        change(&mut cluster);
        self.changed.notify_all();
    }

    /// Begins a drain or ends it, as a server does.
    fn drain(self: &Arc<Self>, body: &Value) {
        let spec = body["DrainSpec"].clone();
        let mut number = 0;
        self.change(|cluster| {
            number = cluster.index;
            let was_draining = !cluster.drain.is_null();
            if spec.is_null() {
                cluster.drain = Value::Null;
                cluster.eligible |= body["MarkEligible"] == true;
                if was_draining {
                    cluster.last_drain["Status"] = "canceled".into();
                }
                return;
            }
            cluster.eligible = false;
            cluster.looked = false;
            cluster.drain = json!({
                "Deadline": spec["Deadline"], "IgnoreSystemJobs": spec["IgnoreSystemJobs"], "Number": number,
            });
            cluster.last_drain = json!({"Status": "draining", "Meta": body["Meta"]});
        });
        if !spec.is_null() {
            let state = self.clone();
            let takes_system = spec["IgnoreSystemJobs"] != true;
            let nanoseconds = spec["Deadline"].as_i64().expect("a number");
            let deadline = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0));
            std::thread::spawn(move || state.migrate(number, takes_system, deadline));
        }
    }

    /// One allocation after the other goes, until the deadline stops what is left. Then the drain is over at once, while
    /// what was stopped takes a little longer to end.
    fn migrate(&self, number: u64, takes_system: bool, deadline: Duration) {
        let end = Instant::now() + deadline;
        let is_going =
            |it: &(String, &str, &str)| it.2 == "running" && (takes_system || it.1 != "system");
        let cluster = self.cluster.lock().expect("lock");
        let until = end.saturating_duration_since(Instant::now());
        let is_unseen = |it: &mut Cluster| !it.looked && it.drain["Number"] == number;
        drop(self.changed.wait_timeout_while(cluster, until, is_unseen));
        loop {
            let (pace, left) = {
                let cluster = self.cluster.lock().expect("lock");
                if cluster.drain["Number"] != number {
                    return;
                }
                (
                    cluster.pace,
                    cluster.allocations.iter().filter(|it| is_going(it)).count(),
                )
            };
            let until = end.saturating_duration_since(Instant::now());
            if left == 0 || until.is_zero() {
                break;
            }
            let pause = if pace.is_zero() {
                until
            } else {
                pace.min(until)
            };
            std::thread::sleep(pause);
            if !pace.is_zero() {
                self.change(|cluster| {
                    if let Some(it) = cluster.allocations.iter_mut().find(|it| is_going(it)) {
                        it.2 = "complete";
                    }
                });
            }
        }
        self.change(|cluster| {
            cluster.drain = Value::Null;
            cluster.last_drain["Status"] = "complete".into();
        });
        std::thread::sleep(Duration::from_millis(300));
        self.change(|cluster| {
            for it in cluster.allocations.iter_mut().filter(|it| is_going(it)) {
                it.2 = "complete";
            }
        });
    }
}
