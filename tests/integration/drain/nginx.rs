//! `balancer = "nginx"`, by a real nginx.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use farewell::step::{Outcome, StepSpec};
use farewell::sys::probe;
use farewell::sys::process_titles::{Titled, titled};
use nix::sys::signal::Signal;

use super::app::{App, Asking, ask};
use super::balancer::Process;
use super::haproxy::pair;
use super::{TIME, intents, undo};
use crate::support::binary::{Binary, step_of, wait_until};
use crate::support::ports::ports;
use crate::support::{Dir, Run, manual, namespace, network, problems, signals, step};

/// An nginx before the servers of a file of its own, `web.conf`.
pub struct Nginx {
    pub process: Process,
    pub port: u16,
    pub dir: Dir,
}

/// An upstream `web` of these applications.
pub fn upstream(apps: &[&App]) -> String {
    let line = |app: &&App| format!("    server {}  max_fails=0 ; # one\n", app.address());
    let servers: String = apps.iter().map(line).collect();
    format!("# ours\nupstream web {{\n{servers}    keepalive 8;\n}}\n")
}

/// The configuration that includes `file`; what nginx writes is in `dir`.
fn configuration(dir: &Dir, file: &str, port: u16) -> String {
    let temporary = |of| format!("    {of}_temp_path {};\n", dir.file(of));
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(temporary);
    format!(
        // Buffers that are never full when an application pauses: an old worker of nginx 1.22 ends too early otherwise.
        "user root;\nworker_processes 2;\ndaemon off;\npid {pid};\nerror_log {log};\n\
         events {{ worker_connections 256; }}\n\
         http {{\n    access_log off;\n    proxy_buffer_size 20k;\n    proxy_buffers 8 20k;\n{}    include {file};\n    server {{\n        listen 127.0.0.1:{port};\n        \
         location / {{\n            proxy_pass http://web;\n            proxy_http_version 1.1;\n            \
         proxy_set_header Connection \"\";\n            proxy_read_timeout 300s;\n        }}\n    }}\n}}\n",
        temporary.concat(),
        pid = dir.file("nginx.pid"),
        log = dir.file("error.log"),
    )
}

impl Nginx {
    pub fn start(name: &str, apps: &[&App]) -> Nginx {
        Nginx::start_with(name, &upstream(apps))
    }

    pub fn start_with(name: &str, upstreams: &str) -> Nginx {
        // Looks at files are a child's, which is the program itself.
        probe::use_program(env!("CARGO_BIN_EXE_farewell"));
        let dir = Dir::new(&format!("drain-nginx-at-{name}"));
        let port = ports(1)[0];
        fs::write(dir.file("web.conf"), upstreams).expect("written");
        let more = "include more[.]conf;";
        let whole = configuration(&dir, "web.conf", port)
            .replace("include web.conf;", &format!("include web.conf; {more}"));
        fs::write(dir.file("nginx.conf"), whole).expect("written");
        let args = [
            "-e".to_owned(),
            dir.file("error.log"),
            "-c".to_owned(),
            dir.file("nginx.conf"),
        ];
        let process = Process::start("nginx", &args.each_ref().map(String::as_str));
        let nginx = Nginx { process, port, dir };
        wait_until("nginx has its workers", || nginx.workers().len() == 2);
        nginx
    }

    /// The words of nginx itself with its configuration.
    pub fn argv(&self) -> [String; 5] {
        let (log, file) = (self.dir.file("error.log"), self.dir.file("nginx.conf"));
        ["nginx".into(), "-e".into(), log, "-c".into(), file]
    }

    pub fn file(&self) -> String {
        self.dir.file("web.conf")
    }

    pub fn text(&self) -> String {
        fs::read_to_string(self.file()).expect("read")
    }

    pub fn keys(&self, server: &str, rest: &str) -> String {
        let mut reload = self.argv().to_vec();
        reload.extend(["-s".to_owned(), "reload".to_owned()]);
        keys(&self.file(), server, &format!("{reload:?}"), rest)
    }

