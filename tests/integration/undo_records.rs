//! What comes back from a record is data: text is sent as it is, secrets are read by reference, and nothing is rendered.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};

use crate::support::binary::{Binary, Ended, step_of};
use crate::support::fleetlock_stand_in::{FleetLock, Make};
use crate::support::loopback::{Asked, Loopback, Reply};
use crate::support::nomad_stand_in::{Fault, NODE, NomadStandIn};
use farewell::sys::host;
use serde_json::{Value, json};

const SECRET: &str = "content-of-a-file-of-root";

/// A file of which nothing may ever be sent.
fn secret(binary: &Binary) -> String {
    let path = binary.dir.file("shadow");
    fs::write(&path, SECRET).expect("written");
    path
}

/// Runs a verb with these credentials and variables.
fn verb(binary: &Binary, verb: &[&str], variables: &[(&str, &str)]) -> Ended {
    let credentials = binary.dir.file("credentials");
    fs::create_dir_all(&credentials).expect("made");
    for (name, text) in [("nomad", "the-token"), ("fleet", "fleet")] {
        let path = format!("{credentials}/{name}");
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
    }
    let mut command = binary.command(verb);
    command
        .env("CREDENTIALS_DIRECTORY", credentials)
        .envs(variables.iter().copied());
    Ended::of(&mut command)
}

fn undo(binary: &Binary) -> Ended {
    verb(binary, &["start", "--undo-only"], &[])
}

/// The text of the only record, or of the newest one.
fn record(binary: &Binary) -> String {
    let entries = fs::read_dir(binary.dir.file("state/runs")).expect("read");
    let paths = entries.map(|it| it.expect("an entry").path());
    let records = paths.filter(|it| it.extension().is_some_and(|it| it == "jsonl"));
    fs::read_to_string(records.max().expect("a record")).expect("read")
}

