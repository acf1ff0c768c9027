//! The manual's recipe for a member that is a row in PostgreSQL, with a real server.

use std::process::{Child, Command, Stdio};

use crate::support::binary::{Binary, Ended, GENEROUS, Running, step_of, wait_until};
use crate::support::{Dir, manual, network};
use nix::sys::signal::Signal::SIGQUIT;
use serde_json::Value;

const PASSWORD: &str = "s3cret-postgresql";

/// A server at 127.0.0.1:5432 in this thread's own network, and at a socket; ended when it goes out of scope.
struct PostgreSql {
    dir: Dir,
    server: Option<Child>,
}

/// A program of the server's, as its own user.
fn as_postgres(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid",
            "postgres",
            "--regid",
            "postgres",
            "--clear-groups",
        ])
        .args(["--pdeathsig", "QUIT", "--", &bin(program)])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn bin(program: &str) -> String {
    format!("/usr/lib/postgresql/15/bin/{program}")
}

impl PostgreSql {
    fn start(name: &str) -> PostgreSql {
        network::own();
        let dir = Dir::new(name);
        let chown = Command::new("chown").arg("postgres").arg(&dir.0).status();
        assert!(chown.expect("chown").success());
        let mut server = PostgreSql { dir, server: None };
        let mut initdb = as_postgres("initdb");
        initdb.args(["-D", &server.dir.file("data"), "-N", "-A", "trust"]);
        let made = initdb
            .arg("--auth-host=scram-sha-256")
            .current_dir(&server.dir.0)
            .status();
        assert!(
            made.expect("setpriv (apt install util-linux)").success(),
            "apt install postgresql-15"
        );
        server.begin();
        server.sql("CREATE DATABASE sync", "postgres");
        server.sql("CREATE TABLE members (name text PRIMARY KEY)", "sync");
        let grants = &manual::blocks("recipe-postgresql", "sql")[0];
        server.sql(&grants.replace("choose-one", PASSWORD), "sync");
        server
    }

    fn begin(&mut self) {
        let mut command = as_postgres("postgres");
        command
            .args([
                "-D",
                &self.dir.file("data"),
                "-p",
                "5432",
                "-k",
                &self.dir.0.display().to_string(),
            ])
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"])
            .current_dir(&self.dir.0);
        self.server = Some(command.spawn().expect("setpriv"));
        wait_until("it takes connections", || {
            let output = self.psql("postgres").args(["-c", "SELECT 1"]).output();
            output.expect("psql").status.success()
        });
    }

    /// Ends the server at once, with all connections.
    fn end(&mut self) {
        if let Some(mut server) = self.server.take() {
            let pid = i32::try_from(server.id()).expect("a pid");
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), SIGQUIT);
            let _ = server.wait();
        }
    }

    fn psql(&self, database: &str) -> Command {
        let mut command = Command::new(bin("psql"));
        command.env_clear().env("PGHOST", &self.dir.0).args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "postgres",
            "-d",
            database,
        ]);
        command
    }

    /// What a statement of the superuser's gives.
    fn sql(&self, statement: &str, database: &str) -> String {
        let output = self.psql(database).args(["-c", statement]).output();
        let output = output.expect("psql");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{statement}: {errors}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn join(&self, member: &str) {
        self.sql(&format!("INSERT INTO members VALUES ('{member}')"), "sync");
    }

    fn members(&self) -> String {
        self.sql(
            "SELECT string_agg(name, ',' ORDER BY name) FROM members",
            "sync",
        )
    }

    /// How many connections have this name.
    fn connections(&self, name: &str) -> String {
        let count =
            format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}'");
        self.sql(&count, "sync")
    }

    /// A connection of this member, which does nothing until it is killed.
    fn connect(&self, member: &str, statement: &str) -> Connection {
        let mut command = self.psql("sync");
        command.env("PGAPPNAME", member).args(["-c", statement]);
        let child = command.stdin(Stdio::null()).spawn().expect("psql");
        let connection = Connection(child);
        wait_until("it is connected", || self.connections(member) != "0");
        connection
    }
}

impl Drop for PostgreSql {
    fn drop(&mut self) {
        self.end();
    }
}

/// A process with a connection, killed when it goes out of scope. What it was doing in the server ends with it.
struct Connection(Child);

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A place with the manual's example, where `timeout` may be another one, and its credential.
fn place(name: &str, timeout: &str, password: &str) -> Binary {
    let example = manual::example("recipe-postgresql");
    assert!(example.contains("timeout = \"60s\""));
    let binary = Binary::new(name, &example.replace("\"60s\"", &format!("{timeout:?}")));
    binary.dir.credential("postgresql", password);
    binary
}

fn run(binary: &Binary) -> Running {
    let mut command = binary.command(&["run"]);
    Running::spawn(command.env("CREDENTIALS_DIRECTORY", &binary.dir.0))
}

/// Runs it to its end: the exit code, the step, and all that was said.
fn end(binary: &Binary, run: Running) -> (i32, Value, String) {
    let Ended {
        code,
        stdout,
        stderr,
        ..
    } = run.end(GENEROUS);
    let said = stdout + &stderr;
    let report = binary.report();
    assert!(
        !format!("{said}{report}").contains("s3cret"),
        "{said}{report:#}"
    );
    (code, step_of(&report, "leave-members").clone(), said)
}

