//! Members of Hazelcast 5.5.0 leave their cluster with `wait-safe`, and nothing is lost.

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::binary::{Binary, step_of};
use support::etcd;
use support::hazelcast::{Cluster, Version};
use support::{manual, network};

/// Of each entry there is one backup.
const ENTRIES: usize = 3000;

const STATE: &str = "/hazelcast/rest/management/cluster/state";
const CHANGE: &str = "/hazelcast/rest/management/cluster/changeState";

fn config(keys: &str, timeout: &str) -> String {
    format!(
        "[farewell]\nbudget = \"3m\"\n[[step]]\nname = \"leave\"\nkind = \"wait-safe\"\ncluster = \"hazelcast\"\n\
         timeout = \"{timeout}\"\n{keys}\n"
    )
}

/// Runs the step, and what became of it.
fn run(name: &str, keys: &str, timeout: &str) -> Value {
    let binary = Binary::new(&format!("hazelcast-{name}"), &config(keys, timeout));
    binary.verb(&["run"]);
    step_of(&binary.report(), "leave")
}

fn shutdown(url: &str) -> String {
    format!("url = \"{url}\"\nshutdown = true\ncluster-name = \"shop & café+1\"")
}

fn rehearse(name: &str, keys: &str) -> (Option<i32>, String) {
    let binary = Binary::new(&format!("hazelcast-rehearse-{name}"), &config(keys, "5s"));
    let ended = binary.verb(&["rehearse"]);
    (ended.code, ended.stdout)
}

#[test]
fn three_members_leave_one_after_the_other() {
    let mut cluster = Cluster::start(Version::Five, "shop & café+1", 3);
    let urls: Vec<String> = (0..3).map(|at| cluster.url(at)).collect();

    // Only asked.
    let step = run("safe", &format!("url = \"{}\"", urls[0]), "5s");
    assert_eq!(step["state"], "done", "{step}");
    let (code, told) = rehearse("safe", &format!("url = \"{}\"", urls[0]));
    assert_eq!(code, Some(0), "{told}");
    let seen = format!("GET {}/hazelcast/health: safe, 3 members", urls[0]);
    assert!(told.contains(&seen), "{told}");
    let (code, told) = rehearse("good", &shutdown(&urls[0]));
    assert_eq!(code, Some(0), "{told}");
    let named = "safe, 3 members; `shop & café+1` may shut it down; http://127.0.0.1:";
    assert!(
        told.contains(named) && told.contains("would be asked after it"),
        "{told}"
    );
    let wrong = format!("url = \"{}\"\nshutdown = true", urls[0]);
    let (code, told) = rehearse("wrong", &wrong);
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains("the name `dev` and the password are not those"),
        "{told}"
    );
    cluster.wait_safe(0, 3);

    // Refused, and nothing has happened.
    let step = run("refused", &wrong, "10s");
    assert_eq!(step["error"]["word"], "refused", "{step}");
    assert_eq!(
        (&step["state"], &step["attempts"]),
        (&"failed".into(), &1.into()),
        "{step}"
    );
    cluster.wait_safe(0, 3);

    // In a state in which no data are moved nobody is shut down.
    let body = |state: &str| format!("shop%20%26%20caf%C3%A9%252B1&x{state}");
    let frozen = cluster.client(0).post(CHANGE, &body("&frozen"));
    assert_eq!(frozen.expect("an answer").0, 200);
    let step = run("frozen", &shutdown(&urls[0]), "2s");
    assert_eq!(step["state"], "timed-out", "{step}");
    let message = step["error"]["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("safe, 3 members, its state is FROZEN"),
        "{step}"
    );
    cluster
        .client(0)
        .post(CHANGE, &body("&active"))
        .expect("an answer");
    let (_, state) = cluster.client(0).post(STATE, &body("")).expect("an answer");
    assert!(state.contains("\"active\""), "{state}");
    cluster.wait_safe(0, 3);

    // One that hangs costs its time, and is asked again while there is some left.
    cluster.signal(0, Signal::SIGSTOP);
    let step = run(
        "hangs",
        &format!("{}\nattempt-timeout = \"500ms\"", shutdown(&urls[0])),
        "2s",
    );
    assert_eq!(step["state"], "timed-out", "{step}");
    assert!(
        step["duration_usec"].as_u64().expect("a number") < 6_000_000,
        "{step}"
    );
    let (code, told) = rehearse("hangs", &shutdown(&urls[0]));
    assert_eq!(code, Some(1), "{told}");
    cluster.signal(0, Signal::SIGCONT);
    cluster.wait_safe(0, 3);

    // The first one leaves; who it was is forgotten by the next run, and an address that is dead proves nothing.
    let step = run("leaves", &shutdown(&urls[0]), "60s");
    assert_eq!(step["state"], "done", "{step}");
    assert_eq!(cluster.health(0), "");
    assert!(
        cluster.health(1).contains("clustersafe:true"),
        "{}",
        cluster.health(1)
    );
    assert!(
        cluster.health(1).contains("clustersize:2"),
        "{}",
        cluster.health(1)
    );
    cluster.wait_for_end(0);
    let step = run("twice", &shutdown(&urls[0]), "2s");
    assert_eq!(step["error"]["word"], "unreachable", "{step}");
    let message = step["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("only the others could tell"), "{step}");
    let (code, told) = rehearse("gone", &shutdown(&urls[0]));
    assert_eq!(code, Some(1), "{told}");
    let step = run(
        "others",
        &format!("url = [{:?}, {:?}]", urls[0], urls[1]),
        "5s",
    );
    assert_eq!(step["state"], "done", "{step}");

    // It comes back in time, if only to leave: one that has not finished its start is shut down too.
    let binary = Binary::new("hazelcast-back", &config(&shutdown(&urls[0]), "60s"));
    let mut waiting = binary.start(&["run"]);
    binary.wait_for("leave", "running");
    cluster.begin(0, &[]);
    assert!(
        waiting.wait().expect("waited for").success(),
        "{}",
        binary.report()
    );
    cluster.wait_safe(1, 2);
    cluster.wait_for_end(0);

    // The last but one, and the last.
    let step = run("last-but-one", &shutdown(&urls[1]), "60s");
    assert_eq!(step["state"], "done", "{step}");
    let (code, told) = rehearse("last", &shutdown(&urls[2]));
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("it is the last member"), "{told}");
    let step = run("last", &shutdown(&urls[2]), "60s");
    assert_eq!(step["state"], "done", "{step}");
    let reason = step["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("the last member of the cluster"), "{step}");
    assert_eq!(cluster.health(2), "");
}

