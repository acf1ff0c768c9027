//! Real Hazelcast members, each in a process of its own.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::Dir;
use super::signals;

const PATIENCE: Duration = Duration::from_secs(180);

/// Which of the two formats of replies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 5.5.0: JSON.
    Five,
    /// 3.12.13: text.
    Three,
}

/// The members of one cluster, killed when they go out of scope.
pub struct Cluster {
    version: Version,
    name: &'static str,
    ports: Vec<u16>,
    members: Vec<Option<Child>>,
    dir: Dir,
    /// Processors are few: no two tests of one file have their clusters at the same time.
    _turn: MutexGuard<'static, ()>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where the jars are, fetched first if they are not there.
fn jar(version: Version) -> PathBuf {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let script = root().join("tests/servers/hazelcast/install");
        let status = Command::new(&script).status().expect("the script starts");
        assert!(status.success(), "{} failed", script.display());
    });
    let name = match version {
        Version::Five => "hazelcast-5.5.0.jar",
        Version::Three => "hazelcast-3.12.13.jar",
    };
    root().join("target/servers/hazelcast").join(name)
}

impl Cluster {
    /// Members at these ports, all started at once, of which `members` may be reached by REST as `hz.health=false` says.
    pub fn start_at(version: Version, name: &'static str, ports: &[u16], keys: &[&str]) -> Cluster {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cluster = Cluster {
            version,
            name,
            ports: ports.to_vec(),
            members: ports.iter().map(|_| None).collect(),
            dir: Dir::new(&format!("hazelcast-{}", ports[0])),
            _turn: turn,
        };
        let all: Vec<usize> = (0..ports.len()).collect();
        cluster.come(&all, keys);
        cluster
    }

    /// `count` members at free ports, and safe.
    pub fn start(version: Version, name: &'static str, count: usize) -> Cluster {
        let cluster = Cluster::start_at(version, name, &super::ports::ports(count), &[]);
        cluster.wait_safe(0, count);
        cluster
    }

    /// Starts members, and waits until each says so.
    pub fn come(&mut self, members: &[usize], keys: &[&str]) {
        for at in members {
            self.begin(*at, keys);
        }
        let end = Instant::now() + PATIENCE;
        for at in members {
            let log = self.dir.file(&format!("{at}.log"));
            let read = || fs::read_to_string(&log).unwrap_or_default();
            while !read().contains("is STARTED") {
                let child = self.members[*at].as_mut().expect("a member");
                let runs = child.try_wait().expect("asked").is_none();
                assert!(runs && Instant::now() < end, "not started: {}", read());
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }

    /// Starts a member, and does not wait for it.
    pub fn begin(&mut self, at: usize, keys: &[&str]) {
        self.members[at] = Some(self.spawn(at, keys));
    }

    fn spawn(&self, at: usize, keys: &[&str]) -> Child {
        let log = || fs::File::create(self.dir.file(&format!("{at}.log"))).expect("a file");
        let members: Vec<String> = (self.ports.iter())
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        let mut command = Command::new("java");
        command.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx192m"]);
        let (xml, class) = match self.version {
            Version::Five => ("5.xml", "HazelcastMemberStarter"),
            Version::Three => {
                command.args(["--add-opens", "java.base/sun.nio.ch=ALL-UNNAMED"]);
                command.args(["--add-opens", "java.base/java.lang=ALL-UNNAMED"]);
                ("3.xml", "StartServer")
            }
        };
        let xml = root().join("tests/servers/hazelcast").join(xml);
        let defaults = ["hz.health=true", "hz.read=true", "hz.write=true"];
        // The last value of a property counts.
        for key in defaults.iter().chain(keys) {
            command.arg(format!("-D{key}"));
        }
        command
            .arg(format!("-Dhazelcast.config={}", xml.display()))
            .arg(format!("-Dhz.name={}", self.name))
            .arg(format!("-Dhz.port={}", self.ports[at]))
            .arg(format!("-Dhz.members={}", members.join(",")))
            .env("LC_ALL", "C.UTF-8")
            .arg("-cp")
            .arg(jar(self.version))
            .arg(format!("com.hazelcast.core.server.{class}"))
            .current_dir(&self.dir.0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log());
        command
            .spawn()
            .expect("java (apt install openjdk-17-jre-headless)")
    }

    pub fn url(&self, at: usize) -> String {
        format!("http://127.0.0.1:{}", self.ports[at])
    }

    pub fn client(&self, at: usize) -> Client {
        Client::new(self.ports[at])
    }

    pub fn pid(&self, at: usize) -> u32 {
        self.members[at].as_ref().expect("a member").id()
    }

    pub fn signal(&self, at: usize, signal: Signal) {
        signals::send(self.pid(at), signal);
    }

    /// Waits for the end of a process that was told to end.
    pub fn wait_for_end(&mut self, at: usize) {
        let child = self.members[at].as_mut().expect("a member");
        let end = Instant::now() + PATIENCE;
        while child.try_wait().expect("waited for").is_none() {
            assert!(Instant::now() < end, "member {at} does not end");
            std::thread::sleep(Duration::from_millis(50));
        }
        self.members[at] = None;
    }

    /// What `/hazelcast/health` says, without quotes and in one spelling; empty where there is no answer.
    pub fn health(&self, at: usize) -> String {
        let (_, text) = self.client(at).get("/hazelcast/health").unwrap_or_default();
        let text = text.replace("Hazelcast::", "").replace('"', "");
        text.replace('=', ":").to_ascii_lowercase()
    }

    /// Waits until a member has this many in its cluster and finds it safe.
    pub fn wait_safe(&self, at: usize, count: usize) {
        let end = Instant::now() + PATIENCE;
        loop {
            let health = self.health(at);
            if health.contains(&format!("clustersize:{count}"))
                && health.contains("clustersafe:true")
                && health.contains("migrationqueuesize:0")
            {
                return;
            }
            assert!(
                Instant::now() < end,
                "not safe with {count} members: {health}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Puts `count` entries of some kilobytes into a map with one backup.
    pub fn fill(&self, at: usize, count: usize) {
        let mut client = self.client(at);
        for number in 0..count {
            let path = format!("/hazelcast/rest/maps/m/k{number}");
            let (status, _) = client.post(&path, &value(number)).expect("an answer");
            assert!(matches!(status, 200 | 204), "{status}");
        }
    }

    /// How many of these entries are there as they were put.
    pub fn count(&self, at: usize, count: usize) -> usize {
        let mut client = self.client(at);
        let mut is_there = |number: &usize| {
            let path = format!("/hazelcast/rest/maps/m/k{number}");
            let (status, text) = client.get(&path).expect("an answer");
            status == 200 && text == value(*number)
        };
        (0..count).filter(|number| is_there(number)).count()
    }
}

fn value(number: usize) -> String {
    format!("{number}-{}", "x".repeat(4000))
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in self.members.iter_mut().flatten() {
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

/// One connection, which is kept.
pub struct Client {
    port: u16,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    fn new(port: u16) -> Client {
        Client { port, stream: None }
    }

    pub fn get(&mut self, path: &str) -> Option<(u16, String)> {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"))
    }

    pub fn post(&mut self, path: &str, body: &str) -> Option<(u16, String)> {
        let length = body.len();
        let settings = format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n");
        self.ask(&format!("{settings}Content-Type: text/plain\r\n\r\n{body}"))
    }

    fn ask(&mut self, request: &str) -> Option<(u16, String)> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
            stream.set_read_timeout(Some(PATIENCE)).ok()?;
            self.stream = Some(BufReader::new(stream));
        }
        let answer = answer(self.stream.as_mut()?, request);
        if answer.is_none() {
            self.stream = None;
        }
        answer
    }
}

fn answer(stream: &mut BufReader<TcpStream>, request: &str) -> Option<(u16, String)> {
    stream.get_mut().write_all(request.as_bytes()).ok()?;
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let status = line.split(' ').nth(1)?.parse().ok()?;
    let mut length = 0;
    loop {
        line.clear();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((status, String::from_utf8_lossy(&body).into_owned()))
}
