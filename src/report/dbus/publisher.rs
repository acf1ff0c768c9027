//! Publishes a run on the bus from a thread of its own, so that no step waits for the bus.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{mem, thread};

use zbus::Message;

use super::changes::{Change, Changes};
use super::interface::{NAME, Snapshot};
use super::rate_limit::{self, RateLimit};
use super::service;
use crate::sys::dbus::connection::{self, Connection};
use crate::sys::dbus::{BUS, BusError, Incoming, Kind, Side, address, bus_call, hello};
use crate::sys::sync::Mutex;

/// Limit of one attempt to connect to the bus, and of one batch of signals. A daemon that is busy with a shutdown may
/// be slow; no step waits meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);

/// The pause between two attempts: a bus may start late, or come back.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The pause between two batches of signals, too short for a person to notice. A thousand quick steps make a few
/// batches.
const BATCH_PAUSE: Duration = Duration::from_millis(100);

/// Limit for publishing the end of the run, and for the first attempt of a run that ends at once. A stuck bus delays
/// the process by no more than this, and the steps not at all.
const CLOSING: Duration = Duration::from_millis(100);

/// RequestName's flag DBUS_NAME_FLAG_DO_NOT_QUEUE alone: this run neither replaces another owner of the name nor lets
/// itself be replaced.
const DO_NOT_QUEUE: u32 = 4;

/// RequestName's answers that make this connection the owner: PRIMARY_OWNER and ALREADY_OWNER.
const OWNER: [u32; 2] = [1, 4];

/// Called at most once, with one sentence that says why a bus that exists does not show the run.
pub type Complain = Box<dyn FnMut(String) + Send>;

/// What has changed and is not published yet.
struct Inbox {
    pending: Mutex<Pending>,
    /// Wakes the thread.
    wake: UnixStream,
}

#[derive(Default)]
struct Pending {
    changes: Vec<Change>,
    /// When the last one came, if it has.
    complete: Option<Instant>,
}

/// The caller's end of the thread.
pub struct Publisher(Arc<Inbox>);

impl Publisher {
    /// Starts the thread. It requests the name until it owns it, and drops `guard` when everything is published, or
    /// cannot be.
    pub fn start(complain: Complain, guard: impl Send + 'static) -> io::Result<Publisher> {
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let pending = Mutex::default();
        let inbox = Arc::new(Inbox { pending, wake });
        let read = inbox.clone();
        thread::Builder::new()
            .name("D-Bus".into())
            .stack_size(256 << 10)
            .spawn(move || {
                let mut publishing = Publishing {
                    inbox: &read,
                    woken,
                    state: BusState::Asking(Instant::now()),
                };
                publishing.run(complain);
                drop(guard);
            })?;
        Ok(Publisher(inbox))
    }

    /// Publishes a change, without waiting for it.
    pub fn put(&self, change: Change) {
        let is_last = matches!(change, Change::Finished(_));
        let mut pending = self.0.pending.lock();
        pending.changes.push(change);
        if is_last {
            pending.complete = Some(Instant::now());
        }
        let is_first = pending.changes.len() == 1;
        drop(pending);
        if is_first || is_last {
            // Fails only where so many wake-ups are pending that the thread wakes anyway.
            let _ = (&self.0.wake).write(&[1]);
        }
    }
}

/// Whether the run is on the bus.
#[derive(Clone, Copy)]
enum BusState {
    /// It has been making its first attempt since then.
    Asking(Instant),
    /// It owns the name.
    Published,
    /// The last attempt failed, or the connection broke; it tries again from time to time.
    Absent,
}

/// Why a run could not be published.
enum PublishError {
    /// There is no bus, or none that answers.
    NoBus(BusError),
    /// Another connection owns the name.
    Taken,
    /// The bus' policy does not let this process own the name.
    Refused(String),
}

impl<T: Into<BusError>> From<T> for PublishError {
    fn from(error: T) -> PublishError {
        PublishError::NoBus(error.into())
    }
}

