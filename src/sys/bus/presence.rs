//! A run's presence on the bus, on a thread of its own: nobody ever waits for the bus.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::{Duration, Instant};
use std::{io, mem, thread};

use zbus::connection::Builder;
use zbus::{Connection, Message, Variant};
use zruntime::{Event as Bell, SharedRuntime};

use super::Trouble;
use super::agent::{Agent1, BUS, BUS_PATH, NAME, PATH, PROPERTIES, Snapshot, Step, count, locked};
use crate::event::{Event, Happening};

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

/// What an event changes.
#[derive(Debug)]
pub enum Change {
    /// The run has begun.
    Begun(Snapshot),
    /// A step has changed: its index, and what it is now.
    Step(usize, Step),
    /// The run has ended: the word of its result.
    Finished(String),
}

/// Who is asked what an event changes.
pub type Narrator = Box<dyn FnMut(&Event) -> Option<Change> + Send>;

/// Hears once, in a sentence, why a run cannot be seen on a bus that is there.
pub type Complain = Box<dyn FnMut(String) + Send>;

/// What has happened and is not told yet.
#[derive(Default)]
struct Inbox {
    news: Mutex<News>,
    bell: Bell,
}

#[derive(Default)]
struct News {
    events: Vec<Arc<Event>>,
    /// Whether the last one is there.
    complete: bool,
}

/// Tells of the run whose events are given to what is returned, which never waits: asks for the name until it is had,
/// and drops `at_work` when everything has been told, or cannot be.
///
/// # Errors
/// When the system has no thread left for it.
pub fn begin(
    narrator: Narrator,
    complain: Complain,
    at_work: impl Send + 'static,
) -> io::Result<impl Fn(&Arc<Event>) + Send + 'static> {
    let inbox = Arc::<Inbox>::default();
    let read = inbox.clone();
    thread::Builder::new()
        .name("D-Bus".into())
        .stack_size(256 << 10)
        .spawn(move || zbus::block_on(attend(&read, narrator, complain, at_work)))?;
    Ok(move |event: &Arc<Event>| inbox.put(event))
}

/// What the thread does. It does not come back: what it would have to tidy up ends with the process.
async fn attend(inbox: &Inbox, narrator: Narrator, complain: Complain, at_work: impl Send) {
    let Ok(runtime) = SharedRuntime::current() else {
        return;
    };
    let presence = Presence {
        runtime,
        inbox,
        standing: Cell::new(Standing::Asking(Instant::now())),
    };
    is_first(presence.tell(narrator, complain), presence.too_late()).await;
    drop(at_work);
    std::future::pending().await
}

impl Inbox {
    fn put(&self, event: &Arc<Event>) {
        // What a child says is the journal's; a bus is no place for a thousand lines.
        if let Happening::Output { .. } | Happening::Warning { .. } = event.happening {
            return;
        }
        let mut news = self.news();
        news.complete |= matches!(event.happening, Happening::RunFinished { .. });
        news.events.push(event.clone());
        let is_due = news.events.len() == 1 || news.complete;
        drop(news);
        if is_due {
            self.bell.notify(usize::MAX);
        }
    }

    fn news(&self) -> MutexGuard<'_, News> {
        self.news
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Waits until the news are so.
    async fn until(&self, is_so: impl Fn(&News) -> bool) {
        loop {
            // In this order, or the bell could ring in between.
            let ringing = self.bell.listen();
            if is_so(&self.news()) {
                return;
            }
            ringing.await;
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
    Away(Trouble),
    /// Somebody else has the name.
    Taken,
    /// The bus does not let this process have the name.
    Refused(String),
}

impl<T: Into<Trouble>> From<T> for Setback {
    fn from(trouble: T) -> Setback {
        Setback::Away(trouble.into())
    }
}

struct Presence<'a> {
    runtime: SharedRuntime,
    inbox: &'a Inbox,
    standing: Cell<Standing>,
}

impl Presence<'_> {
    /// Waits until nobody should wait for the bus any longer.
    async fn too_late(&self) {
        self.inbox.until(|news| news.complete).await;
        let now = Instant::now();
        let end = match self.standing.get() {
            Standing::Asking(since) => since + CLOSING,
            Standing::Present => now + CLOSING,
            Standing::Absent => now,
        };
        self.runtime.sleep_until(end).await;
    }

