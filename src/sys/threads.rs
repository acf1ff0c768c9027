//! A pool of reusable threads: a chain of steps needs one.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use crate::sys::sync::Mutex;

/// Enough for TLS and JSON; only pages that are used cost memory.
const STACK: usize = 512 << 10;

/// A job, which returns what to call when its thread is idle again.
type Job = Box<dyn FnOnce() -> WhenIdle + Send>;

/// Called when the thread is idle again, usually to signal that.
pub type WhenIdle = Box<dyn FnOnce() + Send>;

/// The idle threads. They end with the process; one whose job never ends is abandoned.
static IDLE: Mutex<Vec<Sender<Job>>> = Mutex::new(Vec::new());

/// Runs `job` on an idle thread, or on a new one.
pub fn start(job: impl FnOnce() -> WhenIdle + Send + 'static) -> io::Result<()> {
    let mut job: Job = Box::new(job);
    loop {
        // A statement of its own, so that the list is not locked meanwhile.
        let idle = IDLE.lock().pop();
        let Some(worker) = idle else { break };
        match worker.send(job) {
            Ok(()) => return Ok(()),
            Err(mpsc::SendError(back)) => job = back,
        }
    }
    thread::Builder::new()
        .name("worker".into())
        .stack_size(STACK)
        .spawn(move || {
            loop {
                let next = job();
                let (sender, jobs) = mpsc::channel();
                IDLE.lock().push(sender);
                next();
                match jobs.recv() {
                    Ok(another) => job = another,
                    Err(_) => return,
                }
            }
        })?;
    Ok(())
}

/// Runs `job` and returns its result, or `None` after `patience`: then its thread is abandoned.
pub fn within<T: Send + 'static>(
    patience: Duration,
    job: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    // Kept beside the channel, so that the channel's code is not duplicated for each type.
    let made = Arc::new(Mutex::new(None));
    let (theirs, (sender, receiver)) = (made.clone(), mpsc::channel::<()>());
    start(move || -> WhenIdle {
        let value = job();
        *theirs.lock() = Some(value);
        // Fails only if the receiver no longer waits.
        Box::new(move || {
            let _ = sender.send(());
        })
    })?;
    Ok(match receiver.recv_timeout(patience) {
        Ok(()) => made.lock().take(),
        Err(_) => None,
    })
}
