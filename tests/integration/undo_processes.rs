//! Undo with real processes: killed ones, power cuts, a run or another undo beside it, and the program itself.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::binary::{self, Binary, GENEROUS, sh, wait_until};
use crate::support::namespace::{Frozen, ext4, mount};
use crate::support::own_process::{in_own_namespace, is_inside, this_test};
use crate::support::sticky::{
    KIND, Peer, Place, Raise, act, given, in_a_process, intent, machine, raise, run, store,
};
use farewell::app::undo::{UndoOutcome, undo};
use farewell::config::facts::Facts;
use farewell::history::state_dir::{Admission, Holder};
use farewell::history::survey::Survey;
use farewell::model::trigger::Trigger;
use farewell::step::Outcome;
use farewell::sys::host;
use nix::sys::signal::Signal::{SIGKILL, SIGTERM};
use serde_json::json;

#[test]
fn a_run_that_is_killed_before_its_request_is_undone_and_that_is_harmless() {
    if is_inside(this_test!()) {
        return raises_and_hangs_before();
    }
    let (place, peer) = (Place::new("undo-killed-before"), Peer::start());
    let process = in_a_process(this_test!(), &place, &peer.url("a"));
    wait_until("it has declared it", || place.dir.0.join("on").exists());
    process.signal(SIGKILL);
    assert_eq!(process.end(GENEROUS).code, -9);
    assert_eq!(place.pending(), ["a"]);
    assert!(peer.heard().is_empty());
    assert_eq!(place.undo(), UndoOutcome::Undone);
    assert_eq!(peer.heard(), ["DELETE a"]);
    assert_eq!(place.undo(), UndoOutcome::Nothing);
}

fn raises_and_hangs_before() {
    let (place, url) = given();
    let instead = Some(place.join("on"));
    let raise = Arc::new(Raise { url, instead });
    let store = store(&place.join("state"));
    run(
        &store,
        &machine("this", "here"),
        GENEROUS,
        vec![("a", raise)],
    );
}

#[test]
fn a_run_that_is_killed_before_the_reply_is_undone() {
    if is_inside(this_test!()) {
        return raises();
    }
    let (place, peer) = (Place::new("undo-killed-after"), Peer::start());
    peer.be_mute(true);
    let process = in_a_process(this_test!(), &place, &peer.url("a"));
    wait_until("the request is there", || !peer.heard().is_empty());
    process.signal(SIGKILL);
    assert_eq!(process.end(GENEROUS).code, -9);
    peer.be_mute(false);
    assert_eq!(peer.flags(), ["a"]);
    assert_eq!(place.pending(), ["a"]);
    assert_eq!(place.undo(), UndoOutcome::Undone);
    assert!(peer.flags().is_empty());
}

fn raises() {
    let (place, url) = given();
    let store = store(&place.join("state"));
    let steps = vec![("a", raise(&url))];
    run(&store, &machine("this", "here"), GENEROUS, steps);
}

#[test]
fn an_undo_that_is_killed_is_done_again() {
    if is_inside(this_test!()) {
        return undoes();
    }
    let (place, peer) = (Place::new("undo-killed-itself"), Peer::start());
    place.leave(vec![("a", raise(&peer.url("a")))]);
    peer.be_mute(true);
    let process = in_a_process(this_test!(), &place, "");
    wait_until("the request is there", || peer.heard().len() == 2);
    // Another one does nothing beside it.
    assert_eq!(place.undo(), UndoOutcome::Occupied);
    process.signal(SIGKILL);
    assert_eq!(process.end(GENEROUS).code, -9);
    peer.be_mute(false);
    assert_eq!(
        (place.pending(), peer.flags().len()),
        (vec!["a".to_owned()], 0)
    );
    assert_eq!(place.undo(), UndoOutcome::Undone);
    assert_eq!(peer.heard(), ["PUT a", "DELETE a", "DELETE a"]);
}

