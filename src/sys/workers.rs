//! Threads that are used again: a chain of steps needs one.

use std::io;
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, MutexGuard};
use std::thread;

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
        let idle = idle().pop();
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
                idle().push(sender);
                next();
                match jobs.recv() {
                    Ok(another) => job = another,
                    Err(_) => return,
                }
            }
        })?;
    Ok(())
}

fn idle() -> MutexGuard<'static, Vec<Sender<Job>>> {
    IDLE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