    pub fn leave(&self, app: &App) -> StepSpec {
        step(&self.keys(&app.address(), ""))
    }

    fn master(&self) -> u32 {
        self.process.id()
    }

    pub fn workers(&self) -> Vec<Titled> {
        let all = titled("nginx: worker process").expect("a look at /proc");
        all.into_iter()
            .filter(|it| it.parent == self.master())
            .collect()
    }

    /// Has it read its configuration, by another hand than farewell's.
    pub fn reload(&self) {
        let old = self.workers();
        self.process.signal(Signal::SIGHUP);
        wait_until("its workers are others", || {
            let now = self.workers();
            now.len() == 2 && now.iter().all(|it| !old.contains(it))
        });
    }

    /// Ends master and workers at once.
    pub fn kill(&mut self) {
        let workers = self.workers();
        self.process.kill();
        workers.iter().for_each(|it| signals::kill(it.pid));
        let is_gone = |it: &Titled| !Path::new(&format!("/proc/{}", it.pid)).exists();
        wait_until("its workers are gone", || workers.iter().all(is_gone));
    }

    pub fn answers(&self) -> Vec<String> {
        (0..6)
            .map(|_| ask(self.port, "/").expect("an answer"))
            .collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let workers = self.workers();
        self.process.kill();
        workers.iter().for_each(|it| signals::kill(it.pid));
    }
}

fn keys(path: &str, server: &str, reload: &str, rest: &str) -> String {
    format!(
        "kind = \"drain\"\nbalancer = \"nginx\"\npath = {path:?}\nserver = {server:?}\nreload = {reload}\n{rest}\n"
    )
}

