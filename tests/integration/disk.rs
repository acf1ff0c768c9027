//! Runs whose state directory is full, read-only, no directory, or does not answer: the steps run all the same.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use crate::support::binary::{
    Binary, Ended, GENEROUS, Running, json, sh, states, step_of, until, wait_until,
};
use crate::support::fuse::Hanging;
use crate::support::namespace::{Frozen, Mounted, ext4};
use crate::support::own_process::{in_own_namespace, this_test};

fn words(names: &[&str]) -> String {
    let word = |name: &&str| sh(name, &format!("echo {name} >> @/words"), "");
    names.iter().map(word).collect()
}

/// The warnings of the state directory that a run told as they happened.
fn warnings(ended: &Ended) -> Vec<&str> {
    let lines = ended.stdout.lines();
    lines
        .filter(|line| line.starts_with('[') && line.contains("warning: "))
        .filter(|line| line.contains("/state: "))
        .collect()
}

/// Every step ran, and one warning says why there is no record.
fn assert_unharmed(binary: &Binary, ended: &Ended, cause: &str) {
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(binary.words(), ["a", "b", "c"]);
    let warnings = warnings(ended);
    assert!(
        warnings.len() == 1 && warnings[0].contains(cause),
        "{ended:?}"
    );
    assert_eq!(ended.stderr, "");
    assert_eq!(binary.verb(&["report"]).code, 66);
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_full_disk_costs_the_record_alone() {
    in_own_namespace(this_test!(), full);
}

fn full() {
    let binary = Binary::new("full", &words(&["a", "b", "c"]));
    let _mounted = Mounted::at(
        &["-t", "tmpfs", "-o", "mode=700,size=64k", "x"],
        &binary.state,
    );
    let mut filler = fs::File::create(binary.state.join("filler")).expect("made");
    while filler.write_all(&[0; 4096]).is_ok() {}
    let ended = binary.verb(&["run"]);
    assert_unharmed(&binary, &ended, "No space left");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn systemds_run_takes_place_beside_one_without_a_name() {
    in_own_namespace(this_test!(), nameless);
}

fn nameless() {
    let hold = format!("touch @/on; {}", until("@/go"));
    let binary = Binary::new("nameless", &sh("hold", &hold, "timeout = \"80s\""));
    let _mounted = Mounted::at(
        &["-t", "tmpfs", "-o", "mode=700,size=64k", "x"],
        &binary.state,
    );
    let mut filler = fs::File::create(binary.state.join("filler")).expect("made");
    while filler.write_all(&[0; 4096]).is_ok() {}
    let run = binary.start(&["run"]);
    wait_until("the step runs", || binary.exists("on"));
    let second = binary.verb(&["run"]);
    assert_eq!(second.code, 75, "{second:?}");
    assert!(
        second.stderr.contains("another run is in progress"),
        "{second:?}"
    );
    binary.configure(&words(&["a", "b", "c"]));
    let systemds = binary.start_by_systemd().end(GENEROUS);
    assert_eq!(systemds.code, 0, "{systemds:?}");
    assert!(
        systemds.stdout.contains("another run is in progress"),
        "{systemds:?}"
    );
    assert_eq!(binary.words(), ["a", "b", "c"]);
    binary.touch("go");
    assert_eq!(run.end(GENEROUS).code, 0);
}

/// Steps enough for more than the page that the record has already.
fn many(prefix: &str) -> String {
    let step = |at| format!("[[step]]\nname = \"{prefix}{at}\"\nkind = \"wait\"\nfor = \"1ms\"\n");
    (10..50).map(step).collect()
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_record_catches_up_when_space_comes_back() {
    in_own_namespace(this_test!(), catches_up);
}

fn catches_up() {
    let fill = sh(
        "fill",
        "head -c 1000000 /dev/zero > @/state/filler || true",
        "",
    );
    let full = many("before") + &fill + &many("while");
    let config = full.clone() + &sh("free", "rm @/state/filler", "") + &many("later");
    for (name, config, is_freed) in [("freed", &config, true), ("stays", &full, false)] {
        let binary = Binary::new(name, config);
        let _mounted = Mounted::at(
            &["-t", "tmpfs", "-o", "mode=700,size=64k", "x"],
            &binary.state,
        );
        let ended = binary.verb(&["run"]);
        assert_eq!((ended.code, warnings(&ended).len()), (0, 1), "{ended:?}");
        let report = binary.report();
        assert_eq!(report["result"], if is_freed { "ok" } else { "cut-off" });
        // A prefix: after the first step that is not done there is none that is.
        let states = states(&report);
        let done: Vec<bool> = states.split(", ").map(|it| it.ends_with(" done")).collect();
        let first = done.iter().position(|it| !it).unwrap_or(done.len());
        assert!(done[first..].iter().all(|it| !it), "{states}");
        assert_eq!(first == done.len(), is_freed, "{states}");
        assert_eq!(step_of(&report, "fill")["state"], "done");
        assert_eq!(
            report["warnings"].to_string().contains("is incomplete"),
            is_freed
        );
    }
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_read_only_state_directory_costs_the_record_alone() {
    in_own_namespace(this_test!(), read_only);
}

fn read_only() {
    let binary = Binary::new("read-only", &words(&["a", "b", "c"]));
    let _mounted = Mounted::at(&["-t", "tmpfs", "-o", "mode=700,ro", "x"], &binary.state);
    let ended = binary.verb(&["run"]);
    assert_unharmed(&binary, &ended, "Read-only");
}

#[test]
fn a_file_in_the_place_of_the_state_directory_costs_the_record_alone() {
    let binary = Binary::new("file", &words(&["a", "b", "c"]));
    binary.touch("state");
    let ended = binary.verb(&["run"]);
    assert_unharmed(&binary, &ended, "state");
}

#[test]
fn a_records_directory_that_cannot_be_made_costs_the_record_alone() {
    let binary = Binary::new("runs", &words(&["a", "b", "c"]));
    fs::create_dir(&binary.state).expect("made");
    fs::set_permissions(&binary.state, fs::Permissions::from_mode(0o755)).expect("set");
    fs::write(binary.state.join("runs"), "").expect("written");
    let ended = binary.verb(&["run"]);
    assert_unharmed(&binary, &ended, "no record");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_state_directory_that_does_not_answer_costs_little() {
    in_own_namespace(this_test!(), hanging);
}

fn hanging() {
    let binary = Binary::new("hanging", &words(&["a", "b", "c"]));
    fs::create_dir(&binary.state).expect("made");
    let _hanging = Hanging::mount(&binary.state, false);
    let ended = binary.verb(&["run"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(binary.words(), ["a", "b", "c"]);
    assert_eq!(warnings(&ended).len(), 1, "{ended:?}");
    assert!(ended.took < Duration::from_secs(60), "{:?}", ended.took);
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_disk_that_freezes_delays_no_step() {
    in_own_namespace(this_test!(), freezes);
}

fn freezes() {
    let hold = sh(
        "hold",
        &format!("touch @/on; {}", until("@/go")),
        "timeout = \"80s\"",
    );
    for freeze_first in [true, false] {
        let binary = Binary::new("freezes", &(hold.clone() + &words(&["a", "b", "c"])));
        let (images, disk) = (binary.dir.0.join("images"), binary.state.clone());
        fs::create_dir_all(&images).expect("made");
        fs::create_dir_all(&disk).expect("made");
        ext4(&images, &disk);
        // Thawed before it is waited for, even when an assertion fails: its process ends only then.
        let mut run: Option<Running> = None;
        let mut frozen = None;
        if freeze_first {
            frozen = Some(Frozen::freeze(&disk));
        }
        let running = run.insert(binary.start(&["run"]));
        wait_until("the step runs", || binary.exists("on"));
        if !freeze_first {
            frozen = Some(Frozen::freeze(&disk));
        }
        binary.touch("go");
        // It is frozen until the run is over: a step that waits for it would never end.
        wait_until("the steps end", || binary.words().len() == 3);
        wait_until("the run is over", || running.told().contains(": ok after"));
        drop(frozen);
        let ended = run.take().expect("running").end(GENEROUS);
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(
            warnings(&ended).len(),
            usize::from(freeze_first),
            "{ended:?}"
        );
        if !freeze_first {
            let report = json(&binary.verb(&["report", "--json"]));
            assert_ne!(step_of(&report, "hold")["state"], "pending");
        }
        for point in [&disk, &images] {
            let unmounted = std::process::Command::new("umount")
                .arg("-l")
                .arg(point)
                .status();
            assert!(unmounted.expect("umount").success());
        }
    }
}
