//! Members of Hazelcast 3.12.13, whose replies are text, leave their cluster with `wait-safe`, and nothing is lost.

use crate::support::binary::{Binary, step_of};
use crate::support::hazelcast::{Cluster, Version};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Of each entry there is one backup.
const ENTRIES: usize = 3000;

const NAME: &str = "shop & café+1";

fn config(keys: &str, timeout: &str) -> String {
    format!(
        "[farewell]\nbudget = \"2m\"\n[[step]]\nname = \"leave\"\nkind = \"wait-safe\"\ncluster = \"hazelcast\"\n\
         timeout = \"{timeout}\"\n{keys}\n"
    )
}

/// Runs the step, and what became of it.
fn run(name: &str, keys: &str, timeout: &str) -> Value {
    let binary = Binary::new(&format!("hazelcast-3-{name}"), &config(keys, timeout));
    binary.verb(&["run"]);
    step_of(&binary.report(), "leave").clone()
}

fn rehearse(name: &str, keys: &str) -> (i32, String) {
    let binary = Binary::new(&format!("hazelcast-3-rehearse-{name}"), &config(keys, "5s"));
    let ended = binary.verb(&["rehearse"]);
    (ended.code, ended.stdout)
}

fn shutdown(url: &str) -> String {
    format!("url = \"{url}\"\nshutdown = true\ncluster-name = \"{NAME}\"\npassword = \"s3cret+%\"")
}

#[test]
#[ignore = "needs Hazelcast; tests/run has it"]
fn three_members_leave_one_after_the_other_and_nothing_is_lost() {
    let mut cluster = Cluster::start(Version::Three, NAME, 3);
    let urls: Vec<String> = (0..3).map(|at| cluster.url(at)).collect();
    cluster.fill(2, ENTRIES);
    cluster.wait_safe(2, 3);

    // Only asked.
    let step = run("safe", &format!("url = \"{}\"", urls[0]), "5s");
    assert_eq!(step["state"], "done", "{step}");
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

    // 200 with a refusal inside, and nothing has happened.
    let step = run("refused", &wrong, "10s");
    assert_eq!(step["error"]["word"], "refused", "{step}");
    assert_eq!(step["attempts"], 1, "{step}");
    cluster.wait_safe(0, 3);

    // One that hangs costs its time.
    cluster.signal(0, Signal::SIGSTOP);
    let keys = format!("{}\nattempt-timeout = \"500ms\"", shutdown(&urls[0]));
    let step = run("hangs", &keys, "2s");
    assert_eq!(step["state"], "timed-out", "{step}");
    cluster.signal(0, Signal::SIGCONT);
    cluster.wait_safe(0, 3);

    // One is shut down, the other's application is stopped by SIGTERM between two waits.
    let step = run("leaves", &shutdown(&urls[0]), "60s");
    assert_eq!(step["state"], "done", "{step}");
    assert_eq!(cluster.health(0), "");
    let health = cluster.health(2);
    assert!(
        health.contains("clustersafe:true") && health.contains("clustersize:2"),
        "{health}"
    );
    cluster.wait_for_end(0);
    let step = run("twice", &shutdown(&urls[0]), "2s");
    assert_eq!(step["error"]["word"], "unreachable", "{step}");

    let step = run("before", &format!("url = \"{}\"", urls[1]), "20s");
    assert_eq!(step["state"], "done", "{step}");
    cluster.signal(1, Signal::SIGTERM);
    cluster.wait_for_end(1);
    let others = format!("url = [{:?}, {:?}, {:?}]", urls[0], urls[1], urls[2]);
    let step = run("after", &others, "20s");
    assert_eq!(step["state"], "done", "{step}");
    cluster.wait_safe(2, 1);
    assert_eq!(cluster.count(2, ENTRIES), ENTRIES);

    let step = run("last", &shutdown(&urls[2]), "60s");
    assert_eq!(step["state"], "done", "{step}");
    let reason = step["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("the last member of the cluster"), "{step}");
    assert_eq!(cluster.health(2), "");
}

#[test]
#[ignore = "needs Hazelcast; tests/run has it"]
fn a_property_that_is_not_set_is_named() {
    let ports = crate::support::ports::ports(1);
    for (off, group, property) in [
        (
            &["hz.health=false", "hz.write=false"][..],
            "HEALTH_CHECK",
            "hazelcast.http.healthcheck.enabled=true",
        ),
        (
            &["hz.write=false"],
            "CLUSTER_WRITE",
            "hazelcast.rest.enabled=true",
        ),
    ] {
        let cluster = Cluster::start_at(Version::Three, "dev", &ports, off);
        let keys = format!("url = \"{}\"\nshutdown = true", cluster.url(0));
        let step = run(group, &keys, "20s");
        assert_eq!(step["error"]["word"], "refused", "{step}");
        let message = step["error"]["message"].as_str().unwrap_or_default();
        assert!(
            message.contains(group) && message.contains(property),
            "{step}"
        );
        let (code, told) = rehearse(group, &keys);
        assert!(code == 1 && told.contains(property), "{told}");
    }
}
