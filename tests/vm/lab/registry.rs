//! A real etcd on the host, in which the machine of a scenario is a member.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::etcd::{Cluster, ports};

/// What an application writes when it starts.
const MEMBER: &str = "members/lab";

/// One etcd, ended with it.
pub struct Registry {
    port: u16,
    name: String,
    cluster: Option<Cluster>,
}

impl Registry {
    /// One in which the machine is registered.
    pub fn with_member(name: &str) -> Registry {
        let mut registry = Registry::down(name);
        registry.start();
        registry.register();
        registry
    }

    /// Registers the machine, as its application does when it starts.
    pub fn register(&self) {
        self.cluster().ctl(&["put", MEMBER, "10.0.2.15:8080"]);
    }

    /// Fails if the machine has left.
    pub fn still_lists_member(&self) {
        let listed = Registry::lists_member(self.address());
        assert!(listed.expect("an answer"), "it has left");
    }

    /// One that has yet to start.
    pub fn down(name: &str) -> Registry {
        Registry {
            port: ports(1)[0],
            name: format!("vm-{name}"),
            cluster: None,
        }
    }

    pub fn start(&mut self) {
        let ports = [self.port, ports(1)[0]];
        self.cluster = Some(Cluster::start_at(&self.name, &ports));
    }

    pub fn cluster(&self) -> &Cluster {
        self.cluster.as_ref().expect("it has been started")
    }

    /// A configuration that says `http://registry`, with the port at which the machine finds it.
    pub fn within(&self, config: &str) -> String {
        config.replace("http://registry", &format!("http://registry:{}", self.port))
    }

    /// Fails unless the machine has left.
    pub fn is_clean(&self) {
        assert_eq!(self.cluster().ctl(&["get", "--prefix", "members/"]), "");
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
