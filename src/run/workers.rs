//! Threads for steps, used again: a chain of steps needs one.

use std::io;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

/// Enough for TLS and for JSON; only what is touched costs memory.
const STACK: usize = 512 << 10;

/// What is to be done, which returns what is to be done when the thread is free again.
type Job = Box<dyn FnOnce() -> Next + Send>;
type Next = Box<dyn FnOnce() + Send>;

/// The threads of a run that wait for their next job. Dropped, it sends them home; one that never comes back from its
/// job is left behind.
#[derive(Default)]
pub struct Workers {
    idle: Arc<Mutex<Vec<Sender<Job>>>>,
}

impl Workers {
    /// Gives `job` to a free thread, or to a new one. What `job` returns is called when the thread can be used again.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn start(&self, job: impl FnOnce() -> Next + Send + 'static) -> io::Result<()> {
        let mut job: Job = Box::new(job);
        while let Some(worker) = lock(&self.idle).pop() {
            match worker.send(job) {
                Ok(()) => return Ok(()),
                Err(mpsc::SendError(back)) => job = back,
            }
        }
        let idle = Arc::downgrade(&self.idle);
        thread::Builder::new()
            .name("step".into())
            .stack_size(STACK)
            .spawn(move || {
                loop {
                    let next = job();
                    // Only the list holds the sender, so that the wait ends when the list does.
                    let (sender, jobs) = mpsc::channel();
                    match idle.upgrade() {
                        Some(idle) => lock(&idle).push(sender),
                        None => return next(),
                    }
                    next();
                    match jobs.recv() {
                        Ok(another) => job = another,
                        Err(_) => return,
                    }
                }
            })?;
        Ok(())
    }
}

fn lock(idle: &Mutex<Vec<Sender<Job>>>) -> MutexGuard<'_, Vec<Sender<Job>>> {
    idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
