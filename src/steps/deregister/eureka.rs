//! `eureka`: optionally takes an instance out of service first, and then removes it from the registry.

use std::time::{Duration, Instant};

use crate::clients::http::{Peer, Session, document, peer_ids, unexpected};
use crate::config::section::{Field, Secrecy, Section, read_kept};
use crate::model::deadline::Deadline;
use crate::model::error::{ErrorKind, Failure};
use crate::model::intent::{Chain, Intent, IntentId};
use crate::step::{self, Action, AttemptContext, AttemptPolicy, Member, Outcome, StepSpec};
use crate::sys::cancel::Waited;
use crate::sys::http::{Answer, Request, encoded};
use crate::sys::sync::Mutex;
use crate::text::duration;

/// The registry's entry in the table. Its keys:
///
/// - those of every [`Peer`]
/// - `url` (URLs; required): the server's address with its context path, `http://…/eureka`, or a list of them, tried in
///   turn
/// - `app` (string; required): the application's name
/// - `instance` (string; required): the instance's ID, in the case in which it was registered
/// - `out-of-service` (duration; default "0s"): how long it is out of service before it is removed, so that clients
///   notice; shorter than `timeout`; `"0s"`: it is removed at once
///
/// Source: Netflix's wiki, "Eureka REST operations", and the resources of eureka-core; the replies were seen on Spring
/// Cloud 4.1.
///
/// | request | replies |
/// |---|---|
/// | `GET /apps/APP/ID` | 200: there. 404: gone, or the wrong address, for which `/apps` is asked. Never cached |
/// | `GET /apps` | 200 with `applications`: this is Eureka. It and `/apps/APP` are cached, 404 too, and decide nothing |
/// | `PUT /apps/APP/ID/status?value=OUT_OF_SERVICE` | 200. 404: gone meanwhile |
/// | `DELETE /apps/APP/ID` | 200. 404: gone meanwhile |
/// | `DELETE /apps/APP/ID/status?value=UP` (the undo) | 200. 404: not registered, so that nothing sticks |
///
/// 401 and 403 are refused everywhere. It has left when `GET /apps/APP/ID` is 404. Out of service is sticky until the
/// entry is removed: it survives a new registration of the same instance.
pub const MEMBER: Member = Member {
    name: "eureka",
    read,
    undo: Some(undo),
};

/// What is kept of a step's time for the removal, at most.
const ROOM: Duration = Duration::from_secs(2);

const OUT_OF_SERVICE: &str = "OUT_OF_SERVICE";

struct Eureka {
    name: Target,
    out_of_service: Duration,
    progress: Mutex<Progress>,
}

/// The state after earlier attempts.
#[derive(Clone, Copy, Default)]
struct Progress {
    /// The intent, if this step takes it out of service itself.
    intent_id: Option<IntentId>,
    /// Since when it is out of service.
    since: Option<Instant>,
    /// Whether it existed, and its removal was requested.
    removed: bool,
}

/// The instance and its server.
struct Target {
    peer: Peer,
    app: Field<String>,
    instance: Field<String>,
}

fn read_target(section: &Section<'_>) -> Option<Target> {
    let peer = Peer::read(section);
    let app = section.required("app", |section, key| {
        section.text(key, peer_ids::segment, Secrecy::Public)
    });
    let instance = section.required("instance", |section, key| {
        section.text(key, peer_ids::segment, Secrecy::Public)
    });
    Some(Target {
        peer: peer?,
        app: app?,
        instance: instance?,
    })
}

fn read(section: &Section<'_>) -> Option<StepSpec> {
    let name = read_target(section);
    let out_of_service = section.duration("out-of-service").unwrap_or_default();
    let timeout = section.duration_elsewhere("timeout");
    let timeout = timeout.unwrap_or(step::TIMEOUT);
    if out_of_service >= timeout {
        let message = format!(
            "must be shorter than the step's timeout, {}, which is for all of it",
            duration::print(timeout)
        );
        section.problem("out-of-service", message);
    }
    let name = name?;
    if !out_of_service.is_zero() {
        name.peer.warn_of_secrets(section);
    }
    let dependencies = name.peer.dependencies();
    Some(StepSpec {
        dependencies,
        ..StepSpec::new(
            Eureka {
                name,
                out_of_service,
                progress: Mutex::default(),
            },
            match out_of_service.is_zero() {
                true => AttemptPolicy::Retried,
                false => AttemptPolicy::Polled,
            },
        )
    })
}