fn host() -> String {
    farewell::sys::host::hostname().expect("a name")
}

#[test]
#[ignore = "needs root and PostgreSQL; tests/run has it"]
fn the_row_is_deleted_and_a_row_that_is_gone_is_fine() {
    let server = PostgreSql::start("postgresql-row");
    server.join(&host());
    server.join("another");
    let binary = place("postgresql-row-run", "60s", PASSWORD);
    for _ in 0..2 {
        let (code, step, said) = end(&binary, run(&binary));
        assert_eq!((code, &step["state"]), (0, &"done".into()), "{said}");
        assert_eq!(server.members(), "another");
    }
    let mut rehearsal = binary.command(&["rehearse"]);
    let said = rehearsal
        .env("CREDENTIALS_DIRECTORY", &binary.dir.0)
        .output();
    assert_eq!(said.expect("it starts").status.code(), Some(0));
    assert_eq!(server.members(), "another");
}

#[test]
#[ignore = "needs root and PostgreSQL; tests/run has it"]
fn a_connection_that_lingers_is_waited_for() {
    let server = PostgreSql::start("postgresql-lingers");
    server.join(&host());
    let lingering = server.connect(&host(), "SELECT pg_sleep(3600)");
    let other = server.connect("another", "SELECT pg_sleep(3600)");
    let binary = place("postgresql-lingers-run", "60s", PASSWORD);
    let running = run(&binary);
    let told = format!("0 rows, 1 connections of {} are left", host());
    wait_until("it has said what is left", || {
        running.told().contains(&told)
    });
    assert_eq!(
        server.members(),
        "",
        "others see that it is gone while connections are waited for"
    );
    assert_eq!(
        step_of(&binary.report(), "leave-members")["state"],
        "running"
    );
    let end_it = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = ";
    server.sql(&format!("{end_it}'{}'", host()), "sync");
    let (code, step, said) = end(&binary, running);
    assert_eq!((code, &step["state"]), (0, &"done".into()), "{said}");
    assert_eq!(server.connections("another"), "1");
    drop((lingering, other));
}

#[test]
#[ignore = "needs root and PostgreSQL; tests/run has it"]
fn the_timeout_is_kept_and_nothing_is_left_behind_in_the_server() {
    let server = PostgreSql::start("postgresql-late");
    server.join(&host());
    let _lingering = server.connect(&host(), "SELECT pg_sleep(3600)");
    let binary = place("postgresql-late-run", "8s", PASSWORD);
    let (code, step, said) = end(&binary, run(&binary));
    assert_eq!((code, &step["state"]), (1, &"timed-out".into()), "{said}");
    let took = step["duration_usec"].as_u64().expect("a number");
    // A command gets TERM before its deadline, so that it has ended at it.
    assert!((2_000_000..60_000_000).contains(&took), "{step:#}");
    assert_eq!(server.members(), "", "the row was deleted all the same");
    wait_until("the server has ended what psql began", || {
        server.connections("farewell") == "0"
    });
    // A row that somebody holds.
    server.join(&host());
    let update = format!(
        "BEGIN; UPDATE members SET name = name WHERE name = '{}'; SELECT pg_sleep(3600)",
        host()
    );
    let _holder = server.connect("holder", &update);
    let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'holder' AND wait_event = 'PgSleep'";
    wait_until("it holds the row", || server.sql(count, "sync") == "1");
    let (code, step, said) = end(&binary, run(&binary));
    assert_eq!((code, &step["state"]), (1, &"timed-out".into()), "{said}");
    wait_until("the server has ended what psql began", || {
        server.connections("farewell") == "0"
    });
    assert_eq!(server.members(), host());
}

#[test]
#[ignore = "needs root and PostgreSQL; tests/run has it"]
fn a_server_that_is_down_and_a_wrong_password_are_told() {
    let mut server = PostgreSql::start("postgresql-down");
    server.join(&host());
    let wrong = place("postgresql-wrong", "20s", "s3cret-wrong");
    let (code, step, said) = end(&wrong, run(&wrong));
    assert_eq!(
        (code, &step["error"]["word"]),
        (1, &"exit-status".into()),
        "{said}"
    );
    assert!(said.contains("password authentication failed"), "{said}");
    server.sql("ALTER TABLE members RENAME TO others", "sync");
    let binary = place("postgresql-down-run", "20s", PASSWORD);
    let (code, step, said) = end(&binary, run(&binary));
    assert_eq!(
        (code, &step["error"]["word"]),
        (1, &"exit-status".into()),
        "{said}"
    );
    assert!(
        said.contains("exited with 1") && said.contains("does not exist"),
        "{said}"
    );
    server.sql("ALTER TABLE others RENAME TO members", "sync");
    server.end();
    let (code, step, said) = end(&binary, run(&binary));
    assert_eq!(
        (code, &step["error"]["word"]),
        (1, &"exit-status".into()),
        "{said}"
    );
    assert!(
        said.contains("Connection refused") && said.contains("exited with 2"),
        "{said}"
    );
    server.begin();
    let (code, step, said) = end(&binary, run(&binary));
    assert_eq!((code, &step["state"]), (0, &"done".into()), "{said}");
    assert_eq!(server.members(), "");
}
