//! `farewell rehearse`: what each kind asks, what it says of good and bad answers, and that nothing is changed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::Dir;
use crate::support::binary::{Binary, Ended};
use crate::support::etcd::Cluster;
use crate::support::fuse::Hanging;
use crate::support::namespace::mount;
use crate::support::own_process::{in_own_namespace, this_test};
use crate::support::servers::{Manner, Server, TlsServer, dead_url, make_certificates};
use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};
use serde_json::Value;

const UNSEEN: &str = "- this machine was not inspected: farewell.service runs the installed configuration, and not that \
                      of --config";

fn step(name: &str, keys: &str) -> String {
    format!("[[step]]\nname = \"{name}\"\nafter = []\n{keys}\n")
}

fn http(name: &str, url: &str, keys: &str) -> String {
    step(name, &format!("kind = \"http\"\nurl = \"{url}\"\n{keys}"))
}

fn command(name: &str, argv: &str, keys: &str) -> String {
    step(
        name,
        &format!("kind = \"command\"\nargv = [{argv}]\n{keys}"),
    )
}

/// The line of a step: its mark, name, kind and sentence, with single blanks between them.
fn line(said: &Ended, step: &str) -> String {
    let lines = said.stdout.lines().map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.join(" ")
    });
    let mut own = lines.filter(|line| line.split(' ').nth(1) == Some(step));
    let found = own.next();
    found.unwrap_or_else(|| panic!("no line of {step}: {said:?}"))
}

/// Each expected line by its step; what is `…` at the end of one may be anything.
fn assert_lines(said: &Ended, expected: &[(&str, String)]) {
    for (step, expected) in expected {
        let line = line(said, step);
        match expected.strip_suffix('…') {
            Some(beginning) => assert!(line.starts_with(beginning), "{line}\nnot {expected}"),
            None => assert_eq!(line, *expected),
        }
    }
}

/// The paths of all requests so far.
fn asked(server: &Server) -> Vec<String> {
    let first = |request: &String| request.lines().next().unwrap_or_default().to_owned();
    let lines = server.requests();
    let lines = lines.iter().map(first);
    lines
        .map(|line| line.trim_end_matches(" HTTP/1.1").to_owned())
        .collect()
}

/// Everything below a directory: path, mode, size, time of the last change, content.
fn tree(directory: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let about = path.symlink_metadata().expect("there");
        let content = fs::read(&path).unwrap_or_default();
        let told = format!("{:o} {:?} {content:?}", about.mode(), about.modified());
        found.insert(path.display().to_string(), told);
        if about.is_dir() {
            found.extend(tree(&path));
        }
    }
    found
}

#[test]
fn requests_that_change_nothing_are_sent_and_others_are_not() {
    let server = Server::answers(&["200 {\"a\":1}"]);
    let url = server.url();
    let account = "user = \"joe\"\npassword = \"s3cret-rehearsed\"\n";
    let toml = http("get", &format!("{url}/g?x=1"), account)
        + &http("head", &format!("{url}/h"), "method = \"HEAD\"")
        + &http(
            "post",
            &format!("{url}/p"),
            &format!("{account}method = \"POST\"\njson = {{ a = 1 }}"),
        )
        + &http(
            "polls",
            &format!("{url}/u"),
            "method = \"PUT\"\nbody = \"x\"\nuntil = {}",
        )
        + &http(
            "so",
            &format!("{url}/s"),
            "until = { pointer = \"/a\", equals = 1 }",
        )
        + &http(
            "not-yet",
            &format!("{url}/n"),
            "until = { pointer = \"/a\", equals = 2 }",
        );
    let said = Binary::new("rehearse-http", &toml).verb(&["rehearse"]);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
    let shown = "answered 200, so it can be reached; whether it accepts the";
    assert_lines(
        &said,
        &[
            ("get", format!("+ get http GET {url}/g?x=1: answered 200")),
            ("head", format!("+ head http HEAD {url}/h: answered 200")),
            (
                "post",
                format!("+ post http OPTIONS {url}/p instead of POST: {shown} POST is not known"),
            ),
            (
                "polls",
                format!("+ polls http OPTIONS {url}/u instead of PUT: {shown} PUT is not known"),
            ),
            (
                "so",
                format!("+ so http GET {url}/s: answered 200, as it is waited for"),
            ),
            (
                "not-yet",
                format!(
                    "+ not-yet http GET {url}/n: answered 200 with another value at \"/a\": not yet as it is waited for"
                ),
            ),
        ],
    );
    let last: Vec<&str> = said.stdout.lines().rev().take(2).collect();
    assert_eq!(last, ["farewell rehearse: 6 steps: 6 ready", UNSEEN]);
    let mut asked = asked(&server);
    asked.sort();
    let expected = [
        "GET /g?x=1",
        "GET /n",
        "GET /s",
        "HEAD /h",
        "OPTIONS /p",
        "OPTIONS /u",
    ];
    assert_eq!(asked, expected);
    for request in server.requests() {
        let has_account = request.to_lowercase().contains("authorization: basic ");
        let wants_one = request.contains(" /g") || request.contains(" /p");
        assert_eq!(has_account, wants_one, "{request}");
        assert!(!request.contains("{\"a\""), "no body: {request}");
    }
}