/// The thread.
struct Publishing<'a> {
    inbox: &'a Inbox,
    woken: UnixStream,
    state: BusState,
}

/// A connection to the bus, as its client.
struct Client {
    connection: Connection,
    pace: RateLimit,
    /// Whether the run leaves the bus.
    is_leaving: bool,
    /// What the bus has answered.
    answers: Vec<Incoming>,
}

impl Publishing<'_> {
    /// Tries to publish the run until everything is published, the bus refuses, or it is too late.
    fn run(&mut self, complain: Complain) {
        let mut complain = Some(complain);
        let mut complain = |cause: String| {
            if let Some(mut complain) = complain.take() {
                complain(cause);
            }
        };
        let Some(mut changes) = Changes::begin(self.first_change()) else {
            return;
        };
        loop {
            match self.publish(&mut changes) {
                Ok(()) => return,
                Err(PublishError::NoBus(error)) => log::debug!("D-Bus: {error}"),
                Err(PublishError::Taken) => complain(format!("the name {NAME} is taken")),
                // The daemon logs each attempt, and its policy is unlikely to change meanwhile.
                Err(PublishError::Refused(cause)) => return complain(cause),
            }
            self.state = BusState::Absent;
            let again = Instant::now() + RETRY_PAUSE;
            while Instant::now() < again {
                if self.inbox.pending.lock().complete.is_some() {
                    return;
                }
                self.listen(None, Some(again));
            }
            // Nobody has seen these changes yet, and later clients read the properties.
            changes.catch_up(self.changes());
        }
    }

    fn first_change(&self) -> Change {
        loop {
            let mut pending = self.inbox.pending.lock();
            if !pending.changes.is_empty() {
                return pending.changes.remove(0);
            }
            drop(pending);
            self.listen(None, None);
        }
    }

    fn changes(&self) -> Vec<Change> {
        mem::take(&mut self.inbox.pending.lock().changes)
    }

    /// Connects, owns the name, and publishes until the run has ended and everything is published.
    fn publish(&mut self, changes: &mut Changes) -> Result<(), PublishError> {
        let mut client = Client {
            connection: Connection::begin(&address()?, Side::Service)?,
            pace: RateLimit::begin(),
            is_leaving: false,
            answers: Vec::new(),
        };
        client.connection.send(&hello()?);
        let request = bus_call("RequestName", &(NAME, DO_NOT_QUEUE))?;
        let answer = self.ask(&mut client, &changes.run, &request)?;
        match answer.read::<u32>() {
            Ok(answer) if OWNER.contains(&answer) => self.state = BusState::Published,
            Ok(_) => return Err(PublishError::Taken),
            Err(BusError::Refused(_, message)) => return Err(PublishError::Refused(message)),
            Err(error) => return Err(error.into()),
        }
        let mut first = true;
        loop {
            let pause = Instant::now() + BATCH_PAUSE;
            self.serve(&mut client, &changes.run, Some(pause), |pending, _| {
                pending.complete.is_some()
            })?;
            self.serve(&mut client, &changes.run, None, |pending, _| {
                first || !pending.changes.is_empty()
            })?;
            let signals = changes.signals(self.changes(), mem::take(&mut first))?;
            signals
                .iter()
                .for_each(|signal| client.connection.send(signal));
            if changes.is_over() {
                // The answer shows that the daemon has passed on everything before it. Without it the daemon could drop
                // what it has not read when this process ends.
                client.is_leaving = true;
                let release = bus_call("ReleaseName", &(NAME,))?;
                self.ask(&mut client, &changes.run, &release)?;
                return Ok(());
            }
            // A bus that does not answer gets nothing more.
            let limit = Instant::now() + PATIENCE;
            let is_sent = |_: &Pending, client: &Client| client.connection.unsent() == 0;
            if !self.serve(&mut client, &changes.run, Some(limit), is_sent)? {
                return Err(BusError::TimedOut.into());
            }
        }
    }

    /// Calls a method of the bus itself, and waits for the answer.
    fn ask(
        &mut self,
        client: &mut Client,
        run: &Snapshot,
        call: &Message,
    ) -> Result<Incoming, PublishError> {
        client.connection.send(call);
        let serial = call.primary_header().serial_num().get();
        let place = |client: &Client| client.answers.iter().position(|it| it.answers(serial));
        let limit = Instant::now() + PATIENCE;
        self.serve(client, run, Some(limit), |_, client| {
            place(client).is_some()
        })?;
        match place(client) {
            Some(place) => Ok(client.answers.swap_remove(place)),
            None => Err(BusError::TimedOut.into()),
        }
    }

    /// Answers callers until the condition holds, until `until`, or until it is too late to wait for the bus. Returns
    /// whether the condition holds.
    fn serve(
        &self,
        client: &mut Client,
        run: &Snapshot,
        until: Option<Instant>,
        is_so: impl Fn(&Pending, &Client) -> bool,
    ) -> Result<bool, PublishError> {
        loop {
            client.take_messages(run)?;
            client.connection.flush()?;
            let pending = self.inbox.pending.lock();
            if is_so(&pending, client) {
                return Ok(true);
            }
            let limit = until.into_iter().chain(self.too_late(&pending)).min();
            drop(pending);
            if limit.is_some_and(|limit| Instant::now() >= limit) {
                return Ok(false);
            }
            let limit = limit.into_iter().chain(client.pause()).min();
            if self.listen(Some(client), limit) {
                let received = client.connection.receive()?;
                client.pace.spend(received);
            }
        }
    }

    /// The time after which nothing waits for the bus any more.
    fn too_late(&self, pending: &Pending) -> Option<Instant> {
        let complete = pending.complete?;
        Some(match self.state {
            BusState::Asking(since) => since + CLOSING,
            BusState::Published => complete + CLOSING,
            BusState::Absent => complete,
        })
    }

    /// Waits for a change, for something to happen on the connection, or until `until`. Returns whether there is something
    /// to receive.
    fn listen(&self, client: Option<&Client>, until: Option<Instant>) -> bool {
        let connection = client.map(|client| (&client.connection, client.pause().is_none()));
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let (woken, connection) = connection::wait(&self.woken, connection, left);
        if woken {
            let _ = (&self.woken).read(&mut [0; 64]);
        }
        connection
    }
}