/// A farewell with the lock in front of it.
fn locked(etcd: &str, steps: &str) -> String {
    format!(
        "[farewell]\nbudget = \"3m\"\n[[step]]\nname = \"one-at-a-time\"\nkind = \"lock\"\nvia = \"etcd\"\n\
         url = \"{etcd}\"\nkey = \"/locks/hazelcast\"\ntimeout = \"2m\"\non-failure = \"stop\"\n{steps}"
    )
}

fn wait_safe(name: &str, keys: &str) -> String {
    format!(
        "[[step]]\nname = \"{name}\"\nkind = \"wait-safe\"\ncluster = \"hazelcast\"\ncluster-name = \"data\"\n\
         timeout = \"60s\"\non-failure = \"stop\"\n{keys}\n"
    )
}

/// The farewells of three members, all at once.
fn at_once(name: &str, configs: &[String]) {
    let binaries: Vec<Binary> = (configs.iter().enumerate())
        .map(|(at, config)| Binary::new(&format!("hazelcast-{name}-{at}"), config))
        .collect();
    let mut runs: Vec<_> = binaries.iter().map(|it| it.start(&["run"])).collect();
    for (run, binary) in runs.iter_mut().zip(&binaries) {
        let status = run.wait().expect("waited for");
        let report = binary.report();
        assert_eq!(
            (status.code(), &report["result"]),
            (Some(0), &"ok".into()),
            "{report:#}"
        );
    }
}

#[test]
fn three_of_four_leave_at_once_and_nothing_is_lost_but_two_that_are_killed_lose_entries() {
    let etcd = etcd::Cluster::start("hazelcast-lock", 1);
    let mut cluster = Cluster::start(Version::Five, "data", 4);
    cluster.fill(3, ENTRIES);
    cluster.wait_safe(3, 4);

    // Shut down by farewell.
    let leave = |at: usize| {
        let keys = format!("url = \"{}\"\nshutdown = true", cluster.url(at));
        locked(&etcd.urls[0], &wait_safe("leave", &keys))
    };
    at_once("shutdown", &[leave(0), leave(1), leave(2)]);
    cluster.wait_safe(3, 1);
    assert_eq!(cluster.count(3, ENTRIES), ENTRIES);

    // The applications stopped by SIGTERM, which Hazelcast's own hook makes a graceful shutdown.
    (0..3).for_each(|at| cluster.wait_for_end(at));
    cluster.come(&[0, 1, 2], &[]);
    cluster.wait_safe(3, 4);
    let stop = |at: usize| {
        let before = format!("url = \"{}\"", cluster.url(at));
        let after = format!("url = \"{}\"", cluster.url(3));
        let pid = cluster.pid(at);
        // A process that has ended is this test's to reap: until then it is a zombie.
        let script = format!(
            "kill -TERM {pid}; while [ -e /proc/{pid} ] && ! grep -q '^State:.Z' /proc/{pid}/status; do sleep 0.1; done"
        );
        let stop = format!(
            "[[step]]\nname = \"stop\"\nkind = \"command\"\ntimeout = \"60s\"\non-failure = \"stop\"\n\
             argv = [\"sh\", \"-c\", \"{script}\"]\n"
        );
        let steps = wait_safe("before", &before) + &stop + &wait_safe("after", &after);
        locked(&etcd.urls[0], &steps)
    };
    at_once("sigterm", &[stop(0), stop(1), stop(2)]);
    (0..3).for_each(|at| cluster.wait_for_end(at));
    cluster.wait_safe(3, 1);
    assert_eq!(cluster.count(3, ENTRIES), ENTRIES);

    // The counter-example.
    cluster.come(&[0, 1, 2], &[]);
    cluster.wait_safe(3, 4);
    cluster.signal(0, Signal::SIGKILL);
    cluster.signal(1, Signal::SIGKILL);
    cluster.wait_safe(3, 2);
    let lost = ENTRIES - cluster.count(3, ENTRIES);
    println!(
        "two of four members killed at once: {lost} of {ENTRIES} entries with one backup are lost"
    );
    assert!(lost > 0);
}

