//! A stand-in for a Nacos server, which cannot be had as a package: it answers as Nacos 2.3.1 was seen to, and as the
//! controllers of Nacos 3 in its source say. A removal is of one cluster of a service, as in `InstanceController`; one of an
//! instance that belongs to a connection of gRPC changes nothing, as in `InstanceOperatorClientImpl`, which looks among the
//! clients that were made over HTTP; an update replaces what was said of the instance, weight and metadata included.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::loopback::{Asked, Loopback, Reply};

/// How long a list shows what has been removed.
const LAG: Duration = Duration::from_millis(600);

/// The account that may do everything, where one is needed.
pub const ACCOUNT: (&str, &str) = ("leaver", "s3cret+nacos &=");

const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.stand-in.token";

/// The server. It ends with the test's process.
pub struct NacosStandIn {
    /// Without its context path.
    pub url: String,
    state: Arc<State>,
}

struct State {
    version: u8,
    context: &'static str,
    needs_account: bool,
    instances: Mutex<Vec<Instance>>,
    heard: Mutex<Vec<String>>,
    /// Whether a heartbeat brings back what is removed.
    beats: Mutex<bool>,
    /// Whether the account may change no instance.
    read_only: Mutex<bool>,
}

#[derive(Clone)]
struct Instance {
    /// Namespace, group and name of its service.
    service: (String, String, String),
    ip: String,
    port: u16,
    ephemeral: bool,
    enabled: bool,
    cluster: &'static str,
    /// Whether it belongs to a connection of gRPC.
    over_grpc: bool,
    weight: String,
    metadata: Value,
    removed: Option<Instant>,
}

impl NacosStandIn {
    /// A server of this major version.
    pub fn start(version: u8) -> NacosStandIn {
        NacosStandIn::start_at(0, version, "/nacos", false)
    }

    pub fn start_at(
        port: u16,
        version: u8,
        context: &'static str,
        needs_account: bool,
    ) -> NacosStandIn {
        let state = Arc::new(State {
            version,
            context,
            needs_account,
            instances: Mutex::default(),
            heard: Mutex::default(),
            beats: Mutex::new(false),
            read_only: Mutex::new(false),
        });
        let shared = state.clone();
        let server = Loopback::at(port, move |asked| shared.answer(asked));
        NacosStandIn {
            url: server.url(),
            state,
        }
    }

    fn instances(&self) -> MutexGuard<'_, Vec<Instance>> {
        self.state.instances.lock().expect("lock")
    }

    /// Registers 127.0.0.1 at this port, in the default namespace and group.
    pub fn register(&self, service: &str, port: u16, ephemeral: bool) {
        self.register_in(("public", "DEFAULT_GROUP", service), port, ephemeral);
    }

    pub fn register_in(&self, service: (&str, &str, &str), port: u16, ephemeral: bool) {
        self.push(service, port, ephemeral, ("DEFAULT", false));
    }

    /// Registers in another cluster of the service.
    pub fn register_in_cluster(&self, port: u16, cluster: &'static str) {
        let service = ("public", "DEFAULT_GROUP", "web");
        self.push(service, port, true, (cluster, false));
    }

    /// Registers over gRPC, as Nacos' own client does since 2.0.
    pub fn register_over_grpc(&self, port: u16) {
        let service = ("public", "DEFAULT_GROUP", "web");
        self.push(service, port, true, ("DEFAULT", true));
    }

    fn push(
        &self,
        (namespace, group, name): (&str, &str, &str),
        port: u16,
        ephemeral: bool,
        (cluster, over_grpc): (&'static str, bool),
    ) {
        self.instances().push(Instance {
            service: (namespace.to_owned(), group.to_owned(), name.to_owned()),
            ip: "127.0.0.1".to_owned(),
            port,
            ephemeral,
            enabled: true,
            cluster,
            over_grpc,
            weight: "2.5".to_owned(),
            metadata: json!({"zone": "a & b"}),
            removed: None,
        });
    }

    /// Hides everything from the lists, as an operator does with `enabled = false`.
    pub fn disable_all(&self) {
        self.instances()
            .iter_mut()
            .for_each(|it| it.enabled = false);
    }

    /// Refuses updates from now on, or not.
    pub fn set_read_only(&self, read_only: bool) {
        *self.state.read_only.lock().expect("lock") = read_only;
    }

    /// Whether clients see the instance, with its weight and its metadata.
    pub fn shown(&self, port: u16) -> Option<(bool, String, Value)> {
        let instances = self.instances();
        let mut left = instances.iter().filter(|it| it.removed.is_none());
        let it = left.find(|it| it.port == port)?;
        Some((it.enabled, it.weight.clone(), it.metadata.clone()))
    }

    /// Lets a heartbeat bring back what is removed.
    pub fn set_beats(&self, beats: bool) {
        *self.state.beats.lock().expect("lock") = beats;
    }

    /// The ports of what is registered.
    pub fn registered(&self) -> Vec<u16> {
        let instances = self.instances();
        let left = instances.iter().filter(|it| it.removed.is_none());
        left.map(|it| it.port).collect()
    }

    /// Method and target of every request.
    pub fn heard(&self) -> Vec<String> {
        self.state.heard.lock().expect("lock").clone()
    }
}

