//! The undo of what members leave, where the run was killed: between its intent and the request, and between the request
//! and its reply. The next start undoes it either way, and once.

mod support;

use std::net::SocketAddr;

use support::binary::Binary;
use support::consul::Consul;
use support::etcd::Cluster;
use support::eureka::eureka;
use support::fleetlock_stand_in::{FleetLock, Make};
use support::nomad_stand_in::NomadStandIn;
use support::proxy::{Held, Proxy};

fn address(url: &str) -> SocketAddr {
    let authority = url.trim_start_matches("http://");
    let authority = authority.split('/').next().expect("a part");
    authority.parse().expect("an address")
}

/// Runs `config`, where `http://peer` stands for a proxy of the server at `url`, and kills the run as soon as it has
/// asked for `request`; then undoes what it has left, twice. `sticks` says whether something is left at the server.
fn killed(name: &str, url: &str, config: &str, request: &str, sticks: impl Fn() -> bool) {
    for held in [Held::Request, Held::Answer] {
        let proxy = Proxy::of(address(url));
        let config = config.replace("http://peer", &proxy.url());
        let binary = Binary::new(&format!("undo-{name}-{held:?}"), &config);
        assert!(!sticks(), "{name}: something sticks before the run");
        proxy.hold(request, held);
        let mut run = binary.start(&["run", "--trigger", "poweroff"]);
        proxy.wait();
        run.kill().expect("killed");
        run.wait().expect("its end");
        assert_eq!(sticks(), held == Held::Answer, "{name}: {held:?}");
        let undone = binary.verb(&["start", "--undo-only"]);
        let said = format!("{name}: {held:?}: {}{}", undone.stdout, undone.stderr);
        assert_eq!(undone.code, Some(0), "{said}");
        assert!(undone.stdout.contains("pending"), "{said}");
        assert!(!sticks(), "{said}");
        let again = binary.verb(&["start", "--undo-only"]);
        let nothing = "farewell start: nothing is to be undone\n";
        assert_eq!(
            (again.code, again.stdout.as_str()),
            (Some(0), nothing),
            "{said}"
        );
    }
}

fn step(kind: &str, keys: &str) -> String {
    format!(
        "[[step]]\nname = \"sticky\"\nkind = {kind:?}\ntimeout = \"60s\"\nattempt-timeout = \"50s\"\n{keys}\n"
    )
}

#[test]
fn a_drained_node_of_nomad() {
    let nomad = NomadStandIn::start();
    let keys = "registry = \"nomad\"\nurl = \"http://peer\"\ndeadline = \"10s\"";
    killed(
        "nomad",
        &nomad.url,
        &step("deregister", keys),
        "/drain ",
        || !nomad.is_eligible(),
    );
}

#[test]
fn an_instance_of_eureka_that_is_out_of_service() {
    let eureka = eureka();
    eureka.register("STICKY", "web-1");
    let keys = "registry = \"eureka\"\nurl = \"http://peer/eureka\"\napp = \"STICKY\"\ninstance = \"web-1\"\n\
                out-of-service = \"30s\"";
    let is_out = || eureka.status("STICKY", "web-1") == "OUT_OF_SERVICE";
    killed(
        "eureka",
        &eureka.url(),
        &step("deregister", keys),
        "OUT_OF_SERVICE",
        is_out,
    );
    assert_eq!(eureka.status("STICKY", "web-1"), "UP");
}

#[test]
fn a_lock_of_etcd() {
    let etcd = Cluster::start("undo-members-etcd", 1);
    let keys = "via = \"etcd\"\nurl = \"http://peer\"\nkey = \"locks/leave\"\nttl = \"1h\"";
    killed(
        "etcd",
        &etcd.urls[0],
        &step("lock", keys),
        "POST /v3/kv/txn ",
        || !etcd.ctl(&["get", "--prefix", "locks/"]).is_empty(),
    );
}

#[test]
fn a_lock_of_consul() {
    let consul = Consul::start("undo-members-consul");
    let keys = "via = \"consul\"\nurl = \"http://peer\"\nkey = \"locks/leave\"\nttl = \"1h\"";
    killed(
        "consul",
        &consul.url,
        &step("lock", keys),
        "acquire=",
        || {
            let (status, said) = consul.ask("GET /v1/kv/locks/?recurse", "");
            status == 200 && said.contains("\"Session\"")
        },
    );
}

#[test]
fn a_slot_of_a_fleetlock_server() {
    let fleetlock = FleetLock::start(Make::Airlock);
    let keys = "via = \"fleetlock\"\nurl = \"http://peer\"\nid = \"web-1\"";
    killed(
        "fleetlock",
        &fleetlock.url,
        &step("lock", keys),
        "pre-reboot",
        || fleetlock.holder("default").is_some(),
    );
}
