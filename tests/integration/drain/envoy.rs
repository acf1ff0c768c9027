//! `balancer = "envoy"`, by a real Envoy behind a real HAProxy.

use farewell::model::error::ErrorKind;
use farewell::step::{Outcome, StepSpec};
use nix::sys::signal::Signal;

use super::app::{App, Asking, ask};
use super::balancer::Process;
use super::haproxy::{Haproxy, pair};
use super::load::{End, load};
use super::{TIME, intents, undo};
use crate::support::binary::{Binary, wait_until};
use crate::support::fetched::fetched;
use crate::support::ports::ports;
use crate::support::servers::Server;
use crate::support::{Dir, Run, manual, network, step};

/// An Envoy before one application, with a health check at /health.
struct Envoy {
    process: Process,
    port: u16,
    admin: u16,
    _dir: Dir,
}

impl Envoy {
    fn start(name: &str, app: &App) -> Envoy {
        let ports = ports(2);
        Envoy::start_at(name, app, ports[0], ports[1])
    }

    fn start_at(name: &str, app: &App, port: u16, admin: u16) -> Envoy {
        let dir = Dir::new(&format!("drain-envoy-{name}"));
        let of =
            |port: u16| format!("{{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}");
        let filters = "type.googleapis.com/envoy.extensions.filters";
        let config = format!(
            r#"
admin: {{address: {admin}}}
static_resources:
  listeners:
  - address: {port}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": {filters}.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: web
          http_filters:
          - name: envoy.filters.http.health_check
            typed_config:
              "@type": {filters}.http.health_check.v3.HealthCheck
              pass_through_mode: false
              headers: [{{name: ":path", string_match: {{exact: /health}}}}]
          - name: envoy.filters.http.router
            typed_config: {{"@type": {filters}.http.router.v3.Router}}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{match: {{prefix: /}}, route: {{cluster: app, timeout: 0s}}}}]
  clusters:
  - name: app
    load_assignment: {{cluster_name: app, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {app}}}}}]}}]}}
"#,
            admin = of(admin),
            port = of(port),
            app = of(app.port),
        );
        let file = dir.file("envoy.yaml");
        std::fs::write(&file, config).expect("written");
        let program = fetched("envoy").join("envoy").display().to_string();
        let process = Process::start(
            &program,
            &[
                "-c",
                &file,
                "--disable-hot-restart",
                "--concurrency",
                "1",
                "-l",
                "off",
            ],
        );
        let envoy = Envoy {
            process,
            port,
            admin,
            _dir: dir,
        };
        envoy.wait();
        envoy
    }

    fn wait(&self) {
        wait_until("Envoy is live", || ask(self.admin, "/ready").is_ok());
    }

    fn is_healthy(&self) -> bool {
        ask(self.port, "/health").is_ok()
    }

    fn keys(&self, rest: &str) -> String {
        let admin = self.admin;
        format!(
            "kind = \"drain\"\nbalancer = \"envoy\"\nurl = \"http://127.0.0.1:{admin}\"\n{rest}\n"
        )
    }

    fn leave(&self, rest: &str) -> StepSpec {
        step(&self.keys(rest))
    }
}

#[test]
#[ignore = "needs Envoy and haproxy; tests/run has it"]
fn its_health_check_fails_and_is_good_again_after_the_undo() {
    let app = App::start("one");
    let mut envoy = Envoy::start("idle", &app);
    let run = Run::new();
    let leave = envoy.leave("settle = \"100ms\"");
    let said = run.rehearse(&leave, TIME);
    let is = format!(
        "Envoy at http://127.0.0.1:{}/: live, 0 requests in flight",
        envoy.admin
    );
    assert_eq!(said, Ok(is));
    assert_eq!(run.attempt(&leave, TIME), Ok(Outcome::Done));
    assert!(!envoy.is_healthy());
    assert_eq!(ask(envoy.port, "/").as_deref(), Ok("one"));
    assert_eq!(run.attempt(&leave, TIME), Ok(Outcome::AlreadyDone));
    let left = intents(&run);
    assert_eq!(left.len(), 1);
    assert_eq!(run.attempt(&undo(&left), TIME), Ok(Outcome::Done));
    assert!(envoy.is_healthy());
    assert_eq!(run.attempt(&undo(&left), TIME), Ok(Outcome::AlreadyDone));
    envoy.process.kill();
    let failure = run.attempt(&leave, TIME / 60).expect_err("nobody is there");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Unreachable, true)
    );
    let other = Server::answers(&["404 nothing"]);
    let keys = envoy
        .keys("")
        .replace(&format!("http://127.0.0.1:{}", envoy.admin), &other.url());
    let failure = run.attempt(&step(&keys), TIME).expect_err("no Envoy");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Status, false)
    );
}

