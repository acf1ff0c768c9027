//! Runs that are killed in the middle of a request for a lock, and runs that are told to end at once.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::support::binary::{Binary, GENEROUS, Running, step_of, wait_until};
use crate::support::consul::Consul;
use crate::support::etcd::Cluster;
use crate::support::fleetlock_stand_in::{FleetLock, Make};
use crate::support::locks::config;
use crate::support::loopback::{Held, Middleman};
use nix::sys::signal::Signal::{SIGKILL, SIGTERM};

/// What a start says that has nothing to do.
const NOTHING: &str = "farewell start: nothing is to be undone\n";

/// A lock server, as these tests look at it.
trait Locks {
    fn url(&self) -> &str;
    /// The keys of a step that asks at this address; nothing of it expires within the test.
    fn keys(&self, url: &str) -> String;
    /// What the request that leaves something has in its first line.
    fn sticky(&self) -> &'static str;
    /// The requests by which it is held over a reboot.
    fn holding(&self) -> &'static [&'static str];
    /// How many places are taken.
    fn places(&self) -> usize;
}

impl Locks for Cluster {
    fn url(&self) -> &str {
        &self.urls[0]
    }
    fn keys(&self, url: &str) -> String {
        format!("via = \"etcd\"\nurl = {url:?}\nkey = \"l\"\nttl = \"1h\"")
    }
    fn sticky(&self) -> &'static str {
        "/v3/kv/txn"
    }
    fn holding(&self) -> &'static [&'static str] {
        &["/v3/lease/grant", "/v3/kv/txn", "/v3/lease/revoke"]
    }
    fn places(&self) -> usize {
        let keys = self.ctl(&["get", "l/", "--prefix", "--keys-only"]);
        keys.split_whitespace().count()
    }
}

impl Locks for Consul {
    fn url(&self) -> &str {
        &self.url
    }
    fn keys(&self, url: &str) -> String {
        format!("via = \"consul\"\nurl = {url:?}\nkey = \"l\"\nttl = \"1h\"")
    }
    fn sticky(&self) -> &'static str {
        "PUT /v1/kv/l/"
    }
    fn holding(&self) -> &'static [&'static str] {
        &["/v1/session/create", "/v1/txn", "/v1/session/destroy"]
    }
    fn places(&self) -> usize {
        // The lock itself, and the contenders for it.
        let keys = self.ask("GET /v1/kv/l?recurse", "").1;
        keys.matches("\"Session\"").count()
    }
}

impl Locks for FleetLock {
    fn url(&self) -> &str {
        &self.url
    }
    fn keys(&self, url: &str) -> String {
        format!("via = \"fleetlock\"\nurl = {url:?}\nid = \"a\"")
    }
    fn sticky(&self) -> &'static str {
        "/v1/pre-reboot"
    }
    fn holding(&self) -> &'static [&'static str] {
        &[]
    }
    fn places(&self) -> usize {
        usize::from(self.holder("default").is_some())
    }
}

fn address(url: &str) -> SocketAddr {
    let address = url.strip_prefix("http://").expect("a URL");
    address.parse().expect("an address")
}

/// What is left of a dead run is undone, once.
fn is_undone(place: &Binary, locks: &dyn Locks) {
    let start = place.verb(&["start", "--undo-only"]);
    let told = format!("{}{}", start.stdout, start.stderr);
    assert_eq!(start.code, 0, "{told}");
    assert!(start.stdout.contains("undo lock"), "{told}");
    assert_eq!(locks.places(), 0, "{told}");
    assert_eq!(place.verb(&["start", "--undo-only"]).stdout, NOTHING);
}

/// Killed before the server hears of the request, and before the run hears of the answer.
fn killed_while_it_takes(name: &str, locks: &dyn Locks) {
    let between = Middleman::before(address(locks.url()));
    let keys = locks.keys(&between.url());
    for (held, places) in [(Held::Request, 0), (Held::Answer, 1)] {
        let name = format!("lock-killed-{name}-{places}");
        let place = Binary::new(&name, &config(&keys, "30s", "true"));
        between.hold(locks.sticky(), held);
        let run = place.start(&["run", "--trigger", "poweroff"]);
        between.wait();
        run.signal(SIGKILL);
        run.end(GENEROUS);
        assert_eq!(locks.places(), places, "{held:?}");
        is_undone(&place, locks);
    }
}

/// A run whose lock is held while its command waits for a file.
fn inside(name: &str, keys: &str, trigger: &str) -> (Binary, Running) {
    let place = Binary::new(name, "");
    let (on, go) = (place.dir.file("on"), place.dir.file("go"));
    let script = format!("touch {on}; while ! [ -e {go} ]; do sleep 0.02; done");
    place.configure(&config(keys, "30s", &script));
    let run = place.start(&["run", "--trigger", trigger]);
    wait_until("it is inside", || Path::new(&on).exists());
    (place, run)
}

/// Killed at each request by which a lock is held over a reboot: whatever came of it, the next start gives it back.
fn killed_while_it_holds(name: &str, locks: &dyn Locks) {
    let between = Middleman::before(address(locks.url()));
    let keys = locks.keys(&between.url());
    for (at, request) in locks.holding().iter().enumerate() {
        for held in [Held::Request, Held::Answer] {
            let name = format!("lock-held-{name}-{at}-{held:?}");
            let (place, run) = inside(&name, &keys, "reboot");
            between.hold(request, held);
            std::fs::write(place.dir.file("go"), "").expect("written");
            between.wait();
            run.signal(SIGKILL);
            run.end(GENEROUS);
            assert!(locks.places() > 0, "{request} {held:?}");
            is_undone(&place, locks);
        }
    }
}

/// A first SIGTERM ends the command, a second one everything; the lock is given back all the same.
fn told_to_end(name: &str, locks: &dyn Locks) {
    for times in [1, 2] {
        let name = format!("lock-told-{name}-{times}");
        let (place, run) = inside(&name, &locks.keys(locks.url()), "poweroff");
        assert!(locks.places() > 0);
        for time in 0..times {
            if time > 0 {
                // A signal that is pending is not pending twice.
                std::thread::sleep(Duration::from_millis(50));
            }
            run.signal(SIGTERM);
        }
        assert_eq!(run.end(GENEROUS).code, 75);
        assert_eq!(locks.places(), 0, "told {times} times");
        let report = place.report();
        assert_eq!(
            step_of(&report, "release lock")["state"],
            "done",
            "{report:#}"
        );
        assert_eq!(place.verb(&["start", "--undo-only"]).stdout, NOTHING);
    }
}

fn all(name: &str, locks: &dyn Locks) {
    killed_while_it_takes(name, locks);
    killed_while_it_holds(name, locks);
    told_to_end(name, locks);
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn whatever_becomes_of_a_run_its_lock_in_etcd_is_given_back() {
    all("etcd", &Cluster::start("lock-killed-etcd", 1));
}

#[test]
#[ignore = "needs Consul; tests/run has it"]
fn whatever_becomes_of_a_run_its_lock_in_consul_is_given_back() {
    all("consul", &Consul::start("lock-killed-consul"));
}

#[test]
fn whatever_becomes_of_a_run_its_fleetlock_slot_is_given_back() {
    for (name, make) in [("airlock", Make::Airlock), ("poseidon", Make::Poseidon)] {
        all(name, &FleetLock::start(make));
    }
}
