//! Traefik with requests in flight.

use std::fs;

use super::TIME;
use super::app::Asking;
use super::haproxy::pair;
use super::load::{End, load};
use super::traefik::{Traefik, YAML, url, yaml};
use crate::support::Run;
use crate::support::binary::{Binary, step_of, wait_until};

#[test]
#[ignore = "needs Traefik; tests/run has it"]
fn a_session_that_never_ends_is_told_by_the_step_behind_it() {
    let apps = pair();
    let traefik = Traefik::start("endless", YAML, &yaml(&apps.each_ref().map(url)));
    let mut asking = Vec::new();
    while apps[0].held() == 0 {
        let before = apps[0].held_by_all();
        asking.push(Asking::start(traefik.port, "/hold"));
        wait_until("it is held", || apps[0].held_by_all() > before);
    }
    let port = apps[0].port;
    let config = format!(
        "[[step]]\nname = \"leave\"\n{}[[step]]\nname = \"wait\"\nkind = \"wait-connections\"\nports = [{port}]\ntimeout = \"4s\"\n",
        traefik.keys(YAML, &apps[0], "")
    );
    let binary = Binary::new("drain-traefik-run-endless", &config);
    let rehearsal = binary.verb(&["rehearse"]);
    let told = format!(
        "{} is in service app, and can be taken out; Traefik at http://127.0.0.1:{}/ has it",
        url(&apps[0]),
        traefik.api
    );
    assert!(
        rehearsal.stdout.contains(&told),
        "{}{}",
        rehearsal.stdout,
        rehearsal.stderr
    );
    assert!(traefik.has(&apps[0]));
    assert_eq!(binary.verb(&["run"]).code, 1);
    let report = binary.report();
    let states = ["leave", "wait"].map(|it| step_of(&report, it)["state"].clone());
    assert_eq!(states, ["done", "timed-out"], "{report:#}");
    let said = step_of(&report, "wait")["error"]["message"].to_string();
    assert!(
        said.contains(&format!("1 connection on port {port}")),
        "{said}"
    );
    let start = binary.verb(&["start", "--undo-only"]);
    assert_eq!(start.code, 0, "{}{}", start.stdout, start.stderr);
    assert!(traefik.has(&apps[0]));
    apps[0].release();
    apps[1].release();
    for it in asking.drain(..) {
        assert!(it.end().is_ok());
    }
    // An API that reads other files is told in the rehearsal.
    let path = traefik.dir.file("elsewhere.yml");
    let text = fs::read_to_string(traefik.dir.file(YAML)).expect("read");
    fs::write(&path, text.replace("app", "elsewhere")).expect("written");
    let failure = Run::new().rehearse(&traefik.leave("elsewhere.yml", &apps[0]), TIME);
    let failure = failure.expect_err("another file");
    assert!(
        failure.cause.contains("has no service elsewhere@file"),
        "{failure}"
    );
}

#[test]
#[ignore = "needs Traefik; tests/run has it"]
fn no_request_fails_while_one_server_says_its_farewell_and_stops() {
    let apps = pair();
    let traefik = Traefik::start("load", YAML, &yaml(&apps.each_ref().map(url)));
    let config = format!(
        "[farewell]\nbudget = \"170s\"\n[[step]]\nname = \"leave\"\ntimeout = \"60s\"\n{}\
         [[step]]\nname = \"wait\"\nkind = \"wait-connections\"\nports = [{}]\ntimeout = \"160s\"\n\
         [[step]]\nname = \"stop\"\nkind = \"http\"\nurl = \"{}/stop\"\n",
        traefik.keys(YAML, &apps[0], ""),
        apps[0].port,
        url(&apps[0])
    );
    let binary = Binary::new("drain-traefik-run-load", &config);
    let is_out = || !traefik.has(&apps[0]);
    let tally = load(traefik.port, &apps[0], End::Farewell(&binary, &is_out));
    println!("Traefik, one of two servers taken out and stopped: {tally:?}");
    assert_eq!(tally.failed.into_inner() + tally.again.into_inner(), 0);
}

#[test]
#[ignore = "needs Traefik; tests/run has it"]
fn requests_fail_where_the_application_is_killed_without_a_farewell() {
    let apps = pair();
    let traefik = Traefik::start("killed", YAML, &yaml(&apps.each_ref().map(url)));
    let tally = load(traefik.port, &apps[0], End::Killed);
    println!("Traefik, one of two servers killed: {tally:?}");
    assert!(tally.failed.into_inner() > 0);
}
