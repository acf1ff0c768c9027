//! `cargo bench`: what a run costs, beside the script that a user would write otherwise, in the same run.
//!
//! As root: it makes a mount namespace of its own, in which stand-ins for journald and systemd listen, and a bus of its
//! own. Needs dbus-daemon, etcd, bash, curl, jq and logger. Prints ratios of medians beside the limits of the design; absolute times are of this machine.

#[path = "../integration/support/daemon.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod daemon;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use daemon::Daemon;
use nix::sys::resource::{UsageWho, getrusage};

const FAREWELL: &str = env!("CARGO_BIN_EXE_farewell");
const RUNS: usize = 21;
const JOURNAL: &str = "/run/systemd/journal";

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("--peak") => peak_of(std::env::args().skip(2).collect()),
        Some("--inside") => inside(),
        _ => {
            let me = std::env::current_exe().expect("a path");
            let status = Command::new("unshare")
                .args(["--mount", "--"])
                .arg(me)
                .arg("--inside")
                .status();
            std::process::exit(status.expect("unshare runs (as root)").code().unwrap_or(1));
        }
    }
}

/// In the mount namespace.
fn inside() {
    run("mount", &["-t", "tmpfs", "tmpfs", "/run"]);
    fs::create_dir_all(JOURNAL).expect("a directory");
    for socket in ["socket", "dev-log"] {
        stand_in(&Path::new(JOURNAL).join(socket));
    }
    let room = std::env::temp_dir().join(format!("farewell-bench-{}", std::process::id()));
    fs::create_dir_all(&room).expect("a directory");
    stand_in(&room.join("notify"));
    let bus = Daemon::start(&room, true);
    let bench = Bench {
        room: room.clone(),
        bus: format!("unix:path={}", room.join("bus").display()),
    };
    let etcd = bench.etcd();
    bench.against_a_script(&etcd.url);
    bench.side_by_side();
    bench.chain();
    bench.size();
    drop((etcd, bus));
    fs::remove_dir_all(room).expect("removed");
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .expect(program);
    assert!(output.status.success(), "{program} {arguments:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A socket that takes every datagram and throws it away.
fn stand_in(path: &Path) {
    let socket = UnixDatagram::bind(path).expect("a socket");
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 18];
        while socket.recv(&mut buffer).is_ok() {}
    });
}

struct Etcd {
    child: Child,
    url: String,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a command took.
#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    cpu: f64,
}

fn children_cpu() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("usage");
    let seconds =
        |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

