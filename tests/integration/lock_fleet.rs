//! One at a time: fifty members that all end at the same moment, over each kind of lock server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::support::binary::wait_until;
use crate::support::consul::Consul;
use crate::support::etcd::Cluster;
use crate::support::fleetlock_stand_in::{FleetLock, Heard, Make};
use crate::support::{Dir, Run, step};
use farewell::model::trigger::Trigger;
use farewell::step::{Action, Outcome};

const MEMBERS: usize = 50;

/// Fleets that are timed one after another; those of etcd and of Consul sleep most of the time, and so do it together.
static ONE_FLEET: RwLock<()> = RwLock::new(());

/// Members with a directory of their own each, whose command proves that nobody else is inside.
struct Fleet {
    dir: Dir,
    members: Vec<Child>,
}

/// From the entry to the exit of a member, in seconds of the wall clock.
struct Visit {
    from: f64,
    to: f64,
}

impl Fleet {
    /// Starts all of them, with the keys that `lock` gives for each.
    fn start(name: &str, inside: &str, lock: impl Fn(usize) -> String) -> Fleet {
        let dir = Dir::new(name);
        let place = dir.0.display();
        let script = format!(
            "from=$EPOCHREALTIME; mkdir {place}/inside || {{ echo two >> {place}/two; exit 1; }}\n\
             sleep {inside}; rmdir {place}/inside; echo $from $EPOCHREALTIME >> {place}/visits\n"
        );
        fs::write(dir.0.join("visit"), script).expect("written");
        let members = (0..MEMBERS).map(|at| {
            let own = dir.0.join(at.to_string());
            fs::create_dir(&own).expect("made");
            let config = format!(
                "[farewell]\nbudget = \"170s\"\nreserve = \"20s\"\n\
                 [[step]]\nname = \"lock\"\nkind = \"lock\"\ntimeout = \"140s\"\non-failure = \"stop\"\n{}\n\
                 [[step]]\nname = \"visit\"\nkind = \"command\"\nargv = [\"/bin/bash\", \"{place}/visit\"]\ntimeout = \"10s\"\n",
                lock(at)
            );
            fs::write(own.join("farewell.toml"), config).expect("written");
            run(&own)
        });
        let members = members.collect();
        Fleet { dir, members }
    }

