//! Caddy under load: its own reload, a health check that needs none, and an application that is simply killed.

use std::path::Path;

use serde_json::json;

use super::app::ask;
use super::caddy::{Caddy, Settings};
use super::haproxy::pair;
use super::load::{CLIENTS, End, Tally, load};
use crate::support::Dir;
use crate::support::binary::{Binary, wait_until};

/// What one reload of Caddy's can lose at most: of each client the one connection that it makes at that moment.
const LOST_BY_A_RELOAD: usize = 2 * CLIENTS;

fn failed(tally: &Tally) -> usize {
    tally.failed.load(std::sync::atomic::Ordering::SeqCst)
}

#[test]
#[ignore = "needs Caddy; tests/run has it"]
fn nothing_fails_but_what_a_reload_loses_while_one_server_says_its_farewell_and_stops() {
    let apps = pair();
    let caddy = Caddy::start("load", &[&apps[0], &apps[1]]);
    let config = format!(
        "[farewell]\nbudget = \"170s\"\n[[step]]\nname = \"leave\"\ntimeout = \"160s\"\n{}\
         [[step]]\nname = \"stop\"\nkind = \"http\"\nurl = \"http://{}/stop\"\n",
        caddy.keys(""),
        apps[0].address()
    );
    let binary = Binary::new("drain-caddy-load", &config);
    let is_out = || caddy.upstreams() == ["s2"];
    let tally = load(caddy.port, &apps[0], End::Farewell(&binary, &is_out));
    println!("Caddy, one of two upstreams taken out and stopped: {tally:?}");
    assert!(failed(&tally) <= LOST_BY_A_RELOAD, "{tally:?}");
}

#[test]
#[ignore = "needs Caddy; tests/run has it"]
fn no_request_fails_where_caddy_s_own_health_check_tells_it() {
    let apps = pair();
    let checks = json!({
        "health_checks": {"active": {"uri": "/health", "interval": "100ms", "timeout": "60s", "fails": 2}},
        // Otherwise Caddy keeps connections to its upstreams for two minutes.
        "transport": {"protocol": "http", "keep_alive": {"idle_timeout": "500ms"}},
    });
    let settings = Settings {
        of_handler: checks,
        ..Settings::new()
    };
    let caddy = Caddy::start_with("health", &[&apps[0], &apps[1]], &settings);
    let dir = Dir::new("drain-caddy-health");
    let path = dir.file("out");
    apps[0].watch(Path::new(&path));
    let config = format!(
        "[farewell]\nbudget = \"170s\"\n[[step]]\nname = \"leave\"\nkind = \"drain\"\nbalancer = \"file\"\npath = {path:?}\n\
         interval = \"1s\"\nthreshold = 5\n\
         [[step]]\nname = \"quiet\"\nkind = \"wait-connections\"\nports = [{}]\nremaining = 1\ntimeout = \"160s\"\n\
         [[step]]\nname = \"stop\"\nkind = \"http\"\nurl = \"http://{}/stop\"\n",
        apps[0].port,
        apps[0].address()
    );
    let binary = Binary::new("drain-caddy-health-run", &config);
    let is_out = || (0..8).all(|_| ask(caddy.port, "/").as_deref() == Ok("two"));
    let tally = load(caddy.port, &apps[0], End::Farewell(&binary, &is_out));
    println!(
        "Caddy, the health check of one of two upstreams failed, and it was stopped: {tally:?}"
    );
    assert_eq!(failed(&tally), 0);
}

#[test]
#[ignore = "needs Caddy; tests/run has it"]
fn requests_fail_where_the_application_is_killed_without_a_farewell() {
    let apps = pair();
    let caddy = Caddy::start("killed", &[&apps[0], &apps[1]]);
    let tally = load(caddy.port, &apps[0], End::Killed);
    println!("Caddy, one of two upstreams killed: {tally:?}");
    assert!(failed(&tally) > LOST_BY_A_RELOAD);
    // It goes on so: Caddy sends to it what it always did.
    wait_until("it fails still", || ask(caddy.port, "/").is_err());
}
