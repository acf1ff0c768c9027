//! Real Elasticsearch and OpenSearch servers: three nodes in one JVM, on loopback.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use farewell::model::deadline::{Deadline, Reason};
use farewell::sys::http::{Endpoint, Http, Request, TlsFiles};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::Dir;
use super::signals;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    Elasticsearch,
    OpenSearch,
}

impl Make {
    /// The word of the configuration, which is also its directory's name.
    pub fn word(self) -> &'static str {
        match self {
            Make::Elasticsearch => "elasticsearch",
            Make::OpenSearch => "opensearch",
        }
    }

    fn class(self) -> &'static str {
        match self {
            Make::Elasticsearch => "Elasticsearch",
            Make::OpenSearch => "OpenSearch",
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Make::Elasticsearch => "es",
            Make::OpenSearch => "opensearch",
        }
    }
}

/// A cluster, which ends with this value or with the test's process.
pub struct SearchCluster {
    pub urls: Vec<String>,
    java: Child,
    orders: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    http: Http,
    _dir: Dir,
}

/// What the install script has made, or makes now.
fn installed() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = root.join("tests/servers/search/install");
    let made = Command::new(&script)
        .stdin(Stdio::null())
        .output()
        .expect("bash");
    assert!(made.status.success(), "{}: {made:?}", script.display());
    root.join("target/servers/search")
}

impl SearchCluster {
    /// A node for each name; each has a port for HTTP, and one more for the others.
    pub fn start(make: Make, names: &[&str], ports: &[u16]) -> SearchCluster {
        let home = installed().join(make.word());
        let dir = Dir::new(&format!("search-{}", make.word()));
        std::fs::create_dir(dir.0.join("config")).expect("made");
        let (http, others) = ports.split_at(names.len());
        let members = names.iter().zip(http).zip(others);
        let mut java = Command::new("java")
            .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx192m"])
            .arg(format!(
                "-D{}.set.netty.runtime.available.processors=false",
                make.prefix()
            ))
            .arg("-cp")
            .arg(format!("{0}/lib/*:{0}/classes", home.display()))
            .arg(make.class())
            .arg(&dir.0)
            .args(members.map(|((name, http), other)| format!("{name},{http},{other}")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("java (apt install openjdk-17-jdk-headless)");
        let orders = java.stdin.take().expect("piped");
        let answers = BufReader::new(java.stdout.take().expect("piped"));
        let cluster = SearchCluster {
            urls: http
                .iter()
                .map(|port| format!("http://127.0.0.1:{port}"))
                .collect(),
            java,
            orders: Mutex::new((orders, answers)),
            http: Http::new(),
            _dir: dir,
        };
        cluster.hear("ready");
        cluster
    }

    fn hear(&self, word: &str) {
        let mut orders = self.orders.lock().expect("no panic");
        let mut line = String::new();
        loop {
            line.clear();
            let read = orders.1.read_line(&mut line).expect("read");
            assert!(read > 0, "it has ended before it said {word:?}");
            if line.trim() == word {
                return;
            }
        }
    }

    fn order(&self, order: &str, answer: &str) {
        writeln!(self.orders.lock().expect("no panic").0, "{order}").expect("written");
        self.hear(answer);
    }

    /// Stops a node, by its number.
    pub fn close(&self, node: usize) {
        self.order(&format!("close {node}"), &format!("closed {node}"));
    }

    /// Starts a node again, with everything that it knew.
    pub fn open(&self, node: usize) {
        self.order(&format!("start {node}"), &format!("started {node}"));
    }

    /// Sends a signal to all nodes, which are one process.
    pub fn signal(&self, signal: Signal) {
        signals::send(self.java.id(), signal);
    }

    /// What the first node answers.
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let endpoint = Endpoint::parse_base(&self.urls[0]).expect("a URL");
        let request = match method {
            "PUT" | "POST" => Request::json(method, path, body),
            method => Request {
                method: method.to_owned(),
                ..Request::get(path)
            },
        };
        let deadline = Deadline::after(Duration::from_secs(60), Reason::Attempt);
        let sent = self
            .http
            .send(&endpoint, &TlsFiles::default(), &request, deadline);
        let answer = sent.expect("an answer");
        let text = String::from_utf8_lossy(&answer.body);
        assert!(
            answer.is_success(),
            "{method} {path}: {} {text}",
            answer.status
        );
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    pub fn get(&self, path: &str) -> Value {
        self.ask("GET", path, &Value::Null)
    }

    /// Makes an index, with all its copies in their places.
    pub fn index(&self, name: &str, shards: u32, replicas: u32) {
        let settings =
            json!({"settings": {"number_of_shards": shards, "number_of_replicas": replicas}});
        let made = self.ask(
            "PUT",
            &format!("/{name}?wait_for_active_shards=all"),
            &settings,
        );
        assert_eq!(made["shards_acknowledged"], true, "{made}");
    }

    /// Sets or clears a cluster setting.
    pub fn set(&self, place: &str, binary: &str, value: impl Into<Value>) {
        self.ask(
            "PUT",
            "/_cluster/settings",
            &json!({place: {binary: value.into()}}),
        );
    }

    /// The excluded names in both places, transient and persistent.
    pub fn excluded(&self) -> [String; 2] {
        let settings = self.get("/_cluster/settings?flat_settings=true");
        ["transient", "persistent"].map(|place| {
            let value = &settings[place]["cluster.routing.allocation.exclude._name"];
            value.as_str().unwrap_or("none").to_owned()
        })
    }

    /// How many rows of the table of shards name the node, in whatever state.
    pub fn rows(&self, node: &str) -> usize {
        let rows = self.get("/_cat/shards?format=json&h=index,node");
        let rows = rows.as_array().expect("a list").iter();
        let names = |row: &&Value| {
            let text = row["node"].as_str().unwrap_or_default();
            text.split(' ').any(|word| word == node)
        };
        rows.filter(names).count()
    }

    /// Waits until the cluster is green and nothing moves.
    pub fn settle(&self) {
        let path = "/_cluster/health?wait_for_status=green&wait_for_no_relocating_shards=true&wait_for_nodes=3&timeout=1s";
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let endpoint = Endpoint::parse_base(&self.urls[0]).expect("a URL");
            let deadline = Deadline::after(Duration::from_secs(10), Reason::Attempt);
            let sent = self.http.send(
                &endpoint,
                &TlsFiles::default(),
                &Request::get(path),
                deadline,
            );
            if sent.is_ok_and(|answer| answer.is_success()) {
                return;
            }
            assert!(Instant::now() < end, "not green after 60 s");
        }
    }
}

impl Drop for SearchCluster {
    fn drop(&mut self) {
        let _ = self.java.kill();
        let _ = self.java.wait();
    }
}
