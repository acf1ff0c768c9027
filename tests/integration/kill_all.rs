//! The end of all children of a process at once.

use std::time::Duration;

use crate::support::Dir;
use crate::support::binary::wait_until;
use crate::support::own_process::{in_own_process, this_test};
use crate::support::scope::attempt;
use farewell::sys::process;

#[test]
fn every_group_is_killed() {
    in_own_process(this_test!(), kills_all);
}

fn kills_all() {
    let (timeout, dir) = (Duration::from_secs(300), Dir::new("kill-all"));
    std::thread::scope(|threads| {
        let begun = |child: usize| dir.0.join(child.to_string());
        let child = |child: usize| {
            let path = begun(child);
            let script = format!(
                "trap '' TERM; : >{}; while :; do sleep 0.1; done",
                path.display()
            );
            let keys = format!("argv = ['sh', '-c', {script:?}]");
            threads.spawn(move || attempt("command", &keys, timeout))
        };
        let children: Vec<_> = (0..3).map(child).collect();
        wait_until("all run", || (0..3).all(|child| begun(child).exists()));
        process::kill_all();
        for child in children {
            let attempt = child.join().expect("no panic");
            assert_eq!(attempt.failure().1, "sh: ended by signal 9 (SIGKILL)");
        }
    });
}
