//! Real RabbitMQ nodes of one cluster, on loopback, with the management plugin.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use farewell::model::deadline::{Deadline, Reason};
use farewell::sys::http::{Endpoint, Http, Request, TlsFiles};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::Dir;
use super::signals;

const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// `guest:guest`, who may do everything from loopback.
const GUEST: &str = "Basic Z3Vlc3Q6Z3Vlc3Q=";

/// The nodes n1, n2, … at the ports of their own network, killed when they go out of scope.
pub struct Rabbits {
    pub urls: Vec<String>,
    nodes: Vec<Child>,
    /// Where each node says where it is. Started here, so that no node leaves one behind.
    epmd: Child,
    http: Http,
    dir: Dir,
}

impl Rabbits {
    /// To be started in a network of its own: the ports are the default ones, and those after them.
    pub fn start(name: &str, count: usize) -> Rabbits {
        let dir = Dir::new(name);
        let cookie = dir.file(".erlang.cookie");
        std::fs::write(&cookie, "FAREWELLTESTS").expect("written");
        std::fs::set_permissions(&cookie, std::os::unix::fs::PermissionsExt::from_mode(0o400))
            .expect("set");
        std::fs::write(dir.file("plugins"), "[rabbitmq_management].\n").expect("written");
        let epmd = quiet(Command::new("epmd").args(["-address", "127.0.0.1"]))
            .spawn()
            .expect("epmd (apt install rabbitmq-server)");
        let mut rabbits = Rabbits {
            urls: (0..count)
                .map(|at| format!("http://127.0.0.1:{}", 15672 + at))
                .collect(),
            nodes: Vec::new(),
            epmd,
            http: Http::new(),
            dir,
        };
        for at in 0..count {
            let node = rabbits.spawn(at, count);
            rabbits.nodes.push(node);
            // The first one makes the cluster that the others join.
            if at == 0 {
                rabbits.wait(0);
            }
        }
        (1..count).for_each(|at| rabbits.wait(at));
        rabbits
    }

    fn spawn(&self, at: usize, count: usize) -> Child {
        let file = |name: &str| self.dir.file(name);
        let own = file(&format!("n{}", at + 1));
        std::fs::create_dir_all(&own).expect("made");
        let mut config = format!(
            "listeners.tcp.1 = 127.0.0.1:{}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {}\n\
             cluster_formation.peer_discovery_backend = classic_config\n\
             cluster_formation.randomized_startup_delay_range.min = 0\n\
             cluster_formation.randomized_startup_delay_range.max = 0\n",
            5672 + at,
            15672 + at
        );
        for number in 1..=count {
            config +=
                &format!("cluster_formation.classic_config.nodes.{number} = n{number}@localhost\n");
        }
        std::fs::write(format!("{own}.conf"), config).expect("written");
        quiet(&mut Command::new(SERVER))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.dir.0)
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", format!("n{}@localhost", at + 1))
            .env("RABBITMQ_DIST_PORT", (25672 + at).to_string())
            .env("RABBITMQ_MNESIA_BASE", &own)
            .env("RABBITMQ_LOG_BASE", &own)
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", file("plugins"))
            .env("RABBITMQ_CONFIG_FILE", format!("{own}.conf"))
            .env("RABBITMQ_PID_FILE", format!("{own}/pid"))
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none",
            )
            // Then the process is the node itself, and no script beside it.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .spawn()
            .expect("rabbitmq-server (apt install rabbitmq-server)")
    }

    fn send(&self, at: usize, request: &Request) -> Option<(u16, Value)> {
        let endpoint = Endpoint::parse_base(&self.urls[at]).expect("a URL");
        let mut request = request.clone();
        request
            .headers
            .push(("Authorization".to_owned(), GUEST.to_owned()));
        let deadline = Deadline::after(Duration::from_secs(10), Reason::Attempt);
        let answer = self
            .http
            .send(&endpoint, &TlsFiles::default(), &request, deadline)
            .ok()?;
        Some((
            answer.status,
            serde_json::from_slice(&answer.body).unwrap_or_default(),
        ))
    }

    /// Waits until a node is up and all that were started before know it.
    fn wait(&self, at: usize) {
        let end = Instant::now() + Duration::from_secs(120);
        let is_up = || {
            let seen = self.send(at, &Request::get("/api/nodes?columns=name,running"));
            seen.is_some_and(|(status, nodes)| {
                let running = nodes.as_array().into_iter().flatten();
                status == 200 && running.filter(|it| it["running"] == true).count() > at
            })
        };
        while !is_up() {
            assert!(Instant::now() < end, "n{} is not up after 120 s", at + 1);
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What the first node answers to a PUT.
    pub fn put(&self, path: &str, body: &Value) {
        let (status, said) = self
            .send(0, &Request::json("PUT", path, body))
            .expect("an answer");
        assert!((200..300).contains(&status), "{path}: {status} {said}");
    }

    /// Kills a node.
    pub fn end(&mut self, at: usize) {
        self.nodes[at].kill().expect("killed");
        self.nodes[at].wait().expect("waited for");
    }

    /// Starts it again, with everything that it knew.
    pub fn begin(&mut self, at: usize) {
        self.nodes[at] = self.spawn(at, self.nodes.len());
    }

    pub fn signal(&self, at: usize, signal: Signal) {
        signals::send(self.nodes[at].id(), signal);
    }
}

fn quiet(command: &mut Command) -> &mut Command {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
}

impl Drop for Rabbits {
    fn drop(&mut self) {
        for process in self.nodes.iter_mut().chain([&mut self.epmd]) {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
