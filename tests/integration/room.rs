//! Room on the disk for the next run's record, and what a run does that finds none.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::support::binary::{Binary, GENEROUS, step_of, wait_until};
use crate::support::fleetlock_stand_in::{FleetLock, Make};
use crate::support::locks::config;
use crate::support::namespace::{Mounted, ext4_with};
use crate::support::nomad_stand_in::NomadStandIn;
use crate::support::own_process::{in_own_namespace, this_test};
use farewell::history::state_dir::new_id;
use nix::sys::signal::Signal::SIGKILL;

const ROOM: u64 = 1 << 20;

/// Fills the file system of a directory to its last byte.
fn fill(directory: &Path) -> PathBuf {
    let path = directory.join("filler");
    let mut filler = fs::File::create(&path).expect("made");
    for size in [1 << 16, 4096, 1] {
        while filler.write_all(&vec![b'x'; size]).is_ok() {}
    }
    // What was only promised by a delayed allocation is on the disk now, or will not be.
    let _ = filler.sync_all();
    path
}

fn lock(server: &FleetLock) -> String {
    config(
        &format!("via = \"fleetlock\"\nurl = {:?}\nid = \"a\"", server.url),
        "10s",
        "true",
    )
}

fn drain(nomad: &NomadStandIn) -> String {
    let url = &nomad.url;
    format!(
        "[[step]]\nname = \"drain\"\nkind = \"deregister\"\nregistry = \"nomad\"\nurl = {url:?}\ntimeout = \"10s\"\n"
    )
}

fn state(place: &Binary) -> PathBuf {
    place.dir.file("state").into()
}

fn starts(place: &Binary) {
    let start = place.verb(&["start"]);
    assert_eq!(start.code, 0, "{}{}", start.stdout, start.stderr);
}

/// The records, without what keeps the room.
fn records(place: &Binary) -> Vec<PathBuf> {
    let entries = fs::read_dir(state(place).join("runs")).expect("read");
    let paths = entries.map(|it| it.expect("an entry").path());
    paths
        .filter(|it| it.extension().is_some_and(|it| it == "jsonl"))
        .collect()
}