#[test]
fn keys_are_checked() {
    let good = r#"["nginx", "-s", "reload"]"#;
    for (server, reload, rest) in [
        ("10.0.0.11:8080", good, ""),
        (
            "unix:/run/app.sock",
            r#"["docker", "exec", "lb", "nginx", "-s", "reload"]"#,
            "",
        ),
        (
            "${ip}:8080",
            r#"["systemctl", "reload", "nginx"]"#,
            "test = [\"nginx\", \"-t\", \"-q\"]",
        ),
    ] {
        assert_eq!(
            problems(&keys("/etc/nginx/web.conf", server, reload, rest)),
            ""
        );
    }
    for (keys, said) in [
        (keys("web.conf", "a:1", good, ""), "must be absolute"),
        (
            keys("/web.conf", "a:1; server b:1", good, ""),
            "is not an address as in nginx's configuration",
        ),
        (
            keys("/web.conf", "a:1", r#"["", "-s", "reload"]"#, ""),
            "must not be empty",
        ),
        (
            keys("/web.conf", "a:1", "\"nginx -s reload\"", ""),
            "a list of strings",
        ),
    ] {
        let told = problems(&keys);
        assert!(told.contains(said), "{told}");
    }
}

#[test]
#[ignore = "needs nginx; tests/run has it"]
fn an_idle_server_is_taken_down_and_is_back_after_the_undo_byte_for_byte() {
    let apps = [App::start("one"), App::start("two")];
    let nginx = Nginx::start("idle", &[&apps[0], &apps[1]]);
    let before = nginx.text();
    fs::set_permissions(nginx.file(), fs::Permissions::from_mode(0o640)).expect("set");
    std::os::unix::fs::chown(nginx.file(), Some(1234), Some(4321)).expect("as root");
    let run = Run::new();
    assert_eq!(run.attempt(&nginx.leave(&apps[0]), TIME), Ok(Outcome::Done));
    let line = format!("server {}  max_fails=0 down ; # one", apps[0].address());
    assert!(nginx.text().contains(&line), "{}", nginx.text());
    assert!(nginx.answers().iter().all(|it| it == "two"));
    // Again: it is out, and nothing more is to be undone.
    let workers = nginx.workers();
    assert_eq!(
        run.attempt(&nginx.leave(&apps[0]), TIME),
        Ok(Outcome::AlreadyDone)
    );
    let left = intents(&run);
    assert_eq!(left.len(), 1);
    // Once its workers are clearly younger than the file they are left alone.
    wait_until("nothing is reloaded any more", || {
        let workers = nginx.workers();
        run.attempt(&nginx.leave(&apps[0]), TIME) == Ok(Outcome::AlreadyDone)
            && nginx.workers() == workers
    });
    assert_ne!(nginx.workers(), workers);
    assert_eq!(run.attempt(&undo(&left), TIME), Ok(Outcome::Done));
    assert_eq!(nginx.text(), before);
    wait_until("it is back", || {
        nginx.answers().iter().any(|it| it == "one")
    });
    let about = fs::metadata(nginx.file()).expect("there");
    assert_eq!(
        (about.mode() & 0o7777, about.uid(), about.gid()),
        (0o640, 1234, 4321)
    );
    assert_eq!(run.attempt(&undo(&left), TIME), Ok(Outcome::AlreadyDone));
    let files = fs::read_dir(&nginx.dir.0).expect("read").flatten();
    let files = files.filter(|it| it.file_name().to_string_lossy().contains("farewell"));
    assert_eq!(files.count(), 0, "nothing is left beside it");
}

#[test]
#[ignore = "needs nginx; tests/run has it"]
fn the_workers_from_before_are_waited_for() {
    let apps = pair();
    let nginx = Nginx::start("flight", &[&apps[0]]);
    let asking = Asking::start(nginx.port, "/hold");
    wait_until("it is held", || apps[0].held() == 1);
    let old = nginx.workers();
    let run = Run::new();
    std::thread::scope(|threads| {
        let (step, run) = (nginx.leave(&apps[0]), &run);
        let draining = threads.spawn(move || run.attempt(&step, TIME));
        wait_until("it waits for the busy one", || {
            let waiting = run.waiting();
            waiting
                .last()
                .is_some_and(|it| it.starts_with("1 old worker of nginx ("))
        });
        assert!(!draining.is_finished());
        apps[0].release();
        assert_eq!(draining.join().expect("no panic"), Ok(Outcome::Done));
    });
    assert_eq!(asking.end().as_deref(), Ok("one"));
    let told = run.waiting().pop().expect("a wait");
    let is_it =
        |it: &Titled| told == format!("1 old worker of nginx ({}) with requests in flight", it.pid);
    assert!(old.iter().any(is_it), "{told}");
    assert!(!nginx.workers().iter().any(|it| old.contains(it)));
    // It was the only one.
    let remarks = run.remarks();
    assert!(
        remarks[0].contains(
            "is the only server that is up in upstream web: without it nginx answers 502"
        ),
        "{remarks:?}"
    );
    assert!(ask(nginx.port, "/").expect_err("nobody").contains("502"));
}

#[test]
#[ignore = "needs nginx; tests/run has it"]
fn a_session_that_never_ends_is_told_at_the_deadline() {
    let app = App::start("one");
    let nginx = Nginx::start("endless", &[&app]);
    let asking = Asking::start(nginx.port, "/hold");
    wait_until("it is held", || app.held() == 1);
    let keys = nginx.keys(&app.address(), "timeout = \"3s\"");
    let binary = Binary::new(
        "drain-nginx-run-endless",
        &format!("[[step]]\nname = \"leave\"\n{keys}"),
    );
    assert_eq!(binary.verb(&["run"]).code, 1);
    let report = binary.report();
    let leave = step_of(&report, "leave");
    assert_eq!(leave["state"], "timed-out", "{report:#}");
    let said = leave["error"]["message"].as_str().expect("a message");
    assert!(
        said.starts_with("1 old worker of nginx (")
            && said.contains("with requests in flight: still there"),
        "{said}"
    );
    app.release();
    assert_eq!(asking.end().as_deref(), Ok("one"));
}

#[test]
#[ignore = "needs nginx; tests/run has it"]
fn a_rehearsal_says_what_a_run_would_meet_and_changes_nothing() {
    let app = App::start("one");
    let nginx = Nginx::start("rehearsal", &[&app]);
    let (before, workers) = (nginx.text(), nginx.workers());
    let run = Run::new();
    let said = run.rehearse(&nginx.leave(&app), TIME).expect("ready");
    let is = format!(
        "{}: {} is found 1 times, 1 of them up; the file can be replaced, the configuration test passes, and nginx has 2 workers",
        nginx.file(),
        app.address()
    );
    assert_eq!(said, is);
    assert!(run.remarks()[0].contains("is the only server that is up in upstream web"));
    assert_eq!(
        (nginx.text(), nginx.workers(), intents(&run).len()),
        (before.clone(), workers, 0)
    );
    fs::write(nginx.file(), before.replace(" ; #", " down; #")).expect("written");
    let run = Run::new();
    run.rehearse(&nginx.leave(&app), TIME).expect("ready");
    assert!(run.remarks()[0].contains("so a run would change nothing"));
}

#[test]
#[ignore = "needs nginx; tests/run has it"]
fn what_a_run_has_left_is_undone_by_the_next_start() {
    let apps = [App::start("one"), App::start("two")];
    let nginx = Nginx::start("start", &[&apps[0], &apps[1]]);
    let before = nginx.text();
    let keys = nginx.keys(&apps[0].address(), "");
    let binary = Binary::new(
        "drain-nginx-run-start",
        &format!("[[step]]\nname = \"leave\"\n{keys}"),
    );
    let run = binary.verb(&["run"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let told = format!(
        "leaves `down` for {} in {}",
        apps[0].address(),
        nginx.file()
    );
    assert!(run.stdout.contains(&told), "{}", run.stdout);
    // Twice without an undo in between: what the first one found is restored.
    assert_eq!(binary.verb(&["run"]).code, 0);
    assert_eq!(step_of(&binary.report(), "leave")["state"], "already-done");
    let start = binary.verb(&["start", "--undo-only"]);
    assert_eq!(start.code, 0, "{}{}", start.stdout, start.stderr);
    assert_eq!(nginx.text(), before);
    wait_until("it is back", || {
        nginx.answers().iter().any(|it| it == "one")
    });
}

#[test]
#[ignore = "needs root and nginx; tests/run has it"]
fn the_manual_s_example_works_as_it_stands() {
    network::own();
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("a mount namespace (as root)");
    namespace::mount(&["--make-rprivate"], Path::new("/"));
    for own in ["/etc/nginx", "/run"] {
        namespace::mount(&["-t", "tmpfs", "own"], Path::new(own));
    }
    network::add("10.0.0.11");
    let dir = Dir::new("drain-nginx-manual");
    let whole =
        configuration(&dir, "conf.d/*.conf", 80).replace(&dir.file("nginx.pid"), "/run/nginx.pid");
    fs::create_dir_all("/etc/nginx/conf.d").expect("made");
    let text = "upstream web {\n    server 10.0.0.11:8080;\n    server 10.0.0.12:8080;\n}\n";
    let path = Path::new("/etc/nginx/conf.d/web.conf");
    fs::write("/etc/nginx/nginx.conf", whole).expect("written");
    fs::write(path, text).expect("written");
    let process = Process::start("nginx", &["-e", &dir.file("error.log")]);
    let nginx = Nginx {
        process,
        port: 80,
        dir,
    };
    wait_until("nginx has its workers", || nginx.workers().len() == 2);
    let binary = Binary::new("drain-nginx-manual-run", &manual::example("drain-nginx"));
    let run = binary.verb(&["run"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(
        fs::read_to_string(path)
            .expect("read")
            .contains("server 10.0.0.11:8080 down;")
    );
    assert_eq!(binary.verb(&["start", "--undo-only"]).code, 0);
    assert_eq!(fs::read_to_string(path).expect("read"), text);
}
