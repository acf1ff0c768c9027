//! Credentials go to whom they were meant for, and those that others could read are warned of.

use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::binary::{Binary, Ended};
use crate::support::installed::Installed;
use crate::support::loopback::{Asked, Loopback, Reply};
use crate::support::servers::{TlsServer, answer, make_certificates, read_request};
use crate::support::{Dir, Run, step};
use nix::unistd::{Uid, geteuid, setfsuid};

const SECRET: &str = "s3cret-of-a-member";

/// A stand-in for a member of etcd that lists another one at `announced`.
fn member_that_announces(announced: &str) -> Loopback {
    let announced = announced.to_owned();
    Loopback::start(move |asked: &Asked| {
        let text = match asked.path.as_str() {
            "/v3/cluster/member/list" => format!(
                r#"{{"header":{{}},"members":[{{"ID":"1","name":"n1"}},{{"ID":"2","name":"n2","clientURLs":["{announced}"]}}]}}"#
            ),
            "/v3/auth/authenticate" => r#"{"header":{},"token":"t0ken.of-etcd"}"#.to_owned(),
            _ => r#"{"header":{"member_id":"1"},"leader":"2","raftIndex":"10"}"#.to_owned(),
        };
        Reply::text("200 OK", &text)
    })
}

fn wait_safe(first: &Loopback, keys: &str) {
    let step = step(&format!(
        "kind = \"wait-safe\"\ncluster = \"etcd\"\nurl = \"{}\"\n{keys}",
        first.url()
    ));
    // Whether the cluster is safe is no matter here.
    let _ = Run::new().attempt(&step, Duration::from_secs(5));
}

/// Every way to configure a secret of a request.
fn secrets() -> [String; 5] {
    [
        format!("headers = {{ Authorization = \"Bearer {SECRET}\" }}"),
        format!("headers = {{ X-ApiKey = \"{SECRET}\" }}"),
        format!("headers = {{ X-Vault-Token = \"{SECRET}\" }}"),
        format!("headers = {{ X-Password = \"{SECRET}\" }}"),
        format!("user = \"root\"\npassword = \"{SECRET}\""),
    ]
}

#[test]
fn an_announced_address_without_tls_gets_no_credentials() {
    for keys in secrets() {
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let hears = heard.clone();
        let other = Loopback::start(move |asked: &Asked| {
            hears.lock().expect("lock").push(asked.whole.clone());
            Reply::text(
                "200 OK",
                r#"{"header":{"member_id":"2"},"leader":"2","raftIndex":"10"}"#,
            )
        });
        wait_safe(&member_that_announces(&other.url()), &keys);
        let heard = heard.lock().expect("lock").join("\n");
        assert!(heard.contains("/v3/maintenance/status"), "{keys}: {heard}");
        for secret in [SECRET, "t0ken", "uthorization"] {
            assert!(!heard.contains(secret), "{keys}: {heard}");
        }
    }
}

#[test]
fn a_header_with_a_credential_goes_to_no_announced_address_whatever_it_is_called() {
    // The credential's place is one of the test's own process, which no other test of this file has.
    let dir = Dir::new("credentials-header");
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let hears = heard.clone();
    let other = Loopback::start(move |asked: &Asked| {
        hears.lock().expect("lock").push(asked.whole.clone());
        Reply::text(
            "200 OK",
            r#"{"header":{"member_id":"2"},"leader":"2","raftIndex":"10"}"#,
        )
    });
    let first = member_that_announces(&other.url());
    let toml = format!(
        "[[step]]\nname = \"w\"\nkind = \"wait-safe\"\ncluster = \"etcd\"\nurl = \"{}\"\n\
         headers = {{ X-Team = \"${{credential:team}}\", X-Run = \"shown\" }}\n",
        first.url()
    );
    let binary = Binary::new("credentials-header-run", &toml);
    dir.credential("team", SECRET);
    let said = Ended::of(
        binary
            .command(&["run"])
            .env("CREDENTIALS_DIRECTORY", &dir.0),
    );
    assert_eq!(said.code, 0, "{said:?}");
    let heard = heard.lock().expect("lock").join("\n");
    assert!(heard.to_lowercase().contains("x-run: shown"), "{heard}");
    assert!(!heard.contains(SECRET), "{heard}");
}