/// Eureka at one attempt, about the instance.
struct Client<'a> {
    session: Session<'a>,
    context: &'a AttemptContext<'a>,
    subject: String,
    path: String,
}

impl Target {
    fn open<'a>(&'a self, context: &'a AttemptContext<'a>) -> Result<Client<'a>, Failure> {
        let (app, instance) = (
            self.app.get(context.facts)?,
            self.instance.get(context.facts)?,
        );
        let mut session = self.peer.open(context)?;
        // Without this header the answers are XML.
        session.set_header("Accept", "application/json".to_owned());
        Ok(Client {
            session,
            context,
            path: format!("/apps/{}/{}", encoded(&app), encoded(&instance)),
            subject: format!("{app}/{instance}"),
        })
    }
}

impl Client<'_> {
    fn send(&self, method: &str, path: &str) -> Result<Answer, Failure> {
        let request = Request {
            method: method.to_owned(),
            ..Request::get(path)
        };
        self.session.ask(&request, self.context.request())
    }

    /// The instance's status; `None` where it is not registered.
    fn status(&self) -> Result<Option<String>, Failure> {
        let answer = self.send("GET", &self.path)?;
        match answer.status {
            404 => Ok(None),
            200 => match document(&answer)?["instance"]["status"].as_str() {
                Some(status) => Ok(Some(status.to_owned())),
                None => {
                    let cause = "the answer does not hold the status of an instance";
                    Err(Failure::new(ErrorKind::Protocol, answer.url, cause).retryable(true))
                }
            },
            _ => Err(unexpected(&answer)),
        }
    }

    /// Checks that a 404 was Eureka's.
    fn is_eureka(&self) -> Result<(), Failure> {
        let answer = self.send("GET", "/apps")?;
        let beginning = &answer.body[..answer.body.len().min(200)];
        match answer.status {
            200 if String::from_utf8_lossy(beginning).contains("\"applications\"") => Ok(()),
            200 | 404 => {
                let cause = "this is not Eureka's address: `url` is the server's with its context path, mostly …/eureka";
                Err(Failure::new(ErrorKind::Status, answer.url, cause))
            }
            _ => Err(unexpected(&answer)),
        }
    }

    fn failure(&self, kind: ErrorKind, cause: impl Into<String>) -> Failure {
        Failure::new(kind, &self.subject, cause)
    }
}

impl Eureka {
    fn progress(&self) -> Progress {
        *self.progress.lock()
    }

    fn set(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.progress.lock());
    }

    /// Takes it out of service; `false` where it is gone.
    fn take_out_of_service(&self, client: &Client<'_>, status: &str) -> Result<bool, Failure> {
        if status != OUT_OF_SERVICE {
            let mut what = self.name.peer.keep(client.context.facts)?;
            for (key, field) in [("app", &self.name.app), ("instance", &self.name.instance)] {
                what.insert(key.to_owned(), field.keep(client.context.facts)?);
            }
            let intent_id = client.context.intend(&Intent {
                member: MEMBER.name.to_owned(),
                subject: format!("the status {OUT_OF_SERVICE} of {}", client.subject),
                thing: format!("{} at {}", client.subject, what["url"]),
                what,
            })?;
            self.set(|it| it.intent_id = Some(intent_id));
            let path = format!("{}/status?value={OUT_OF_SERVICE}", client.path);
            let answer = client.send("PUT", &path)?;
            if matches!(answer.status, 400..=499) {
                client.context.withdraw(intent_id);
                self.set(|it| it.intent_id = None);
            }
            match answer.status {
                200 => {}
                404 => return Ok(false),
                _ => return Err(unexpected(&answer)),
            }
            match client.status()?.as_deref() {
                Some(OUT_OF_SERVICE) => {}
                None => return Ok(false),
                Some(other) => {
                    let cause = format!("was taken out of service, and its status is {other}");
                    return Err(client.failure(ErrorKind::Protocol, cause).retryable(true));
                }
            }
        }
        self.set(|it| {
            it.since.get_or_insert_with(Instant::now);
        });
        Ok(true)
    }

    /// Waits for clients, but leaves time for the removal.
    fn wait_for_clients(&self, client: &Client<'_>) -> Result<(), Failure> {
        let context = client.context;
        let since = self.progress().since.unwrap_or_else(Instant::now);
        let wanted = since + self.out_of_service;
        let room = (context.deadline.left().unwrap_or_default() / 4).min(ROOM);
        let latest = context.deadline.instant() - room;
        let time = duration::print(self.out_of_service);
        let what = format!(
            "clients to see that {} is out of service ({time})",
            client.subject
        );
        context.events.waiting(&what);
        let until = Deadline::at(wanted.min(latest), context.deadline.reason());
        if context.cancel.sleep_until(until) == Waited::Cancelled {
            let cause = "is out of service; told to stop before it was removed";
            return Err(client.failure(ErrorKind::TimedOut, cause));
        }
        if wanted > latest {
            let remark = format!(
                "too little time was left: clients had less than {time} to see it out of service"
            );
            context.events.remark(&remark);
        }
        Ok(())
    }

    fn withdraw(&self, context: &AttemptContext<'_>) {
        if let Some(intent_id) = self.progress().intent_id {
            context.withdraw(intent_id);
            self.set(|it| it.intent_id = None);
        }
    }
}

