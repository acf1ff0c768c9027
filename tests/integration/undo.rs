//! What a run leaves is undone from its record: exactly what is pending, until it has succeeded.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::support::own_process::{in_own_process, this_test};
use crate::support::sticky::{Peer, Place, act, intent, machine, raise};
use farewell::app::undo::UndoOutcome;
use farewell::history::pending::{UndoState, undone};
use farewell::history::recorded_run;
use farewell::history::state_dir::new_id;
use farewell::model::event::Result as RunResult;
use farewell::model::secrets;
use farewell::step::Outcome;
use serde_json::{Value, json};

/// The lines of a record of one event.
fn lines(record: &Path, event: &str) -> Vec<Value> {
    let text = fs::read_to_string(record).expect("read");
    let lines = text.lines();
    let lines = lines.map(|line| serde_json::from_str(line).expect("JSON"));
    lines
        .filter(|line: &Value| line["event"] == event)
        .collect()
}

#[test]
fn what_a_run_left_is_undone_once() {
    let (place, peer) = (Place::new("undo-once"), Peer::start());
    assert_eq!(place.undo(), UndoOutcome::Nothing);
    let (a, b) = (raise(&peer.url("a")), raise(&peer.url("b")));
    let record = place.leave(vec![("a", a), ("b", b)]);
    let before = fs::read(&record).expect("read");
    assert_eq!(peer.flags(), ["a", "b"]);
    assert_eq!(place.pending(), ["a", "b"]);
    assert_eq!(place.undo(), UndoOutcome::Undone);
    // What was left last is undone first.
    assert_eq!(peer.heard(), ["PUT a", "PUT b", "DELETE b", "DELETE a"]);
    assert_eq!(place.undo(), UndoOutcome::Nothing);
    assert_eq!((peer.heard().len(), peer.flags().len()), (4, 0));
    let after = fs::read(&record).expect("read");
    assert_eq!(after, before, "the record stays as its run has left it");
    let past = recorded_run::read(&record).expect("whole");
    let is_undone = |fate| matches!(fate, UndoState::Undone(_));
    assert!(past.pending.iter().all(|it| is_undone(it.state)));
}

#[test]
fn an_undo_that_fails_stays_pending_and_costs_the_others_nothing() {
    let (place, peer) = (Place::new("undo-fails"), Peer::start());
    let names = ["first", "refused", "panic", "unmade", "passes"];
    place.leave(
        names
            .map(|name| (name, raise(&peer.url(name))))
            .into_iter()
            .collect(),
    );
    peer.refuse("DELETE passes", "503 Busy");
    peer.refuse("DELETE passes", "503 Busy");
    peer.refuse("DELETE refused", "403 No");
    assert_eq!(place.undo(), UndoOutcome::Pending);
    assert_eq!(
        peer.heard()[5..],
        [
            "DELETE passes",
            "DELETE passes",
            "DELETE passes",
            "DELETE refused",
            "DELETE first"
        ]
    );
    assert_eq!(place.pending(), ["refused", "panic", "unmade"]);
    // The next one has nothing else to do.
    assert_eq!(place.undo(), UndoOutcome::Pending);
    assert_eq!(peer.heard()[10..], ["DELETE refused"]);
    assert_eq!(place.pending(), ["panic", "unmade"]);
}

#[test]
fn a_peer_that_hangs_leaves_their_share_to_the_others() {
    let (place, peer, mute) = (Place::new("undo-hangs"), Peer::start(), Peer::start());
    let hang = [
        ("a", raise(&peer.url("a"))),
        ("x", raise(&mute.url("x"))),
        ("y", raise(&mute.url("y"))),
    ];
    place.leave(hang.into_iter().collect());
    mute.be_mute(true);
    assert_eq!(
        place.undo_within(Duration::from_secs(6)),
        UndoOutcome::Pending
    );
    assert!(peer.flags().is_empty());
    assert_eq!(place.pending(), ["x", "y"]);
    mute.be_mute(false);
    assert_eq!(place.undo(), UndoOutcome::Undone);
    assert!(place.pending().is_empty());
}

#[test]
fn attempts_of_one_step_leave_one_thing() {
    let (place, peer) = (Place::new("undo-attempts"), Peer::start());
    peer.refuse("PUT a", "503 Busy");
    peer.refuse("PUT a", "503 Busy");
    let record = place.leave(vec![("a", raise(&peer.url("a")))]);
    let intended = lines(&record, "intended");
    assert_eq!(intended.len(), 1, "{intended:?}");
    assert_eq!(
        (
            &intended[0]["step"],
            &intended[0]["kind"],
            &intended[0]["number"]
        ),
        (&json!("a"), &json!("sticky"), &json!(0))
    );
    let machine = &lines(&record, "run-started")[0]["machine"];
    assert_eq!(*machine, json!({"id": "this", "product": "here"}));
    assert_eq!(place.undo(), UndoOutcome::Undone);
    assert_eq!(peer.heard(), ["PUT a", "PUT a", "PUT a", "DELETE a"]);
}

