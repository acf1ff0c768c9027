//! Where a scenario takes place.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Instant;

use nix::fcntl::{Flock, FlockArg};

use super::machine::Machine;
use super::packed::{self, Packed};
use super::tool;
use crate::support::registry::Registry;

/// A scenario on a release, and its directory.
pub struct Stage {
    pub release: &'static str,
    pub scenario: &'static str,
    pub dir: PathBuf,
    begun: Instant,
    _lock: Flock<File>,
}

/// Shows a scenario on a release.
pub fn show(release: &'static str, scenario: &'static str, play: fn(&Stage)) {
    // Before the clock starts: the first scenario of a release is not the one that took so long.
    super::frozen::frozen(release);
    let stage = Stage::new(release, scenario);
    play(&stage);
    tool::say(format_args!(
        "{release}: {scenario}: shown, {:.1} s, see {}",
        stage.begun.elapsed().as_secs_f32(),
        stage.dir.display()
    ));
}

impl Stage {
    fn new(release: &'static str, scenario: &'static str) -> Stage {
        let runs = tool::kept().join("runs");
        let name = format!("{release}-{scenario}");
        let dir = runs.join(&name);
        fs::create_dir_all(&runs).expect("made");
        // One at a time, where two processes show the same scenario.
        let file = File::create(runs.join(format!(".{name}"))).expect("a file");
        let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error);
        let lock = lock.expect("locked");
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).expect("made");
        Stage {
            release,
            scenario,
            dir,
            begun: Instant::now(),
            _lock: lock,
        }
    }

    /// A registry in which the machine is a member.
    pub fn registry(&self) -> Registry {
        Registry::with_member(&format!("{}-{}", self.release, self.scenario))
    }

    /// A registry in which nobody is registered yet.
    pub fn empty_registry(&self) -> Registry {
        Registry::empty(&format!("{}-{}", self.release, self.scenario))
    }

    /// The image that Packer makes of this release, as README.md says.
    pub fn packed(&self) -> &'static Packed {
        packed::packed(self.release)
    }

    /// A machine that is up and idle, woken from the frozen one.
    pub fn machine(&self) -> Machine {
        Machine::wake(self)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let dir = self.dir.display();
            // Both at once for whoever waits, and in what libtest prints of a failed test at the end.
            tool::say(format_args!(
                "{}: {}: FAILED, see {dir}",
                self.release, self.scenario
            ));
            println!(
                "console: {dir}/console.log\njournal: {dir}/journal.txt\nrecord: {dir}/record.jsonl"
            );
        }
    }
}