    /// Gets the run onto the bus, again and again, until everything has been told there or the bus refuses.
    async fn tell(&self, narrator: Narrator, complain: Complain) {
        let mut complain = Some(complain);
        let mut complain = |cause: String| {
            if let Some(mut complain) = complain.take() {
                complain(cause);
            }
        };
        let Some(mut story) = Story::begin(self.inbox, narrator).await else {
            return;
        };
        loop {
            match self.appear(&mut story).await {
                Ok(()) => return,
                Err(Setback::Away(trouble)) => log::debug!("D-Bus: {trouble}"),
                Err(Setback::Taken) => complain(format!("the name {NAME} is taken")),
                // The daemon notes each attempt in its log, and its policy will hardly change meanwhile.
                Err(Setback::Refused(cause)) => return complain(cause),
            }
            self.standing.set(Standing::Absent);
            self.runtime.sleep(AGAIN).await;
            // Nobody has heard of it, and whoever is there later reads the properties.
            story.catch_up();
        }
    }

    /// Is on the bus until everything has been told.
    async fn appear(&self, story: &mut Story<'_>) -> Result<(), Setback> {
        let connection = self.in_time(enter(&story.run)).await?;
        self.standing.set(Standing::Present);
        let mut first = true;
        loop {
            let (signals, is_over) = story.signals(mem::take(&mut first))?;
            let sent = async { Ok(connection.send_all(&signals).await?) };
            self.in_time(sent).await?;
            if is_over {
                return self.in_time(leave(&connection)).await;
            }
            let complete = self.inbox.until(|news| news.complete);
            if self.runtime.timeout(BREATH, complete).await.is_err() {
                let news = self.inbox.until(|news| !news.events.is_empty());
                if is_first(connection.closed(), news).await {
                    let cause = "the bus closed the connection".to_owned();
                    return Err(Trouble::NoConnection(cause).into());
                }
            }
        }
    }

    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, Setback>>,
    ) -> Result<T, Setback> {
        let ended = self.runtime.timeout(PATIENCE, work).await;
        ended.unwrap_or(Err(Setback::Away(Trouble::TimedOut)))
    }
}

/// Connects, and becomes the owner of the name. The builder would ask for the name too, but with two more round trips.
async fn enter(run: &Arc<Mutex<Snapshot>>) -> Result<Connection, Setback> {
    let agent = Agent1(run.clone());
    let connection = Builder::system().serve_at(PATH, agent).build().await?;
    let arguments = (NAME, DO_NOT_QUEUE);
    let answer = connection
        .call_method(Some(BUS), BUS_PATH, Some(BUS), "RequestName", &arguments)
        .await;
    match answer.map_err(Trouble::from) {
        Ok(answer) if OWNER.contains(&answer.body().deserialize()?) => Ok(connection),
        Ok(_) => Err(Setback::Taken),
        Err(Trouble::Refused(_, message)) => Err(Setback::Refused(message)),
        Err(trouble) => Err(trouble.into()),
    }
}

/// Gives the name back. The answer says that the daemon has passed on everything before it; without it the end of this
/// process could make the daemon throw away what it has not read.
async fn leave(connection: &Connection) -> Result<(), Setback> {
    connection
        .call_method(Some(BUS), BUS_PATH, Some(BUS), "ReleaseName", &(NAME,))
        .await?;
    Ok(())
}