    /// Waits until every member has ended well, and tells when who was inside, in order.
    fn visits(mut self) -> Vec<Visit> {
        for (at, member) in self.members.iter_mut().enumerate() {
            let status = member.wait().expect("waited for");
            let said = fs::read_to_string(self.dir.0.join(format!("{at}/said"))).expect("read");
            assert!(status.success(), "member {at}: {status}: {said}");
        }
        assert!(!self.dir.0.join("two").exists(), "two were inside at once");
        let text = fs::read_to_string(self.dir.0.join("visits")).expect("read");
        let visit = |line: &str| {
            let (from, to) = line.split_once(' ')?;
            Some(Visit {
                from: from.parse().ok()?,
                to: to.parse().ok()?,
            })
        };
        let mut visits: Vec<_> = text.lines().filter_map(visit).collect();
        visits.sort_by(|one, other| one.from.total_cmp(&other.from));
        assert_eq!(visits.len(), MEMBERS, "somebody starved: {text}");
        for pair in visits.windows(2) {
            assert!(
                pair[0].to <= pair[1].from,
                "two were inside at once: {text}"
            );
        }
        visits
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

fn run(place: &Path) -> Child {
    let said = fs::File::create(place.join("said")).expect("made");
    let at = |name: &str| -> PathBuf { place.join(name) };
    Command::new(env!("CARGO_BIN_EXE_farewell"))
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .args(["run", "--trigger", "poweroff", "--config"])
        .arg(at("farewell.toml"))
        .arg("--state")
        .arg(at("state"))
        .stdin(Stdio::null())
        .stdout(said.try_clone().expect("a descriptor"))
        .stderr(said)
        .spawn()
        .expect("it starts")
}

/// The share of the time from the first entry to the last exit in which nobody was inside.
fn idle(visits: &[Visit]) -> f64 {
    let inside: f64 = visits.iter().map(|it| it.to - it.from).sum();
    let whole = visits[MEMBERS - 1].to - visits[0].from;
    1.0 - inside / whole
}

/// The largest part of the time that nobody may have the lock: some hundredths on a quiet machine, more on one with other work,
/// and far more where members looked for it from time to time in place of being told.
const IDLE: f64 = 0.25;

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn fifty_members_pass_one_by_one_through_etcd() {
    let _alone = ONE_FLEET.read().unwrap_or_else(PoisonError::into_inner);
    let etcd = Cluster::start("fleet-etcd", 1);
    // Somebody has it until all have come.
    etcd.ctl(&["put", "fleet/0", ""]);
    let url = &etcd.urls[0];
    let lock = |_| format!("via = \"etcd\"\nurl = {url:?}\nkey = \"fleet\"");
    let fleet = Fleet::start("fleet-etcd-members", "1", lock);
    let queue = || etcd.ctl(&["get", "fleet/", "--prefix", "--keys-only"]);
    wait_until("all are in the queue", || {
        queue().split_whitespace().count() == MEMBERS + 1
    });
    etcd.ctl(&["del", "fleet/0"]);
    let idle = idle(&fleet.visits());
    println!(
        "etcd: the lock was idle for {:.1} % of the time",
        idle * 100.0
    );
    assert!(idle < IDLE, "idle for {idle}");
    assert_eq!(queue(), "");
}

#[test]
#[ignore = "needs Consul; tests/run has it"]
fn fifty_members_pass_one_by_one_through_consul() {
    let _alone = ONE_FLEET.read().unwrap_or_else(PoisonError::into_inner);
    let consul = Consul::start("fleet-consul");
    let session = consul
        .ask(
            "PUT /v1/session/create",
            "{\"NodeChecks\":[],\"LockDelay\":\"0s\"}",
        )
        .1;
    let session: serde_json::Value = serde_json::from_str(&session).expect("JSON");
    let session = session["ID"].as_str().expect("an ID");
    consul.ask(&format!("PUT /v1/kv/fleet?acquire={session}"), "");
    let url = &consul.url;
    let lock = |_| format!("via = \"consul\"\nurl = {url:?}\nkey = \"fleet\"");
    let fleet = Fleet::start("fleet-consul-members", "1", lock);
    let queue = || {
        consul
            .ask("GET /v1/kv/fleet/?keys", "")
            .1
            .matches("fleet/")
            .count()
    };
    wait_until("all are in the queue", || queue() == MEMBERS);
    consul.ask(&format!("PUT /v1/kv/fleet?release={session}"), "");
    let idle = idle(&fleet.visits());
    println!(
        "Consul: the lock was idle for {:.1} % of the time",
        idle * 100.0
    );
    assert!(idle < IDLE, "idle for {idle}");
    assert_eq!(queue(), 0);
}

/// The members' requests for the slot; none asks more than once a second, from the first request to its last.
fn paced(heard: &[Heard]) -> usize {
    let mut ids: Vec<_> = heard.iter().map(|it| &it.id).collect();
    ids.sort();
    ids.dedup();
    for id in &ids {
        let own = heard.iter().filter(|it| it.id == **id && !it.is_release);
        let own: Vec<_> = own.map(|it| it.at).collect();
        let (Some(first), Some(last)) = (own.first(), own.last()) else {
            continue;
        };
        // Each of them may be heard late on a busy machine; who asks twice as often is found all the same.
        let span = (*last - *first).as_secs_f64() + 2.0;
        let asked = own.len() - 1;
        assert!(asked as f64 <= span, "{id}: {asked} more in {span} s");
    }
    ids.len()
}

/// How long the slot was free while somebody waited: from each release to the next grant.
fn free(heard: &[Heard]) -> f64 {
    let granted = heard.iter().filter(|it| it.status == 200);
    let granted: Vec<_> = granted.collect();
    let gap = |pair: &[&Heard]| {
        let is_gap = pair[0].is_release && !pair[1].is_release;
        is_gap.then(|| (pair[1].at - pair[0].at).as_secs_f64())
    };
    granted.windows(2).filter_map(gap).sum()
}

/// What asking once a second costs at least: 1/(k+1) s on average while k wait.
fn cost() -> f64 {
    (1..MEMBERS)
        .map(|waiting| 1.0 / (waiting as f64 + 1.0))
        .sum()
}

/// The most that it may cost on a busy machine: a second for each release, as if the next one were alone and had just
/// asked. Who asks ever more rarely needs more.
fn most() -> f64 {
    MEMBERS as f64
}

#[test]
fn fifty_members_pass_one_by_one_through_fleetlock() {
    let _alone = ONE_FLEET.write().unwrap_or_else(PoisonError::into_inner);
    let server = FleetLock::start(Make::Airlock);
    server.give("default", "somebody");
    let url = &server.url;
    let lock = |at| format!("via = \"fleetlock\"\nurl = {url:?}\nid = \"member-{at}\"");
    let fleet = Fleet::start("fleet-fleetlock-members", "0.05", lock);
    wait_until("all have asked", || {
        let mut ids: Vec<_> = server.heard().into_iter().map(|it| it.id).collect();
        ids.sort();
        ids.dedup();
        ids.len() == MEMBERS
    });
    server.free("default");
    fleet.visits();
    let heard = server.heard();
    assert_eq!(paced(&heard), MEMBERS);
    println!(
        "FleetLock: the slot was free for {:.2} s, of {:.2} s that asking costs",
        free(&heard),
        cost()
    );
    assert!(free(&heard) <= most());
    assert_eq!(server.holder("default"), None);
}

/// What chance does to one fleet it does not do to twelve: the same lock in threads, a group for each fleet.
#[test]
fn fleetlock_is_not_idle_for_longer_than_asking_costs() {
    let _alone = ONE_FLEET.write().unwrap_or_else(PoisonError::into_inner);
    const FLEETS: usize = 12;
    let groups: Vec<_> = (0..FLEETS).map(|it| format!("g{it}")).collect();
    let names: Vec<_> = groups.iter().map(String::as_str).collect();
    let server = FleetLock::with_groups(Make::Airlock, &names);
    let begun = Instant::now();
    std::thread::scope(|threads| {
        for (nth, group) in groups.iter().enumerate() {
            for at in 0..MEMBERS {
                let keys = format!(
                    "kind = \"lock\"\nvia = \"fleetlock\"\nurl = {:?}\ngroup = {group:?}\nid = \"{group}-{at}\"",
                    server.url
                );
                threads.spawn(move || {
                    // Not all of them in the same moment: a listener's queue is short.
                    std::thread::sleep(Duration::from_millis(200) * nth as u32);
                    let (run, step) = (Run::new(), step(&keys));
                    // All at once: some connections find no place in the server's queue.
                    let taken = loop {
                        match run.attempt(&step, Duration::from_secs(120)) {
                            Err(failure) if failure.retryable => {}
                            ended => break ended,
                        }
                    };
                    assert_eq!(taken, Ok(Outcome::Done));
                    std::thread::sleep(Duration::from_millis(20));
                    let release = step.held.expect("a release").release;
                    assert_eq!(close(&run, release.as_ref()), Ok(Outcome::Done));
                });
            }
        }
    });
    println!("{FLEETS} fleets in {:?}", begun.elapsed());
    let heard = server.heard();
    let mut whole = 0.0;
    for group in &groups {
        let own: Vec<_> = heard
            .iter()
            .filter(|it| it.group == *group)
            .cloned()
            .collect();
        assert_eq!(paced(&own), MEMBERS);
        whole += free(&own);
    }
    let mean = whole / FLEETS as f64;
    println!(
        "FleetLock: free for {mean:.2} s on average, of {:.2} s that asking costs",
        cost()
    );
    assert!(mean <= most(), "free for {mean} s");
}

fn close(run: &Run, release: &dyn Action) -> Result<Outcome, farewell::model::error::Failure> {
    assert_eq!(run.facts.trigger(), Trigger::Poweroff);
    release.attempt(&run.context(Duration::from_secs(20)))
}
