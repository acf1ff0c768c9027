//! Members of Hazelcast 5.5.0 leave their cluster with `wait-safe`.

use crate::support::binary::{Binary, GENEROUS, step_of};
use crate::support::hazelcast::{Cluster, Version};
use crate::support::{manual, network};
use nix::sys::signal::Signal;
use serde_json::Value;

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
    step_of(&binary.report(), "leave").clone()
}

fn shutdown(url: &str) -> String {
    format!("url = \"{url}\"\nshutdown = true\ncluster-name = \"shop & café+1\"")
}

fn rehearse(name: &str, keys: &str) -> (i32, String) {
    let binary = Binary::new(&format!("hazelcast-rehearse-{name}"), &config(keys, "5s"));
    let ended = binary.verb(&["rehearse"]);
    (ended.code, ended.stdout)
}

#[test]
#[ignore = "needs Hazelcast; tests/run has it"]
fn three_members_leave_one_after_the_other() {
    let mut cluster = Cluster::start(Version::Five, "shop & café+1", 3);
    let urls: Vec<String> = (0..3).map(|at| cluster.url(at)).collect();

    // Only asked.
    let step = run("safe", &format!("url = \"{}\"", urls[0]), "5s");
    assert_eq!(step["state"], "done", "{step}");
    let (code, told) = rehearse("safe", &format!("url = \"{}\"", urls[0]));
    assert_eq!(code, 0, "{told}");
    let seen = format!("GET {}/hazelcast/health: safe, 3 members", urls[0]);
    assert!(told.contains(&seen), "{told}");
    let (code, told) = rehearse("good", &shutdown(&urls[0]));
    assert_eq!(code, 0, "{told}");
    let named = "safe, 3 members; `shop & café+1` may shut it down; http://127.0.0.1:";
    assert!(
        told.contains(named) && told.contains("would be asked after it"),
        "{told}"
    );
    let wrong = format!("url = \"{}\"\nshutdown = true", urls[0]);
    let (code, told) = rehearse("wrong", &wrong);
    assert_eq!(code, 1, "{told}");
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
    assert_eq!(code, 1, "{told}");
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
    assert_eq!(code, 1, "{told}");
    let step = run(
        "others",
        &format!("url = [{:?}, {:?}]", urls[0], urls[1]),
        "5s",
    );
    assert_eq!(step["state"], "done", "{step}");

    // It comes back in time, if only to leave: one that has not finished its start is shut down too.
    let binary = Binary::new("hazelcast-back", &config(&shutdown(&urls[0]), "60s"));
    let waiting = binary.start(&["run"]);
    binary.wait_for("leave", "running");
    cluster.begin(0, &[]);
    assert!(waiting.end(GENEROUS).code == 0, "{}", binary.report());
    cluster.wait_safe(1, 2);
    cluster.wait_for_end(0);

    // The last but one, and the last.
    let step = run("last-but-one", &shutdown(&urls[1]), "60s");
    assert_eq!(step["state"], "done", "{step}");
    let (code, told) = rehearse("last", &shutdown(&urls[2]));
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("it is the last member"), "{told}");
    let step = run("last", &shutdown(&urls[2]), "60s");
    assert_eq!(step["state"], "done", "{step}");
    let reason = step["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("the last member of the cluster"), "{step}");
    assert_eq!(cluster.health(2), "");
}

#[test]
#[ignore = "needs Hazelcast; tests/run has it"]
fn a_part_of_the_api_that_is_off_is_named() {
    let ports = crate::support::ports::ports(2);
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
        assert!(code == 1 && told.contains(group), "{told}");
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
#[ignore = "needs root and Hazelcast; tests/run has it"]
fn the_manual_s_example_works_as_it_stands() {
    network::own();
    let cluster = Cluster::start_at(Version::Five, "shop", &[5701, 5702], &[]);
    cluster.wait_safe(0, 2);
    let binary = Binary::new("hazelcast-manual", &manual::example("wait-safe-hazelcast"));
    binary
        .dir
        .credential("hazelcast-password", "s3cret-hazelcast\n");
    let verb = |verb: &str| {
        let mut command = binary.command(&[verb]);
        command.env("CREDENTIALS_DIRECTORY", &binary.dir.0);
        let output = command.output().expect("it starts");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code().expect("a code"), told)
    };
    for name in ["check", "rehearse", "run"] {
        let (code, told) = verb(name);
        assert_eq!(code, 0, "{name}: {told}");
        assert!(!told.contains("s3cret"), "{name}: {told}");
    }
    let report = binary.report();
    let step = step_of(&report, "leave-hazelcast");
    assert_eq!(step["state"], "done", "{step}");
    cluster.wait_safe(1, 1);
    assert_eq!(cluster.health(0), "");
}
