//! A real Eureka server, one for all tests of a file: a JVM is slow to start.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::{OnceLock, mpsc};

use super::binary::wait_until;
use super::fetched::fetched;
use super::loopback::ask;
use super::ports::ports;

/// The server, which ends with the test's process.
pub struct Eureka {
    pub address: SocketAddr,
}

/// The server of this process; the first who asks starts it.
pub fn eureka() -> &'static Eureka {
    static SERVER: OnceLock<Eureka> = OnceLock::new();
    SERVER.get_or_init(Eureka::start)
}

impl Eureka {
    fn start() -> Eureka {
        let place = fetched("eureka");
        let port = ports(1)[0];
        let classes = format!("{0}/classes:{0}/lib/*", place.display());
        // It is killed when the thread that has started it is gone, which a test's own would be too early.
        let (started, is_started) = mpsc::channel();
        std::thread::spawn(move || {
            let own = format!("http://127.0.0.1:{port}/eureka/");
            let mut command = Command::new("setpriv");
            command
                .args(["--pdeathsig", "KILL", "--", "java"])
                .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx192m"])
                .args(["-cp", &classes, "registry.Registry"])
                .args([
                    "--server.address=127.0.0.1",
                    &format!("--server.port={port}"),
                ])
                .args([
                    "--eureka.client.register-with-eureka=false",
                    "--eureka.client.fetch-registry=false",
                ])
                // By this name it knows that the address is its own: else it would be its own peer, and send itself every change
                // once more, some time later.
                .arg("--eureka.instance.hostname=127.0.0.1")
                .arg(format!("--eureka.client.service-url.defaultZone={own}"))
                .arg("--eureka.server.enable-self-preservation=false")
                .arg("--eureka.server.wait-time-in-ms-when-sync-empty=0")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let mut child = command.spawn().expect("setpriv (apt install util-linux)");
            started.send(child.id()).expect("somebody waits");
            let _ = child.wait();
        });
        is_started.recv().expect("started");
        let eureka = Eureka {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
        };
        wait_until(
            "Eureka answers (java: apt install openjdk-17-jdk-headless)",
            || eureka.ask("GET /eureka/apps", "").0 == 200,
        );
        eureka
    }

    /// Its address, with its context path.
    pub fn url(&self) -> String {
        format!("http://{}/eureka", self.address)
    }

    /// Asks the server.
    pub fn ask(&self, request: &str, body: &str) -> (u16, String) {
        let headers = "Content-Type: application/json\r\nAccept: application/json\r\n";
        ask(&format!("http://{}", self.address), request, headers, body)
    }

    /// Registers an instance, as its application does at its start.
    pub fn register(&self, app: &str, id: &str) {
        let instance = serde_json::json!({"instance": {
            "instanceId": id, "app": app, "hostName": "h", "ipAddr": "127.0.0.1", "status": "UP",
            "port": {"$": 8080, "@enabled": "true"}, "vipAddress": app.to_lowercase(),
            "dataCenterInfo": {
                "@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": "MyOwn",
            },
            "leaseInfo": {"durationInSecs": 3600},
        }});
        let (status, said) = self.ask(&format!("POST /eureka/apps/{app}"), &instance.to_string());
        assert_eq!(status, 204, "{said}");
    }

    /// An instance's status; empty where it is not registered.
    pub fn status(&self, app: &str, id: &str) -> String {
        let (status, said) = self.ask(&format!("GET /eureka/apps/{app}/{id}"), "");
        match status {
            404 => String::new(),
            _ => {
                let document: serde_json::Value = serde_json::from_str(&said).expect("JSON");
                document["instance"]["status"]
                    .as_str()
                    .expect("a status")
                    .to_owned()
            }
        }
    }
}
