//! What systemd is told of a run, with a socket stand-in for PID 1's.

use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::Duration;

use crate::support::own_process::{again, is_inside, this_test};
use crate::support::story::{begin, end, finished, started, waiting};
use farewell::model::event::Result;
use farewell::report::dispatch::{Feed, Update};
use farewell::report::systemd::Systemd;

/// A run told to the service manager of this process.
fn tell() {
    let mut systemd = Feed::of(Systemd::new().expect("a service manager"));
    let tick = |seconds: u64, systemd: &mut Feed| {
        systemd.update(Update::Tick(Duration::from_secs(seconds)));
    };
    systemd.update(Update::Event(&begin(
        &["leave", "drain", "copy", "wait"],
        90,
    )));
    systemd.update(Update::Event(&started(0, 0)));
    systemd.update(Update::Idle);
    systemd.update(Update::Idle);
    systemd.update(Update::Event(&finished(1000, 0, 1000, None)));
    // Between two steps there is nothing to say.
    systemd.update(Update::Idle);
    for step in 1..4 {
        systemd.update(Update::Event(&started(1000, step)));
    }
    systemd.update(Update::Event(&waiting(2000, 1, "etcd\nREADY=1")));
    tick(2, &mut systemd);
    tick(2, &mut systemd);
    tick(10, &mut systemd);
    for step in 1..4 {
        systemd.update(Update::Event(&finished(12_000, step, 11_000, None)));
    }
    systemd.update(Update::Event(&end(
        12_000,
        Result::CutShort,
        Some("told to stop"),
    )));
    tick(20, &mut systemd);

    // A burst of changes between two ticks, and a budget beyond what the message can say.
    let mut systemd = Feed::of(Systemd::new().expect("a service manager"));
    let names = ["x"; 100];
    systemd.update(Update::Event(&begin(&names, 7200)));
    for step in 0..100 {
        systemd.update(Update::Event(&started(0, step)));
        systemd.update(Update::Idle);
        systemd.update(Update::Event(&finished(0, step, 0, None)));
    }
}

#[test]
fn systemd_is_told_what_runs_and_asked_for_time() {
    if is_inside(this_test!()) {
        return tell();
    }
    let path = std::env::temp_dir().join(format!("farewell-notify-{}", std::process::id()));
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_nonblocking(true).expect("it can be so");
    let mut child = again(this_test!(), &[])
        .env("NOTIFY_SOCKET", &path)
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    // Its queue is short, so it is read while the other side speaks.
    let mut told = Vec::new();
    let mut buffer = [0; 4096];
    let status = loop {
        let ended = child.try_wait().expect("its state");
        while let Ok(length) = socket.recv(&mut buffer) {
            told.push(String::from_utf8(buffer[..length].to_vec()).expect("UTF-8"));
        }
        match ended {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let _ = std::fs::remove_file(&path);
    assert!(status.success());
    let (first, second) = told.split_at(6.min(told.len()));
    assert_eq!(
        first,
        [
            "EXTEND_TIMEOUT_USEC=95000000\nSTATUS=0/4 starting, trigger stop\n",
            "STATUS=1/4 leave: 30 s left\n",
            "STATUS=2/4 drain: waiting for etcd READY=1, 29 s left (+2 more)\n",
            "EXTEND_TIMEOUT_USEC=85000000\n\
             STATUS=2/4 drain: waiting for etcd READY=1, 21 s left (+2 more)\n",
            "STATUS=cut-short after 12 s: told to stop\n",
            "EXTEND_TIMEOUT_USEC=7205000000\nSTATUS=0/100 starting, trigger stop\n",
        ]
    );
    assert_eq!(second.len(), 4, "{second:?}");
}

#[test]
fn there_is_no_reporter_without_a_service_manager() {
    if is_inside(this_test!()) {
        return assert!(Systemd::new().is_none());
    }
    let output = again(this_test!(), &[])
        .env_remove("NOTIFY_SOCKET")
        .output()
        .expect("it ends");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.contains("1 passed"),
        "{told}"
    );
}
