//! `balancer = "traefik"`, by a real Traefik.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::time::Duration;

use farewell::model::error::ErrorKind;
use farewell::step::{Outcome, StepSpec};
use farewell::sys::probe;
use nix::sys::signal::Signal;

use super::app::{App, ask};
use super::balancer::Process;
use super::{TIME, intents, undo};
use crate::support::binary::{Binary, wait_until};
use crate::support::fetched::fetched;
use crate::support::ports::ports;
use crate::support::{Dir, Run, manual, network, problems, step};

/// A Traefik that watches a directory of its own.
pub struct Traefik {
    pub process: Process,
    pub port: u16,
    pub api: u16,
    pub dir: Dir,
}

pub fn url(app: &App) -> String {
    format!("http://{}", app.address())
}

/// A service `app` of these servers, in YAML.
pub fn yaml(servers: &[String]) -> String {
    let entry = |url: &String| {
        format!("        # next\n        - url: {url:?} # it\n          weight: 1\n\n")
    };
    let servers: String = servers.iter().map(entry).collect();
    format!(
        "# ours\nhttp:\n  routers:\n    all: {{rule: \"PathPrefix(`/`)\", service: app}}\n  services:\n    app:\n      \
         loadBalancer:\n        servers:\n{servers}    other:\n      loadBalancer: # none\n        servers:\n          - url: http://127.0.0.1:9\n"
    )
}

/// The same in TOML.
fn toml(servers: &[String]) -> String {
    let entry = |url: &String| {
        format!(
            "  # next\n  [[http.services.app.loadBalancer.servers]]\n    url = {url:?} # it\n    weight = 1\n\n"
        )
    };
    let servers: String = servers.iter().map(entry).collect();
    format!(
        "# ours\n[http.routers.all]\nrule = \"PathPrefix(`/`)\"\nservice = \"app\"\n{servers}[tls.options.default]\nminVersion = \"VersionTLS12\"\n"
    )
}

impl Traefik {
    pub fn start(name: &str, file: &str, text: &str) -> Traefik {
        let ports = ports(2);
        Traefik::start_at(name, file, text, ports[0], ports[1])
    }

    fn start_at(name: &str, file: &str, text: &str, port: u16, api: u16) -> Traefik {
        // Looks at files are a child's, which is the program itself.
        probe::use_program(env!("CARGO_BIN_EXE_farewell"));
        let dir = Dir::new(&format!("drain-traefik-at-{name}"));
        fs::create_dir_all(dir.file("dynamic")).expect("made");
        fs::write(dir.file(file), text).expect("written");
        let program = fetched("traefik").join("traefik").display().to_string();
        let args = [
            format!("--providers.file.directory={}", dir.file("dynamic")),
            format!("--entrypoints.web.address=127.0.0.1:{port}"),
            format!("--entrypoints.traefik.address=127.0.0.1:{api}"),
            "--api.insecure=true".to_owned(),
            "--serverstransport.forwardingtimeouts.idleconntimeout=1s".to_owned(),
            "--global.checknewversion=false".to_owned(),
            "--global.sendanonymoususage=false".to_owned(),
        ];
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let process = Process::start(&program, &args);
        let traefik = Traefik {
            process,
            port,
            api,
            dir,
        };
        wait_until("Traefik has read its file", || traefik.service().is_ok());
        traefik
    }

    /// What the API says of the service `app`.
    fn service(&self) -> Result<String, String> {
        use std::io::{Read as _, Write as _};
        let told = |error: std::io::Error| error.to_string();
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.api)).map_err(told)?;
        let request = "GET /api/http/services/app@file HTTP/1.0\r\nHost: traefik\r\n\r\n";
        stream.write_all(request.as_bytes()).map_err(told)?;
        let mut whole = String::new();
        stream.read_to_string(&mut whole).map_err(told)?;
        match whole.starts_with("HTTP/1.0 200") {
            true => Ok(whole),
            false => Err(whole),
        }
    }

    pub fn has(&self, app: &App) -> bool {
        let url = format!("{{\"url\":{:?}", url(app));
        self.service().is_ok_and(|it| it.contains(&url))
    }

    pub fn keys(&self, file: &str, app: &App, rest: &str) -> String {
        let api = format!("api = \"http://127.0.0.1:{}\"\n{rest}", self.api);
        keys(&self.dir.file(file), &url(app), &api)
    }

    pub fn leave(&self, file: &str, app: &App) -> StepSpec {
        step(&self.keys(file, app, ""))
    }

    fn answers(&self) -> Vec<String> {
        (0..6)
            .map(|_| ask(self.port, "/").expect("an answer"))
            .collect()
    }
}

