//! What others do to a run on the bus, on a real bus that has the policy which is shipped.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::binary::{GENEROUS, Running, step_of, wait_until};
use crate::support::bus::{NAME, PATH, Scene, gate};
use crate::support::caller::{self, Caller, ERROR, RETURN, call, get_all};
use serde_json::json;

const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// What farewell may have at its peak.
const MEMORY: &str = "VmHWM:";

/// A number of kibibytes of what the kernel says of a process.
fn kibibytes(run: &Running, of: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", run.pid)).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix(of));
    let number = line.expect("a line").trim().trim_end_matches(" kB");
    number.parse().expect("a number")
}

/// The CPU time of a process and its threads, in clock ticks: proc_pid_stat(5), `utime` and `stime`.
fn cpu(run: &Running) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", run.pid)).expect("a process");
    let after_name = stat.rsplit(')').next().expect("a name");
    let fields = after_name.split_ascii_whitespace().skip(11).take(2);
    fields.map(|it| it.parse::<u64>().expect("a number")).sum()
}

/// Who has the run's name.
fn owner(scene: &Scene) -> String {
    let bus = "org.freedesktop.DBus";
    let words = [
        "call",
        bus,
        "/org/freedesktop/DBus",
        bus,
        "GetNameOwner",
        "s",
        NAME,
    ];
    let ended = scene.busctl(&[], &words);
    assert_eq!(ended.code, 0, "{ended:?}");
    ended.stdout
}

