//! Real etcd servers on free loopback ports.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Dir;
use super::binary::GENEROUS;
use super::ports::ports;
use super::signals;

/// One or more etcd servers, killed when they go out of scope.
pub struct Cluster {
    pub urls: Vec<String>,
    commands: Vec<Command>,
    nodes: Vec<Child>,
    _dir: Dir,
}

impl Cluster {
    /// `count` members, named n1, n2, …
    pub fn start(name: &str, count: usize) -> Cluster {
        Cluster::start_at(name, &ports(2 * count))
    }

    /// Members that listen at the first half of these ports, and talk to each other at the second.
    pub fn start_at(name: &str, ports: &[u16]) -> Cluster {
        Cluster::listening("127.0.0.1", name, ports)
    }

    /// The same, which listen for clients at all addresses.
    pub fn start_open(name: &str, ports: &[u16]) -> Cluster {
        Cluster::listening("0.0.0.0", name, ports)
    }

    fn listening(address: &str, name: &str, ports: &[u16]) -> Cluster {
        let dir = Dir::new(name);
        let count = ports.len() / 2;
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let peers: Vec<_> = (0..count)
            .map(|it| format!("n{}={}", it + 1, url(ports[count + it])))
            .collect();
        let node = |it: usize| {
            let (client, peer) = (url(ports[it]), url(ports[count + it]));
            let listen = format!("http://{address}:{}", ports[it]);
            let mut command = Command::new("/usr/bin/etcd");
            command
                .env_clear()
                .args(["--name", &format!("n{}", it + 1)])
                .args(["--data-dir", &dir.file(&format!("n{}", it + 1))])
                .args(["--listen-client-urls", &listen])
                .args(["--advertise-client-urls", &client])
                .args(["--listen-peer-urls", &peer])
                .args(["--initial-advertise-peer-urls", &peer])
                .args(["--initial-cluster", &peers.join(",")])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command
        };
        let mut commands: Vec<Command> = (0..count).map(node).collect();
        let nodes = commands.iter_mut().map(spawn).collect();
        let urls = ports[..count].iter().map(|port| url(*port)).collect();
        let cluster = Cluster {
            urls,
            commands,
            nodes,
            _dir: dir,
        };
        cluster.wait();
        cluster
    }

    fn wait(&self) {
        let end = Instant::now() + GENEROUS;
        for url in &self.urls {
            while !self.ctl_at(url, &["endpoint", "health"]).0 {
                assert!(Instant::now() < end, "{url} is not ready after 180 s");
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }

    /// Ends all servers; nobody listens at their ports until [`Cluster::come_back`].
    pub fn go_down(&mut self) {
        for node in &mut self.nodes {
            node.kill().expect("killed");
            node.wait().expect("waited for");
        }
    }

    /// Starts all servers again, with everything that they knew.
    pub fn come_back(&mut self) {
        self.nodes = self.commands.iter_mut().map(spawn).collect();
        self.wait();
    }

    /// Turns authentication on: root may do everything, and `reader` nothing.
    pub fn with_auth(self) -> Cluster {
        for args in [
            &["user", "add", "root:s3cret-root"][..],
            &["user", "add", "reader:s3cret-reader"],
            &["role", "add", "root"],
            &["user", "grant-role", "root", "root"],
            &["auth", "enable"],
        ] {
            self.ctl(args);
        }
        self
    }

    fn ctl_at(&self, url: &str, args: &[&str]) -> (bool, String) {
        let output = Command::new("/usr/bin/etcdctl")
            .env_clear()
            .env("ETCDCTL_API", "3")
            .args([
                "--endpoints",
                url,
                "--command-timeout",
                "60s",
                "--dial-timeout",
                "60s",
            ])
            .args(args)
            .output()
            .expect("etcdctl (apt install etcd-client)");
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        (output.status.success(), text)
    }

    /// What etcdctl prints.
    pub fn ctl(&self, args: &[&str]) -> String {
        let (good, text) = self.ctl_at(&self.urls[self.urls.len() - 1], args);
        assert!(good, "etcdctl {args:?}: {text}");
        text
    }

    /// A new lease, as etcdctl prints its ID.
    pub fn lease(&self, seconds: u32) -> String {
        let text = self.ctl(&["lease", "grant", &seconds.to_string()]);
        text.split(' ').nth(1).expect("an ID").to_owned()
    }

    /// The number of the server that leads.
    pub fn leader(&self) -> usize {
        let leads = |it: &&usize| {
            let (good, text) = self.ctl_at(&self.urls[**it], &["endpoint", "status"]);
            good && text.split(", ").nth(4) == Some("true")
        };
        let all: Vec<usize> = (0..self.urls.len()).collect();
        let end = Instant::now() + GENEROUS;
        loop {
            match all.iter().find(leads) {
                Some(leader) => return *leader,
                None => assert!(Instant::now() < end, "nobody leads after 180 s"),
            }
        }
    }

    /// Waits until members may come and go: a cluster refuses that until all have been connected for some seconds.
    pub fn wait_for_changes(&self) {
        let url = &self.urls[self.urls.len() - 1];
        let peer = "--peer-urls=http://127.0.0.1:1";
        let end = Instant::now() + GENEROUS;
        let added = loop {
            let (good, text) = self.ctl_at(url, &["member", "add", "--learner", peer, "probe"]);
            if good {
                break text;
            }
            assert!(Instant::now() < end, "no member may come");
            std::thread::sleep(Duration::from_millis(100));
        };
        // "Member ID added to cluster …"
        self.ctl(&[
            "member",
            "remove",
            added.split_whitespace().nth(1).expect("an ID"),
        ]);
    }

    /// The process of a server, by its number.
    pub fn pid(&self, node: usize) -> u32 {
        self.nodes[node].id()
    }

    /// Waits for the end of a server that something else ends.
    pub fn wait_for_end(&mut self, node: usize) {
        let end = Instant::now() + GENEROUS;
        while self.nodes[node].try_wait().expect("waited for").is_none() {
            assert!(Instant::now() < end, "the server runs after 180 s");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal to a server, by its number; one that stops it has done so then.
    pub fn signal(&self, node: usize, signal: nix::sys::signal::Signal) {
        signals::send(self.nodes[node].id(), signal);
    }
}

fn spawn(command: &mut Command) -> Child {
    command.spawn().expect("etcd (apt install etcd-server)")
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}