#[test]
#[ignore = "needs openssl; tests/run has it"]
fn an_announced_address_gets_tokens_where_the_same_authority_vouches_for_it() {
    let (dir, foreign) = (Dir::new("credentials-ca"), Dir::new("credentials-foreign"));
    make_certificates(&dir);
    make_certificates(&foreign);
    let ca = format!("ca-file = {:?}\n", dir.file("ca.crt"));
    for keys in secrets() {
        let is_password = keys.contains("X-Password");
        let known = TlsServer::start(&dir, "server", false);
        wait_safe(
            &member_that_announces(&format!("https://{}", known.address)),
            &(ca.clone() + &keys),
        );
        let heard = known.requests().join("\n");
        assert!(heard.contains("/v3/maintenance/status"), "{keys}: {heard}");
        let is_there = heard.contains(SECRET) || heard.contains("t0ken.of-etcd");
        assert_eq!(is_there, !is_password, "{keys}: {heard}");
        // The password is exchanged for a token, and goes no further.
        assert!(
            !keys.contains("user =") || !heard.contains(SECRET),
            "{heard}"
        );

        let unknown = TlsServer::start(&foreign, "server", false);
        wait_safe(
            &member_that_announces(&format!("https://{}", unknown.address)),
            &(ca.clone() + &keys),
        );
        assert_eq!(unknown.requests(), Vec::<String>::new(), "{keys}");
    }
}