pub const YAML: &str = "dynamic/web.yml";

pub fn keys(path: &str, server: &str, rest: &str) -> String {
    probe::use_program(env!("CARGO_BIN_EXE_farewell"));
    format!(
        "kind = \"drain\"\nbalancer = \"traefik\"\npath = {path:?}\nserver = {server:?}\n{rest}\n"
    )
}

#[test]
fn keys_are_checked() {
    for (server, rest) in [
        ("http://10.0.0.11:8080", ""),
        ("https://${ip}", "settle = \"5s\""),
        ("http://10.0.0.11:8080", "api = \"http://127.0.0.1:8080\""),
    ] {
        assert_eq!(problems(&keys("/etc/traefik/web.toml", server, rest)), "");
    }
    for (keys, said) in [
        (keys("web.yml", "http://a", ""), "must be absolute"),
        (
            keys("/web.yml", "10.0.0.11:8080", ""),
            "is not a server's URL",
        ),
        (
            keys(
                "/web.yml",
                "http://a",
                "settle = \"1s\"\napi = \"http://b\"",
            ),
            "remove one of them",
        ),
    ] {
        let told = problems(&keys);
        assert!(told.contains(said), "{told}");
    }
}

#[test]
#[ignore = "needs Traefik; tests/run has it"]
fn a_server_is_taken_out_and_is_back_after_the_undo_byte_for_byte() {
    for (name, file, written) in [
        ("yaml", YAML, yaml as fn(&[String]) -> String),
        ("toml", "dynamic/web.toml", toml),
    ] {
        let apps = [App::start("one"), App::start("two")];
        let before = written(&apps.each_ref().map(url));
        let traefik = Traefik::start(name, file, &before);
        let path = traefik.dir.file(file);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("set");
        std::os::unix::fs::chown(&path, Some(1234), Some(4321)).expect("as root");
        let text = || fs::read_to_string(&path).expect("read");
        let run = Run::new();
        let leave = traefik.leave(file, &apps[0]);
        assert_eq!(run.attempt(&leave, TIME), Ok(Outcome::Done), "{name}");
        assert!(!traefik.has(&apps[0]) && traefik.has(&apps[1]));
        assert!(traefik.answers().iter().all(|it| it == "two"));
        let commented = text()
            .lines()
            .filter(|it| it.starts_with("# farewell: "))
            .count();
        assert_eq!(
            (text().lines().count(), commented >= 2),
            (before.lines().count(), true)
        );
        // Again: it is out, and nothing more is to be undone.
        assert_eq!(run.attempt(&leave, TIME), Ok(Outcome::AlreadyDone));
        let left = intents(&run);
        assert_eq!(left.len(), 1);
        assert_eq!(run.attempt(&undo(&left), TIME), Ok(Outcome::Done));
        assert_eq!(text(), before);
        assert!(traefik.has(&apps[0]));
        let about = fs::metadata(&path).expect("there");
        assert_eq!(
            (about.mode() & 0o7777, about.uid(), about.gid()),
            (0o640, 1234, 4321)
        );
        assert_eq!(run.attempt(&undo(&left), TIME), Ok(Outcome::AlreadyDone));
        let files = fs::read_dir(traefik.dir.file("dynamic")).expect("read");
        assert_eq!(files.count(), 1, "nothing is left beside it");
    }
}

#[test]
#[ignore = "needs Traefik; tests/run has it"]
fn without_its_api_the_time_that_it_takes_is_waited_for() {
    let apps = [App::start("one"), App::start("two")];
    let traefik = Traefik::start("settle", YAML, &yaml(&apps.each_ref().map(url)));
    // More than the two seconds that it needs: machines differ.
    let keys = keys(&traefik.dir.file(YAML), &url(&apps[0]), "settle = \"5s\"");
    let run = Run::new();
    let begun = std::time::Instant::now();
    assert_eq!(run.attempt(&step(&keys), TIME), Ok(Outcome::Done));
    assert!(begun.elapsed() >= Duration::from_secs(5));
    assert_eq!(
        run.waiting(),
        [format!("Traefik to read {}", traefik.dir.file(YAML))]
    );
    wait_until("it is out", || {
        traefik.answers().iter().all(|it| it == "two")
    });
    let failure = run
        .attempt(&step(&keys), Duration::from_secs(1))
        .expect_err("too short");
    assert_eq!(failure.kind, ErrorKind::TimedOut);
    assert_eq!(run.attempt(&undo(&intents(&run)), TIME), Ok(Outcome::Done));
    wait_until("it is back", || {
        traefik.answers().iter().any(|it| it == "one")
    });
}