impl Action for Eureka {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let client = self.name.open(context)?;
        let gone = |outcome| {
            self.withdraw(context);
            Ok(outcome)
        };
        let Some(status) = client.status()? else {
            client.is_eureka()?;
            return match self.progress().removed {
                true => gone(Outcome::Done),
                false => gone(Outcome::AlreadyDone),
            };
        };
        if !self.out_of_service.is_zero() {
            if !self.take_out_of_service(&client, &status)? {
                return gone(Outcome::AlreadyDone);
            }
            self.wait_for_clients(&client)?;
        }
        self.set(|it| it.removed = true);
        let answer = client.send("DELETE", &client.path)?;
        if !matches!(answer.status, 200 | 404) {
            return Err(unexpected(&answer));
        }
        if client.status()?.is_some() {
            let cause = "is registered again after it was removed; where its application does that, stop the application first";
            return Err(client.failure(ErrorKind::Protocol, cause).retryable(true));
        }
        gone(Outcome::Done)
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let client = self.name.open(context)?;
        let status = client.status()?;
        if status.is_none() {
            client.is_eureka()?;
        }
        let address = client.session.address();
        let found = match status {
            Some(status) => {
                format!("there, with status {status}; whether it may be removed is not known")
            }
            None => {
                context.warn_of_absence(&client.subject, "`app` and `instance`");
                "not there, nothing to leave yet".to_owned()
            }
        };
        Ok(format!("{} at {address}: {found}", client.subject))
    }
}

fn undo(chain: &Chain) -> Result<Box<dyn Action>, String> {
    let name = read_kept(&chain.last().what, read_target)?;
    Ok(Box::new(OutOfServiceUndo(name)))
}

/// Undoes OUT_OF_SERVICE.
struct OutOfServiceUndo(Target);

impl Action for OutOfServiceUndo {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let client = self.0.open(context)?;
        match client.status()?.as_deref() {
            // What is removed takes its status with it.
            None => {
                client.is_eureka()?;
                return Ok(Outcome::AlreadyDone);
            }
            Some(OUT_OF_SERVICE) => {}
            Some(_) => return Ok(Outcome::AlreadyDone),
        }
        // Without a value it would be UNKNOWN until the application registers again.
        let answer = client.send("DELETE", &format!("{}/status?value=UP", client.path))?;
        if !matches!(answer.status, 200 | 404) {
            return Err(unexpected(&answer));
        }
        match client.status()?.as_deref() {
            Some(OUT_OF_SERVICE) => {
                let cause =
                    format!("its status is still {OUT_OF_SERVICE} after that was taken back");
                Err(client.failure(ErrorKind::Protocol, cause).retryable(true))
            }
            _ => Ok(Outcome::Done),
        }
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let client = self.0.open(context)?;
        let status = client.status()?;
        let status = status.as_deref().unwrap_or("unregistered");
        Ok(format!("{}: {status}", client.subject))
    }
}
