//! No secret of a member in anything that is left or shown, though its peer repeats everything that it is sent.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::support::Dir;
use crate::support::binary::Binary;
use crate::support::loopback::{Loopback, Reply};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const SECRET: &str = "s3cr3t-Of-A-Member";

/// Answers every request with a status and with everything that it was sent.
fn parrot(status: &'static str) -> SocketAddr {
    Loopback::start(move |asked| Reply::text(status, &asked.whole)).address
}

/// A step of every member that takes a secret.
fn sequence(peer: SocketAddr) -> String {
    let account = "user = \"joe\"\npassword = \"${credential:member}\"";
    let token = "token = \"${credential:member}\"";
    let members = [
        ("deregister", format!("registry = \"consul\"\nservice = \"web\"\n{token}")),
        (
            "deregister",
            format!("registry = \"eureka\"\napp = \"A\"\ninstance = \"i\"\nout-of-service = \"1ms\"\n{account}"),
        ),
        ("deregister", format!("registry = \"nomad\"\ndeadline = \"200ms\"\n{token}")),
        (
            "deregister",
            format!("registry = \"nacos\"\nservice = \"s\"\nip = \"10.0.0.1\"\nport = 80\n{account}"),
        ),
        ("deregister", format!("registry = \"etcd\"\nkey = \"k\"\n{account}")),
        (
            "wait-safe",
            "cluster = \"hazelcast\"\nshutdown = true\npassword = \"${credential:member}\"".to_owned(),
        ),
        ("wait-safe", format!("cluster = \"etcd\"\n{account}")),
        ("wait-safe", format!("cluster = \"elasticsearch\"\nnode = \"n\"\n{account}")),
        ("wait-safe", format!("cluster = \"opensearch\"\nnode = \"n\"\n{account}")),
        ("wait-safe", format!("cluster = \"rabbitmq\"\n{account}")),
        ("lock", format!("via = \"etcd\"\nkey = \"k\"\n{account}")),
        ("lock", format!("via = \"consul\"\nkey = \"k\"\n{token}")),
        (
            "lock",
            "via = \"fleetlock\"\nid = \"i\"\nheaders = { Authorization = \"Bearer ${credential:member}\" }".to_owned(),
        ),
    ];
    let step = |(number, (kind, keys)): (usize, &(&str, String))| {
        format!(
            "[[step]]\nname = \"s{number}\"\nkind = {kind:?}\nurl = \"http://{peer}\"\nafter = []\ntimeout = \"800ms\"\n\
             attempt-timeout = \"300ms\"\n{keys}\n"
        )
    };
    let steps: String = members.iter().enumerate().map(step).collect();
    format!("[farewell]\nbudget = \"3s\"\n{steps}")
}

fn files(directory: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(directory).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push((path.display().to_string(), fs::read(&path).expect("a file")));
        }
    }
}

#[test]
fn a_peer_that_repeats_everything_gives_no_secret_away() {
    let credentials = Dir::new("secrets-members-credentials");
    credentials.credential("member", SECRET);
    let basic = STANDARD.encode(format!("joe:{SECRET}"));
    let statuses = [
        "200 OK",
        "400 Bad Request",
        "403 Forbidden",
        "500 Internal Server Error",
    ];
    std::thread::scope(|threads| {
        for status in statuses {
            let (credentials, basic) = (&credentials, &basic);
            threads.spawn(move || gives_nothing_away(status, credentials, basic));
        }
    });
}

fn gives_nothing_away(status: &'static str, credentials: &Dir, basic: &str) {
    let name = format!("secrets-members-{}", &status[..3]);
    let binary = Binary::new(&name, &sequence(parrot(status)));
    let mut said = Vec::new();
    let mut verbs = vec![
        &["check"][..],
        &["plan"],
        &["rehearse"],
        &["run"],
        &["report"],
    ];
    // What passes by itself is tried again for half a minute there, and says nothing else than in the run.
    if status.starts_with('4') {
        verbs.push(&["start", "--undo-only"]);
    }
    for verb in verbs {
        let output = binary
            .command(verb)
            .env("CREDENTIALS_DIRECTORY", &credentials.0)
            .env("FAREWELL_LOG", "trace")
            .output()
            .expect("it starts");
        said.push((format!("{verb:?}: standard output"), output.stdout));
        said.push((format!("{verb:?}: standard error"), output.stderr));
    }
    let run = String::from_utf8_lossy(&said[7].1).into_owned();
    assert!(run.contains("farewell: debug: "), "{run}");
    files(Path::new(&binary.dir.file("state")), &mut said);
    assert!(
        said.iter().any(|(place, _)| place.ends_with(".jsonl")),
        "no record"
    );
    for (place, bytes) in said {
        let text = String::from_utf8_lossy(&bytes);
        assert!(
            !text.contains(SECRET) && !text.contains(basic),
            "{status}: {place}: {text}"
        );
    }
}
