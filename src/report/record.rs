//! The record: one event a line, written as it happens, synced in groups by a thread of its own.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::history::record::Writer;
use crate::history::reserved_space;
use crate::history::state_dir::Store;
use crate::model::event::{Event, EventKind};
use crate::report::dispatch::Sink;
use crate::report::record_progress::RecordProgress;

/// How long lines are collected before they are synced together.
const GROUP: Duration = Duration::from_millis(50);

/// How many lines are written together when they come faster than they can be written one by one.
const TOGETHER: u64 = 16;

/// Writes the record of one run.
struct Record {
    store: Store,
    run: String,
    writer: Writer,
    file: Option<File>,
    /// Lines that are not written yet. They go first, so that the file is always a prefix of the run.
    backlog: Vec<u8>,
    /// Its size in bytes.
    length: u64,
    /// How many events it has received and not settled.
    unsettled: u64,
    /// Whether somebody waits for the sync.
    pressing: bool,
    written: Arc<RecordProgress>,
    sync: Option<Syncing>,
    complain: Box<dyn FnMut(String) + Send>,
    complained: bool,
}

struct Syncing {
    /// Set while something is written and not synced, so that each group wakes the syncing thread once.
    dirty: Arc<AtomicBool>,
    /// Wakes it; `true` asks for a sync at once.
    wake: Sender<bool>,
    thread: thread::JoinHandle<()>,
}

/// Starts the thread that writes the record of a run to `store`. `complain` is called at most once, with one sentence,
/// if the record cannot be written. `guard` is dropped when the record is closed.
pub fn start(
    store: Store,
    written: Arc<RecordProgress>,
    complain: Box<dyn FnMut(String) + Send>,
    guard: impl Send + 'static,
) -> io::Result<Sink> {
    let (events, inbox) = mpsc::channel::<Arc<Event>>();
    let mut record = Record {
        store,
        run: String::new(),
        writer: Writer::default(),
        file: None,
        backlog: Vec::new(),
        length: 0,
        unsettled: 0,
        pressing: false,
        written: written.clone(),
        sync: None,
        complain,
        complained: false,
    };
    thread::Builder::new()
        .name("record".into())
        .stack_size(256 << 10)
        .spawn(move || {
            record.write_all(&inbox);
            drop(guard);
        })?;
    written.begin();
    // The thread ends when this sender is gone.
    Ok(Box::new(move |event| drop(events.send(event.clone()))))
}

impl Record {
    fn write_all(&mut self, inbox: &Receiver<Arc<Event>>) {
        while let Ok(event) = inbox.recv() {
            self.write_event(&event);
            while let Ok(event) = inbox.try_recv() {
                self.write_event(&event);
            }
            if self.unsettled > 0 {
                self.settle();
            }
        }
    }

    fn write_event(&mut self, event: &Event) {
        self.note(event);
        let last = matches!(event.kind, EventKind::RunFinished { .. });
        if last || self.pressing || self.unsettled >= TOGETHER {
            self.settle();
        }
        if last {
            self.close();
        }
    }

    fn open(&mut self, run: &str) -> io::Result<()> {
        let file = self.store.create(run)?;
        let (wake, woken) = mpsc::channel();
        let dirty = Arc::new(AtomicBool::new(false));
        let disk = Disk {
            file: file.try_clone()?,
            store: self.store.clone(),
            dirty: dirty.clone(),
            written: self.written.clone(),
        };
        let thread = thread::Builder::new()
            .name("sync".into())
            .stack_size(64 << 10)
            .spawn(move || disk.sync_in_groups(&woken))?;
        self.file = Some(file);
        self.run = run.to_owned();
        self.sync = Some(Syncing {
            dirty,
            wake,
            thread,
        });
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        while !self.backlog.is_empty() {
            match file.write(&self.backlog) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => {
                    self.backlog.drain(..length);
                    self.length += length as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn complain(&mut self, error: &io::Error, what: &str) {
        if !std::mem::replace(&mut self.complained, true) {
            (self.complain)(format!(
                "{}: {what}: {error}",
                self.store.directory().display()
            ));
        }
    }
}

impl Record {
    fn note(&mut self, event: &Event) {
        if let EventKind::RunStarted { run, .. } = &event.kind
            && let Err(error) = self.open(run)
        {
            self.complain(&error, "this run will have no record");
        }
        if self.file.is_some()
            && let Some(line) = self.writer.line(event)
        {
            self.backlog.extend(line);
        }
        self.unsettled += 1;
        self.pressing |= matches!(event.kind, EventKind::Intended { .. });
    }

    /// Writes the collected lines, wakes those who wait for them, and starts a sync.
    fn settle(&mut self) {
        let written = self.write();
        let are_held = written.is_ok() && self.file.is_some();
        let events = std::mem::take(&mut self.unsettled);
        self.written.advance(events, are_held);
        if let Err(error) = written {
            self.complain(&error, "the record of this run is incomplete");
        }
        let pressing = std::mem::take(&mut self.pressing);
        match &self.sync {
            Some(sync) if !sync.dirty.swap(true, Ordering::AcqRel) || pressing => {
                // The thread ends only when this sender is gone.
                let _ = sync.wake.send(pressing);
            }
            Some(_) => {}
            // Without a record nobody needs to wait.
            None => self.written.sync(self.written.events()),
        }
    }

    fn close(&mut self) {
        if let Some(file) = &self.file {
            // What remains is reserved space, not part of the record.
            let _ = reserved_space::give_back(file, self.length);
        }
        let last_sync = self.sync.take().map(|Syncing { wake, thread, .. }| {
            drop(wake);
            thread
        });
        // While the last lines are synced.
        if self.file.is_some()
            && let Err(error) = self.store.prune(&self.run)
        {
            log::warn!(
                "{}: cannot remove old records: {error}",
                self.store.directory().display()
            );
        }
        if let Some(thread) = last_sync {
            // A panic of that thread costs the sync and nothing else.
            let _ = thread.join();
        }
    }
}

/// The record as the syncing thread sees it.
struct Disk {
    file: File,
    store: Store,
    dirty: Arc<AtomicBool>,
    written: Arc<RecordProgress>,
}

impl Disk {
    fn sync_in_groups(&self, woken: &Receiver<bool>) {
        let mut is_named = false;
        while let Ok(mut pressing) = woken.recv() {
            let end = Instant::now() + GROUP;
            let mut ended = false;
            // Collects the rest of the group, which ends early when somebody waits for it or the run ends.
            while !pressing && !ended {
                match woken.recv_timeout(end.saturating_duration_since(Instant::now())) {
                    Ok(another) => pressing = another,
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => ended = true,
                }
            }
            self.dirty.store(false, Ordering::Release);
            let events = self.written.events();
            let synced = self.file.sync_data().is_ok();
            if !synced {
                // A network file system that is full may report it only here, after the write succeeded.
                self.written.fail();
            }
            if pressing && !is_named {
                // Without a synced directory entry the record would not be found after a power cut. A directory that
                // cannot be synced is left so, and only runs that wait for a sync pay for it.
                let _ = self.store.sync_names();
                is_named = true;
            }
            if synced && is_named {
                self.written.sync(events);
            }
            if ended {
                return;
            }
        }
    }
}
