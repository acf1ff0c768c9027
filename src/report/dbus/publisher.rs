//! Publishes a run on the bus, from a thread of its own: nobody ever waits for the bus.

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

/// What one attempt to get onto the bus may take, and one batch of signals. A daemon that is busy with a shutdown may be
/// slow; nobody waits meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);

/// The time between two attempts: a bus may start late, or come back.
const AGAIN: Duration = Duration::from_secs(1);

/// The time between two batches of signals: what a person sees as at once. A thousand quick steps are a few batches.
const BREATH: Duration = Duration::from_millis(100);

/// What a bus that was there may take to hear the end of the run, and the first attempt of a run that ends at once. A
/// stuck one costs the process no more than this, and the steps nothing.
const CLOSING: Duration = Duration::from_millis(100);

/// RequestName's flag DBUS_NAME_FLAG_DO_NOT_QUEUE, alone: the name is neither taken from another run nor given up to one.
const DO_NOT_QUEUE: u32 = 4;

/// RequestName's answers that make this connection the owner: it is now, and it was before.
const OWNER: [u32; 2] = [1, 4];

/// Hears once, in a sentence, why a run cannot be seen on a bus that is there.
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
    /// Starts the thread. It asks for the name until it has it, and drops `guard` when everything is published, or
    /// cannot be.
    ///
    /// # Errors
    /// When the system has no thread or file descriptor left.
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
                    standing: Standing::Asking(Instant::now()),
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

/// How a run stands with the bus.
#[derive(Clone, Copy)]
enum Standing {
    /// It asks for the first time, since then.
    Asking(Instant),
    /// It owns the name.
    Present,
    /// It has asked in vain, or was thrown out, and asks now and then.
    Absent,
}

/// Why a run is not on the bus.
enum Setback {
    /// There is no bus, or none that answers.
    Away(BusError),
    /// Somebody else has the name.
    Taken,
    /// The bus does not let this process have the name.
    Refused(String),
}

impl<T: Into<BusError>> From<T> for Setback {
    fn from(error: T) -> Setback {
        Setback::Away(error.into())
    }
}

/// The thread.
struct Publishing<'a> {
    inbox: &'a Inbox,
    woken: UnixStream,
    standing: Standing,
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
    /// Gets the run onto the bus, again and again, until everything has been told there, the bus refuses, or it is too
    /// late.
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
            match self.appear(&mut changes) {
                Ok(()) => return,
                Err(Setback::Away(error)) => log::debug!("D-Bus: {error}"),
                Err(Setback::Taken) => complain(format!("the name {NAME} is taken")),
                // The daemon notes each attempt in its log, and its policy will hardly change meanwhile.
                Err(Setback::Refused(cause)) => return complain(cause),
            }
            self.standing = Standing::Absent;
            let again = Instant::now() + AGAIN;
            while Instant::now() < again {
                if self.inbox.pending.lock().complete.is_some() {
                    return;
                }
                self.listen(None, Some(again));
            }
            // Nobody has heard of it, and whoever is there later reads the properties.
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

    /// Is on the bus until everything has been told.
    fn appear(&mut self, changes: &mut Changes) -> Result<(), Setback> {
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
            Ok(answer) if OWNER.contains(&answer) => self.standing = Standing::Present,
            Ok(_) => return Err(Setback::Taken),
            Err(BusError::Refused(_, message)) => return Err(Setback::Refused(message)),
            Err(error) => return Err(error.into()),
        }
        let mut first = true;
        loop {
            let pause = Instant::now() + BREATH;
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
                // The answer says that the daemon has passed on everything before it. Without it the end of this
                // process could make the daemon throw away what it has not read.
                client.is_leaving = true;
                let release = bus_call("ReleaseName", &(NAME,))?;
                self.ask(&mut client, &changes.run, &release)?;
                return Ok(());
            }
            // Nothing more is said to a bus that does not listen.
            let limit = Instant::now() + PATIENCE;
            let is_sent = |_: &Pending, client: &Client| client.connection.unsent() == 0;
            if !self.serve(&mut client, &changes.run, Some(limit), is_sent)? {
                return Err(BusError::TimedOut.into());
            }
        }
    }

    /// Asks the bus itself something, and waits for its answer.
    fn ask(
        &mut self,
        client: &mut Client,
        run: &Snapshot,
        call: &Message,
    ) -> Result<Incoming, Setback> {
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

    /// Answers those who call until something is so, until `until`, or until nobody should wait for the bus any longer.
    /// Tells whether it is so.
    fn serve(
        &self,
        client: &mut Client,
        run: &Snapshot,
        until: Option<Instant>,
        is_so: impl Fn(&Pending, &Client) -> bool,
    ) -> Result<bool, Setback> {
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

    /// From when on nobody should wait for the bus.
    fn too_late(&self, pending: &Pending) -> Option<Instant> {
        let complete = pending.complete?;
        Some(match self.standing {
            Standing::Asking(since) => since + CLOSING,
            Standing::Present => complete + CLOSING,
            Standing::Absent => complete,
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
    /// Until when nothing is read, where those who call have had enough for now. Then they wait in the queue of the bus,
    /// which has its limits; they cost this process nothing there.
    fn pause(&self) -> Option<Instant> {
        match self.is_leaving {
            true => None,
            false => self.pace.pause(self.connection.unsent()),
        }
    }

    /// Takes what has arrived: keeps what the bus answers, and answers those who call.
    fn take_messages(&mut self, run: &Snapshot) -> Result<(), BusError> {
        while self.pause().is_none() {
            let Some(message) = self.connection.take()? else {
                return Ok(());
            };
            match message.kind {
                // Those who come late do not keep the bus from hearing that the run has ended.
                Kind::Call if self.pace.pause(self.connection.unsent()).is_none() => {
                    let before = self.connection.unsent();
                    match service::answer(run, &message) {
                        Ok(answer) => answer
                            .iter()
                            .for_each(|answer| self.connection.send(answer)),
                        // Whoever asks for what cannot be told is not told; the others are.
                        Err(error) => log::debug!("D-Bus: {error}"),
                    }
                    self.pace
                        .spend(rate_limit::MESSAGE + self.connection.unsent() - before);
                }
                Kind::Return | Kind::Error if message.sender() == BUS => self.answers.push(message),
                // The bus tells who has which name; what others send is nothing to a run.
                _ => self.pace.spend(rate_limit::MESSAGE),
            }
        }
        Ok(())
    }
}