#[test]
fn a_part_of_the_api_that_is_off_is_named() {
    let ports = etcd::ports(2);
    let mut cluster = Cluster::start_at(Version::Five, "dev", &ports[..1], &["hz.health=false"]);
    let keys = format!("url = \"{}\"\nshutdown = true", cluster.url(0));
    for (part, group) in [
        ("health", "HEALTH_CHECK"),
        ("read", "CLUSTER_READ"),
        ("write", "CLUSTER_WRITE"),
    ] {
        let step = run(part, &keys, "20s");
        assert_eq!(step["error"]["word"], "refused", "{step}");
        assert_eq!(step["attempts"], 1, "{step}");
        let message = step["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(group), "{step}");
        let (code, told) = rehearse(part, &keys);
        assert!(code == Some(1) && told.contains(group), "{told}");
        cluster.signal(0, Signal::SIGKILL);
        cluster.wait_for_end(0);
        match part {
            "health" => cluster.come(&[0], &["hz.read=false"]),
            "read" => cluster.come(&[0], &["hz.write=false"]),
            _ => {}
        }
    }
}

#[test]
fn the_manual_s_example_works_as_it_stands() {
    network::own();
    let cluster = Cluster::start_at(Version::Five, "shop", &[5701, 5702], &[]);
    cluster.wait_safe(0, 2);
    let binary = Binary::new("hazelcast-manual", &manual::example("wait-safe-hazelcast"));
    let credentials = binary.dir.0.join("credentials");
    std::fs::create_dir(&credentials).expect("a directory");
    let file = credentials.join("hazelcast-password");
    std::fs::write(&file, "s3cret-hazelcast\n").expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("set");
    let verb = |verb: &str| {
        let mut command = binary.command(&[verb]);
        command.env("CREDENTIALS_DIRECTORY", &credentials);
        let output = command.output().expect("it starts");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), told)
    };
    for name in ["check", "rehearse", "run"] {
        let (code, told) = verb(name);
        assert_eq!(code, Some(0), "{name}: {told}");
        assert!(!told.contains("s3cret"), "{name}: {told}");
    }
    let step = step_of(&binary.report(), "leave-hazelcast");
    assert_eq!(step["state"], "done", "{step}");
    cluster.wait_safe(1, 1);
    assert_eq!(cluster.health(0), "");
}

#[test]
fn a_member_killed_in_the_middle_of_its_shutdown_is_seen_to_be_got_over() {
    let mut cluster = Cluster::start(Version::Five, "data", 2);
    cluster.fill(1, ENTRIES);
    cluster.wait_safe(0, 2);
    let keys = format!(
        "url = \"{}\"\nshutdown = true\ncluster-name = \"data\"",
        cluster.url(0)
    );
    let binary = Binary::new("hazelcast-killed", &config(&keys, "60s"));
    let mut run = binary.start(&["run"]);
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while cluster.health(0).contains("nodestate:active") {
        assert!(std::time::Instant::now() < end, "it is not shut down");
        std::thread::sleep(Duration::from_millis(5));
    }
    cluster.signal(0, Signal::SIGKILL);
    assert!(
        run.wait().expect("waited for").success(),
        "{}",
        binary.report()
    );
    cluster.wait_for_end(0);
    let health = cluster.health(1);
    assert!(
        health.contains("clustersize:1") && health.contains("clustersafe:true"),
        "{health}"
    );
    // The backups of what it had not handed over yet were here.
    assert_eq!(cluster.count(1, ENTRIES), ENTRIES);
}
