//! Who listens at an address, with real processes that have the socket.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::own_process::{again, is_inside, this_test};
use farewell::sys::listeners::{Listening, listeners};

/// A process that has a listening socket, and does nothing with it; killed when it goes out of scope.
struct Holder(Child);

impl Holder {
    fn of(listener: &TcpListener) -> Holder {
        let socket = OwnedFd::from(listener.try_clone().expect("a descriptor"));
        let mut command = Command::new("sleep");
        let child = command.arg("600").stdin(Stdio::from(socket)).spawn();
        Holder(child.expect("sleep"))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn at(host: &str, listener: &TcpListener) -> SocketAddr {
    let port = listener.local_addr().expect("an address").port();
    SocketAddr::new(host.parse().expect("an address"), port)
}

/// Exactly these have the socket. A child that another test starts may have it too, until it runs its program.
fn assert_holders(address: SocketAddr, expected: &[u32]) {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let found = listeners(&[address]).expect("/proc").remove(0);
        let holders = found.expect("somebody listens").holders;
        if holders == expected {
            return;
        }
        let is_more = expected.iter().all(|it| holders.contains(it));
        assert!(
            is_more && Instant::now() < end,
            "{address}: {holders:?}, not {expected:?}"
        );
    }
}

#[test]
fn the_process_is_found_whatever_it_is_bound_to() {
    for (bind, ask) in [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::1", "::1"),
        ("::", "::1"),
        ("::", "127.0.0.1"),
    ] {
        let listener = TcpListener::bind((bind, 0)).expect("a port");
        let address = at(ask, &listener);
        let holder = Holder::of(&listener);
        drop(listener);
        assert_holders(address, &[holder.pid()]);
    }
}

#[test]
fn all_who_have_the_socket_are_found() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = at("127.0.0.1", &listener);
    let (one, two) = (Holder::of(&listener), Holder::of(&listener));
    let mut expected = vec![std::process::id(), one.pid(), two.pid()];
    expected.sort_unstable();
    assert_holders(address, &expected);
}

#[test]
fn one_look_serves_all_addresses() {
    let bind = |host: &str| TcpListener::bind((host, 0)).expect("a port");
    let (one, other) = (bind("127.0.0.1"), bind("::"));
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let found = listeners(&[at("127.0.0.1", &one), nobody, at("::1", &other)]).expect("/proc");
    let has_own = |it: &Listening| it.holders.contains(&std::process::id());
    let own: Vec<Option<bool>> = found.iter().map(|it| it.as_ref().map(has_own)).collect();
    assert_eq!(own, [Some(true), None, Some(true)]);
    assert_eq!(listeners(&[]).expect("/proc"), []);
}

#[test]
fn processes_that_vanish_meanwhile_are_left_out() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = at("127.0.0.1", &listener);
    let holder = Holder::of(&listener);
    drop(listener);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    assert!(Command::new("true").status().expect("true").success());
                }
            });
        }
        for _ in 0..100 {
            assert_holders(address, &[holder.pid()]);
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_plain_user_is_told_that_there_may_be_others() {
    const NOBODY: u32 = 65534;
    if is_inside(this_test!()) {
        return seen_by_nobody();
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = at("127.0.0.1", &listener).port();
    let mut command = again(this_test!(), &[]);
    command.env("FAREWELL_TEST_PORT", port.to_string());
    let output = command.uid(NOBODY).gid(NOBODY).output().expect("it starts");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("1 passed"), "needs root\n{told}");
}

fn seen_by_nobody() {
    let port = std::env::var("FAREWELL_TEST_PORT").expect("a port");
    let theirs = SocketAddr::from(([127, 0, 0, 1], port.parse().expect("a port")));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let found = listeners(&[theirs, at("127.0.0.1", &listener)]).expect("/proc");
    let listening = |holders| {
        Some(Listening {
            holders,
            is_hidden: true,
        })
    };
    let expected = [listening(Vec::new()), listening(vec![std::process::id()])];
    assert_eq!(found, expected);
}