#[test]
#[ignore = "needs Envoy and haproxy; tests/run has it"]
fn requests_in_flight_are_waited_for_over_a_hang_and_a_restart() {
    let app = App::start("one");
    let mut envoy = Envoy::start("flight", &app);
    let asking = Asking::start(envoy.port, "/hold");
    wait_until("it is held", || app.held() == 1);
    let mut run = Run::new();
    run.attempt_timeout = std::time::Duration::from_millis(500);
    std::thread::scope(|threads| {
        let (step, run) = (envoy.leave("listeners = true"), &run);
        let draining = threads.spawn(move || run.attempt(&step, TIME));
        wait_until("it waits", || !run.waiting().is_empty());
        envoy.process.signal(Signal::SIGSTOP);
        let is_missed = || {
            run.waiting()
                .iter()
                .any(|it| it.contains("seen last: 1 requests"))
        };
        wait_until("it is missed", is_missed);
        envoy.process.restart();
        wait_until("it is failed again", || !run.remarks().is_empty());
        assert_eq!(draining.join().expect("no panic"), Ok(Outcome::Done));
    });
    assert!(run.remarks()[0].contains("Envoy was restarted"));
    app.release();
    assert!(asking.end().is_err(), "its Envoy was killed");
}

/// HAProxy in front of an Envoy with one application, and of the other application itself.
fn front(name: &str, envoy: &Envoy, other: &App) -> Haproxy {
    let check = "check inter 100ms fall 2 rise 1";
    let servers = format!(
        "    server s1 127.0.0.1:{} {check}\n    server s2 {} {check}\n",
        envoy.port,
        other.address()
    );
    let address = format!("127.0.0.1:{}", ports(1)[0]);
    Haproxy::start_at(name, &address, &servers)
}

#[test]
#[ignore = "needs Envoy and haproxy; tests/run has it"]
fn no_request_fails_while_one_server_says_its_farewell_and_stops() {
    let apps = pair();
    let envoy = Envoy::start("load", &apps[0]);
    let front = front("envoy-load", &envoy, &apps[1]);
    let config = format!(
        "[farewell]\nbudget = \"170s\"\n[[step]]\nname = \"leave\"\ntimeout = \"160s\"\n{}\
         [[step]]\nname = \"stop\"\nkind = \"http\"\nurl = \"http://{}/stop\"\n",
        envoy.keys("settle = \"3s\""),
        apps[0].address()
    );
    let binary = Binary::new("drain-envoy-run", &config);
    let is_out = || front.says("show stat web 4 -1").contains(",DOWN,");
    let tally = load(front.port, &apps[0], End::Farewell(&binary, &is_out));
    println!("Envoy, one of two servers drained and stopped: {tally:?}");
    assert_eq!(tally.failed.into_inner() + tally.again.into_inner(), 0);
}

#[test]
#[ignore = "needs Envoy and haproxy; tests/run has it"]
fn requests_fail_where_the_application_is_killed_without_a_farewell() {
    let apps = pair();
    let envoy = Envoy::start("killed", &apps[0]);
    let front = front("envoy-killed", &envoy, &apps[1]);
    let tally = load(front.port, &apps[0], End::Killed);
    println!("Envoy, one of two servers killed: {tally:?}");
    assert!(tally.failed.into_inner() > 0);
}

#[test]
#[ignore = "needs Envoy and haproxy; tests/run has it"]
fn the_manual_s_example_works_as_it_stands() {
    network::own();
    let app = App::start("one");
    let envoy = Envoy::start_at("manual", &app, ports(1)[0], 9901);
    let binary = Binary::new("drain-envoy-manual-run", &manual::example("drain-envoy"));
    let run = binary.verb(&["run"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(!envoy.is_healthy());
    assert_eq!(binary.verb(&["start", "--undo-only"]).code, 0);
    assert!(envoy.is_healthy());
}
