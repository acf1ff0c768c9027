//! The end of all children at once, in a process of its own since it is everybody's.

mod support;

use std::time::{Duration, Instant};

use farewell::sys::process;
use support::scope::attempt;

#[test]
fn every_group_is_killed() {
    let timeout = Duration::from_secs(30);
    std::thread::scope(|threads| {
        let ignoring = "argv = ['sh', '-c', 'trap \"\" TERM; while :; do sleep 0.1; done']";
        let children: Vec<_> = (0..3)
            .map(|_| threads.spawn(move || attempt("command", ignoring, timeout)))
            .collect();
        std::thread::sleep(Duration::from_secs(1));
        let begun = Instant::now();
        process::kill_all();
        for child in children {
            let attempt = child.join().expect("no panic");
            assert_eq!(attempt.failure().1, "sh: ended by signal 9 (SIGKILL)");
        }
        assert!(begun.elapsed() < Duration::from_secs(5));
    });
}