/// Waits for the first of two futures, and says whether that was `one`.
async fn is_first(one: impl Future, other: impl Future) -> bool {
    let (mut one, mut other) = (pin!(one), pin!(other));
    std::future::poll_fn(|context| {
        if one.as_mut().poll(context).is_ready() {
            Poll::Ready(true)
        } else {
            other.as_mut().poll(context).map(|_| false)
        }
    })
    .await
}

/// The run as far as it was told.
struct Story<'a> {
    inbox: &'a Inbox,
    narrator: Narrator,
    /// What is served. Locked for moments, and by this thread alone.
    run: Arc<Mutex<Snapshot>>,
}

impl<'a> Story<'a> {
    /// Waits for the first event.
    async fn begin(inbox: &'a Inbox, mut narrator: Narrator) -> Option<Story<'a>> {
        inbox.until(|news| !news.events.is_empty()).await;
        let first = inbox.news().events.remove(0);
        let Some(Change::Begun(run)) = narrator(&first) else {
            return None;
        };
        Some(Story {
            inbox,
            narrator,
            run: Arc::new(Mutex::new(run)),
        })
    }

    /// Takes into account what has happened since the last time. Returns the steps that have changed, each one once: in
    /// a burst its last word counts.
    fn catch_up(&mut self) -> Vec<usize> {
        let events = mem::take(&mut self.inbox.news().events);
        let mut run = locked(&self.run);
        let (mut changed, mut changes) = (vec![None; run.steps.len()], Vec::new());
        for event in events {
            match (self.narrator)(&event) {
                Some(Change::Step(index, step)) => {
                    if let Some(place) = run.steps.get_mut(index) {
                        *place = step;
                        changed[index] = Some(changes.len());
                        changes.push(index);
                    }
                }
                Some(Change::Finished(result)) => run.result = Some(result),
                Some(Change::Begun(_)) | None => {}
            }
        }
        let last = |(at, index): &(usize, usize)| changed[*index] == Some(*at);
        let changes = changes.into_iter().enumerate().filter(last);
        changes.map(|(_, index)| index).collect()
    }

    /// The signals of what has happened since the last time, and whether they are the last ones. At the `first` time
    /// everything there is to know.
    fn signals(&mut self, first: bool) -> Result<(Vec<Message>, bool), Trouble> {
        let known = locked(&self.run).ended();
        let changes = self.catch_up();
        let run = locked(&self.run);
        let is_over = run.result.is_some();
        let mut signals = Vec::with_capacity(changes.len() + 2);
        for step in changes.iter().map(|index| &run.steps[*index]) {
            let state = step.state.as_str();
            let body = (
                step.name.as_str(),
                state,
                step.message.as_str(),
                step.attempt,
            );
            signals.push(Message::signal(PATH, NAME, "StepChanged").build(&body)?);
        }
        let mut changed: BTreeMap<&str, Variant<'_>> = BTreeMap::new();
        if first {
            changed.insert("RunId", run.run.as_str().into());
            changed.insert("Trigger", run.trigger.as_str().into());
            changed.insert("StartedUSec", run.started_usec.into());
            changed.insert("DeadlineUSec", run.deadline_usec.into());
            changed.insert("StepsTotal", count(run.steps.len()).into());
        }
        if first || is_over {
            changed.insert("State", run.state().into());
            changed.insert("Result", run.outcome().into());
        }
        if first || !changes.is_empty() {
            changed.insert("Steps", run.rows().into());
        }
        if first || run.ended() != known {
            changed.insert("StepsDone", run.ended().into());
        }
        if !changed.is_empty() {
            let body = (NAME, changed, [""; 0].as_slice());
            signals.push(Message::signal(PATH, PROPERTIES, "PropertiesChanged").build(&body)?);
        }
        if is_over {
            let body = (run.outcome(),);
            signals.push(Message::signal(PATH, NAME, "RunFinished").build(&body)?);
        }
        Ok((signals, is_over))
    }
}