impl State {
    fn answer(&self, asked: &Asked) -> Reply {
        let line = asked.whole.lines().next().unwrap_or_default();
        let line = line.trim_end_matches(" HTTP/1.1").to_owned();
        self.heard.lock().expect("lock").push(line);
        let not_found = || {
            let body = json!({"status": 404, "error": "Not Found", "path": asked.path});
            Reply::text("404 Not Found", &body.to_string())
        };
        let Some(path) = asked.path.strip_prefix(self.context) else {
            return not_found();
        };
        let login = if self.version >= 3 {
            "/v3/auth/user/login"
        } else {
            "/v1/auth/login"
        };
        if (asked.method.as_str(), path) == ("POST", login) {
            return log_in(asked);
        }
        let base = match self.version {
            3 => "/v3/client/ns/instance",
            2 => "/v2/ns/instance",
            _ => "/v1/ns/instance",
        };
        // Nacos 3 has the APIs of Nacos 2 turned off, and says which one to use instead.
        if self.version == 3 && (path.starts_with("/v2/") || path.starts_with("/v1/")) {
            let body = json!({"code": 50002, "message": "Current API will be deprecated"});
            return Reply::text("410 Gone", &body.to_string());
        }
        let updates = base.replace("client", "admin");
        let rest = match path.strip_prefix(base) {
            Some(rest) => rest,
            None if path == updates && asked.method == "PUT" => "",
            None => return not_found(),
        };
        let bearer = format!("Bearer {TOKEN}");
        if self.needs_account && asked.header("authorization") != Some(bearer.as_str()) {
            let body = json!({"status": 403, "error": "Forbidden", "message": "user not found!"});
            return Reply::text("403 Forbidden", &body.to_string());
        }
        match (asked.method.as_str(), rest) {
            ("GET", "/list") => self.list(asked),
            ("DELETE", "") => self.remove(asked),
            ("PUT", "") if path == updates => self.update(asked),
            _ => Reply::text("405 Method Not Allowed", ""),
        }
    }

    fn list(&self, asked: &Asked) -> Reply {
        let service = service(asked);
        let mut instances = self.instances.lock().expect("lock");
        instances.retain(|it| it.removed.is_none_or(|at| at.elapsed() < LAG));
        let hosts: Vec<Value> = instances
            .iter()
            .filter(|it| it.service == service && it.enabled)
            .map(|it| {
                let weight: f64 = it.weight.parse().expect("a number");
                json!({
                    "ip": it.ip, "port": it.port, "ephemeral": it.ephemeral, "enabled": true,
                    "clusterName": it.cluster, "weight": weight, "metadata": it.metadata,
                })
            })
            .collect();
        let info = json!({"name": format!("{}@@{}", service.1, service.2), "hosts": hosts});
        let body = match self.version {
            3 => json!({"code": 0, "message": "success", "data": hosts}),
            2 => json!({"code": 0, "message": "success", "data": info}),
            _ => info,
        };
        Reply::text("200 OK", &body.to_string())
    }

    /// 200 whether or not there was anything.
    fn remove(&self, asked: &Asked) -> Reply {
        let (service, beats) = (service(asked), *self.beats.lock().expect("lock"));
        let ephemeral = asked.value("ephemeral") != Some("false");
        for it in self.instances.lock().expect("lock").iter_mut() {
            let is_it = it.service == service
                && asked.value("ip") == Some(it.ip.as_str())
                && asked.value("port") == Some(it.port.to_string().as_str())
                && it.ephemeral == ephemeral
                && asked.value("clusterName").unwrap_or("DEFAULT") == it.cluster;
            if is_it && !beats && !it.over_grpc {
                it.removed.get_or_insert_with(Instant::now);
            }
        }
        self.ok()
    }

    /// What is not said of the instance gets its default.
    fn update(&self, asked: &Asked) -> Reply {
        if *self.read_only.lock().expect("lock") {
            let body =
                json!({"status": 403, "error": "Forbidden", "message": "authorization failed!"});
            return Reply::text("403 Forbidden", &body.to_string());
        }
        let service = service(asked);
        let metadata = asked.value("metadata").map_or(json!({}), |text| {
            let text = text
                .replace("%22", "\"")
                .replace("%20", " ")
                .replace("%26", "&");
            let text = text
                .replace("%7B", "{")
                .replace("%7D", "}")
                .replace("%3A", ":");
            serde_json::from_str(&text).expect("JSON")
        });
        for it in self.instances.lock().expect("lock").iter_mut() {
            let is_it = it.service == service
                && asked.value("ip") == Some(it.ip.as_str())
                && asked.value("port") == Some(it.port.to_string().as_str())
                && asked.value("clusterName").unwrap_or("DEFAULT") == it.cluster;
            if is_it {
                it.enabled = asked.value("enabled") != Some("false");
                it.weight = asked.value("weight").unwrap_or("1.0").to_owned();
                it.metadata = metadata.clone();
            }
        }
        self.ok()
    }

    fn ok(&self) -> Reply {
        match self.version {
            1 => Reply::text("200 OK", "ok"),
            _ => Reply::text("200 OK", r#"{"code":0,"message":"success","data":"ok"}"#),
        }
    }
}

fn service(asked: &Asked) -> (String, String, String) {
    let value = |name, default: &str| asked.value(name).unwrap_or(default).to_owned();
    (
        value("namespaceId", "public"),
        value("groupName", "DEFAULT_GROUP"),
        value("serviceName", ""),
    )
}

fn log_in(asked: &Asked) -> Reply {
    // ACCOUNT as a form has it.
    match asked.body.as_str() {
        "username=leaver&password=s3cret%2Bnacos%20%26%3D" => {
            let body = json!({"accessToken": TOKEN, "tokenTtl": 18000, "globalAdmin": false, "username": ACCOUNT.0});
            Reply::text("200 OK", &body.to_string())
        }
        _ => Reply::text(
            "403 Forbidden",
            r#"{"code":403,"message":"unknown user!","data":null}"#,
        ),
    }
}
