//! `envoy`: fails the health check of this machine's own Envoy, and waits until it has no request in flight.

use std::time::Duration;

use crate::clients::http::{Peer, Session, cut, unexpected};
use crate::config::section::{Section, read_kept};
use crate::model::error::{ErrorKind, Failure};
use crate::model::intent::Chain;
use crate::step::{Action, AttemptContext, AttemptPolicy, Member, Outcome, StepSpec};

/// The balancer's entry in the table. Its keys:
///
/// - those of every [`Peer`]
/// - `url` (URLs; required): the admin interface of this machine's Envoy
/// - `settle` (duration; default "0s"): how long those in front need until they have looked: their interval times their
///   threshold
/// - `listeners` (boolean; default false): whether its listeners are drained then, gracefully; that cannot be undone, and ends
///   with a restart of Envoy alone
///
/// Source: Envoy's documentation, "Administration interface"; the replies were seen on 1.40.0.
///
/// | request | replies |
/// |---|---|
/// | `GET /ready` | `LIVE`, or `DRAINING` with 503 |
/// | `POST /healthcheck/fail` (the undo: `ok`) | 200; its health check filter answers 503 from now on |
/// | `POST /drain_listeners?graceful` | 200 |
/// | `GET /stats?filter=downstream_rq_active` | the requests in flight of each `stat_prefix`; `admin` is its own |
///
/// It sticks until Envoy is restarted, which forgets it; then the health check is failed again.
pub const MEMBER: Member = Member {
    name: "envoy",
    read,
    undo: Some(undo),
};

struct Envoy {
    peer: Peer,
    settle: Duration,
    listeners: bool,
    is_undo: bool,
}

fn read_envoy(section: &Section<'_>, is_undo: bool) -> Option<Envoy> {
    let settle = section.duration("settle").unwrap_or_default();
    let listeners = section.boolean("listeners").unwrap_or(false);
    Some(Envoy {
        peer: Peer::read(section)?,
        settle,
        listeners,
        is_undo,
    })
}

fn read(section: &Section<'_>) -> Option<StepSpec> {
    let action = read_envoy(section, false)?;
    action.peer.warn_of_secrets(section);
    Some(StepSpec {
        dependencies: action.peer.dependencies(),
        ..StepSpec::new(action, AttemptPolicy::Polled)
    })
}

fn undo(chain: &Chain) -> Result<Box<dyn Action>, String> {
    let envoy = read_kept(&chain.last().what, |section| read_envoy(section, true))?;
    Ok(Box::new(envoy))
}

struct Client<'a> {
    session: Session<'a>,
    context: &'a AttemptContext<'a>,
}

impl Client<'_> {
    fn post(&self, path: &str) -> Result<(), Failure> {
        super::must(&self.session, self.context, "POST", path.to_owned()).map(drop)
    }

    fn subject(&self) -> String {
        format!("Envoy at {}", self.session.address())
    }

    /// Whether its health check is good.
    fn is_live(&self) -> Result<bool, Failure> {
        let answer = super::ask(&self.session, self.context, "GET", "/ready".to_owned())?;
        match answer.status {
            200 if answer.says("LIVE") => Ok(true),
            503 if answer.says("DRAINING") => Ok(false),
            _ => Err(unexpected(&answer)),
        }
    }

    /// How many requests are in flight.
    fn requests(&self) -> Result<u64, Failure> {
        let path = "/stats?filter=downstream_rq_active".to_owned();
        let answer = super::must(&self.session, self.context, "GET", path)?;
        if let Some(failure) = cut(&answer) {
            return Err(failure);
        }
        let text = String::from_utf8_lossy(&answer.body);
        let counts = text.lines().filter_map(|line| {
            let (name, count) = line.split_once(": ")?;
            let is_own = name.starts_with("http.admin.");
            let is_whole = name.starts_with("http.") && name.ends_with(".downstream_rq_active");
            (is_whole && !is_own).then(|| count.trim().parse::<u64>().ok())?
        });
        let counts: Vec<u64> = counts.collect();
        if counts.is_empty() {
            let cause = "counts no requests of HTTP: is this the admin interface of an Envoy with a listener for them?";
            return Err(Failure::new(ErrorKind::Protocol, self.subject(), cause).retryable(true));
        }
        Ok(counts.iter().sum())
    }
}

impl Envoy {
    /// Fails the health check, and waits until those in front have looked.
    fn fail(&self, client: &Client<'_>) -> Result<(), Failure> {
        let context = client.context;
        let subject = format!("the failed health check of {}", client.subject());
        super::declared(
            context,
            MEMBER.name,
            subject,
            self.peer.keep(context.facts)?,
            &mut || client.post("/healthcheck/fail"),
        )?;
        if !self.settle.is_zero() {
            super::settle(
                context,
                "those in front to look at the health check",
                self.settle,
            )?;
        }
        match self.listeners {
            true => client.post("/drain_listeners?graceful"),
            false => Ok(()),
        }
    }

    fn drain(&self, client: &Client<'_>) -> Result<Outcome, Failure> {
        let mut failed = 0;
        super::until_quiet(client.context, &mut || {
            if client.is_live()? {
                failed += 1;
                if failed > 1 {
                    let remark = "its health check was good again: Envoy was restarted, or somebody made it so; it was failed again";
                    client.context.events.remark(remark);
                }
                self.fail(client)?;
            }
            let subject = |count| format!("{count} requests in flight in {}", client.subject());
            Ok(Some(client.requests()?).filter(|it| *it > 0).map(subject))
        })?;
        Ok(match failed {
            0 => Outcome::AlreadyDone,
            _ => Outcome::Done,
        })
    }
}

impl Action for Envoy {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let session = self.peer.open(context)?;
        let client = Client { session, context };
        match self.is_undo {
            false => self.drain(&client),
            true if client.is_live()? => Ok(Outcome::AlreadyDone),
            true => client.post("/healthcheck/ok").map(|()| Outcome::Done),
        }
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let session = self.peer.open(context)?;
        let client = Client { session, context };
        let state = match client.is_live()? {
            true => "live",
            false => "draining",
        };
        Ok(format!(
            "{}: {state}, {} requests in flight",
            client.subject(),
            client.requests()?
        ))
    }
}