#[test]
#[ignore = "needs Traefik; tests/run has it"]
fn one_that_hangs_is_asked_again_and_one_that_is_gone_or_loads_nothing_is_told() {
    let apps = [App::start("one"), App::start("two")];
    let before = yaml(&apps.each_ref().map(url));
    let mut traefik = Traefik::start("hangs", YAML, &before);
    let mut run = Run::new();
    run.attempt_timeout = Duration::from_millis(500);
    traefik.process.signal(Signal::SIGSTOP);
    std::thread::scope(|threads| {
        let (step, run) = (traefik.leave(YAML, &apps[0]), &run);
        let draining = threads.spawn(move || run.attempt(&step, TIME));
        wait_until("it is missed", || !run.waiting().is_empty());
        traefik.process.signal(Signal::SIGCONT);
        assert_eq!(draining.join().expect("no panic"), Ok(Outcome::Done));
    });
    assert!(!traefik.has(&apps[0]));
    assert_eq!(run.attempt(&undo(&intents(&run)), TIME), Ok(Outcome::Done));
    // A file beside it that Traefik does not load keeps it from all of them.
    let broken = traefik.dir.file("dynamic/broken.yml");
    fs::write(&broken, "http: [").expect("written");
    let failure = run.attempt(&traefik.leave(YAML, &apps[0]), Duration::from_secs(3));
    let failure = failure.expect_err("it is not loaded");
    assert_eq!(failure.kind, ErrorKind::TimedOut, "{failure}");
    let told = format!(
        "Traefik at http://127.0.0.1:{}/ to remove {}",
        traefik.api,
        url(&apps[0])
    );
    assert!(failure.subject.starts_with(&told), "{failure}");
    fs::remove_file(&broken).expect("removed");
    assert_eq!(
        run.attempt(&traefik.leave(YAML, &apps[0]), TIME),
        Ok(Outcome::AlreadyDone)
    );
    traefik.process.kill();
    let failure = run.attempt(&traefik.leave(YAML, &apps[0]), Duration::from_secs(1));
    let failure = failure.expect_err("nobody is there");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Unreachable, true)
    );
    // The undo puts the lines back at once, and is done when Traefik has them.
    let left = undo(&intents(&run));
    let failure = run
        .attempt(&left, Duration::from_secs(1))
        .expect_err("nobody is there");
    assert_eq!(failure.kind, ErrorKind::Unreachable);
    assert_eq!(
        fs::read_to_string(traefik.dir.file(YAML)).expect("read"),
        before
    );
    traefik.process.restart();
    assert_eq!(run.attempt(&left, TIME), Ok(Outcome::AlreadyDone));
    assert!(traefik.has(&apps[0]));
}

#[test]
#[ignore = "needs root and Traefik; tests/run has it"]
fn the_manual_s_example_works_as_it_stands() {
    network::own();
    let servers = [
        "http://10.0.0.11:8000".to_owned(),
        "http://10.0.0.12:8000".to_owned(),
    ];
    let before = yaml(&servers);
    let traefik = Traefik::start_at("manual", YAML, &before, ports(1)[0], 8080);
    // In the place of the example's, which is the machine's own.
    let path = traefik.dir.file(YAML);
    let example = manual::example("drain-traefik").replace("/etc/traefik/dynamic/web.yml", &path);
    let binary = Binary::new("drain-traefik-manual-run", &example);
    let run = binary.verb(&["run"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let is_listed = |url: &str| traefik.service().is_ok_and(|it| it.contains(url));
    assert!(!is_listed(&servers[0]) && is_listed(&servers[1]));
    assert_eq!(binary.verb(&["start", "--undo-only"]).code, 0);
    assert_eq!(fs::read_to_string(&path).expect("read"), before);
    assert!(is_listed(&servers[0]));
}
