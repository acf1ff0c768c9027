//! A real Consul agent, which is a server too, on free loopback ports.

use std::process::{Child, Command, Stdio};

use super::Dir;
use super::binary::wait_until;
use super::fetched::fetched;
use super::loopback::ask;
use super::ports::ports;
use super::signals;

/// The token that may do everything, where there are ACLs.
pub const ROOT: &str = "s3cret-root-token";

/// An agent, killed when it goes out of scope.
pub struct Consul {
    pub url: String,
    /// The same as `url`, behind a unix socket.
    pub socket: String,
    child: Child,
    _dir: Dir,
}

impl Consul {
    pub fn start(name: &str) -> Consul {
        Consul::start_at(name, ports(1)[0], false)
    }

    /// With ACLs: who has no token may do nothing.
    pub fn start_with_acls(name: &str) -> Consul {
        Consul::start_at(name, ports(1)[0], true)
    }

    /// An agent whose HTTP port is this one.
    pub fn start_at(name: &str, port: u16, acls: bool) -> Consul {
        let dir = Dir::new(name);
        let others = ports(3);
        let mut command = Command::new(fetched("consul").join("usr/bin/consul"));
        command
            .env_clear()
            .args([
                "agent",
                "-dev",
                "-bind",
                "127.0.0.1",
                "-client",
                "127.0.0.1",
            ])
            .args(["-http-port", &port.to_string()])
            .args(["-grpc-port", "-1", "-dns-port", "-1"])
            .args(["-server-port", &others[0].to_string()])
            .args(["-serf-lan-port", &others[1].to_string()])
            .args(["-serf-wan-port", &others[2].to_string()])
            .args(["-node", "n1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let socket = format!("unix://{}", dir.file("http.sock"));
        let mut config = serde_json::json!({"addresses": {"http": format!("127.0.0.1 {socket}")}});
        if acls {
            config["acl"] = serde_json::json!({
                "enabled": true, "default_policy": "deny", "tokens": {"master": ROOT}
            });
        }
        let file = dir.file("agent.json");
        std::fs::write(&file, config.to_string()).expect("written");
        command.args(["-config-file", &file]);
        let consul = Consul {
            url: format!("http://127.0.0.1:{port}"),
            socket,
            child: command.spawn().expect("it starts"),
            _dir: dir,
        };
        wait_until("Consul has a leader, and knows its own node", || {
            let (status, nodes) = consul.ask("GET /v1/catalog/nodes", "");
            status == 200 && nodes.contains("\"n1\"")
        });
        consul
    }

    /// Asks as root.
    pub fn ask(&self, request: &str, body: &str) -> (u16, String) {
        ask(
            &self.url,
            request,
            &format!("X-Consul-Token: {ROOT}\r\n"),
            body,
        )
    }

    /// Asks with a token.
    pub fn ask_as(&self, token: &str, request: &str, body: &str) -> (u16, String) {
        let header = format!("X-Consul-Token: {token}\r\n");
        ask(&self.url, request, &header, body)
    }

    fn must(&self, request: &str, body: &str) -> String {
        let (status, said) = self.ask(request, body);
        assert_eq!(status, 200, "{request}: {said}");
        said
    }

    /// Registers a service, and waits until the catalog has it.
    pub fn register(&self, id: &str, name: &str) {
        let body = serde_json::json!({"ID": id, "Name": name, "Port": 80}).to_string();
        self.must("PUT /v1/agent/service/register", &body);
        wait_until("the catalog has it", || self.lists(id, name));
    }

    /// As [`Consul::register`], with a token of its own, which is deleted then: the agent cannot take the service out of the
    /// catalog any more.
    pub fn register_and_forget(&self, id: &str, name: &str, token: &str) {
        self.token(token, &format!("service {name:?} {{ policy = \"write\" }}"));
        let body = serde_json::json!({"ID": id, "Name": name, "Port": 80}).to_string();
        let (status, said) = self.ask_as(token, "PUT /v1/agent/service/register", &body);
        assert_eq!(status, 200, "{said}");
        wait_until("the catalog has it", || self.lists(id, name));
        let (status, own) = self.ask_as(token, "GET /v1/acl/token/self", "");
        assert_eq!(status, 200, "{own}");
        let own: serde_json::Value = serde_json::from_str(&own).expect("JSON");
        let accessor = own["AccessorID"].as_str().expect("an accessor").to_owned();
        self.must(&format!("DELETE /v1/acl/token/{accessor}"), "");
        wait_until("the token is gone", || {
            self.ask_as(token, "GET /v1/acl/token/self", "").0 == 403
        });
    }

    /// Whether the catalog lists it.
    pub fn lists(&self, id: &str, name: &str) -> bool {
        let entries = self.must(&format!("GET /v1/catalog/service/{name}"), "");
        let entries: serde_json::Value = serde_json::from_str(&entries).expect("JSON");
        let mut entries = entries.as_array().expect("a list").iter();
        entries.any(|entry| entry["ServiceID"] == id)
    }

    /// The IDs that the agent knows.
    pub fn services(&self) -> Vec<String> {
        let services: serde_json::Value =
            serde_json::from_str(&self.must("GET /v1/agent/services", "")).expect("JSON");
        services
            .as_object()
            .expect("a table")
            .keys()
            .cloned()
            .collect()
    }

    /// A token with these rules.
    pub fn token(&self, secret: &str, rules: &str) {
        let name = format!("p-{secret}");
        let policy = serde_json::json!({"Name": name, "Rules": rules});
        self.must("PUT /v1/acl/policy", &policy.to_string());
        let token = serde_json::json!({"SecretID": secret, "Policies": [{"Name": name}]});
        self.must("PUT /v1/acl/token", &token.to_string());
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        signals::send(self.child.id(), signal);
    }
}

impl Drop for Consul {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
