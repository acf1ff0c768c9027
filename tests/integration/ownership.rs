//! What others could have written: installed configuration, what was kept at boot, and the state directory.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::Command;

use crate::support::binary::{Binary, Ended};
use crate::support::installed::Installed;

const NOBODY: u32 = 65534;

/// A step that leaves a trace in what the run prints.
fn says(name: &str) -> String {
    format!("[[step]]\nname = \"{name}\"\nkind = \"command\"\nargv = [\"echo\", \"{name}\"]\n")
}

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("set");
}

fn mode(path: &Path) -> u32 {
    path.metadata().expect("there").permissions().mode() & 0o7777
}

/// An installed configuration of one file of root's, and a drop-in.
fn with_drop_in(name: &str) -> Installed {
    let place = Installed::with(name, &says("own"));
    place.write("etc/conf.d/50-app.toml", &says("forged"));
    place
}

/// Nothing of the drop-in is executed, the rest is, and `start` and `check` tell what mends it.
fn is_left_out(place: &Installed, tells: &str) {
    let said = place.run("farewell", &["start"]);
    assert_eq!(said.code, 78, "{said:?}");
    assert!(said.stderr.contains(tells), "{tells}: {said:?}");
    assert_eq!(place.run("farewell", &["check"]).code, 78);
    let said = place.run("farewell", &["run"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("step own: done"), "{said:?}");
    assert!(!said.stdout.contains("forged"), "{said:?}");
    let loud = "THE FAREWELL RUNS WITHOUT THESE FILES";
    assert!(said.stdout.contains(loud), "{said:?}");
    assert!(said.stdout.contains(tells), "{tells}: {said:?}");
    // On a build machine it is a warning.
    let said = place.run("farewell", &["check", "--image"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stderr.contains(tells), "{tells}: {said:?}");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_drop_in_that_everybody_can_write_is_left_out() {
    let place = with_drop_in("trust-mode");
    set(&place.path("etc/conf.d/50-app.toml"), 0o666);
    let path = "/etc/farewell/conf.d/50-app.toml";
    is_left_out(
        &place,
        &format!("{path} can be written by everybody (mode 0666): chmod o-w {path}"),
    );
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_drop_in_of_somebody_else_is_left_out() {
    let place = with_drop_in("trust-owner");
    chown(place.path("etc/conf.d/50-app.toml"), Some(NOBODY), None).expect("given away");
    let path = "/etc/farewell/conf.d/50-app.toml";
    is_left_out(
        &place,
        &format!(
            "{path} belongs to uid 65534 (mode 0644), who could change what is read from it: chown root {path}"
        ),
    );
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn drop_ins_of_a_directory_that_everybody_can_write_are_left_out() {
    let place = with_drop_in("trust-directory");
    set(&place.path("etc/conf.d"), 0o777);
    let path = "/etc/farewell/conf.d";
    is_left_out(
        &place,
        &format!("{path} can be written by everybody (mode 0777): chmod o-w {path}"),
    );
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_link_into_the_place_of_somebody_else_is_not_followed() {
    let place = Installed::with("trust-link", &says("own"));
    place.write("home/evil.toml", &says("forged"));
    place.write("etc/conf.d/.keep", "");
    let home = place.path("home");
    chown(&home, Some(NOBODY), None).expect("given away");
    symlink(home.join("evil.toml"), place.path("etc/conf.d/50-app.toml")).expect("linked");
    let home = home.display();
    is_left_out(
        &place,
        &format!(
            "{home} belongs to uid 65534 (mode 0755), who could change what is read from it: chown root {home}"
        ),
    );
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_weaker_drop_in_counts_again_where_the_stronger_one_is_not_to_be_trusted() {
    let place = with_drop_in("trust-weaker");
    place.write("usr/conf.d/50-app.toml", &says("packaged"));
    set(&place.path("etc/conf.d/50-app.toml"), 0o666);
    let said = place.run("farewell", &["run"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("step packaged: done"), "{said:?}");
    assert!(!said.stdout.contains("forged"), "{said:?}");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn the_last_good_plan_runs_where_the_configuration_is_not_to_be_trusted() {
    let place = Installed::with("trust-kept", &says("own"));
    assert_eq!(place.run("farewell", &["start"]).code, 0);
    place.write("etc/farewell.toml", &says("forged"));
    set(&place.path("etc/farewell.toml"), 0o666);
    let said = place.run("farewell", &["run"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("step own: done"), "{said:?}");
    assert!(said.stdout.contains("the last good plan runs"), "{said:?}");

    // What is kept could be forged too.
    set(&place.path("run/plan.json"), 0o666);
    let said = place.run("farewell", &["run"]);
    assert!(!said.stdout.contains("step own"), "{said:?}");
    assert!(!said.stdout.contains("forged"), "{said:?}");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn in_a_user_namespace_an_owner_without_a_number_there_counts_as_root() {
    // As in a container, whose image belongs to users of the host that the container does not know.
    let place = with_drop_in("trust-namespace");
    let drop_in = place.path("etc/conf.d/50-app.toml");
    chown(&drop_in, Some(4711), None).expect("given away");
    let said = place.run("farewell", &["run"]);
    assert!(!said.stdout.contains("step forged"), "{said:?}");
    assert!(said.stdout.contains("belongs to uid 4711"), "{said:?}");
    let said = Ended::of(&mut place.command("farewell", &["run"], &["--user", "--map-root-user"]));
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("step forged: done"), "{said:?}");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn what_its_group_can_write_is_only_warned_of() {
    let place = with_drop_in("trust-group");
    set(&place.path("etc/conf.d/50-app.toml"), 0o664);
    let said = place.run("farewell", &["start"]);
    assert_eq!(said.code, 0, "{said:?}");
    let path = "/etc/farewell/conf.d/50-app.toml";
    let tells = format!("{path} can be written by its group 0 (mode 0664): chmod g-w {path}");
    assert!(said.stderr.contains(&tells), "{said:?}");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_file_given_by_hand_is_only_warned_of() {
    let binary = Binary::new("trust-hand", &says("own"));
    let path = binary.dir.0.join("farewell.toml");
    set(&path, 0o666);
    for verb in ["check", "run"] {
        let said = binary.verb(&[verb]);
        assert_eq!(said.code, 0, "{said:?}");
        let tells = format!("chmod o-w {}", path.display());
        assert!(
            (said.stdout.clone() + &said.stderr).contains(&tells),
            "{said:?}"
        );
    }
}

/// A run that takes place, with a warning and without a record.
fn runs_without_record(binary: &Binary, tells: &str) -> Ended {
    let said = binary.verb(&["run"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("step own: done"), "{said:?}");
    assert!(said.stdout.contains(tells), "{tells}: {said:?}");
    said
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_state_directory_that_others_can_write_is_not_used() {
    let binary = Binary::new("state-open", &says("own"));
    let state = binary.dir.0.join("state");
    fs::create_dir(&state).expect("made");
    let victim = binary.dir.0.join("victim");
    fs::write(&victim, "precious").expect("written");
    symlink(&victim, state.join("run.lock")).expect("linked");
    for bits in [0o777, 0o1777] {
        set(&state, bits);
        runs_without_record(&binary, "can be written by");
        assert_eq!(fs::read_to_string(&victim).expect("there"), "precious");
        assert!(!state.join("runs").exists());
    }
    set(&state, 0o755);
    chown(&state, Some(NOBODY), None).expect("given away");
    runs_without_record(&binary, "belongs to uid 65534");
    assert_eq!(fs::read_to_string(&victim).expect("there"), "precious");
    // A link is not followed, whosever it is.
    chown(&state, Some(0), None).expect("taken back");
    let said = binary.verb(&["run"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(fs::read_to_string(&victim).expect("there"), "precious");
}

#[test]
fn nothing_is_undone_that_others_could_have_recorded() {
    let binary = Binary::new("state-forged", &says("own"));
    let state = binary.dir.0.join("state");
    assert_eq!(binary.verb(&["run"]).code, 0);
    set(&state.join("runs"), 0o777);
    let said = binary.verb(&["start", "--undo-only"]);
    assert!(said.code != 0, "{said:?}");
    let tells = format!("chmod o-w {}", state.join("runs").display());
    assert!(said.stderr.contains(&tells), "{said:?}");
}

#[test]
fn records_and_the_lock_are_for_nobody_elses_eyes_whatever_the_umask() {
    for umask in ["000", "022", "077"] {
        let binary = Binary::new(&format!("state-modes-{umask}"), &says("own"));
        let run = binary.command(&["run"]);
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "umask $0; exec \"$@\"", umask])
            .arg(run.get_program())
            .args(run.get_args());
        let said = Ended::of(&mut shell);
        assert_eq!(said.code, 0, "{said:?}");
        let state = binary.dir.0.join("state");
        assert_eq!(mode(&state), 0o700);
        assert_eq!(mode(&state.join("runs")), 0o700);
        assert_eq!(mode(&state.join("run.lock")), 0o600);
        for entry in fs::read_dir(state.join("runs")).expect("read") {
            assert_eq!(mode(&entry.expect("an entry").path()), 0o600);
        }
    }
}

#[test]
fn an_upgrade_takes_the_right_to_read_from_others() {
    let binary = Binary::new("state-upgrade", &says("own"));
    let state = binary.dir.0.join("state");
    fs::create_dir_all(state.join("runs")).expect("made");
    for name in ["run.lock", "runs/1.jsonl", "runs/1.undone"] {
        fs::write(state.join(name), "").expect("written");
        set(&state.join(name), 0o644);
    }
    set(&state.join("runs"), 0o755);
    let said = binary.verb(&["start"]);
    assert!(said.code == 0 || said.code == 1, "{said:?}");
    assert_eq!(binary.verb(&["run"]).code, 0);
    assert_eq!(mode(&state.join("runs")), 0o700);
    for name in ["run.lock", "runs/1.jsonl", "runs/1.undone"] {
        assert_eq!(mode(&state.join(name)), 0o600, "{name}");
    }
}

#[test]
fn a_process_of_another_program_is_not_told_to_stop() {
    use farewell::sys::{host, takeover};
    let mut other = Command::new("sleep").arg("1000").spawn().expect("sleep");
    let pid = i32::try_from(other.id()).expect("a number");
    let began = host::process_began(pid).expect("alive");
    let told = [pid, -pid, 0, -1].map(|pid| takeover::terminate(pid, began).is_ok());
    let lives = other.try_wait().expect("asked").is_none();
    other.kill().expect("killed");
    other.wait().expect("reaped");
    assert_eq!((told, lives), ([false; 4], true));
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_plain_user_hears_whom_to_ask() {
    let binary = Binary::new("state-ask", &says("own"));
    assert_eq!(binary.verb(&["run"]).code, 0);
    let program = binary.dir.0.join("farewell");
    fs::copy(env!("CARGO_BIN_EXE_farewell"), &program).expect("copied");
    set(&program, 0o755);
    set(&binary.dir.0, 0o755);
    for verb in ["report", "status"] {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program)
            .args([verb, "--state", &binary.dir.file("state")]);
        let said = Ended::of(&mut command);
        assert_eq!(said.code, 66, "{said:?}");
        assert!(said.stderr.contains("use sudo"), "{said:?}");
    }
    // Nor can anybody hold the lock.
    let lock = binary.dir.file("state/run.lock");
    assert!(File::open(&lock).is_ok());
    let held = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .args(["flock", "--shared", "--nonblock", &lock, "true"])
        .output()
        .expect("setpriv");
    assert!(!held.status.success(), "{held:?}");
}
