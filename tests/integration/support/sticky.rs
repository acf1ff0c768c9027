//! A kind of step that leaves a flag on a peer, and the peer.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use super::Dir;
use super::binary::{GENEROUS, Running};
use super::own_process::again;
use super::servers::{answer, each_connection, read_request};
use farewell::app::undo::{UndoOutcome, undo};
use farewell::config::facts::Facts;
use farewell::config::fragments::Source;
use farewell::history::pending::PendingUndo;
use farewell::history::state_dir::{Store, new_id};
use farewell::history::survey::Survey;
use farewell::model::error::{ErrorKind, Failure};
use farewell::model::event::{Purpose, Result as RunResult};
use farewell::model::intent::{Chain, Intent, Keys};
use farewell::model::machine::Machine;
use farewell::model::trigger::Trigger;
use farewell::plan::load::LoadedConfig;
use farewell::report::event_bus::EventBus;
use farewell::report::record;
use farewell::run::context::RunContext;
use farewell::run::panics::catch_panics;
use farewell::run::runner::Runner;
use farewell::step::{Action, AttemptContext, Kind, Outcome};
use farewell::sys::http::Http;

/// The kind's entry in the tests' table.
pub const KIND: Kind = Kind {
    name: "sticky",
    read: |_| None,
    undo: Some(lower),
};

/// A peer with flags: PUT /NAME raises one, DELETE /NAME lowers it, and says 404 where it is not raised.
#[derive(Clone)]
pub struct Peer {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    flags: Mutex<BTreeSet<String>>,
    heard: Mutex<Vec<String>>,
    /// Requests, and what it says instead of doing them, each once.
    refusals: Mutex<Vec<(&'static str, &'static str)>>,
    /// It does what it is told, and says nothing.
    mute: AtomicBool,
}

impl Peer {
    pub fn start() -> Peer {
        let state = Arc::<State>::default();
        let shared = state.clone();
        let address = each_connection(0, move |stream| shared.serve(stream));
        Peer { address, state }
    }

    pub fn url(&self, flag: &str) -> String {
        format!("http://{}/{flag}", self.address)
    }

    pub fn flags(&self) -> Vec<String> {
        lock(&self.state.flags).iter().cloned().collect()
    }

    /// Method and flag of every request so far.
    pub fn heard(&self) -> Vec<String> {
        lock(&self.state.heard).clone()
    }

    /// Answers the next of these requests with a status, and does nothing.
    pub fn refuse(&self, request: &'static str, status: &'static str) {
        lock(&self.state.refusals).push((request, status));
    }

