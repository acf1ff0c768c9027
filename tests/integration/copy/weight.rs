//! What a copy costs: memory, and time beside rsync and rclone, which is printed and not judged.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use farewell::step::Outcome;

use super::{Copying, TIME, files, write};
use crate::support::Dir;
use crate::support::binary::Binary;
use crate::support::own_process::{in_own_process, this_test};
use crate::support::s3::{S3, SECRET};

/// In KiB, the most memory of its own that any of this process' children that is a farewell has now: the pages of the
/// program itself are the kernel's to keep or to drop.
fn used() -> u64 {
    let own = std::process::id();
    let field = |status: &str, name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|it| it.split_whitespace().next()?.parse::<u64>().ok())
    };
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let statuses = processes.filter_map(|it| fs::read_to_string(it.path().join("status")).ok());
    statuses
        .filter(|it| it.starts_with("Name:\tfarewell\n"))
        .filter(|it| field(it, "PPid:") == Some(u64::from(own)))
        .filter_map(|it| field(&it, "RssAnon:"))
        .max()
        .unwrap_or_default()
}

/// A copy, and the peak of the memory of its process in KiB.
fn weighed(copying: &Copying) -> u64 {
    peak(|| assert_eq!(copying.attempt(TIME * 10), Ok(Outcome::Done)))
}

/// The peak of the memory of a farewell that is a child of this process while something is done, in KiB.
fn peak(deed: impl FnOnce() + Send) -> u64 {
    let most = std::thread::scope(|threads| {
        let deed = threads.spawn(deed);
        let mut most = 0;
        while !deed.is_finished() {
            most = most.max(used());
            std::thread::sleep(Duration::from_millis(2));
        }
        deed.join().expect("no panic");
        most
    });
    assert!(most > 0, "its process was never seen");
    most
}

fn is_long() -> bool {
    std::env::var_os("FAREWELL_TESTS_LONG").is_some()
}

#[test]
fn a_large_file_is_copied_in_little_memory() {
    in_own_process(this_test!(), large_file);
}

fn large_file() {
    let (from, to) = (Dir::new("copy-large"), Dir::new("copy-large-to"));
    let size = if is_long() { 2 << 30 } else { 128 << 20 };
    let file = File::create(from.0.join("large")).expect("made");
    file.set_len(size).expect("grown");
    let copying = Copying::new(&format!("{:?}", from.file("*")), &to.0, "");
    let most = weighed(&copying);
    println!("a file of {} MiB: at most {most} KiB in memory", size >> 20);
    assert_eq!(fs::metadata(to.0.join("large")).expect("there").len(), size);
    assert!(most <= 8 << 10, "{most} KiB");
}

#[test]
#[ignore = "needs rclone; tests/run has it"]
fn files_are_put_in_little_memory() {
    in_own_process(this_test!(), put_files);
}

fn put_files() {
    let server = S3::start("copy-put-weight");
    let from = Dir::new("copy-put-weight-from");
    let size = if is_long() { 2 << 30 } else { 128 << 20 };
    let file = File::create(from.0.join("large")).expect("made");
    file.set_len(size).expect("grown");
    small(&from.0.join("small"), 1000);
    let config = format!(
        "[farewell]\nbudget = \"20m\"\n[[step]]\nname = \"put\"\nkind = \"copy\"\ntimeout = \"20m\"\nfrom = {:?}\nto = \"{}/logs\"\n{}",
        from.file("**"),
        server.url,
        S3::keys(SECRET)
    );
    let binary = Binary::new("copy-put-weight-config", &config);
    let most = peak(|| {
        let ended = binary.start(&["run"]).end(TIME * 10);
        assert_eq!(ended.code, 0, "{ended:?}");
    });
    println!(
        "a file of {} MiB and 1,000 small ones over HTTP: at most {most} KiB in memory",
        size >> 20
    );
    let there = fs::metadata(server.bucket.join("large")).expect("there");
    assert_eq!((there.len(), files(&server.bucket).len()), (size, 1001));
    assert!(most <= 12 << 10, "{most} KiB");
}

#[test]
fn ten_thousand_small_files_are_copied_in_little_memory() {
    in_own_process(this_test!(), small_files);
}

fn small_files() {
    let (from, to) = (Dir::new("copy-small"), Dir::new("copy-small-to"));
    small(&from.0, 10_000);
    let copying = Copying::new(&format!("{:?}", from.file("**")), &to.0, "");
    let most = weighed(&copying);
    println!("10,000 files: at most {most} KiB in memory");
    assert!(most <= 12 << 10, "{most} KiB");
    assert_eq!(files(&to.0).len(), 10_000);
    // The record is no place for all of them.
    assert_eq!(copying.run.recorder.copied().len(), 1000);
    assert!(copying.remarks().contains("the first 1000 of 10000 files"));
}

fn small(directory: &Path, count: usize) {
    for number in 0..count {
        let name = format!("{}/{number}", number % 100);
        write(directory, &name, number.to_string().repeat(100).as_bytes());
    }
}

/// How long a program takes, in seconds; `to` is emptied first.
fn timed(program: &str, arguments: &[&str]) -> f64 {
    let begun = Instant::now();
    let ended = Command::new(program).args(arguments).output();
    let ended = ended.expect(program);
    assert!(ended.status.success(), "{program}: {ended:?}");
    begun.elapsed().as_secs_f64()
}

/// Prints how long farewell takes beside rsync and rclone; the fastest of three each, in turn.
#[test]
#[ignore = "needs rclone and rsync; tests/run has it"]
fn time_beside_rsync_and_rclone_is_printed() {
    let from = Dir::new("copy-beside");
    let large = if is_long() { 1 << 30 } else { 64 << 20 };
    for what in ["large", "small"] {
        let source = from.0.join(what);
        fs::create_dir(&source).expect("made");
        match what {
            "large" => fs::write(source.join("file"), vec![0x5a; large]).expect("written"),
            _ => small(&source, 2000),
        }
        let mut best = [f64::MAX; 3];
        for _ in 0..3 {
            for (at, best) in best.iter_mut().enumerate() {
                let to = Dir::new("copy-beside-to");
                let (source, target) =
                    (format!("{}/", source.display()), to.0.display().to_string());
                let took = match at {
                    0 => {
                        let copying =
                            Copying::new(&format!("{:?}", format!("{source}**")), &to.0, "");
                        let begun = Instant::now();
                        assert_eq!(copying.attempt(TIME), Ok(Outcome::Done));
                        begun.elapsed().as_secs_f64()
                    }
                    1 => timed("rsync", &["-a", "--fsync", &source, &target]),
                    _ => timed("rclone", &["copy", "--config=/dev/null", &source, &target]),
                };
                *best = best.min(took);
                assert_eq!(files(&to.0), files(&from.0.join(what)));
            }
        }
        let [own, rsync, rclone] = best;
        println!(
            "{what}: farewell {own:.2} s, rsync {rsync:.2} s ({:.2}), rclone {rclone:.2} s ({:.2})",
            own / rsync,
            own / rclone
        );
    }
}