#[test]
fn what_was_withdrawn_is_not_undone() {
    let (place, peer) = (Place::new("undo-withdrawn"), Peer::start());
    peer.refuse("PUT a", "403 No");
    let (id, result) = place.run(vec![("a", raise(&peer.url("a")))]);
    assert_eq!(result, RunResult::Failed);
    assert_eq!(lines(&place.store.path(&id), "settled").len(), 1);
    assert_eq!(
        (place.undo(), peer.heard().len()),
        (UndoOutcome::Nothing, 1)
    );
    // As a lock is released by another step than the one that took it. What is declared again is there again.
    let mark = Arc::new(Mutex::new(None));
    let (taken, url) = (mark.clone(), peer.url("lock"));
    let take = act(move |scope| {
        let first = scope.intend(&intent(&url))?;
        scope.withdraw(first);
        let second = scope.intend(&intent(&url))?;
        assert_ne!(first, second);
        *taken.lock().expect("no panic") = Some(second);
        Ok(Outcome::Done)
    });
    let release = act(move |scope| {
        scope.withdraw(mark.lock().expect("no panic").expect("taken"));
        Ok(Outcome::Done)
    });
    let x = raise(&peer.url("x"));
    let record = place.leave(vec![("lock", take), ("x", x), ("release", release)]);
    let settled = lines(&record, "settled");
    assert_eq!((settled.len(), &settled[1]["step"]), (2, &json!("lock")));
    assert_eq!(place.pending(), ["x"]);
}

#[test]
fn nothing_sticky_is_begun_when_the_time_is_over() {
    let (place, peer) = (Place::new("undo-late"), Peer::start());
    let url = peer.url("a");
    let late = act(move |scope| {
        scope.cancel.sleep_until(scope.deadline);
        scope.intend(&intent(&url)).map(|_| Outcome::Done)
    });
    let (_, result) = place.run_within(Duration::from_millis(200), vec![("a", late)]);
    assert_eq!(result, RunResult::Failed);
    assert_eq!(place.undo(), UndoOutcome::Nothing);
}

#[test]
fn a_torn_record_loses_nothing_and_invents_nothing() {
    let (place, peer) = (Place::new("undo-torn"), Peer::start());
    peer.refuse("PUT b", "403 No");
    let steps = ["a", "b", "c"].map(|name| (name, raise(&peer.url(name))));
    let (id, _) = place.run(steps.into_iter().collect());
    let record = place.store.path(&id);
    let whole = fs::read(&record).expect("read");
    let torn = |path: &Path, bytes: &[u8]| fs::write(path, bytes).expect("written");
    for length in 0..=whole.len() {
        torn(&record, &whole[..length]);
        let mut expected = Vec::new();
        let kept = String::from_utf8_lossy(&whole[..length]);
        for line in kept.split_inclusive('\n').filter(|it| it.ends_with('\n')) {
            let line: Value = serde_json::from_str(line).expect("JSON");
            let step = line["step"].as_str().unwrap_or_default().to_owned();
            match line["event"].as_str() {
                Some("intended") => expected.push(step),
                Some("settled") => expected.retain(|it| *it != step),
                _ => {}
            }
        }
        assert_eq!(place.pending(), expected, "cut at {length}");
    }
    assert_eq!(place.pending(), ["a", "c"]);
    // A disk may leave zeros in the place of a line.
    let holed = whole.iter().enumerate().map(|(at, byte)| {
        let first = whole.iter().position(|it| *it == b'\n').expect("lines");
        let in_second = at > first && whole[first + 1..at].iter().all(|it| *it != b'\n');
        if in_second && *byte != b'\n' {
            0
        } else {
            *byte
        }
    });
    torn(&record, &holed.collect::<Vec<u8>>());
    assert_eq!(place.pending(), ["a", "c"]);
    torn(&record, &whole);
    // The other file, and what comes after a torn line of it.
    assert_eq!(place.undo(), UndoOutcome::Undone);
    let other = undone(&record);
    let whole = fs::read(&other).expect("read");
    for length in 0..=whole.len() {
        torn(&other, &whole[..length]);
        let lines = whole[..length].iter().filter(|it| **it == b'\n').count();
        assert_eq!(place.pending().len(), 2 - lines, "cut at {length}");
        let fates = recorded_run::read(&record).expect("whole").pending;
        let undone = fates
            .iter()
            .filter(|it| matches!(it.state, UndoState::Undone(_)));
        assert_eq!(undone.count(), lines, "cut at {length}");
    }
    for length in [1, whole.len() / 2 - 1, whole.len() - 1] {
        torn(&other, &whole[..length]);
        assert_eq!(place.undo(), UndoOutcome::Undone, "cut at {length}");
        assert!(place.pending().is_empty(), "cut at {length}");
    }
}