    pub fn be_mute(&self, mute: bool) {
        self.state.mute.store(mute, Ordering::SeqCst);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic")
}

impl State {
    fn serve(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
        while let Some(request) = read_request(&mut reader) {
            let mut words = request.split([' ', '/']);
            let (method, flag) = (
                words.next().expect("a method"),
                words.nth(1).expect("a flag"),
            );
            let told = format!("{method} {flag}");
            let refusal = {
                let mut refusals = lock(&self.refusals);
                let at = refusals.iter().position(|(request, _)| *request == told);
                at.map(|at| refusals.remove(at).1)
            };
            let status = match (refusal, method) {
                (Some(status), _) => status,
                (None, "PUT") => {
                    lock(&self.flags).insert(flag.to_owned());
                    "200 OK"
                }
                (None, _) if lock(&self.flags).remove(flag) => "200 OK",
                (None, _) => "404 Not Found",
            };
            // Last, so that who has seen it here sees what it did, too.
            lock(&self.heard).push(told);
            if self.mute.load(Ordering::SeqCst) {
                let _ = reader.read_line(&mut String::new());
                return;
            }
            if stream.write_all(answer(status, "", "").as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// The status of an answer.
fn ask(context: &AttemptContext<'_>, method: &str, url: &str) -> Result<u16, Failure> {
    let failed = |error: std::io::Error| {
        let word = match error.kind() {
            std::io::ErrorKind::WouldBlock => ErrorKind::TimedOut,
            _ => ErrorKind::Unreachable,
        };
        Failure::new(word, url, error.to_string())
    };
    let (address, flag) = url
        .strip_prefix("http://")
        .and_then(|rest| rest.split_once('/'))
        .expect("a URL");
    let mut stream = TcpStream::connect(address).map_err(failed)?;
    let left = context.request().left().unwrap_or(Duration::from_millis(1));
    stream.set_read_timeout(Some(left)).map_err(failed)?;
    let request = format!("{method} /{flag} HTTP/1.1\r\nHost: peer\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut status = [0; 12];
    stream.read_exact(&mut status).map_err(failed)?;
    Ok(String::from_utf8_lossy(&status[9..])
        .parse()
        .expect("a status"))
}

fn unexpected(url: &str, status: u16) -> Failure {
    match status {
        403 => Failure::new(ErrorKind::Refused, url, "403"),
        status => Failure::new(ErrorKind::Status, url, status.to_string()).retryable(status >= 500),
    }
}

/// What raising the flag at `url` leaves.
pub fn intent(url: &str) -> Intent {
    Intent {
        member: String::new(),
        subject: format!("the flag {url}"),
        thing: url.to_owned(),
        what: Keys::from([("url".to_owned(), url.into())]),
    }
}

/// Raises a flag.
pub struct Raise {
    pub url: String,
    /// Once it has declared that it will, it makes this file instead, and hangs.
    pub instead: Option<PathBuf>,
}

impl Action for Raise {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let mark = context.intend(&intent(&self.url))?;
        if let Some(path) = &self.instead {
            fs::write(path, "").expect("written");
            std::thread::sleep(GENEROUS);
        }
        match ask(context, "PUT", &self.url)? {
            200 => Ok(Outcome::Done),
            status => {
                if status == 403 {
                    context.withdraw(mark);
                }
                Err(unexpected(&self.url, status))
            }
        }
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let status = ask(context, "GET", &self.url)?;
        Ok(format!("{}: {status}", self.url))
    }
}

pub fn raise(url: &str) -> Arc<dyn Action> {
    Arc::new(Raise {
        url: url.to_owned(),
        instead: None,
    })
}

struct Lower(String);

fn lower(chain: &Chain) -> Result<Box<dyn Action>, String> {
    let url = chain.last().what.get("url").and_then(|it| it.text());
    let url = url.ok_or("it names no url")?;
    assert!(!url.ends_with("/unmade"), "ouch");
    Ok(Box::new(Lower(url.into_owned())))
}

impl Action for Lower {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        if self.0.ends_with("/panic") {
            panic!("ouch");
        }
        match ask(context, "DELETE", &self.0)? {
            200 => Ok(Outcome::Done),
            404 => Ok(Outcome::AlreadyDone),
            status => Err(unexpected(&self.0, status)),
        }
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let status = ask(context, "GET", &self.0)?;
        Ok(format!("{}: {status}", self.0))
    }
}

/// An action made of a function.
struct Act<F>(F);

impl<F: Fn(&AttemptContext<'_>) -> Result<Outcome, Failure> + Send + Sync> Action for Act<F> {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        (self.0)(context)
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        (self.0)(context).map(|effect| format!("{effect:?}"))
    }
}

pub fn act(
    act: impl Fn(&AttemptContext<'_>) -> Result<Outcome, Failure> + Send + Sync + 'static,
) -> Arc<dyn Action> {
    Arc::new(Act(act))
}

/// A machine and its state directory.
pub struct Place {
    pub dir: Dir,
    pub store: Store,
    pub machine: Machine,
}

pub fn machine(id: &str, product: &str) -> Machine {
    let part = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    Machine {
        id: part(id),
        product: part(product),
    }
}

impl Place {
    pub fn new(name: &str) -> Place {
        let dir = Dir::new(name);
        let store = store(&dir.0.join("state"));
        Place {
            dir,
            store,
            machine: machine("this", "here"),
        }
    }

    /// Runs the steps one after another, all of the kind, and gives the run's id and result.
    pub fn run(&self, actions: Vec<(&str, Arc<dyn Action>)>) -> (String, RunResult) {
        self.run_within(GENEROUS, actions)
    }

    /// The same, with a timeout for each step.
    pub fn run_within(
        &self,
        timeout: Duration,
        actions: Vec<(&str, Arc<dyn Action>)>,
    ) -> (String, RunResult) {
        run(&self.store, &self.machine, timeout, actions)
    }

    /// The same, where all goes well.
    pub fn leave(&self, actions: Vec<(&str, Arc<dyn Action>)>) -> PathBuf {
        let (id, result) = self.run(actions);
        assert_eq!(result, RunResult::Ok);
        self.store.path(&id)
    }

    pub fn survey(&self) -> Survey {
        Survey::of(&self.store, &self.machine).expect("readable")
    }

    /// What is pending: the steps that left it, oldest first.
    pub fn pending(&self) -> Vec<String> {
        let step = |it: PendingUndo| it.step;
        self.survey().pending.into_iter().map(step).collect()
    }

    pub fn undo(&self) -> UndoOutcome {
        self.undo_within(GENEROUS)
    }

    pub fn undo_within(&self, limit: Duration) -> UndoOutcome {
        catch_panics();
        let facts = Facts::new(Trigger::Stop, "test");
        undo(&self.store, &self.machine, facts, &[KIND], limit)
    }
}

pub fn store(path: &Path) -> Store {
    Store::locate(Some(path.to_owned()), false)
}

pub fn run(
    store: &Store,
    machine: &Machine,
    timeout: Duration,
    actions: Vec<(&str, Arc<dyn Action>)>,
) -> (String, RunResult) {
    catch_panics();
    let (id, begun, trigger) = (new_id(SystemTime::now()), Instant::now(), Trigger::Stop);
    let path = std::env::temp_dir().join(format!("farewell-sticky-{id}.toml"));
    let step = |(name, _): &(&str, Arc<dyn Action>)| {
        format!(
            "[[step]]\nname = \"{name}\"\nkind = \"deregister\"\nregistry = \"file\"\npath = \"/x\"\n"
        )
    };
    let toml: String = actions.iter().map(step).collect();
    fs::write(&path, toml).expect("written");
    let facts = Facts::new(trigger, id.as_str());
    let loaded = LoadedConfig::through(&Source::File(path.clone()), Some(&facts));
    fs::remove_file(&path).expect("removed");
    let mut plan = loaded.plan.expect("a plan");
    for (step, (_, action)) in plan.steps.iter_mut().zip(actions) {
        step.kind = KIND.name;
        step.action = action;
        step.timeout = timeout;
    }
    let events = Arc::new(EventBus::new(begun));
    let complain = |message: String| eprintln!("{message}");
    let (store, written) = (store.clone(), events.written());
    let record = record::start(store, written, Box::new(complain), events.guard());
    events.add_sink(record.expect("a thread"));
    let run = Arc::new(RunContext {
        id: id.clone(),
        purpose: Purpose::Farewell,
        machine: machine.clone(),
        started: SystemTime::now(),
        plan,
        trigger,
        begun,
        facts,
        http: Http::default(),
        sink: events.clone(),
    });
    let outcome = Runner::default().run(&run, Vec::new());
    events.close(GENEROUS);
    (id, outcome.result)
}

const PLACE: &str = "FAREWELL_TEST_PLACE";
const URL: &str = "FAREWELL_TEST_URL";

/// Starts `test` in a process of its own, which finds its place and URL with [`given`].
pub fn in_a_process(test: &str, place: &Place, url: &str) -> Running {
    let mut command = again(test, &[]);
    command.env(PLACE, &place.dir.0).env(URL, url);
    Running::spawn(&mut command)
}

/// The directory and the URL that this process was started with.
pub fn given() -> (PathBuf, String) {
    let place = std::env::var_os(PLACE).expect("started by another test");
    (place.into(), std::env::var(URL).expect("a URL"))
}