/// The socket of its bus.
fn socket(scene: &Scene) -> PathBuf {
    scene.binary.dir.0.join("bus")
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

#[test]
#[ignore = "needs dbus-daemon; tests/run has it"]
fn a_long_call_costs_no_memory_and_nobody_the_bus() {
    let scene = Scene::new("long", &gate("held"));
    let run = scene.binary.start(&["run"]);
    scene.wait_for_name();
    let owner_before = owner(&scene);
    let mut caller = Caller::connect(&socket(&scene));
    assert_eq!(caller.ask(&get_all(NAME)).0, RETURN);
    let before = kibibytes(&run, MEMORY);
    for megabytes in [1, 15, 17, 31] {
        let body = "echo".repeat(megabytes * 250_000);
        let (kind, answer) = caller.ask(&get_all(&body));
        assert_eq!(kind, ERROR, "{megabytes} MB");
        assert!(contains(&answer, "LimitsExceeded"), "{megabytes} MB");
        assert!(contains(&answer, "a call has at most 8192 bytes"));
        assert!(!contains(&answer, "echo"), "{megabytes} MB");
        // Nor is it another part that has the length, or another message.
        let path = format!("/{body}");
        let message = call(&path, PROPERTIES, "GetAll").build(&(NAME,));
        caller.send(&message.expect("a message"));
        caller.send(&caller::signal(&body));
        assert_eq!(caller.ask(&get_all(NAME)).0, RETURN, "{megabytes} MB");
    }
    let grown = kibibytes(&run, MEMORY) - before;
    println!("{before} KiB at its peak before, and {grown} more afterwards");
    assert!(grown < 1024, "{grown} KiB more than {before}");
    assert_eq!(owner(&scene), owner_before, "it has never left the bus");
    assert_eq!(scene.property("State"), "running");
    scene.binary.touch("held-go");
    assert_eq!(run.end(GENEROUS).code, 0);
}

#[test]
#[ignore = "needs dbus-daemon; tests/run has it"]
fn nothing_that_somebody_says_is_repeated() {
    let scene = Scene::new("echo", &gate("held"));
    let run = scene.binary.start(&["run"]);
    scene.wait_for_name();
    let mut caller = Caller::connect(&socket(&scene));
    let messages = [
        call("/echo", PROPERTIES, "GetAll").build(&(NAME,)),
        call("/echo", "org.freedesktop.DBus.Introspectable", "Introspect").build(&()),
        call(PATH, PROPERTIES, "echo").build(&()),
        call(PATH, PROPERTIES, "GetAll").build(&("x.echo",)),
        call(PATH, PROPERTIES, "GetAll").build(&(1, "echo")),
        call(PATH, PROPERTIES, "Get").build(&(NAME, "echo")),
        call(PATH, PROPERTIES, "Get").build(&("x.echo", "State")),
        call(PATH, PROPERTIES, "Set").build(&(NAME, "echo", "echo")),
    ];
    for message in messages {
        let message = message.expect("a message");
        let (kind, answer) = caller.ask(&message);
        assert_eq!(kind, ERROR, "{message:?}");
        assert!(!contains(&answer, "echo"), "{message:?}");
    }
    scene.binary.touch("held-go");
    assert_eq!(run.end(GENEROUS).code, 0);
}

/// Ten steps one after another, one that waits, and so many more that a short question has a long answer.
fn config() -> String {
    let wait = |name: String, more: &str| {
        format!("[[step]]\nname = \"{name}\"\nkind = \"wait\"\nfor = \"100ms\"\n{more}")
    };
    let ten: String = (0..10)
        .map(|number| wait(format!("s{number}"), ""))
        .collect();
    let more = "if-path = \"/no/such/path/of/a/machine/that/does/not/do/this\"\n";
    let rest = (0..500).map(|number| wait(format!("another-{number}"), more));
    let rest: String = rest.collect();
    ten + &gate("held") + &rest
}

/// What came of a run until its step `held` was told to go on.
struct Course {
    /// When the ten steps before it had ended: microseconds of the run.
    ten_steps: u64,
    /// The CPU time that it had taken until then, in clock ticks.
    cpu: u64,
    /// KiB that it had at its peak.
    peak: usize,
}

/// A run, while `meanwhile` happens to it; nothing is left to happen when it is over.
fn course(scene: &Scene, meanwhile: impl Fn(&AtomicBool) + Sync) -> Course {
    /// Ends what happens meanwhile, also where the test fails.
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let over = AtomicBool::new(false);
    thread::scope(|threads| {
        let _over = Over(&over);
        let run = scene.binary.start(&["run"]);
        scene.wait_for_name();
        threads.spawn(|| meanwhile(&over));
        wait_until("ten steps are over", || scene.binary.exists("held-on"));
        let (cpu, peak) = (cpu(&run), kibibytes(&run, MEMORY));
        scene.binary.touch("held-go");
        let ended = run.end(GENEROUS);
        assert_eq!(ended.code, 0, "{ended:?}");
        let report = scene.binary.report();
        assert_eq!(report["result"], json!("ok"));
        let number = |value: &serde_json::Value| value.as_u64().expect("a time");
        for file in ["held-on", "held-go"] {
            fs::remove_file(scene.binary.dir.0.join(file)).expect("removed");
        }
        Course {
            ten_steps: number(&step_of(&report, "held")["started_usec"]),
            cpu,
            peak,
        }
    })
}

#[test]
#[ignore = "needs dbus-daemon; tests/run has it"]
fn a_flood_of_calls_takes_no_time_and_no_memory_from_a_run() {
    let scene = Scene::new("flood", &config());
    // Other work of this machine may meet the one or the other: a flood that costs something costs it each time.
    let is_free = (0..5).any(|_| costs_nothing(&scene));
    assert!(is_free, "a flood costs time or memory, see above");
}

/// Whether a run with a flood of calls takes about what one without takes.
fn costs_nothing(scene: &Scene) -> bool {
    let quiet = course(scene, |_| {});
    let socket = socket(scene);
    let socket = socket.as_path();
    let calls = [
        get_all(NAME),
        caller::unanswered(),
        get_all(&"x".repeat(1 << 20)),
    ];
    let flooded = course(scene, |over| {
        thread::scope(|threads| {
            for call in &calls {
                // They read no answer.
                let mut caller = Caller::connect(socket);
                threads.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        let bytes = call.data().bytes();
                        if caller.send_within(bytes, Duration::from_secs(1)).is_err() {
                            // The bus takes no more of a caller who does not listen.
                            caller = Caller::connect(socket);
                        }
                    }
                });
            }
        });
    });
    for (what, course) in [("quiet", &quiet), ("flood", &flooded)] {
        let Course {
            ten_steps,
            cpu,
            peak,
        } = course;
        println!("{what}: ten steps {ten_steps} us, {cpu} ticks, {peak} KiB at the peak");
    }
    flooded.ten_steps < quiet.ten_steps * 3
        && flooded.peak < quiet.peak + 1024
        // Of a hundred ticks in a second, less than a quarter.
        && flooded.cpu < quiet.cpu + flooded.ten_steps / 40_000
}
