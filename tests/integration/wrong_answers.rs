//! No answer that its peer would never give makes a member succeed, or break.

use std::time::Duration;

use crate::support::servers::Server;
use crate::support::{Run, step};

/// Enough for a few attempts of a member that polls.
const TIME: Duration = Duration::from_secs(2);

/// What a proxy, another program at that port, or a peer in trouble answers.
const WRONG: [&str; 10] = [
    "200",
    "200 no JSON",
    "200 <html><title>Sign in</title></html>",
    "200 {\"cut\":",
    "200 [1]",
    "302",
    "403 not here",
    "404 page not found",
    "429",
    "500 out of memory",
];

/// A member, its keys, and the answers of [`WRONG`] that are right ones for it, with the reason.
const MEMBERS: &[(&str, &str, &[&str])] = &[
    (
        "deregister",
        "registry = \"consul\"\nservice = \"web\"",
        &[],
    ),
    ("deregister", "registry = \"etcd\"\nkey = \"k\"", &[]),
    (
        "deregister",
        "registry = \"eureka\"\napp = \"A\"\ninstance = \"i\"",
        // Eureka's answer to an instance that it does not know has no body that could be looked at.
        &["404 page not found"],
    ),
    (
        "deregister",
        "registry = \"nacos\"\nservice = \"s\"\nip = \"10.0.0.1\"\nport = 80",
        &[],
    ),
    ("deregister", "registry = \"nomad\"", &[]),
    (
        "wait-safe",
        "cluster = \"elasticsearch\"\nnode = \"n\"",
        &[],
    ),
    ("wait-safe", "cluster = \"etcd\"", &[]),
    ("wait-safe", "cluster = \"hazelcast\"", &[]),
    ("wait-safe", "cluster = \"opensearch\"\nnode = \"n\"", &[]),
    ("wait-safe", "cluster = \"rabbitmq\"", &[]),
    ("lock", "via = \"consul\"\nkey = \"k\"", &[]),
    ("lock", "via = \"etcd\"\nkey = \"k\"", &[]),
    (
        "lock",
        "via = \"fleetlock\"\nid = \"i\"",
        // In FleetLock the status is the whole answer.
        &[
            "200",
            "200 no JSON",
            "200 <html><title>Sign in</title></html>",
            "200 {\"cut\":",
            "200 [1]",
        ],
    ),
    ("drain", "balancer = \"caddy\"\nid = \"i\"", &[]),
    ("drain", "balancer = \"consul\"\nservice = \"web\"", &[]),
    ("drain", "balancer = \"envoy\"", &[]),
    (
        "drain",
        "balancer = \"haproxy-dataplane\"\nbackend = \"b\"\nserver = \"s\"",
        &[],
    ),
];

#[test]
fn no_wrong_answer_is_taken_for_a_success() {
    std::thread::scope(|threads| {
        for (kind, keys, right) in MEMBERS {
            for answer in WRONG.iter().filter(|it| !right.contains(it)) {
                threads.spawn(move || is_a_failure(kind, keys, answer));
            }
        }
    });
}

fn is_a_failure(kind: &str, keys: &str, answer: &str) {
    let server = Server::answers(&[answer]);
    let step = step(&format!(
        "kind = {kind:?}\nurl = {:?}\n{keys}",
        server.url()
    ));
    let run = Run {
        attempt_timeout: TIME,
        ..Run::new()
    };
    let ended = run.attempt(&step, TIME);
    assert!(ended.is_err(), "{keys}: {answer}: {ended:?}");
    assert!(!server.requests().is_empty(), "{keys}: {answer}");
    let said = run.rehearse(&step, TIME);
    assert!(said.is_err(), "{keys}: {answer}: {said:?}");
}

#[test]
fn every_member_that_speaks_http_is_asked() {
    let named = |member: &str| {
        MEMBERS
            .iter()
            .any(|(_, keys, _)| keys.contains(&format!("\"{member}\"")))
    };
    let listens_elsewhere = ["file", "haproxy", "nginx", "traefik"];
    for list in [
        farewell::steps::deregister::REGISTRIES,
        farewell::steps::wait_safe::CLUSTERS,
        farewell::steps::lock::LOCKS,
        farewell::steps::drain::BALANCERS,
    ] {
        for member in list {
            assert!(
                named(member.name) != listens_elsewhere.contains(&member.name),
                "{}",
                member.name
            );
        }
    }
}