/// A stand-in for a server that is both of Nomad and of FleetLock: it does what it is told, and keeps what it heard.
struct Everything {
    server: Loopback,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Everything {
    fn start(node: &str) -> Everything {
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let (kept, node) = (heard.clone(), node.to_owned());
        // As the run of the record that is kept has left it.
        let eligible = Mutex::new(false);
        let drained_by = Mutex::new(json!({"farewell": "20261128T134606.930Z-nqlq"}));
        let server = Loopback::start(move |asked: &Asked| {
            kept.lock().expect("lock").push(asked.whole.clone());
            let mut eligible = eligible.lock().expect("lock");
            let mut drained_by = drained_by.lock().expect("lock");
            let body: Value = serde_json::from_str(&asked.body).unwrap_or_default();
            let answer = match asked.path.as_str() {
                "/v1/agent/self" => json!({"stats": {"client": {"node_id": node}}}),
                path if path.ends_with("/allocations") => json!([]),
                path if path.ends_with("/drain") => {
                    *eligible = body["MarkEligible"] == true;
                    *drained_by = body["Meta"].clone();
                    json!({})
                }
                path if path.starts_with("/v1/node/") => json!({
                    "Name": "n1", "DrainStrategy": null, "LastDrain": {"Meta": *drained_by},
                    "SchedulingEligibility": if *eligible { "eligible" } else { "ineligible" },
                }),
                _ => json!({}),
            };
            Reply::text("200 OK", &answer.to_string())
        });
        Everything { server, heard }
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("lock").clone()
    }
}

/// A place with the record in tests/integration/records, which an earlier farewell has written, as it is but for the machine and the peer's address.
fn old(name: &str, url: &str, change: impl FnOnce(String) -> String) -> Binary {
    let binary = Binary::new(name, "");
    let text = fs::read_to_string("tests/integration/records/first-format.jsonl").expect("read");
    let text = text.replace(
        "3d1219c7c4c5404aaa1f6d2a48adfda4",
        &host::machine_id().expect("an id"),
    );
    let text = change(text).replace("http://127.0.0.1:4646", url);
    let runs = binary.dir.file("state/runs");
    fs::create_dir_all(&runs).expect("made");
    fs::write(format!("{runs}/20261128T134606.930Z-nqlq.jsonl"), text).expect("written");
    binary
}

#[test]
fn a_record_of_the_first_format_is_undone() {
    let peer = Everything::start(NODE);
    let binary = old("records-old", &peer.server.url(), |text| text);
    let ended = undo(&binary);
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    let heard = peer.heard();
    let find = |part: &str| heard.iter().find(|it| it.contains(part)).expect(part);
    // A credential by its name, and text that was written as a template would be.
    let drained = find("\"MarkEligible\":true");
    assert!(drained.contains("x-nomad-token: the-token"), "{drained}");
    assert!(drained.contains("x-site: ${site}"), "{drained}");
    let given_back = find("/v1/steady-state");
    assert!(given_back.contains(r#""id":"web-${x}""#), "{given_back}");
    assert!(given_back.contains("authorization: Basic "), "{given_back}");
    let asked = heard.len();
    assert_eq!(undo(&binary).code, 0);
    assert_eq!(peer.heard().len(), asked);
}

#[test]
fn nothing_of_an_old_record_is_rendered() {
    // Every string of it, each in the place of the one that stood there.
    for (at, what) in [
        NODE,
        "web-$${x}",
        "$${site}",
        "workers",
        "\"farewell\"}",
        "20261128T134606.930Z-nqlq\",\"token\"",
        "${credential:nomad}",
        "${credential:fleet}",
    ]
    .into_iter()
    .enumerate()
    {
        let peer = Everything::start(NODE);
        let path = std::cell::RefCell::default();
        let binary = old(
            &format!("records-attack-{at}"),
            &peer.server.url(),
            |text| {
                let fact =
                    std::env::temp_dir().join(format!("farewell-{}-{at}", std::process::id()));
                fs::write(&fact, SECRET).expect("written");
                let attack = format!("${{file:{}}}", fact.display());
                path.replace(Some(fact));
                assert!(text.contains(what), "{what}");
                let quoted = what.replace("20261128T134606.930Z-nqlq", &attack);
                let quoted = match quoted == what {
                    true if what.contains('"') => what.replace("farewell", &attack),
                    true => attack,
                    false => quoted,
                };
                text.replace(what, &quoted)
            },
        );
        undo(&binary);
        fs::remove_file(path.take().expect("a file")).expect("removed");
        let heard = peer.heard().join("\n");
        assert!(!heard.contains(SECRET), "{what}: {heard}");
    }
}

#[test]
fn a_peer_s_name_for_itself_is_not_sent_back() {
    let binary = Binary::new("records-peer", "");
    let path = secret(&binary);
    for node in [
        format!("${{file:{path}}}"),
        "../agent/force-leave".to_owned(),
        format!("{NODE}/x"),
    ] {
        let peer = Everything::start(&node);
        let url = peer.server.url();
        binary.configure(&format!(
            "[[step]]\nname = \"leave\"\nkind = \"deregister\"\nregistry = \"nomad\"\nurl = {url:?}\ntimeout = \"2s\"\n"
        ));
        assert_eq!(verb(&binary, &["run"], &[]).code, 1, "{node}");
        let report = binary.report();
        let word = &step_of(&report, "leave")["error"]["word"];
        assert_eq!(word, "protocol", "{node}");
        assert_eq!(undo(&binary).code, 0, "{node}");
        let heard = peer.heard();
        assert!(!heard.join("\n").contains(SECRET), "{heard:?}");
        assert!(
            heard.iter().all(|it| it.starts_with("GET /v1/agent/self ")),
            "{heard:?}"
        );
    }
}

#[test]
fn facts_side_by_side_are_no_template() {
    let binary = Binary::new("records-facts", "");
    let path = secret(&binary);
    let server = FleetLock::start(Make::Airlock);
    let url = &server.url;
    binary.configure(&format!(
        "[[step]]\nname = \"lock\"\nkind = \"lock\"\nvia = \"fleetlock\"\nurl = {url:?}\nid = \"${{env:A}}${{env:B}}\"\n"
    ));
    let rest = format!("{{file:{path}}}");
    let run = verb(
        &binary,
        &["run", "--trigger", "reboot"],
        &[("A", "x$"), ("B", &rest)],
    );
    assert_eq!(run.code, 0, "{}", run.stderr);
    let id = format!("x$${{file:{path}}}").replace("$$", "$");
    assert_eq!(server.holder("default").as_deref(), Some(id.as_str()));
    let ended = undo(&binary);
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    assert_eq!(server.holder("default"), None);
    assert!(server.heard().iter().all(|it| it.id == id));
}

#[test]
fn a_password_that_is_a_common_word_spoils_no_undo() {
    let binary = Binary::new("records-weak", "");
    let server = FleetLock::with_groups(Make::Airlock, &["fleet"]);
    let url = &server.url;
    binary.configure(&format!(
        "[[step]]\nname = \"lock\"\nkind = \"lock\"\nvia = \"fleetlock\"\nurl = {url:?}\ngroup = \"fleet\"\nid = \"fleet-1\"\n\
         user = \"fleet\"\npassword = \"${{credential:fleet}}\"\n"
    ));
    let run = verb(&binary, &["run", "--trigger", "reboot"], &[]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(server.holder("fleet").as_deref(), Some("fleet-1"));
    // The password is not in the record, and everything else is.
    let text = record(&binary);
    assert!(!text.contains("********"), "{text}");
    assert!(
        text.contains(r#""password":{"read from":[{"credential":"fleet"}]}"#),
        "{text}"
    );
    let ended = undo(&binary);
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    assert_eq!(server.holder("fleet"), None);
}

#[test]
fn a_header_s_value_from_a_file_is_not_in_the_record() {
    let binary = Binary::new("records-header", "");
    let path = secret(&binary);
    let server = FleetLock::start(Make::Airlock);
    let url = &server.url;
    binary.configure(&format!(
        "[[step]]\nname = \"lock\"\nkind = \"lock\"\nvia = \"fleetlock\"\nurl = {url:?}\nid = \"i\"\n\
         headers = {{ X-ApiKey = \"key ${{file:{path}}}\", Authorization = \"Bearer ${{credential:nomad}}\" }}\n"
    ));
    assert_eq!(verb(&binary, &["run", "--trigger", "reboot"], &[]).code, 0);
    let text = record(&binary);
    assert!(
        !text.contains(SECRET) && !text.contains("the-token"),
        "{text}"
    );
    assert_eq!(undo(&binary).code, 0);
    assert_eq!(server.holder("default"), None);
}

#[test]
fn drains_one_after_another_are_one_chain() {
    for times in [2, 3] {
        let nomad = NomadStandIn::start();
        let keys = format!(
            "kind = \"deregister\"\nregistry = \"nomad\"\nurl = {:?}\ntimeout = \"10s\"",
            nomad.url
        );
        let binary = Binary::new(
            &format!("records-chain-{times}"),
            &format!("[[step]]\nname = \"leave\"\n{keys}\n"),
        );
        for at in 0..times {
            nomad.set_fault(Fault::None);
            nomad.run(&[("web.a[0]", "service")]);
            assert_eq!(binary.verb(&["run"]).code, 0, "run {at}");
            assert!(!nomad.is_eligible());
            nomad.set_fault(Fault::Forbidding);
            assert_eq!(undo(&binary).code, 1, "undo {at}");
        }
        nomad.set_fault(Fault::None);
        let ended = undo(&binary);
        assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
        assert!(nomad.is_eligible(), "{}", ended.stdout);
        let asked = nomad.heard().len();
        assert_eq!(undo(&binary).code, 0);
        assert_eq!(nomad.heard().len(), asked, "nothing is pending any more");
    }
}

#[test]
fn a_copy_of_another_machine_s_disk_says_so_in_one_line_and_a_moved_one_names_the_way_out() {
    let own = host::machine_id().expect("an id");
    let copied = |name: &str, url: &str| {
        old(name, url, |text| {
            text.replace(&own, "00000000000000000000000000000001")
        })
    };
    let peer = Everything::start(NODE);
    let copy = copied("records-copy", &peer.server.url());
    let ended = undo(&copy);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert!(
        lines.len() == 2
            && lines[0].contains(" and 1 more: left by another machine (this disk is a copy"),
        "{}",
        ended.stdout
    );
    // On hardware that no machine has.
    let product = "\",\"product\":\"00000000-dead-beef-0000-000000000000\"}";
    let moved = old("records-moved", &peer.server.url(), |text| {
        text.replace(&format!("{own}\"}}"), &format!("{own}{product}"))
    });
    let has_product = host::machine().product.is_some();
    let ended = undo(&moved);
    assert_eq!(
        ended.code,
        i32::from(has_product),
        "{}{}",
        ended.stdout,
        ended.stderr
    );
    if has_product {
        let way_out = format!(
            "rm {}",
            moved.dir.file("state/runs/20261128T134606.930Z-nqlq.jsonl")
        );
        assert_eq!(
            ended.stderr.matches(&way_out).count(),
            2,
            "{}",
            ended.stderr
        );
        assert!(
            ended
                .stderr
                .contains("00000000-dead-beef-0000-000000000000"),
            "{}",
            ended.stderr
        );
        assert_eq!(peer.heard().len(), 0);
        fs::remove_file(moved.dir.file("state/runs/20261128T134606.930Z-nqlq.jsonl"))
            .expect("removed");
        assert_eq!(undo(&moved).code, 0);
    }
}