/// With room kept, a run on a full disk is recorded whole, and what it leaves is undone.
fn is_recorded_on_a_full_disk(place: &Binary) {
    let server = FleetLock::start(Make::Airlock);
    place.configure(&lock(&server));
    starts(place);
    let list = place.verb(&["report", "--list"]);
    assert_eq!(list.code, 66, "the room is no run: {}", list.stdout);
    fill(&state(place));
    let run = place.verb(&["run", "--trigger", "reboot"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert_eq!(server.holder("default").as_deref(), Some("a"));
    let report = place.report();
    assert_eq!(report["result"], "ok", "{report:#}");
    assert_eq!(report["undo"][0]["state"], "pending", "{report:#}");
    let record = fs::read(records(place).remove(0)).expect("read");
    assert!(
        record.ends_with(b"\n") && !record.contains(&0),
        "a true prefix, and all of it"
    );
}

fn on_the_next_start_it_is_undone(place: &Binary) {
    fs::remove_file(state(place).join("filler")).expect("removed");
    let start = place.verb(&["start"]);
    assert_eq!(start.code, 0, "{}{}", start.stdout, start.stderr);
    assert!(start.stdout.contains("undo lock"), "{}", start.stdout);
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_run_on_a_full_disk_is_recorded_where_room_was_kept() {
    in_own_namespace(this_test!(), || {
        full_tmpfs();
        full_ext4();
        full_without_extents();
    });
}

fn full_tmpfs() {
    let place = Binary::new("room-tmpfs", "");
    let _mounted = Mounted::at(
        &["-t", "tmpfs", "-o", "mode=700,size=2m", "x"],
        &state(&place),
    );
    is_recorded_on_a_full_disk(&place);
    on_the_next_start_it_is_undone(&place);
}

fn on_ext4(name: &str, options: &[&str]) {
    let place = Binary::new(name, "");
    let (images, disk): (PathBuf, _) = (place.dir.file("images").into(), state(&place));
    fs::create_dir_all(&images).expect("made");
    fs::create_dir_all(&disk).expect("made");
    ext4_with(&images, &disk, options);
    let _mounted = [Mounted::found(&disk), Mounted::found(&images)];
    is_recorded_on_a_full_disk(&place);
    on_the_next_start_it_is_undone(&place);
}

fn full_ext4() {
    on_ext4("room-ext4", &[]);
}

/// Such a file system, as ext3 is, cannot keep room behind the end of a file.
fn full_without_extents() {
    on_ext4("room-without-extents", &["-O", "^extent,^64bit"]);
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn what_is_not_recorded_is_given_back_or_told() {
    in_own_namespace(this_test!(), full_without_room);
}

fn full_without_room() {
    for make in [Make::Airlock, Make::Poseidon] {
        let (server, nomad) = (FleetLock::start(make), NomadStandIn::start());
        let place = Binary::new("room-none", &(lock(&server) + &drain(&nomad)));
        let _mounted = Mounted::at(
            &["-t", "tmpfs", "-o", "mode=700,size=1m", "x"],
            &state(&place),
        );
        fill(&state(&place));
        let start = place.verb(&["start"]);
        assert!(
            start.stderr.contains("no disk space could be reserved"),
            "{}",
            start.stderr
        );
        let run = place.verb(&["run", "--trigger", "reboot"]);
        let told = format!("{}{}", run.stdout, run.stderr);
        assert_eq!(run.code, 1, "{told}");
        assert_eq!(server.holder("default"), None, "{told}");
        assert!(
            told.contains("released already, before the machine is back"),
            "{told}"
        );
        assert!(!nomad.is_eligible());
        let by_hand = "step drain: the drain of node n1 is not in the record, which could not be written: `farewell start` \
                       will not undo it; undo it by hand";
        assert!(told.contains(by_hand), "{told}");
        // On a machine that is gone the slot is given back anyhow.
        place.configure(&lock(&server));
        let run = place.verb(&["run", "--trigger", "poweroff"]);
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        assert_eq!(server.holder("default"), None);
    }
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_record_in_room_of_zeros_is_a_true_prefix() {
    in_own_namespace(this_test!(), zeros);
}

/// In a file system that keeps no room behind the end of a file.
fn zeros() {
    let place = Binary::new("room-zeros", "");
    let _mounted = Mounted::at(&["-t", "ramfs", "x"], &state(&place));
    let server = FleetLock::start(Make::Airlock);
    let on = place.dir.file("on");
    let keys = format!("via = \"fleetlock\"\nurl = {:?}\nid = \"a\"", server.url);
    place.configure(&config(&keys, "10s", &format!("touch {on}; exec sleep 60")));
    starts(&place);
    let run = place.start(&["run", "--trigger", "reboot"]);
    wait_until("it is inside", || Path::new(&on).exists());
    let report = place.report();
    assert_eq!(
        (&report["result"], step_of(&report, "in")["state"].as_str()),
        (&"running".into(), Some("running"))
    );
    run.signal(SIGKILL);
    run.end(GENEROUS);
    // What was not given back is no part of the record.
    let path = records(&place).remove(0);
    let bytes = fs::read(&path).expect("read");
    assert_eq!(bytes.len() as u64, ROOM);
    let report = place.report();
    assert_eq!(report["result"], "cut-off");
    let reason = report["reason"].as_str().expect("a reason");
    assert!(
        reason.contains("while in ran") && !reason.contains("in the middle"),
        "{reason}"
    );
    // Nor is it where the last line is torn.
    let end = bytes.iter().position(|it| *it == 0).expect("an end");
    for torn in [1, 7] {
        let mut bytes = bytes.clone();
        bytes[end - torn..end].fill(0);
        fs::write(&path, &bytes).expect("written");
        let reason = place.report()["reason"].to_string();
        assert!(reason.contains("in the middle of line"), "{torn}: {reason}");
    }
    let start = place.verb(&["start"]);
    assert_eq!(start.code, 0, "{}{}", start.stdout, start.stderr);
    assert_eq!(server.holder("default"), None);
}

#[test]
fn room_is_kept_once_and_given_back() {
    let place = Binary::new(
        "room-once",
        "[[step]]\nname = \"a\"\nkind = \"wait\"\nfor = \"1ms\"\n",
    );
    starts(&place);
    let runs = state(&place).join("runs");
    let room = || {
        let mut entries = fs::read_dir(&runs)
            .expect("read")
            .map(|it| it.expect("an entry").path());
        entries
            .find(|it| it.extension().is_none())
            .map(|it| fs::metadata(it).expect("there"))
    };
    let first = room().expect("room");
    assert!(first.len().max(first.blocks() * 512) >= ROOM);
    starts(&place);
    assert_eq!(
        room().expect("room").ino(),
        first.ino(),
        "it is there already"
    );
    // Within what clocks may differ by, so that they count as the newest.
    let id = new_id(SystemTime::now() + Duration::from_secs(3600));
    let hour = id.rsplit_once('-').expect("letters").0.to_owned();
    let pruned = |at: usize| runs.join(format!("{hour}-{at:04}.jsonl"));
    (0..150).for_each(|at| fs::write(pruned(at), "").expect("written"));
    // Used by the first run, and not missed by the second.
    for times in [1, 2] {
        assert_eq!(place.verb(&["run"]).code, 0);
        let own: Vec<_> = records(&place)
            .into_iter()
            .filter(|it| !it.to_string_lossy().contains(&hour))
            .collect();
        // Older than those that stand there, the first one has gone when the second one ends.
        assert_eq!(own.len(), 1, "run {times}");
        for record in own {
            let found = fs::metadata(&record).expect("there");
            assert!(found.blocks() * 512 <= 64 << 10, "{found:?}");
        }
        assert!(room().is_none());
    }
    starts(&place);
    assert!(room().is_some(), "and pruning leaves it alone");
    assert_eq!(place.verb(&["report", "--list"]).code, 0);
}
