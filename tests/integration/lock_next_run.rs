//! The run after one that still has a lock: it does not wait for its own machine, and leaves nothing behind.

use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::support::binary::{Binary, GENEROUS, Running, step_of, wait_until};
use crate::support::consul::Consul;
use crate::support::etcd::Cluster;
use crate::support::fleetlock_stand_in::{FleetLock, Make};
use crate::support::locks::{Member, config};
use crate::support::loopback::Middleman;
use farewell::step::Outcome;
use nix::sys::signal::Signal;

const LONG: Duration = Duration::from_secs(60);

/// A lock server, as these tests look at it.
trait Locks: Sync {
    /// The keys of a step; nothing of it expires within the test.
    fn keys(&self) -> String;
    /// How many places are taken: that of the lock, and those in its queue.
    fn places(&self) -> usize;
}

impl Locks for Cluster {
    fn keys(&self) -> String {
        etcd_keys(&self.urls[0], "1h")
    }
    fn places(&self) -> usize {
        let keys = self.ctl(&["get", "l/", "--prefix", "--keys-only"]);
        keys.split_whitespace().count()
    }
}

impl Locks for Consul {
    fn keys(&self) -> String {
        consul_keys(&self.url, "1h")
    }
    fn places(&self) -> usize {
        let keys = self.ask("GET /v1/kv/l?recurse", "").1;
        keys.matches("\"Session\"").count()
    }
}

impl Locks for FleetLock {
    fn keys(&self) -> String {
        format!("via = \"fleetlock\"\nurl = {:?}\nid = \"a\"", self.url)
    }
    fn places(&self) -> usize {
        usize::from(self.holder("default").is_some())
    }
}

fn etcd_keys(url: &str, ttl: &str) -> String {
    format!("via = \"etcd\"\nurl = {url:?}\nkey = \"l\"\nttl = {ttl:?}")
}

fn consul_keys(url: &str, ttl: &str) -> String {
    format!("via = \"consul\"\nurl = {url:?}\nkey = \"l\"\nttl = {ttl:?}")
}

fn run(place: &Binary, trigger: &str) {
    let run = place.verb(&["run", "--trigger", trigger]);
    assert_eq!(run.code, 0, "{trigger}: {}{}", run.stdout, run.stderr);
    assert_eq!(step_of(&place.report(), "in")["state"], "done");
}

/// Whatever is left, the next start undoes it, and the one after it has nothing to do.
fn is_undone(place: &Binary, locks: &dyn Locks) {
    let start = place.verb(&["start", "--undo-only"]);
    assert_eq!(start.code, 0, "{}{}", start.stdout, start.stderr);
    assert_eq!(locks.places(), 0, "{}", start.stdout);
    let again = place.verb(&["start", "--undo-only"]).stdout;
    assert_eq!(again, "farewell start: nothing is to be undone\n");
}

/// A run whose lock is held while its command waits for a file.
fn inside(place: &Binary, keys: &str, trigger: &str) -> Running {
    let (on, go) = (place.dir.file("on"), place.dir.file("go"));
    let script = format!("touch {on}; while ! [ -e {go} ]; do sleep 0.02; done");
    place.configure(&config(keys, "30s", &script));
    let run = place.start(&["run", "--trigger", trigger]);
    wait_until("it is inside", || Path::new(&on).exists());
    run
}

fn kill(run: Running, place: &Binary) {
    run.signal(Signal::SIGKILL);
    run.end(GENEROUS);
    // Its command ends by itself.
    std::fs::write(place.dir.file("go"), "").expect("written");
}

/// Run after run before a start has got through, the last of them with the machine's end.
fn one_after_another(name: &str, locks: &dyn Locks) {
    let place = Binary::new(
        &format!("next-{name}"),
        &config(&locks.keys(), "30s", "true"),
    );
    for trigger in ["reboot", "reboot", "kexec"] {
        run(&place, trigger);
        assert_eq!(locks.places(), 1, "{trigger}");
    }
    run(&place, "poweroff");
    assert_eq!(locks.places(), 0);
    is_undone(&place, locks);
}

/// Nobody gets the lock between two runs of one machine.
fn others_wait(name: &str, locks: &dyn Locks) {
    let place = Binary::new(
        &format!("others-{name}"),
        &config(&locks.keys(), "30s", "true"),
    );
    run(&place, "reboot");
    let keys = locks.keys().replace("id = \"a\"", "id = \"b\"");
    let other = Member::new("run-other", &keys);
    thread::scope(|threads| {
        let taking = threads.spawn(|| other.take(LONG));
        wait_until("it waits", || !other.run.waiting().is_empty());
        run(&place, "reboot");
        assert!(!taking.is_finished());
        run(&place, "poweroff");
        assert_eq!(taking.join().expect("no panic"), Ok(Outcome::Done));
    });
    assert_eq!(other.close(LONG), Ok(Outcome::Done));
    is_undone(&place, locks);
}

/// A run that was killed while it held the lock, and one that was killed while it waited for it.
fn after_one_that_was_killed(name: &str, locks: &dyn Locks) {
    for (at, last) in ["poweroff", "reboot"].into_iter().enumerate() {
        let place = Binary::new(&format!("killed-{name}-{at}"), "");
        let first = inside(&place, &locks.keys(), "reboot");
        kill(first, &place);
        assert!(locks.places() > 0);
        place.configure(&config(&locks.keys(), "30s", "true"));
        run(&place, last);
        assert_eq!(locks.places(), at);
        is_undone(&place, locks);
    }
}

