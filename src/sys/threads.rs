//! Threads that are used again: a chain of steps needs one.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use crate::sys::sync::Mutex;

/// Enough for TLS and for JSON; only what is touched costs memory.
const STACK: usize = 512 << 10;

/// What is to be done, which returns what is to be done when the thread is free again.
type Job = Box<dyn FnOnce() -> Next + Send>;

/// What is done when the thread can be used again: telling so, at best.
pub type Next = Box<dyn FnOnce() + Send>;

/// The threads that wait for their next job. They end with the process; one that never comes back from its job is left
/// behind.
static IDLE: Mutex<Vec<Sender<Job>>> = Mutex::new(Vec::new());

/// Gives `job` to a free thread, or to a new one. What it returns is called when the thread can be used again.
///
/// # Errors
/// When the system has no thread left.
pub fn start(job: impl FnOnce() -> Next + Send + 'static) -> io::Result<()> {
    let mut job: Job = Box::new(job);
    loop {
        // In a statement of its own, so that the list is not held meanwhile.
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

/// What `job` returns, or `None` when it has not by the end of `patience`: its thread is left behind then.
///
/// # Errors
/// When the system has no thread left.
pub fn within<T: Send + 'static>(
    patience: Duration,
    job: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    // Beside the channel, whose code is there once for all types then.
    let made = Arc::new(Mutex::new(None));
    let (theirs, (sender, receiver)) = (made.clone(), mpsc::channel::<()>());
    start(move || -> Next {
        let value = job();
        *theirs.lock() = Some(value);
        // The receiver is gone only when it no longer waits.
        Box::new(move || {
            let _ = sender.send(());
        })
    })?;
    Ok(match receiver.recv_timeout(patience) {
        Ok(()) => made.lock().take(),
        Err(_) => None,
    })
}