fn undoes() {
    let (place, _) = given();
    let facts = Facts::new(Trigger::Stop, "test");
    let store = store(&place.join("state"));
    let outcome = undo(&store, &machine("this", "here"), facts, &[KIND], GENEROUS);
    assert_eq!(outcome, UndoOutcome::Pending);
}

#[test]
fn an_undo_does_nothing_beside_a_run() {
    let (place, peer) = (Place::new("undo-beside"), Peer::start());
    place.leave(vec![("a", raise(&peer.url("a")))]);
    let admission = place.store.enter(&Holder::this("r", false));
    let Ok(Admission::Admitted(held)) = admission else {
        panic!("nobody else is there");
    };
    assert_eq!(place.undo(), UndoOutcome::Occupied);
    assert_eq!(UndoOutcome::Occupied.code(), 75);
    assert_eq!(peer.heard(), ["PUT a"]);
    drop(held);
    assert_eq!(place.undo(), UndoOutcome::Undone);
}

/// The record of a run that has left a lock of a FleetLock server at `url`.
fn record_of_a_lock(id: &str, url: &str) -> String {
    let what = json!({"url": [url], "group": "g", "id": "i"});
    let lines = [
        json!({
            "at_usec": 1, "event": "run-started", "run": id, "machine": {"id": host::machine_id().expect("an id")},
            "trigger": "reboot", "started": "2026-11-28T13:46:06.930568Z", "budget_usec": 90_000_000_u64,
            "reserve_usec": 0, "steps": [{"name": "a", "kind": "lock"}],
        }),
        json!({
            "at_usec": 2, "event": "intended", "step": "a", "kind": "lock", "number": 0,
            "intent": {"member": "fleetlock", "noun": "the lock", "thing": "the lock", "what": what},
        }),
        json!({"at_usec": 3, "event": "run-finished", "result": "ok"}),
    ];
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[test]
fn systemds_run_takes_over_from_an_undo() {
    let mute = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = mute.local_addr().expect("an address");
    let binary = Binary::new(
        "undo-takeover",
        &sh("b", "echo b >> @/words", "timeout = '20s'"),
    );
    let runs = binary.state.join("runs");
    fs::create_dir_all(&runs).expect("made");
    let id = "20261128T134606.930Z-nqlq";
    let text = record_of_a_lock(id, &format!("http://{address}"));
    fs::write(runs.join(format!("{id}.jsonl")), text).expect("written");
    let process = binary.start(&["start", "--undo-only"]);
    // It asks, and is not answered.
    let _asked = mute.accept().expect("asked");
    let by_hand = binary.verb(&["run"]);
    assert_eq!(by_hand.code, 75, "{by_hand:?}");
    assert!(by_hand.stderr.contains("undo "), "{by_hand:?}");
    let ended = binary.start_by_systemd().end(GENEROUS);
    assert_eq!(
        (ended.code, binary.words()),
        (0, vec!["b".to_owned()]),
        "{ended:?}"
    );
    assert!(!ended.stdout.contains("beside"), "{ended:?}");
    // What it did not get to stays pending.
    assert_eq!(process.end(GENEROUS).code, 1);
    let left = binary::json(&binary.verb(&["report", id, "--json"]));
    assert_eq!(left["undo"][0]["state"], "pending", "{left:#}");
}

#[test]
fn an_undo_that_is_told_to_stop_ends() {
    if is_inside(this_test!()) {
        return undoes();
    }
    let (place, peer) = (Place::new("undo-told"), Peer::start());
    place.leave(vec![("a", raise(&peer.url("a")))]);
    peer.be_mute(true);
    let process = in_a_process(this_test!(), &place, "");
    wait_until("the request is there", || peer.heard().len() == 2);
    process.signal(SIGTERM);
    let ended = process.end(GENEROUS);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(place.pending(), ["a"]);
}

/// What is pending on a disk of which `image` is a copy.
fn pending_on(image: &Path, point: &Path) -> usize {
    fs::create_dir_all(point).expect("made");
    mount(&["-o", "loop", image.to_str().expect("text")], point);
    let survey = Survey::of(&store(point), &machine("this", "here")).expect("readable");
    survey.pending.len()
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn what_is_intended_survives_a_power_cut() {
    in_own_namespace(this_test!(), power_cut);
}

fn power_cut() {
    let place = Place::new("undo-power");
    let (images, disk) = (place.dir.0.join("images"), place.dir.0.join("state"));
    fs::create_dir_all(&images).expect("made");
    fs::create_dir_all(&disk).expect("made");
    ext4(&images, &disk);
    let cut = images.join("cut");
    let (from, to) = (images.join("disk"), cut.clone());
    // At the very moment at which the request would be made.
    let power_cut = act(move |scope| {
        scope.intend(&intent("http://a/a"))?;
        fs::copy(&from, &to).expect("copied");
        Ok(Outcome::Done)
    });
    place.leave(vec![("a", power_cut)]);
    assert_eq!(pending_on(&cut, &place.dir.0.join("after")), 1);
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_disk_that_freezes_delays_an_intent_a_little() {
    in_own_namespace(this_test!(), freezes);
}

fn freezes() {
    let place = Place::new("undo-frozen");
    let (images, disk) = (place.dir.0.join("images"), place.dir.0.join("state"));
    fs::create_dir_all(&images).expect("made");
    fs::create_dir_all(&disk).expect("made");
    ext4(&images, &disk);
    let (took, point) = (Arc::new(Mutex::new(Vec::new())), disk.clone());
    let takes = took.clone();
    let freeze = act(move |scope| {
        let _frozen = Frozen::freeze(&point);
        for at in 0..200 {
            let begun = Instant::now();
            scope.intend(&intent(&format!("http://a/{at}")))?;
            takes.lock().expect("no panic").push(begun.elapsed());
        }
        Ok(Outcome::Done)
    });
    place.leave(vec![("a", freeze)]);
    let took = took.lock().expect("no panic");
    // The first one waits; the others know that it is in vain. A busy machine may delay some of them.
    let wait = Duration::from_millis(50);
    assert!(took[0] >= wait, "{took:?}");
    let waits = took.iter().filter(|it| **it >= wait).count();
    assert!(waits < took.len() / 2, "{took:?}");
    // And it catches up.
    assert_eq!(place.pending().len(), 200);
}

#[test]
fn the_program_shows_what_is_pending_and_undoes_what_it_can() {
    let binary = Binary::new("undo-program", "");
    let none = binary.verb(&["start", "--undo-only"]);
    assert_eq!((none.code, none.stderr.as_str()), (0, ""), "{none:?}");
    assert!(!binary.state.exists(), "nothing was to be done");
    let peer = Peer::start();
    let steps = vec![("a", raise(&peer.url("a")))];
    let (id, _) = run(&store(&binary.state), &host::machine(), GENEROUS, steps);
    let report = binary.verb(&["report", &id]);
    let left = format!("a: left the flag {}, to be undone by", peer.url("a"));
    assert!(report.stdout.contains(&left), "{report:?}");
    // It knows no such kind, as an older farewell would not.
    let ended = binary.verb(&["start", "--undo-only"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    for told in [": pending", &id, "cannot undo a sticky", "failed"] {
        assert!(ended.stdout.contains(told), "{told}: {ended:?}");
    }
    assert_eq!(binary.verb(&["start", "--undo-only"]).code, 1);
    let undo = || binary::json(&binary.verb(&["report", &id, "--json"]))["undo"].clone();
    assert_eq!(undo()[0]["state"], "pending");
    let facts = Facts::new(Trigger::Stop, "test");
    let outcome = farewell::app::undo::undo(
        &store(&binary.state),
        &host::machine(),
        facts,
        &[KIND],
        GENEROUS,
    );
    assert_eq!(outcome, UndoOutcome::Undone);
    assert_eq!(undo()[0]["state"], "undone");
    assert!(undo()[0]["at"].as_str().is_some_and(|at| at.ends_with('Z')));
    assert!(binary.verb(&["report", &id]).stdout.contains("a: undone 2"));
    assert_eq!(binary.verb(&["start", "--undo-only"]).code, 0);
}
