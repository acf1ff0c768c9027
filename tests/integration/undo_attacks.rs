//! Records whose every text asks for a file of root: of each member that leaves something, in both formats.

use std::fs;
use std::sync::{Arc, Mutex};

use crate::support::binary::Binary;
use crate::support::loopback::{Asked, Loopback, Reply};
use farewell::sys::host;
use serde_json::{Value, json};

const SECRET: &str = "content-of-a-file-of-root";

const UUID: &str = "5d1b0b5a-2f0d-4d8e-9d0f-0123456789ab";

/// Kind, member, and what it keeps: everything that its undo reads, and what every peer has.
fn sticky(url: &str) -> Vec<(&'static str, &'static str, Value)> {
    let peer = |keys: Value| {
        let mut what =
            json!({"url": [url], "headers": {"X-Site": "site", "Authorization": "Bearer x"}});
        let entries = keys.as_object().expect("a table").clone();
        what.as_object_mut().expect("a table").extend(entries);
        what
    };
    vec![
        (
            "deregister",
            "nomad",
            peer(json!({"node": UUID, "run": "r", "eligible": true, "token": "t"})),
        ),
        (
            "deregister",
            "nacos",
            peer(
                json!({"service": "web", "ip": "10.0.0.1", "port": 80, "group": "g", "namespace": "n", "cluster": "c",
                        "weight": "1", "metadata": "{\"a\":\"b\"}"}),
            ),
        ),
        (
            "lock",
            "etcd",
            peer(json!({"key": "fleet", "own": "fleet/1", "holder": "h"})),
        ),
        (
            "lock",
            "consul",
            peer(json!({"key": "fleet", "session": UUID, "holder": "h", "token": "t"})),
        ),
        ("lock", "fleetlock", peer(json!({"group": "g", "id": "i"}))),
        (
            "wait-safe",
            "elasticsearch",
            peer(json!({"node": "n1", "id": "W3xT"})),
        ),
        ("wait-safe", "opensearch", peer(json!({"node": "n1"}))),
    ]
}

/// As often as there is a text in it, the value with another one replaced, and last with all of them; addresses stay.
fn attacked(what: &Value, attack: &str) -> Vec<Value> {
    fn replace(value: &mut Value, attack: &str, only: Option<usize>, at: &mut usize) {
        match value {
            Value::String(text) if text.starts_with("http://") => {}
            Value::String(text) => {
                if only.is_none_or(|it| it == *at) {
                    *text = attack.to_owned();
                }
                *at += 1;
            }
            Value::Array(items) => items
                .iter_mut()
                .for_each(|it| replace(it, attack, only, at)),
            Value::Object(entries) => entries
                .values_mut()
                .for_each(|it| replace(it, attack, only, at)),
            _ => {}
        }
    }
    let (mut texts, mut whole) = (0, what.clone());
    replace(&mut whole, attack, None, &mut texts);
    assert!(texts >= 3, "{what}");
    let one = |only| {
        let mut value = what.clone();
        replace(&mut value, attack, Some(only), &mut 0);
        value
    };
    (0..texts).map(one).chain([whole]).collect()
}

/// A record in which all of this is pending, each about another thing.
fn record(kind: &str, member: &str, whats: &[Value], has_things: bool) -> String {
    let machine = host::machine_id().expect("an id");
    let steps: Vec<Value> = (0..whats.len())
        .map(|at| json!({"name": format!("s{at}"), "kind": kind}))
        .collect();
    let mut lines = vec![json!({
        "at_usec": 1, "event": "run-started", "run": "20261128T134606.930Z-nqlq", "machine": {"id": machine},
        "trigger": "reboot", "started": "2026-11-28T13:46:06.930568Z", "budget_usec": 90_000_000_u64,
        "reserve_usec": 0, "steps": steps,
    })];
    for (at, what) in whats.iter().enumerate() {
        let mut intent = json!({"member": member, "noun": format!("thing {at}"), "what": what});
        if has_things {
            intent["thing"] = format!("thing {at}").into();
        }
        lines.push(json!({
            "at_usec": 2, "event": "intended", "step": format!("s{at}"), "kind": kind, "number": 0, "intent": intent,
        }));
    }
    lines.push(json!({"at_usec": 3, "event": "run-finished", "result": "ok"}));
    lines.iter().map(|it| format!("{it}\n")).collect()
}

#[test]
fn no_text_of_any_record_is_rendered() {
    let heard = Arc::<Mutex<Vec<String>>>::default();
    let kept = heard.clone();
    let server = Loopback::start(move |asked: &Asked| {
        kept.lock().expect("lock").push(asked.whole.clone());
        // What is known to be gone or wrong is not asked again.
        Reply::text("400 Bad Request", "{}")
    });
    let file = crate::support::Dir::new("undo-attacks-secret");
    fs::write(file.file("shadow"), SECRET).expect("written");
    fs::write(file.file("json"), json!({ "a": SECRET }).to_string()).expect("written");
    let attacks = [
        format!("${{file:{}}}", file.file("shadow")),
        format!("x${{json:{}#/a}}", file.file("json")),
        // As two facts side by side come out: the first one ends in a dollar.
        format!("x$${{file:{}}}", file.file("shadow")).replace("$$", "$"),
        "${env:FAREWELL_TEST_SECRET}".to_owned(),
        "x${credential:fleet}".to_owned(),
    ];
    for (kind, member, what) in sticky(&server.url()) {
        for has_things in [false, true] {
            let whats: Vec<Value> = attacks.iter().flat_map(|it| attacked(&what, it)).collect();
            let binary = Binary::new(&format!("undo-attacks-{member}-{has_things}"), "");
            let runs = binary.dir.file("state/runs");
            fs::create_dir_all(&runs).expect("made");
            let text = record(kind, member, &whats, has_things);
            fs::write(format!("{runs}/20261128T134606.930Z-nqlq.jsonl"), text).expect("written");
            binary.dir.credential("fleet", SECRET);
            heard.lock().expect("lock").clear();
            let mut undo = binary.command(&["start", "--undo-only"]);
            let output = undo
                .env("FAREWELL_TEST_SECRET", SECRET)
                .env("CREDENTIALS_DIRECTORY", &binary.dir.0)
                .output()
                .expect("it starts");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let heard = heard.lock().expect("lock").join("\n");
            assert!(
                heard.contains(" HTTP/1.1"),
                "{member} {has_things}: nothing was asked: {said}"
            );
            assert!(!heard.contains(SECRET), "{member} {has_things}: {heard}");
            assert!(!said.contains(SECRET), "{member} {has_things}: {said}");
        }
    }
}