impl Client {
    /// Until when nothing is read, where callers have used up their rate limit. Their calls wait in the bus' queue,
    /// which has limits of its own and costs this process nothing.
    fn pause(&self) -> Option<Instant> {
        match self.is_leaving {
            true => None,
            false => self.pace.pause(self.connection.unsent()),
        }
    }

    /// Receives what has arrived: keeps the bus' answers, and answers callers.
    fn take_messages(&mut self, run: &Snapshot) -> Result<(), BusError> {
        while self.pause().is_none() {
            let Some(message) = self.connection.take()? else {
                return Ok(());
            };
            match message.kind {
                // Late callers do not delay the signal that the run has ended.
                Kind::Call if self.pace.pause(self.connection.unsent()).is_none() => {
                    let before = self.connection.unsent();
                    match service::answer(run, &message) {
                        Ok(answer) => answer
                            .iter()
                            .for_each(|answer| self.connection.send(answer)),
                        // A call that cannot be answered does not affect the others.
                        Err(error) => log::debug!("D-Bus: {error}"),
                    }
                    self.pace
                        .spend(rate_limit::MESSAGE + self.connection.unsent() - before);
                }
                Kind::Return | Kind::Error if message.sender() == BUS => self.answers.push(message),
                // The bus sends changes of name owners; other signals do not concern a run.
                _ => self.pace.spend(rate_limit::MESSAGE),
            }
        }
        Ok(())
    }
}