fn cost(command: &mut Command) -> Cost {
    let (cpu, begun) = (children_cpu(), Instant::now());
    let status = command.stdin(Stdio::null()).status().expect("it runs");
    let wall = begun.elapsed().as_secs_f64();
    assert!(status.success(), "{command:?}: {status}");
    Cost {
        wall,
        cpu: children_cpu() - cpu,
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn medians(costs: &[Cost]) -> Cost {
    Cost {
        wall: median(costs.iter().map(|cost| cost.wall).collect()),
        cpu: median(costs.iter().map(|cost| cost.cpu).collect()),
    }
}

fn row(what: &str, value: String, limit: &str) {
    println!("{what:<58} {value:>12}   (limit {limit})");
}

struct Bench {
    room: PathBuf,
    bus: String,
}

impl Bench {
    fn etcd(&self) -> Etcd {
        let free = || {
            std::net::TcpListener::bind("127.0.0.1:0")
                .expect("a port")
                .local_addr()
                .expect("bound")
                .port()
        };
        let (client, peer) = (
            format!("http://127.0.0.1:{}", free()),
            format!("http://127.0.0.1:{}", free()),
        );
        let child = Command::new("etcd")
            .args(["--name", "n1", "--data-dir"])
            .arg(self.room.join("etcd"))
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &format!("n1={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd");
        let etcd = Etcd { child, url: client };
        let end = Instant::now() + Duration::from_secs(60);
        let ready = || {
            Command::new("curl")
                .args([
                    "-sf",
                    "-m",
                    "1",
                    "-o",
                    "/dev/null",
                    &format!("{}/health", etcd.url),
                ])
                .status()
        };
        while !ready().is_ok_and(|status| status.success()) {
            assert!(Instant::now() < end, "etcd does not start");
            thread::sleep(Duration::from_millis(50));
        }
        etcd
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.room.join(name);
        fs::write(&path, text).expect("written");
        path
    }

    /// A run with every reporter on: lines on standard output, the journal, systemd, D-Bus, and the record.
    fn farewell(&self, config: &Path) -> Command {
        let log = fs::File::create(self.room.join("stderr")).expect("a file");
        let metadata = log.metadata().expect("metadata");
        let mut command = Command::new(FAREWELL);
        command
            .arg("run")
            .arg("--config")
            .arg(config)
            .arg("--state")
            .arg(self.room.join("state"))
            .env(
                "JOURNAL_STREAM",
                format!("{}:{}", metadata.dev(), metadata.ino()),
            )
            .env("NOTIFY_SOCKET", self.room.join("notify"))
            .env("DBUS_SYSTEM_BUS_ADDRESS", &self.bus)
            .stdout(fs::File::create(self.room.join("stdout")).expect("a file"))
            .stderr(log);
        command
    }

    fn against_a_script(&self, etcd: &str) {
        let step = |number: usize| {
            format!(
                "[[step]]\nname = \"put-{number}\"\nkind = \"http\"\nurl = \"{etcd}/v3/kv/put\"\nmethod = \"POST\"\n\
                 json = {{ key = \"a2V5\", value = \"dmFsdWU=\" }}\n"
            )
        };
        let config = self.write("http.toml", &(1..=4).map(step).collect::<String>());
        let script = |name: &str, pipe: &str| {
            let one = format!(
                "logger -u {JOURNAL}/dev-log -t farewell begin\n\
                 curl -sf -X POST {etcd}/v3/kv/put -d '{{\"key\":\"a2V5\",\"value\":\"dmFsdWU=\"}}' {pipe}\n\
                 logger -u {JOURNAL}/dev-log -t farewell end\n"
            );
            self.write(name, &one.repeat(4))
        };
        let with_jq = script("with-jq.sh", "| jq -e .header.revision >/dev/null");
        let without = script("without-jq.sh", ">/dev/null");
        let bash = |script: &Path| {
            let mut bash = Command::new("bash");
            bash.args(["-e", "-o", "pipefail"]).arg(script);
            bash
        };
        let (mut ours, mut jq, mut plain) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=RUNS {
            let costs = [
                cost(&mut self.farewell(&config)),
                cost(&mut bash(&with_jq)),
                cost(&mut bash(&without)),
            ];
            // The first round warms the caches.
            if round > 0 {
                ours.push(costs[0]);
                jq.push(costs[1]);
                plain.push(costs[2]);
            }
        }
        let (ours, jq, plain) = (medians(&ours), medians(&jq), medians(&plain));
        println!(
            "four HTTP steps against etcd, all reporters on; medians of {RUNS} runs, alternating"
        );
        println!(
            "  farewell {:.1} ms wall, {:.1} ms CPU; with jq {:.1} and {:.1}; without {:.1} and {:.1}",
            ours.wall * 1e3,
            ours.cpu * 1e3,
            jq.wall * 1e3,
            jq.cpu * 1e3,
            plain.wall * 1e3,
            plain.cpu * 1e3
        );
        row(
            "CPU beside bash 4 x (logger; curl | jq; logger)",
            format!("{:.3}", ours.cpu / jq.cpu),
            "0.05",
        );
        row(
            "wall beside the same",
            format!("{:.3}", ours.wall / jq.wall),
            "0.10",
        );
        row(
            "CPU beside bash 4 x (logger; curl; logger)",
            format!("{:.3}", ours.cpu / plain.cpu),
            "0.10",
        );
        row(
            "wall beside the same",
            format!("{:.3}", ours.wall / plain.wall),
            "0.15",
        );
        self.peak(&config);
    }

    /// The peak is taken by a process that has no other child.
    fn peak(&self, config: &Path) {
        let me = std::env::current_exe().expect("a path");
        let ours = self.farewell(config);
        let mut command = Command::new(me);
        command
            .arg("--peak")
            .arg(ours.get_program())
            .args(ours.get_args())
            .stderr(Stdio::null());
        let environment = ours
            .get_envs()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
        let output = command.envs(environment).output().expect("it runs");
        let kilobytes: f64 = String::from_utf8_lossy(&output.stdout)
            .trim()
            .parse()
            .expect("a number");
        row(
            "peak memory",
            format!("{:.1} MiB", kilobytes / 1024.0),
            "6 MiB",
        );
    }

    fn side_by_side(&self) {
        let step = |number: usize| {
            format!(
                "[[step]]\nname = \"s{number}\"\nkind = \"wait\"\nfor = \"100ms\"\nafter = []\n"
            )
        };
        let config = self.write("parallel.toml", &(0..100).map(step).collect::<String>());
        let costs: Vec<Cost> = (0..RUNS)
            .map(|_| cost(&mut self.farewell(&config)))
            .collect();
        row(
            "100 steps of 100 ms side by side, whole process",
            format!("{:.1} ms", medians(&costs).wall * 1e3),
            "110 ms",
        );
    }

    fn chain(&self) {
        let mut last: Option<f64> = None;
        for (length, runs) in [(10, RUNS), (100, RUNS), (1000, RUNS), (10_000, 5)] {
            let step = |number: usize| {
                format!("[[step]]\nname = \"s{number}\"\nkind = \"wait\"\nfor = \"0s\"\n")
            };
            let config = self.write("chain.toml", &(0..length).map(step).collect::<String>());
            let empty = self.write("one.toml", &step(0));
            let (mut costs, mut base) = (Vec::new(), Vec::new());
            for _ in 0..runs {
                costs.push(cost(&mut self.farewell(&config)));
                base.push(cost(&mut self.farewell(&empty)));
            }
            let (costs, base) = (medians(&costs), medians(&base));
            let more = |all: f64, one: f64| (all - one) / (length - 1) as f64;
            row(
                &format!("a chain of {length} no-op steps, each beyond the first"),
                format!("{:.3} ms", more(costs.wall, base.wall) * 1e3),
                "0.1 ms",
            );
            let cpu = more(costs.cpu, base.cpu);
            if let Some(before) = last.replace(cpu) {
                row(
                    "  CPU of each beside that in a chain of a tenth",
                    format!("{:.2}", cpu / before),
                    "1.20",
                );
            }
        }
    }

    fn size(&self) {
        let bytes = fs::metadata(FAREWELL).expect("the binary").len();
        row(
            "stripped binary",
            format!("{:.2} MiB", bytes as f64 / (1 << 20) as f64),
            "5 MiB",
        );
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let tree = run(
            "cargo",
            &[
                "tree",
                "--manifest-path",
                manifest,
                "-e",
                "normal",
                "--prefix",
                "none",
            ],
        );
        let crates: std::collections::BTreeSet<_> = tree
            .lines()
            .filter_map(|line| line.split(' ').next())
            .collect();
        row(
            "crates in `cargo tree -e normal`",
            crates.len().to_string(),
            "100",
        );
    }
}

/// Runs a command and prints its peak memory in KiB.
fn peak_of(command: Vec<String>) {
    let mut ours = Command::new(&command[0]);
    ours.args(&command[1..])
        .stdout(Stdio::null())
        .stdin(Stdio::null());
    ours.status().expect("it runs");
    println!(
        "{}",
        getrusage(UsageWho::RUSAGE_CHILDREN)
            .expect("usage")
            .max_rss()
    );
}