#[test]
fn another_machine_s_record_is_not_undone() {
    let (mut place, peer) = (Place::new("undo-foreign"), Peer::start());
    let record = place.leave(vec![("a", raise(&peer.url("a")))]);
    // Another installation, of whose disk this one is a copy.
    for (id, product) in [("other", "here"), ("other", "there"), ("other", "")] {
        place.machine = machine(id, product);
        assert_eq!(place.undo(), UndoOutcome::Nothing, "{id} {product}");
        assert_eq!(place.survey().foreign.len(), 1, "{id} {product}");
    }
    // The same one on other hardware, and nobody knows.
    for (id, product) in [("this", "there"), ("", "")] {
        place.machine = machine(id, product);
        assert_eq!(place.undo(), UndoOutcome::Pending, "{id} {product}");
        assert_eq!(place.survey().moved.len(), 1, "{id} {product}");
    }
    assert!(!undone(&record).exists());
    assert_eq!(peer.flags(), ["a"]);
    // What cannot be known here decides nothing.
    place.machine = machine("this", "");
    assert_eq!(place.undo(), UndoOutcome::Undone);
    assert!(peer.flags().is_empty());
}

#[test]
fn what_many_runs_left_is_undone_and_the_same_thing_once() {
    let (place, peer) = (Place::new("undo-many"), Peer::start());
    let names: Vec<String> = (0..20).map(|at| format!("s{at}")).collect();
    for name in &names {
        place.leave(vec![
            (name, raise(&peer.url(name))),
            ("same", raise(&peer.url("same"))),
        ]);
    }
    let pending = place.pending();
    let own = pending.iter().filter(|it| *it != "same");
    assert!(own.eq(&names), "{pending:?}");
    assert_eq!(pending.len(), 40);
    assert_eq!(place.undo(), UndoOutcome::Undone);
    let heard = peer.heard();
    let downs: Vec<_> = heard.iter().filter(|it| it.starts_with("DELETE")).collect();
    assert_eq!(downs.len(), 21, "{downs:?}");
    assert_eq!(downs[..3], ["DELETE same", "DELETE s19", "DELETE s18"]);
    assert!(place.pending().is_empty() && peer.flags().is_empty());
}

#[test]
fn records_with_something_pending_are_never_pruned() {
    let (place, peer) = (Place::new("undo-pruned"), Peer::start());
    let record = place.leave(vec![("a", raise(&peer.url("a")))]);
    let runs = record.parent().expect("a directory").to_owned();
    // Within what clocks may differ by; what is further ahead counts as the oldest.
    let id = new_id(SystemTime::now() + Duration::from_secs(3600));
    let (hour, _) = id.rsplit_once('-').expect("letters");
    let newer = |at: usize| runs.join(format!("{hour}-{at:04}.jsonl"));
    (0..150).for_each(|at| fs::write(newer(at), "").expect("written"));
    place.leave(vec![("b", raise(&peer.url("b")))]);
    assert!(record.exists() && !newer(0).exists() && newer(149).exists());
    assert_eq!(place.undo(), UndoOutcome::Undone);
    assert!(peer.flags().is_empty());
    place.leave(vec![("c", raise(&peer.url("c")))]);
    assert!(!record.exists() && !undone(&record).exists());
    assert_eq!(place.pending(), ["c"]);
}

#[test]
fn an_intent_says_later_what_it_said_when_it_was_declared() {
    in_own_process(this_test!(), says_later);
}

fn says_later() {
    let (place, peer) = (Place::new("undo-secret"), Peer::start());
    // A password that is a word of the address, and the mask itself.
    secrets::hide("127");
    let odd = peer.url("********-$${x}-${hostname}");
    let record = place.leave(vec![("odd", raise(&odd)), ("b", raise(&peer.url("b")))]);
    let kept = &lines(&record, "intended")[0]["intent"]["what"]["url"];
    assert_eq!(kept.as_str(), Some(odd.as_str()));
    assert_eq!(place.undo(), UndoOutcome::Undone);
    assert!(peer.flags().is_empty());
}

#[test]
fn an_old_intent_that_was_masked_is_left_to_a_person() {
    let (place, peer) = (Place::new("undo-masked"), Peer::start());
    let record = place.leave(vec![
        ("a", raise(&peer.url("a"))),
        ("b", raise(&peer.url("b"))),
    ]);
    let text = fs::read_to_string(&record).expect("read");
    let url = peer.url("a");
    let masked = text.replace(&format!("\"thing\":\"{url}\","), "");
    let masked = masked.replace(&format!("\"url\":\"{url}\""), "\"url\":\"********\"");
    assert_ne!(masked, text);
    fs::write(&record, masked).expect("written");
    assert_eq!(place.undo(), UndoOutcome::Pending);
    assert_eq!(place.pending(), ["a"]);
    assert_eq!(peer.heard()[2..], ["DELETE b"]);
}

#[test]
fn a_record_that_cannot_be_read_keeps_nothing_else_from_being_undone() {
    let (place, peer) = (Place::new("undo-unreadable"), Peer::start());
    let record = place.leave(vec![("a", raise(&peer.url("a")))]);
    fs::create_dir(record.with_file_name("unreadable.jsonl")).expect("made");
    assert_eq!(place.undo(), UndoOutcome::Pending);
    assert!(peer.flags().is_empty() && place.pending().is_empty());
    assert_eq!(place.survey().unreadable.len(), 1);
    assert_eq!(
        place.undo(),
        UndoOutcome::Pending,
        "nobody knows what is in it"
    );
}