#[test]
fn bad_answers_of_servers_are_told_and_fail() {
    let answers: Vec<(&str, &str, Server)> = [
        ("get-401", "", "401 who?"),
        ("get-404", "", "404 gone"),
        ("get-503", "", "503 later"),
        ("until-403", "until = {}", "403 no"),
        ("until-503", "until = {}", "503 later"),
        ("post-401", "method = \"POST\"", "401 who?"),
        ("post-403", "method = \"POST\"", "403 no"),
        ("post-500", "method = \"POST\"", "500 oh"),
        ("post-405", "method = \"POST\"", "405"),
        ("post-501", "method = \"POST\"", "501"),
    ]
    .into_iter()
    .map(|(name, keys, answer)| (name, keys, Server::answers(&[answer])))
    .collect();
    let dead = dead_url();
    let mut toml: String = answers
        .iter()
        .map(|(name, keys, server)| http(name, &server.url(), keys))
        .collect();
    toml += &http("dead", &dead, "");
    toml += &http("no-name", "http://no-such-host.invalid/", "");
    toml += &http(
        "no-fact",
        &format!("{dead}/${{env:FAREWELL_TEST_NOT_SET}}"),
        "",
    );
    let said = Binary::new("rehearse-bad", &toml).verb(&["rehearse"]);
    assert_eq!((said.code, said.stderr.as_str()), (1, ""), "{said:?}");
    let url = |name: &str| {
        let (_, _, server) = answers.iter().find(|(it, ..)| *it == name).expect("one");
        format!("{}/", server.url())
    };
    let fails = |name: &str, word: &str, cause: &str| {
        let line = format!("x {name} http would fail: {word}: {}: {cause}", url(name));
        (name.to_owned(), line)
    };
    let reached = |name: &str, status: &str| {
        let line = format!(
            "+ {name} http OPTIONS {} instead of POST: answered {status}, so it can be reached; whether it accepts the \
             POST is not known",
            url(name)
        );
        (name.to_owned(), line)
    };
    let expected = [
        fails("get-401", "refused", "status 401: who?"),
        fails("get-404", "status", "status 404: gone"),
        fails("get-503", "status", "status 503: later"),
        fails("until-403", "refused", "status 403: no"),
        fails("post-401", "refused", "status 401: who?"),
        fails("post-403", "refused", "status 403: no"),
        fails("post-500", "status", "status 500: oh"),
        reached("post-405", "405"),
        reached("post-501", "501"),
    ];
    let expected: Vec<(&str, String)> = (expected.iter())
        .map(|(name, line)| (name.as_str(), line.clone()))
        .collect();
    assert_lines(&said, &expected);
    assert_lines(
        &said,
        &[
            (
                "until-503",
                format!(
                    "+ until-503 http GET {}: answered 503: not yet as it is waited for",
                    url("until-503")
                ),
            ),
            (
                "dead",
                format!("x dead http would fail: unreachable: {dead}/: …"),
            ),
            (
                "no-name",
                "x no-name http would fail: unreachable: http://no-such-host.invalid/: …".to_owned(),
            ),
            (
                "no-fact",
                "x no-fact http would fail: config: key \"url\": ${env:FAREWELL_TEST_NOT_SET} is not available: not set"
                    .to_owned(),
            ),
        ],
    );
    let last = "farewell rehearse: 13 steps: 3 ready, 10 would fail\n";
    assert!(said.stdout.ends_with(last), "{said:?}");
}