/// The lock's own step is not reached: what an earlier run holds is given up all the same when the machine is gone.
fn not_reached(name: &str, locks: &dyn Locks) {
    let lock = config(&locks.keys(), "30s", "true");
    let place = Binary::new(&format!("not-reached-{name}"), &lock);
    run(&place, "reboot");
    let fails = "[[step]]\nname = \"fails\"\nkind = \"command\"\nargv = [\"/bin/false\"]\non-failure = \"stop\"\n";
    let at = lock.find("[[step]]").expect("a step");
    place.configure(&format!("{}{fails}{}", &lock[..at], &lock[at..]));
    let reboot = place.verb(&["run", "--trigger", "reboot"]);
    assert_eq!((reboot.code, locks.places()), (1, 1), "{}", reboot.stdout);
    let end = place.verb(&["run", "--trigger", "poweroff"]);
    assert_eq!((end.code, locks.places()), (1, 0), "{}", end.stdout);
    is_undone(&place, locks);
}

fn all(name: &str, locks: &dyn Locks) {
    one_after_another(name, locks);
    others_wait(name, locks);
    after_one_that_was_killed(name, locks);
    not_reached(name, locks);
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn a_machine_takes_its_own_lock_in_etcd_over() {
    all("etcd", &Cluster::start("lock-next-etcd", 1));
}

#[test]
#[ignore = "needs Consul; tests/run has it"]
fn a_machine_takes_its_own_lock_in_consul_over() {
    all("consul", &Consul::start("lock-next-consul"));
}

#[test]
fn a_machine_has_its_own_fleetlock_slot_again() {
    for (name, make) in [("airlock", Make::Airlock), ("poseidon", Make::Poseidon)] {
        all(name, &FleetLock::start(make));
    }
}

/// A lock of another machine is none of its own, though the records tell of the same one.
#[test]
#[ignore = "needs etcd; tests/run has it"]
fn another_machine_s_lock_is_waited_for() {
    let etcd = Cluster::start("lock-next-other", 1);
    let place = Binary::new("lock-next-other", &config(&etcd.keys(), "6s", "true"));
    run(&place, "reboot");
    let runs = std::fs::read_dir(place.dir.file("state/runs")).expect("read");
    for record in runs.map(|it| it.expect("an entry").path()) {
        let text = std::fs::read_to_string(&record).expect("read");
        let own = farewell::sys::host::machine_id().expect("an id");
        std::fs::write(
            &record,
            text.replace(&own, "00000000000000000000000000000001"),
        )
        .expect("written");
    }
    let second = place.verb(&["run", "--trigger", "reboot"]);
    assert_eq!(second.code, 1, "{}", second.stdout);
    assert!(second.stdout.contains("held by "), "{}", second.stdout);
    assert_eq!(etcd.places(), 1);
}

/// What a server refuses once it may allow the next time; what is lost is told as lost.
fn renewed(name: &str, keys: &str, between: &Middleman, request: &str, lose: &dyn Fn()) {
    let place = Binary::new(&format!("renewed-{name}"), "");
    let run = inside(&place, keys, "reboot");
    between.refuse(request, 2);
    let renewals = || {
        between
            .heard()
            .iter()
            .filter(|it| it.contains(request))
            .count()
    };
    wait_until("it is refused", || between.refused() == 2);
    let before = renewals();
    wait_until("it is renewed again", || renewals() > before + 2);
    std::fs::write(place.dir.file("go"), "").expect("written");
    assert_eq!(run.end(GENEROUS).code, 0, "{:#}", place.report());
    let warnings = place.report()["warnings"].to_string();
    assert!(
        warnings.contains("cannot renew") && warnings.contains("403"),
        "{warnings}"
    );
    assert_eq!(place.verb(&["start", "--undo-only"]).code, 0);

    for trigger in ["reboot", "poweroff"] {
        let place = Binary::new(&format!("lost-{name}-{trigger}"), "");
        let run = inside(&place, keys, trigger);
        lose();
        wait_until("it is told", || {
            place.report()["warnings"].to_string().contains("is lost")
        });
        std::fs::write(place.dir.file("go"), "").expect("written");
        assert_eq!(run.end(GENEROUS).code, 1);
        let report = place.report();
        let release = step_of(&report, "release lock");
        assert_eq!(release["state"], "failed", "{release}");
        assert!(
            release["error"]["message"].to_string().contains("is lost"),
            "{release}"
        );
        assert_eq!(place.verb(&["start", "--undo-only"]).code, 0);
    }
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn a_renewal_that_etcd_refuses_is_tried_again_and_a_loss_is_told() {
    let etcd = Cluster::start("lock-renewed-etcd", 1);
    let address = etcd.urls[0].strip_prefix("http://").expect("a URL");
    let between = Middleman::before(address.parse().expect("an address"));
    let lose = || {
        let leases = etcd.ctl(&["lease", "list"]);
        for lease in leases.lines().skip(1) {
            etcd.ctl(&["lease", "revoke", lease]);
        }
    };
    let keys = etcd_keys(&between.url(), "8s");
    renewed("etcd", &keys, &between, "/v3/lease/keepalive", &lose);
}

#[test]
#[ignore = "needs Consul; tests/run has it"]
fn a_renewal_that_consul_refuses_is_tried_again_and_a_loss_is_told() {
    let consul = Consul::start("lock-renewed-consul");
    let address = consul.url.strip_prefix("http://").expect("a URL");
    let between = Middleman::before(address.parse().expect("an address"));
    let lose = || {
        let sessions = consul.ask("GET /v1/session/list", "").1;
        let sessions: serde_json::Value = serde_json::from_str(&sessions).expect("JSON");
        for session in sessions.as_array().expect("a list") {
            let id = session["ID"].as_str().expect("an id");
            consul.ask(&format!("PUT /v1/session/destroy/{id}"), "");
        }
    };
    let keys = consul_keys(&between.url(), "10s");
    renewed("consul", &keys, &between, "/v1/session/renew", &lose);
}
