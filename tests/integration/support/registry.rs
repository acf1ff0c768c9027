//! A real etcd beside a machine, in which the machine is a member.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::etcd::Cluster;
use super::ports::ports;

/// What anything may take that ends by itself, on the slowest machine.
const GENEROUS: Duration = Duration::from_secs(180);

/// What an application writes when it starts; each machine of the tests is called `lab`.
const MEMBER: &str = "members/lab";

/// The keys of the fleet's lock.
const LOCK: &str = "locks/leave/";

/// One etcd, ended with it.
pub struct Registry {
    port: u16,
    cluster: Cluster,
}

impl Registry {
    /// One in which the machine is registered.
    pub fn with_member(name: &str) -> Registry {
        let registry = Registry::empty(name);
        registry.register();
        registry
    }

    /// One in which nobody is registered yet.
    pub fn empty(name: &str) -> Registry {
        let ports = ports(2);
        let cluster = Cluster::start_at(&format!("vm-{name}"), &ports);
        Registry::of(ports[0], cluster)
    }

    /// One that listens at all addresses, for a test with a network of its own; the machine is registered.
    pub fn open_with_member(name: &str) -> Registry {
        let ports = ports(2);
        let cluster = Cluster::start_open(&format!("rig-{name}"), &ports);
        let registry = Registry::of(ports[0], cluster);
        registry.register();
        registry
    }

    fn of(port: u16, cluster: Cluster) -> Registry {
        Registry { port, cluster }
    }

    /// Registers the machine, as its application does when it starts.
    pub fn register(&self) {
        self.cluster.ctl(&["put", MEMBER, "10.0.2.15:8080"]);
    }

    /// Fails if the machine has left.
    pub fn still_lists_member(&self) {
        let listed = Registry::lists_member(self.address());
        assert!(listed.expect("an answer"), "it has left");
    }

    /// A configuration that says `http://registry`, with the port at which the machine finds it.
    pub fn within(&self, config: &str) -> String {
        self.named("registry", config)
    }

    /// The same, where the configuration has several and calls this one so.
    pub fn named(&self, name: &str, config: &str) -> String {
        let url = format!("http://registry:{}", self.port);
        config.replace(&format!("http://{name}"), &url)
    }

    /// Lets it refuse everybody.
    pub fn go_down(&mut self) {
        self.cluster.go_down();
    }

    /// Starts it again, with what it knew.
    pub fn come_back(&mut self) {
        self.cluster.come_back();
    }

    /// Lets it answer nobody any more, without a word to anybody.
    pub fn hang(&self) {
        self.cluster.signal(0, nix::sys::signal::Signal::SIGSTOP);
    }

    /// Waits until somebody holds the lock of the fleet, or nobody does.
    pub fn wait_for_lock(&self, is_held: bool) {
        let end = Instant::now() + GENEROUS;
        while self.cluster.ctl(&["get", "--prefix", LOCK]).is_empty() == is_held {
            assert!(Instant::now() < end, "the lock stays as it is");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The names of all members.
    pub fn members(&self) -> Vec<String> {
        let listed = ["get", "--prefix", "--keys-only", "members/"];
        let keys = self.cluster.ctl(&listed);
        let keys = keys.lines().filter_map(|it| it.strip_prefix("members/"));
        keys.map(str::to_owned).collect()
    }

    /// Fails unless the machine has left.
    pub fn is_clean(&self) {
        assert_eq!(self.cluster.ctl(&["get", "--prefix", "members/"]), "");
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Whether a client of the registry at this address still finds the machine there.
    pub fn lists_member(address: SocketAddr) -> std::io::Result<bool> {
        let body = format!("{{\"key\":\"{}\"}}", STANDARD.encode(MEMBER));
        let answer = ask(address, "POST /v3/kv/range", &body)?;
        Ok(answer.contains("\"kvs\""))
    }
}

/// Sends a request; its whole answer.
pub fn ask(address: SocketAddr, request: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let length = body.len();
    write!(
        stream,
        "{request} HTTP/1.0\r\nHost: lab\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.") && answer.contains(" 200 ") {
        return Ok(answer);
    }
    Err(std::io::Error::other(format!("{request}: {answer:?}")))
}
