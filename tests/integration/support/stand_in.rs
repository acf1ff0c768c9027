//! Stand-ins for journald's and systemd's sockets.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A socket of systemd's, which keeps every datagram.
pub struct StandIn {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<u8>>,
}

impl StandIn {
    pub fn at(path: &Path) -> StandIn {
        let socket = UnixDatagram::bind(path).expect("a socket");
        socket
            .set_read_timeout(Some(Duration::from_millis(200)))
            .expect("set");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut all, mut buffer) = (Vec::new(), vec![0; 1 << 18]);
            loop {
                match socket.recv(&mut buffer) {
                    Ok(length) => all.extend_from_slice(&buffer[..length]),
                    Err(_) if stopped.load(Ordering::SeqCst) => return all,
                    Err(_) => {}
                }
            }
        });
        StandIn { stop, thread }
    }

    pub fn heard(self) -> Vec<u8> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("no panic")
    }
}