#[test]
fn a_unix_socket_that_a_member_announces_is_not_asked() {
    let dir = Dir::new("credentials-socket");
    let path = dir.file("daemon.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    listener.set_nonblocking(true).expect("set");
    wait_safe(&member_that_announces(&format!("unix://{path}")), "");
    let error = listener.accept().expect_err("nobody asked");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
}

/// What `check` says of these steps in a file of this mode. It never fails of a warning.
fn check(name: &str, mode: u32, keys: &str) -> Ended {
    let binary = Binary::new(&format!("credentials-{name}"), keys);
    let file = binary.dir.file("farewell.toml");
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("set");
    binary.dir.credential("long", "a-long-secret");
    binary.dir.credential("short", "pass");
    let said = Ended::of(
        binary
            .command(&["check"])
            .env("CREDENTIALS_DIRECTORY", &binary.dir.0)
            .env("FAREWELL_TEST_SHORT", "abc"),
    );
    assert_eq!(said.code, 0, "{keys}: {said:?}");
    said
}

fn http(keys: &str) -> String {
    format!("[[step]]\nname = \"a\"\nkind = \"http\"\n{keys}\n")
}

#[test]
fn secrets_in_plain_text_are_warned_of_and_more_where_others_can_read_them() {
    let url = "url = \"https://h.example/\"";
    for (at, keys) in [
        http(&format!("{url}\nuser = \"u\"\npassword = \"literal-pass\"")),
        http(&format!("{url}\nheaders = {{ Authorization = \"Bearer literal-token\" }}")),
        http(&format!("{url}\nheaders = {{ X-ApiKey = \"literal-token\" }}")),
        http(&format!("{url}\nheaders = {{ Cookie = \"literal-token\" }}")),
        http("url = \"https://h.example/x?a=b&access_token=literal-token\""),
        http("url = \"https://h.example/x?token=literal-token&host=${hostname}\""),
        "[[step]]\nname = \"a\"\nkind = \"command\"\nargv = [\"true\"]\nenvironment = { PGPASSWORD = \"literal-pass\" }\n".to_owned(),
        "[[step]]\nname = \"a\"\nkind = \"deregister\"\nregistry = \"consul\"\nservice = \"s\"\ntoken = \"literal-token\"\n".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        let private = check(&format!("plain-{at}"), 0o600, keys);
        assert!(private.stderr.contains("in plain text"), "{keys}: {private:?}");
        assert!(!private.stderr.contains("every user"), "{keys}: {private:?}");
        assert!(private.stdout.contains("warning"), "{keys}: {private:?}");
        let open = check(&format!("plain-open-{at}"), 0o644, keys);
        assert!(
            open.stderr.contains("every user of this machine can read it (mode 0644): chmod o= "),
            "{keys}: {open:?}"
        );
        for said in [private, open] {
            assert!(!format!("{said:?}").contains("literal-"), "{keys}: {said:?}");
        }
    }
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_credential_that_others_can_read_or_write_is_not_used() {
    const NOBODY: u32 = 65534;
    for (at, mode, owner, told) in [
        (0, 0o644, 0, "can be read by others (mode 0644): chmod 600 "),
        (
            1,
            0o602,
            0,
            "can be written by others (mode 0602): chmod 600 ",
        ),
        (
            2,
            0o660,
            0,
            "can be written by its group 0 (mode 0660): chmod g-w ",
        ),
        (
            3,
            0o640,
            NOBODY,
            "can be read by the group 0 of the user 65534 (mode 0640): chmod 600 ",
        ),
        (4, 0o640, 0, ""),
        (5, 0o600, 0, ""),
    ] {
        let step = "[[step]]\nname = \"a\"\nkind = \"command\"\nargv = [\"true\"]\n\
                    environment = { PGPASSWORD = \"${credential:long}\" }\n";
        let binary = Binary::new(&format!("credentials-open-{at}"), step);
        binary.dir.credential("long", SECRET);
        let file = binary.dir.0.join("long");
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("set");
        chown(&file, Some(owner), None).expect("given");
        let mut command = binary.command(&["run"]);
        let said = Ended::of(command.env("CREDENTIALS_DIRECTORY", &binary.dir.0));
        let told = match told {
            "" => "step a: done".to_owned(),
            told => format!("{}{}", told, file.display()),
        };
        assert!(said.stdout.contains(&told), "{mode:o}: {told}: {said:?}");
        assert!(!format!("{said:?}").contains(SECRET), "{mode:o}");
        assert_eq!(
            said.code,
            i32::from(!told.contains("done")),
            "{mode:o}: {said:?}"
        );
    }
}

#[test]
#[ignore = "needs openssl; tests/run has it"]
fn a_key_that_others_can_read_or_write_is_told_and_used_all_the_same() {
    let dir = Dir::new("credentials-key");
    make_certificates(&dir);
    let server = TlsServer::start(&dir, "server", true);
    let file = |name: &str| dir.file(name);
    let keys = http(&format!(
        "url = \"https://{}/x\"\nca-file = {:?}\ncert-file = {:?}\nkey-file = {:?}",
        server.address,
        file("ca.crt"),
        file("client.crt"),
        file("client.key"),
    ));
    let binary = Binary::new("credentials-key-config", &keys);
    for (mode, told) in [
        (0o666, "can be read by others (mode 0666): chmod 600 "),
        (0o602, "can be written by others (mode 0602): chmod 600 "),
        (0o600, ""),
    ] {
        let key = file("client.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).expect("set");
        let said = binary.verb(&["check"]);
        assert_eq!(said.code, if told.is_empty() { 0 } else { 78 }, "{said:?}");
        if !told.is_empty() {
            let told = format!("{told}{key}");
            assert!(said.stderr.contains(&told), "{told}: {said:?}");
        }
        let said = binary.verb(&["run"]);
        assert!(said.stdout.contains("step a: done"), "{said:?}");
    }
}

#[test]
fn what_is_no_secret_in_plain_text_is_not_warned_of() {
    let url = "url = \"https://h.example/\"";
    for (at, keys) in [
        http(&format!("{url}\nuser = \"u\"\npassword = \"${{credential:long}}\"")),
        http(&format!("{url}\nheaders = {{ Authorization = \"Bearer ${{credential:long}}\" }}")),
        http(&format!("{url}\nheaders = {{ Idempotency-Key = \"${{run}}\", Accept = \"text/plain\" }}")),
        http("url = \"https://h.example/x?key_of_nothing=1&page=2\""),
        http("url = \"http://h.example/x\""),
        http("url = \"http://127.0.0.1:1/x\"\nuser = \"u\"\npassword = \"${credential:long}\""),
        "[[step]]\nname = \"a\"\nkind = \"command\"\nargv = [\"true\"]\nenvironment = { SSH_KEY = \"/etc/ssh/key\" }\n".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        let said = check(&format!("fine-{at}"), 0o644, keys);
        assert!(said.stdout.contains("no problems"), "{keys}: {said:?}");
    }
}

#[test]
fn credentials_over_plain_http_to_another_machine_are_warned_of() {
    let account = "user = \"u\"\npassword = \"${credential:long}\"";
    for (at, (url, is_open)) in [
        ("http://h.example/", true),
        ("http://192.0.2.1:8500/", true),
        ("http://${env:FAREWELL_TEST_SHORT}.example/", true),
        ("https://h.example/", false),
        ("http://localhost:1/", false),
        ("http://[::1]:1/", false),
        ("unix:///run/app.sock", false),
    ]
    .into_iter()
    .enumerate()
    {
        let keys = http(&format!("url = \"{url}\"\n{account}"));
        let said = check(&format!("open-{at}"), 0o600, &keys);
        let is_told = said.stderr.contains("over plain http");
        assert_eq!(is_told, is_open, "{url}: {said:?}");
    }
}

#[test]
fn short_secrets_are_warned_of() {
    for (at, (password, is_short)) in [
        ("${credential:short}", true),
        ("${env:FAREWELL_TEST_SHORT}", true),
        ("1234567", true),
        ("${credential:long}", false),
        ("12345678", false),
    ]
    .into_iter()
    .enumerate()
    {
        let keys = http(&format!(
            "url = \"https://h.example/\"\nuser = \"u\"\npassword = \"{password}\""
        ));
        let said = check(&format!("short-{at}"), 0o600, &keys);
        let is_told = said.stderr.contains("fewer than 8 characters");
        assert_eq!(is_told, is_short, "{password}: {said:?}");
    }
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_secret_is_not_kept_with_the_facts_and_costs_no_run() {
    let toml = "[[step]]\nname = \"a\"\nkind = \"http\"\nurl = \"http://127.0.0.1:1/${file:/run/farewell/zone}\"\n\
                user = \"u\"\npassword = \"${file:/run/farewell/pass}\"\nattempts = 1\n\
                headers = { X-Api-Key = \"${json:/run/farewell/data.json#/key}\" }\n\
                [[step]]\nname = \"b\"\nkind = \"command\"\nargv = [\"true\"]\n\
                environment = { DB_PASSWORD = \"in-plain-text\" }\n";
    let place = Installed::with("credentials-kept", toml);
    place.write("run/zone", "eu-1\n");
    place.write("run/pass", "s3cret-in-a-file\n");
    place.write("run/data.json", r#"{"key": "s3cret-in-json"}"#);
    // As an earlier version kept it.
    place.write(
        "run/facts.json",
        r#"{"${file:/run/farewell/pass}": "s3cret-in-a-file"}"#,
    );
    let said = place.run("farewell", &["start"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stderr.contains("in plain text"), "{said:?}");
    let kept = place.text("run/facts.json");
    assert!(kept.contains("eu-1"), "{kept}");
    assert!(!kept.contains("s3cret"), "{kept}");
    let said = place.run("farewell", &["run"]);
    assert_eq!(
        said.code, 1,
        "the step a fails, and b takes place: {said:?}"
    );
    assert!(!said.stderr.contains("in plain text"), "{said:?}");
}

/// Reads a request, and says 200 to it.
fn answer_one<S: Read + Write>(stream: S) {
    let mut stream = BufReader::new(stream);
    if read_request(&mut stream).is_some() {
        let whole = answer("200 OK", "", "{}");
        // Whoever asked may have gone.
        let _ = stream.get_mut().write_all(whole.as_bytes());
    }
}

/// What `rehearse` says of a step with credentials, whose peer is a socket that `user` has made.
fn rehearsed(name: &str, user: u32, keys: &str) -> Ended {
    let make = move || {
        // Of this thread alone: the owner of a socket is the file system's user of who makes it.
        setfsuid(Uid::from_raw(user));
        TcpListener::bind("127.0.0.1:0").expect("a port")
    };
    let listener = std::thread::spawn(make).join().expect("a socket");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        listener.incoming().flatten().for_each(answer_one);
    });
    let binary = Binary::new(
        &format!("credentials-owner-{name}"),
        &http(&format!("url = \"http://127.0.0.1:{port}/\"\n{keys}")),
    );
    binary.dir.credential("long", "a-long-secret");
    Ended::of(
        binary
            .command(&["rehearse"])
            .env("CREDENTIALS_DIRECTORY", &binary.dir.0),
    )
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_rehearsal_warns_where_an_ordinary_user_would_get_credentials() {
    assert!(
        geteuid().is_root(),
        "needs root: it makes sockets of others"
    );
    let account = "user = \"u\"\npassword = \"${credential:long}\"";
    let is_told = |said: &Ended| said.stdout.contains("the user with the id 1234 listens");
    let said = rehearsed("user", 1234, account);
    assert!(is_told(&said), "{said:?}");
    assert!(said.stdout.contains("1 warning"), "{said:?}");
    // A unix socket has an owner, too.
    let dir = Dir::new("credentials-owner-socket");
    let path = dir.file("agent.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    std::os::unix::fs::chown(&path, Some(1234), None).expect("given away");
    std::thread::spawn(move || {
        listener.incoming().flatten().for_each(answer_one);
    });
    let binary = Binary::new(
        "credentials-owner-unix",
        &http(&format!("url = \"unix://{path}:/\"\n{account}")),
    );
    dir.credential("long", "a-long-secret");
    let said = Ended::of(
        binary
            .command(&["rehearse"])
            .env("CREDENTIALS_DIRECTORY", &dir.0),
    );
    assert!(is_told(&said), "{said:?}");
    for (name, user, keys) in [
        ("system", 0, account),
        ("daemon", 120, account),
        ("nothing", 1234, ""),
    ] {
        let said = rehearsed(name, user, keys);
        assert!(!said.stdout.contains("listens at"), "{name}: {said:?}");
    }
}