#[test]
#[ignore = "needs openssl; tests/run has it"]
fn certificates_load_and_the_handshake_goes_through() {
    let dir = Dir::new("rehearse-tls-files");
    make_certificates(&dir);
    let server = TlsServer::start(&dir, "server", true);
    let url = format!("https://{}", server.address);
    let file = |name: &str| dir.file(name);
    let ca = format!("ca-file = {:?}", file("ca.crt"));
    let own = |key: &str| {
        format!(
            "{ca}\ncert-file = {:?}\nkey-file = {:?}",
            file("client.crt"),
            file(key)
        )
    };
    let toml = http(
        "good",
        &url,
        &format!("{}\nmethod = \"POST\"", own("client.key")),
    ) + &http("no-client", &url, &ca)
        + &http("wrong-key", &url, &own("server.key"))
        + &http(
            "no-file",
            &url,
            &format!("ca-file = {:?}", file("none.crt")),
        );
    let said = Binary::new("rehearse-tls", &toml).verb(&["rehearse"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert_lines(
        &said,
        &[
            (
                "good",
                format!(
                    "+ good http OPTIONS {url}/ instead of POST: answered 200, so it can be reached…"
                ),
            ),
            (
                "no-client",
                "x no-client http would fail: tls: …".to_owned(),
            ),
            (
                "wrong-key",
                format!(
                    "x wrong-key http would fail: tls: {}: is not the key of …",
                    file("server.key")
                ),
            ),
            (
                "no-file",
                format!(
                    "x no-file http would fail: tls: {}: No such file…",
                    file("none.crt")
                ),
            ),
        ],
    );
    assert_eq!(server.requests().len(), 1);
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn programs_are_looked_for_and_not_started() {
    let dir = Dir::new("rehearse-programs");
    let write = |name: &str, text: &str, mode: u32| {
        fs::write(dir.file(name), text).expect("written");
        fs::set_permissions(dir.file(name), fs::Permissions::from_mode(mode)).expect("set");
    };
    let script = format!("#!/bin/sh\ntouch {}\n", dir.file("mark"));
    write("good", &script, 0o755);
    write("plain", &script, 0o644);
    write("roots", &script, 0o700);
    write("no-shell", "#! /no/such/shell -x\n", 0o755);
    write("token", "s3cret-of-child", 0o600);
    let quoted = |name: &str| format!("{:?}", dir.file(name));
    let with = "user = \"nobody\"\nworking-directory = \"/tmp\"";
    let path = format!(
        "environment = {{ PATH = {:?}, T = \"${{credential:token}}\" }}",
        dir.0
    );
    let toml = command("here", &quoted("good"), with)
        + &command("in-path", "\"good\"", &path)
        + &command("absent", "\"no-such-program\"", "")
        + &command("gone", "\"/no/such/program\"", "")
        + &command("plain", &quoted("plain"), "")
        + &command("roots", &quoted("roots"), "user = \"nobody\"")
        + &command("directory", &quoted(""), "")
        + &command("no-shell", &quoted("no-shell"), "")
        + &command("no-user", &quoted("good"), "user = \"no-such-user\"")
        + &command(
            "no-place",
            &quoted("good"),
            "working-directory = \"/no/such\"",
        )
        + &command(
            "no-token",
            &quoted("good"),
            "environment = { T = \"${credential:none}\" }",
        );
    let binary = Binary::new("rehearse-command", &toml);
    let before = tree(&dir.0);
    let said = Ended::of(
        binary
            .command(&["rehearse"])
            .env("CREDENTIALS_DIRECTORY", &dir.0),
    );
    assert_eq!((said.code, said.stderr.as_str()), (1, ""), "{said:?}");
    let fails = |step: &str, word: &str, subject: &str, cause: &str| {
        format!("x {step} command would fail: {word}: {subject}: {cause}")
    };
    let good = dir.file("good");
    let absent = "cannot be started: No such file or directory (os error 2)";
    let denied = "cannot be started: Permission denied (os error 13)";
    assert_lines(
        &said,
        &[
            (
                "here",
                format!("+ here command {good} can be executed by nobody in /tmp; it was not started"),
            ),
            (
                "in-path",
                format!("+ in-path command {good} can be executed; it was not started"),
            ),
            ("absent", fails("absent", "io", "no-such-program", absent)),
            ("gone", fails("gone", "io", "/no/such/program", absent)),
            ("plain", fails("plain", "io", &dir.file("plain"), denied)),
            ("roots", fails("roots", "io", &dir.file("roots"), denied)),
            ("directory", fails("directory", "io", &dir.file(""), denied)),
            (
                "no-shell",
                fails(
                    "no-shell",
                    "io",
                    &dir.file("no-shell"),
                    "cannot be started: its interpreter /no/such/shell: No such file or directory (os error 2)",
                ),
            ),
            (
                "no-user",
                fails("no-user", "config", &good, "there is no user `no-such-user`"),
            ),
            (
                "no-place",
                fails(
                    "no-place",
                    "io",
                    &good,
                    "cannot be started in /no/such: its working directory: No such file or directory (os error 2)",
                ),
            ),
            (
                "no-token",
                "x no-token command would fail: config: key \"environment.T\": ${credential:none} is not available: …"
                    .to_owned(),
            ),
        ],
    );
    assert_eq!(tree(&dir.0), before);
    assert!(!said.stdout.contains("s3cret"), "{said:?}");
    assert!(
        !binary.dir.0.join("state").exists(),
        "no state directory is made"
    );
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn connections_are_counted_and_conditions_told() {
    // No systemd is in it.
    in_own_namespace(this_test!(), connections_and_conditions);
}

fn connections_and_conditions() {
    mount(&["-t", "tmpfs", "run"], Path::new("/run"));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let _ours = std::net::TcpStream::connect(address).expect("connected");
    let _theirs = listener.accept().expect("accepted");
    let (busy, free) = (address.port(), 1);
    let dead = dead_url();
    let toml = step(
        "busy",
        &format!("kind = \"wait-connections\"\nports = [{busy}]"),
    ) + &step(
        "free",
        &format!("kind = \"wait-connections\"\nports = {free}"),
    ) + &step(
        "settle",
        "kind = \"wait\"\nfor = \"30s\"\nwhen = [\"kexec\"]",
    ) + &http("role", &dead, "if-path = \"/no/such/role\"")
        + &http("unit", &dead, "if-unit = \"app.service\"");
    let said = Binary::new("rehearse-conditions", &toml).verb(&["rehearse"]);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
    assert_lines(
        &said,
        &[
            (
                "busy",
                format!("+ busy wait-connections 1 connection on port {busy} now"),
            ),
            (
                "free",
                "+ free wait-connections no connection on port 1 now".to_owned(),
            ),
            (
                "settle",
                "+ settle wait a wait of 30s: there is nothing to ask".to_owned(),
            ),
            (
                "role",
                "- role http would be skipped: /no/such/role does not exist".to_owned(),
            ),
        ],
    );
    let told = "- unit http would be skipped: systemd is not running on this machine, so app.service is not loaded";
    assert_lines(&said, &[("unit", told.to_owned())]);
    let last = "farewell rehearse: 5 steps: 3 ready, 2 would be skipped; 1 warning\n";
    assert!(said.stdout.ends_with(last), "{said:?}");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn mounts_and_members_files_are_looked_at() {
    in_own_namespace(this_test!(), mounts);
}

fn mounts() {
    let dir = Dir::new("rehearse-mounts");
    let place = |name: &str| {
        let path = dir.0.join(name);
        fs::create_dir_all(&path).expect("made");
        path
    };
    let (good, bare, closed, hangs) = (
        place("good"),
        place("bare"),
        place("closed"),
        place("hangs"),
    );
    mount(&["-t", "tmpfs", "share"], &good);
    mount(&["-t", "tmpfs", "-o", "ro", "closed"], &closed);
    fs::write(good.join("member"), "").expect("written");
    fs::create_dir(good.join("directory")).expect("made");
    let waits = |name: &str, path: &Path, keys: &str| {
        step(
            name,
            &format!("kind = \"wait-mounts\"\npaths = [{path:?}]\n{keys}"),
        )
    };
    let leaves = |name: &str, path: &Path, keys: &str| {
        let keys = format!("kind = \"deregister\"\nregistry = \"file\"\npath = {path:?}\n{keys}");
        step(name, &keys)
    };
    let quick = "attempt-timeout = \"1s\"";
    let toml = waits("good", &good, "sync = true")
        + &waits("bare", &bare, "")
        + &waits("gone", Path::new("/no/such"), "")
        + &waits("hangs", &hangs, quick)
        + &leaves("there", &good.join("member"), "")
        + &leaves("not-yet", &good.join("other"), "")
        + &leaves("no-share", &dir.0.join("none/member"), "")
        + &leaves("directory", &good.join("directory"), "")
        + &leaves("closed", &closed.join("member"), "")
        + &leaves("dead", &hangs.join("member"), quick)
        + &command("on-dead", &format!("{:?}", hangs.join("program")), quick)
        + &command(
            "in-dead",
            "\"/bin/true\"",
            &format!("working-directory = {hangs:?}\n{quick}"),
        )
        + &step(
            "if-dead",
            &format!(
                "kind = \"wait\"\nfor = \"1s\"\nif-path = {:?}\n{quick}",
                hangs.join("x")
            ),
        );
    let binary = Binary::new("rehearse-mounts-binary", &toml);
    let before = tree(&good);
    // Twice: the processes that look can be killed, and they cannot.
    for served in [false, true] {
        let hanging = Hanging::mount(&hangs, served);
        let begun = Instant::now();
        let said = binary.verb(&["rehearse"]);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(20), "{took:?}");
        assert_eq!((said.code, said.stderr.as_str()), (1, ""), "{said:?}");
        let fails = |name: &str, kind: &str, word: &str, path: &Path, cause: &str| {
            format!(
                "x {name} {kind} would fail: {word}: {}: {cause}",
                path.display()
            )
        };
        let on = "tmpfs from share";
        let silent = "does not answer";
        assert_lines(
            &said,
            &[
                (
                    "good",
                    format!(
                        "+ good wait-mounts {} ({on}) is mounted and answers; no flush was tried",
                        good.display()
                    ),
                ),
                (
                    "bare",
                    fails(
                        "bare",
                        "wait-mounts",
                        "mount",
                        &bare,
                        "not a mount point (the bare directory under it is there)",
                    ),
                ),
                (
                    "gone",
                    fails(
                        "gone",
                        "wait-mounts",
                        "mount",
                        Path::new("/no/such"),
                        "No such file…",
                    ),
                ),
                (
                    "hangs",
                    fails(
                        "hangs",
                        "wait-mounts",
                        "timed-out",
                        &hangs,
                        &format!("{silent} (fuse from srv:/hanging)"),
                    ),
                ),
                (
                    "there",
                    format!(
                        "+ there deregister {} is there and can be removed; its directory can be written and is on {on}",
                        good.join("member").display()
                    ),
                ),
                (
                    "not-yet",
                    format!(
                        "+ not-yet deregister {} is not there: nothing to leave yet; its directory can be written and is \
                         on {on}",
                        good.join("other").display()
                    ),
                ),
                (
                    "no-share",
                    fails(
                        "no-share",
                        "deregister",
                        "io",
                        &dir.0.join("none/member"),
                        &format!(
                            "{} does not exist: is the file system mounted?",
                            dir.0.join("none").display()
                        ),
                    ),
                ),
                (
                    "directory",
                    fails(
                        "directory",
                        "deregister",
                        "io",
                        &good.join("directory"),
                        "Is a directory…",
                    ),
                ),
                (
                    "closed",
                    fails(
                        "closed",
                        "deregister",
                        "io",
                        &closed.join("member"),
                        "Read-only file system…",
                    ),
                ),
                (
                    "dead",
                    fails(
                        "dead",
                        "deregister",
                        "timed-out",
                        &hangs.join("member"),
                        silent,
                    ),
                ),
                (
                    "on-dead",
                    fails(
                        "on-dead",
                        "command",
                        "timed-out",
                        &hangs.join("program"),
                        "its file system or the user database does not answer",
                    ),
                ),
                (
                    "in-dead",
                    fails(
                        "in-dead",
                        "command",
                        "timed-out",
                        Path::new("/bin/true"),
                        "its file system or the user database does not answer",
                    ),
                ),
                (
                    "if-dead",
                    format!(
                        "x if-dead wait would fail: timed-out: if-path {}: {silent}",
                        hangs.join("x").display()
                    ),
                ),
            ],
        );
        drop(hanging);
    }
    assert_eq!(tree(&good), before);
}

fn etcd_step(name: &str, url: &str, keys: &str) -> String {
    step(
        name,
        &format!("kind = \"deregister\"\nregistry = \"etcd\"\nurl = \"{url}\"\n{keys}"),
    )
}

/// The revision of the whole store, which every change makes larger.
fn revision(etcd: &Cluster, account: &[&str]) -> Value {
    let status = etcd.ctl(&[account, &["endpoint", "status", "-w", "json"]].concat());
    let status: Value = serde_json::from_str(&status).expect("JSON");
    status[0]["Status"]["header"]["revision"].clone()
}

/// A step may be ready for one trigger and not for another: each that it tells apart is rehearsed.
#[test]
#[ignore = "needs etcd; tests/run has it"]
fn each_trigger_that_a_step_tells_apart_is_rehearsed() {
    let etcd = Cluster::start("rehearse-triggers", 2);
    let server = Server::answers(&["200"]);
    let word = format!("{}/?on=${{trigger}}", server.url());
    let safe = |name: &str, keys: &str| {
        let url = &etcd.urls[0];
        step(
            name,
            &format!("kind = \"wait-safe\"\ncluster = \"etcd\"\nurl = \"{url}\"\n{keys}"),
        )
    };
    let toml = safe("quorum", "")
        + &safe("gone", "when = [\"poweroff\", \"halt\"]")
        + &safe("back", "when = [\"reboot\"]")
        + &http("word", &word, "when = [\"reboot\", \"stop\"]");
    let binary = Binary::new("rehearse-triggers", &toml);
    let said = binary.verb(&["rehearse"]);
    assert_eq!(said.code, 1, "{said:?}");
    let own = |step: &str| -> Vec<String> {
        let lines = said.stdout.lines();
        let lines = lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        lines
            .filter(|line| line.split(' ').nth(1) == Some(step))
            .collect()
    };
    let [gone, back] = &own("quorum")[..] else {
        panic!("{said:?}");
    };
    assert!(
        gone.contains("quorum wait-safe on poweroff, halt, stop: member"),
        "{gone}"
    );
    let refused = "quorum wait-safe on reboot, kexec, soft-reboot: would fail: refused:";
    assert!(back.contains(refused), "{back}");
    assert!(own("gone")[0].contains("gone wait-safe member"), "{said:?}");
    assert!(
        own("back")[0].contains("back wait-safe would fail: refused:"),
        "{said:?}"
    );
    assert_eq!(own("word").len(), 2, "{said:?}");
    let mut asked = asked(&server);
    asked.sort_unstable();
    assert_eq!(asked, ["GET /?on=reboot", "GET /?on=stop"]);
    assert!(
        said.stdout.contains("4 steps: 2 ready, 2 would fail"),
        "{said:?}"
    );
    let said = binary.verb(&["rehearse", "--json"]);
    let report: Value = serde_json::from_str(&said.stdout).expect("JSON");
    let steps = report["steps"].as_array().expect("steps");
    let state = |name: &str, trigger: &str| {
        let is_its = |it: &&Value| {
            let triggers = it["triggers"].as_array();
            it["name"] == name && triggers.is_some_and(|all| all.iter().any(|it| it == trigger))
        };
        steps.iter().find(is_its).map(|it| it["state"].clone())
    };
    assert_eq!(state("quorum", "stop"), Some("ready".into()));
    assert_eq!(state("quorum", "kexec"), Some("failed".into()));
    assert_eq!(
        state("back", "reboot"),
        None,
        "an answer for all of its triggers names none"
    );
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn etcd_says_what_would_leave_and_keeps_it() {
    let etcd = Cluster::start("rehearse-etcd", 1);
    let url = &etcd.urls[0].clone();
    for key in ["/app/a", "/app/b"] {
        etcd.ctl(&["put", key, "v"]);
    }
    let lease = etcd.lease(600);
    etcd.ctl(&["put", "/leased", "v", "--lease", &lease]);
    let account = "user = \"root\"\npassword = \"s3cret-root\"";
    let reader = "user = \"reader\"\npassword = \"s3cret-reader\"";
    let with = |account: &str| {
        etcd_step("key", url, &format!("key = \"/app/a\"\n{account}"))
            + &etcd_step("no-key", url, &format!("key = \"/none\"\n{account}"))
            + &etcd_step("prefix", url, &format!("prefix = \"/app/\"\n{account}"))
            + &etcd_step("lease", url, &format!("lease = \"{lease}\"\n{account}"))
            + &etcd_step("no-lease", url, &format!("lease = \"1234\"\n{account}"))
            + &etcd_step("only", url, &format!("member = \"n1\"\n{account}"))
            + &etcd_step("no-member", url, &format!("member = \"n7\"\n{account}"))
    };
    let shown = "reading is allowed; deleting was not tried";
    let expected = |remark: &str| {
        vec![
            (
                "key",
                format!("+ key deregister key \"/app/a\" at {url}/: 1 key; {shown}{remark}"),
            ),
            (
                "no-key",
                format!(
                    "+ no-key deregister key \"/none\" at {url}/: no key, nothing to leave yet; {shown}{remark}"
                ),
            ),
            (
                "prefix",
                format!("+ prefix deregister prefix \"/app/\" at {url}/: 2 keys; {shown}{remark}"),
            ),
            (
                "lease",
                format!("+ lease deregister lease {lease} at {url}/: 1 key on it, and …"),
            ),
            (
                "no-lease",
                format!(
                    "+ no-lease deregister lease 0000000000001234 at {url}/: is not there, nothing to leave{remark}"
                ),
            ),
            (
                "only",
                format!(
                    "x only deregister would fail: refused: {url}/: n1 is the cluster's only voting member: it can be \
                     stopped, but it cannot leave"
                ),
            ),
            (
                "no-member",
                format!(
                    "+ no-member deregister member n7 at {url}/: not there, nothing to leave; the members are n1{remark}"
                ),
            ),
        ]
    };
    let before = revision(&etcd, &[]);
    let said = Binary::new("rehearse-etcd-plain", &with(account)).verb(&["rehearse"]);
    assert_eq!(said.code, 1, "{said:?}");
    let off = "; etcd has authentication turned off: user and password were not used";
    assert_lines(&said, &expected(off));
    assert_eq!(revision(&etcd, &[]), before);

    let etcd = etcd.with_auth();
    let root = ["--user", "root:s3cret-root"];
    let before = revision(&etcd, &root);
    let toml = with(account)
        + &etcd_step("nobody", url, "key = \"/app/a\"")
        + &etcd_step("reader", url, &format!("key = \"/app/a\"\n{reader}"))
        + &etcd_step(
            "wrong",
            url,
            "key = \"/app/a\"\nuser = \"root\"\npassword = \"s3cret-wrong\"",
        );
    let binary = Binary::new("rehearse-etcd-auth", &toml);
    let said = binary.verb(&["rehearse"]);
    assert_lines(&said, &expected(""));
    for step in ["nobody", "reader", "wrong"] {
        let beginning = format!("x {step} deregister would fail: refused: {url}/v3/…");
        assert_lines(&said, &[(step, beginning)]);
    }
    assert!(!said.stdout.contains("s3cret"), "{said:?}");
    assert_eq!(revision(&etcd, &root), before);
    let keys = ["get", "", "--prefix", "--keys-only"];
    let keys = etcd.ctl(&[&root[..], &keys].concat());
    assert_eq!(keys, "/app/a\n\n/app/b\n\n/leased");

    // One that stands still costs its time and no more.
    etcd.signal(0, SIGSTOP);
    let toml = etcd_step(
        "silent",
        url,
        &format!("key = \"/k\"\n{account}\nattempt-timeout = \"600ms\""),
    );
    let begun = Instant::now();
    let said = Binary::new("rehearse-etcd-stopped", &toml).verb(&["rehearse"]);
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    etcd.signal(0, SIGCONT);
    let told = format!(
        "x silent deregister would fail: timed-out: {url}/v3/auth/authenticate: no answer within …"
    );
    assert_lines(&said, &[("silent", told)]);
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn a_member_of_several_could_leave() {
    let etcd = Cluster::start("rehearse-members", 3);
    let toml = etcd_step("member", &etcd.urls[0], "member = \"n1\"");
    let before = etcd.ctl(&["member", "list"]);
    let said = Binary::new("rehearse-member", &toml).verb(&["rehearse"]);
    assert_eq!(said.code, 0, "{said:?}");
    let told = line(&said, "member");
    let there = format!(
        "+ member deregister member n1 at {}/: there, and not the only voting one; ",
        etcd.urls[0]
    );
    assert!(told.starts_with(&there), "{told}");
    assert_eq!(etcd.ctl(&["member", "list"]), before);
}

#[test]
fn peers_that_hang_cost_their_time_once() {
    let server = Server::start(Manner::Silent);
    const STEPS: u32 = 40;
    let limit = Duration::from_secs(1);
    let toml: String = (0..STEPS)
        .map(|it| http(&format!("s{it}"), &server.url(), "attempt-timeout = \"1s\""))
        .collect();
    let begun = Instant::now();
    let said = Binary::new("rehearse-hanging", &toml).verb(&["rehearse"]);
    let took = begun.elapsed();
    assert!(took < limit * STEPS / 3, "side by side: {took:?}");
    assert_eq!(said.code, 1, "{said:?}");
    // In the plan's order, whatever order the answers came in.
    let names: Vec<&str> = said
        .stdout
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    let expected: Vec<String> = (0..STEPS).map(|it| format!("s{it}")).collect();
    assert_eq!(names[..expected.len()], expected);
    let told = format!(
        "x s0 http would fail: timed-out: {}/: no answer within …",
        server.url()
    );
    assert_lines(&said, &[("s0", told)]);
}

#[test]
fn it_is_told_as_json_too() {
    let (good, dead) = (Server::answers(&["204"]), dead_url());
    let toml = http("good", &good.url(), "")
        + &http("dead", &dead, "")
        + &http("skipped", &dead, "if-path = \"/no/such\"");
    let said = Binary::new("rehearse-json", &toml).verb(&["rehearse", "--json"]);
    assert_eq!((said.code, said.stderr.as_str()), (1, ""), "{said:?}");
    let told: Value = serde_json::from_str(&said.stdout).expect("JSON");
    let message = told["steps"][1]["error"]["message"].clone();
    let expected = serde_json::json!({
        "result": "failed",
        "steps": [
            {"name": "good", "kind": "http", "state": "ready", "answer": format!("GET {}/: answered 204", good.url())},
            {"name": "dead", "kind": "http", "state": "failed", "error": {"word": "unreachable", "message": message}},
            {"name": "skipped", "kind": "http", "state": "skipped", "reason": "/no/such does not exist"},
        ],
        "machine": {"state": "skipped", "reason": UNSEEN.split_once(": ").expect("a reason").1},
    });
    assert_eq!(told, expected);
    let toml = http("good", &good.url(), "");
    let said = Binary::new("rehearse-json-good", &toml).verb(&["rehearse", "--json"]);
    let told: Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!((said.code, &told["result"]), (0, &"ok".into()), "{said:?}");
}

#[test]
fn a_configuration_that_is_wrong_is_not_rehearsed() {
    let server = Server::answers(&["200"]);
    let toml = http("asks", &server.url(), "") + &step("wrong", "kind = \"wait\"\nfor = \"soon\"");
    let said = Binary::new("rehearse-wrong", &toml).verb(&["rehearse"]);
    assert_eq!((said.code, said.stdout.as_str()), (78, ""), "{said:?}");
    assert!(said.stderr.contains("`soon` is not a duration"), "{said:?}");
    assert_eq!(server.connections(), 0);
}

#[test]
fn what_a_peer_repeats_is_masked() {
    let server = Server::answers(&["400 s3cret-\"quoted\" s3cret-literal"]);
    let dir = Dir::new("rehearse-secrets");
    dir.credential("token", "s3cret-\"quoted\"\n");
    let keys = "headers = { X-Token = \"${credential:token}\" }\nuser = \"joe\"\npassword = \"s3cret-literal\"";
    let binary = Binary::new("rehearse-secret", &http("echo", &server.url(), keys));
    for arguments in [&["rehearse"][..], &["rehearse", "--json"]] {
        let mut command = binary.command(arguments);
        command
            .env("CREDENTIALS_DIRECTORY", &dir.0)
            .env("FAREWELL_LOG", "trace");
        let said = Ended::of(&mut command);
        assert!(
            said.stdout.contains("status 400: ******** ********"),
            "{said:?}"
        );
        assert!(!format!("{said:?}").contains("s3cret"), "{said:?}");
    }
    assert!(server.requests()[0].contains("s3cret-\"quoted\""));
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_plain_user_hears_what_that_user_would_meet() {
    const NOBODY: u32 = 65534;
    let dir = Dir::new("rehearse-nobody");
    let write = |name: &str, mode: u32| {
        fs::write(dir.file(name), "#!/bin/sh\n").expect("written");
        fs::set_permissions(dir.file(name), fs::Permissions::from_mode(mode)).expect("set");
    };
    write("roots", 0o700);
    write("everybodys", 0o755);
    let server = Server::answers(&["200"]);
    let quoted = |name: &str| format!("{:?}", dir.file(name));
    let file = format!(
        "kind = \"deregister\"\nregistry = \"file\"\npath = {}",
        quoted("everybodys")
    );
    let toml = http("asks", &server.url(), "")
        + &command("everybodys", &quoted("everybodys"), "")
        + &command("roots", &quoted("roots"), "")
        + &command("as-root", &quoted("everybodys"), "user = \"root\"")
        + &step("leaves", &file);
    let binary = Binary::new("rehearse-nobody-binary", &toml);
    let said = Ended::of(binary.command(&["rehearse"]).uid(NOBODY).gid(NOBODY));
    assert_eq!(
        (said.code, said.stderr.as_str()),
        (1, ""),
        "needs root: {said:?}"
    );
    let everybodys = dir.file("everybodys");
    assert_lines(
        &said,
        &[
            (
                "asks",
                format!("+ asks http GET {}/: answered 200", server.url()),
            ),
            (
                "everybodys",
                format!("+ everybodys command {everybodys} can be executed; it was not started"),
            ),
            (
                "roots",
                format!(
                    "x roots command would fail: io: {}: cannot be started: Permission denied (os error 13)",
                    dir.file("roots")
                ),
            ),
            (
                "as-root",
                format!(
                    "x as-root command would fail: io: {everybodys}: Operation not permitted (os error 1)"
                ),
            ),
            (
                "leaves",
                format!(
                    "x leaves deregister would fail: io: {everybodys}: Permission denied (os error 13)"
                ),
            ),
        ],
    );
}
