//! Requests of Hazelcast's REST API, and the meaning of its refusals.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::health::Health;
use super::member_list::MemberList;
use crate::clients::http::{Session, excerpt, unexpected};
use crate::model::error::{ErrorKind, Failure};
use crate::model::secrets;
use crate::step::{AttemptContext, late};
use crate::sys::http::{Answer, Request, encoded};

/// Between two looks.
pub(super) const EVERY: Duration = Duration::from_millis(200);

/// How often a connection must be closed without an answer to count as a refusal: a member that starts or ends does so
/// briefly, too.
const CLOSINGS: usize = 3;

const MANAGEMENT: &str = "/hazelcast/rest/management/cluster";

/// A group of endpoints that Hazelcast can enable.
pub(super) struct Group {
    name: &'static str,
    /// The equivalent in 3.x.
    property: &'static str,
}

pub(super) const HEALTH_CHECK: Group = Group {
    name: "HEALTH_CHECK",
    property: "hazelcast.http.healthcheck.enabled",
};
pub(super) const CLUSTER_READ: Group = Group {
    name: "CLUSTER_READ",
    property: "hazelcast.rest.enabled",
};
pub(super) const CLUSTER_WRITE: Group = Group {
    name: "CLUSTER_WRITE",
    property: "hazelcast.rest.enabled",
};

impl Group {
    /// The failure of a closed connection, by which Hazelcast reports that REST, or this part of it, is off.
    pub(super) fn is_off(&self, subject: &str) -> Failure {
        let Group { name, property } = self;
        let cause = format!(
            "closes the connection without an answer, as Hazelcast does where this part of its REST API is off: turn on \
             the endpoint group {name} of `rest-api` (before 4.0 also the property {property}=true)"
        );
        Failure::new(ErrorKind::Refused, subject, cause)
    }
}

/// The cluster's name, and a password.
pub(super) struct Account {
    pub(super) name: String,
    /// Both as they are sent, encoded once and, where that matters, twice.
    forms: Vec<String>,
}

impl Account {
    /// 3.12 decodes once, 5.5 twice, which matters for `+` and `%`.
    pub(super) fn new(name: String, password: &str) -> Account {
        let once = |text: &str| encoded(text);
        let twice = |text: &str| encoded(&encoded(text));
        let form = |encode: &dyn Fn(&str) -> String| {
            let password = encode(password);
            if !password.is_empty() {
                secrets::hide(&password);
            }
            format!("{}&{password}", encode(&name))
        };
        let mut forms = vec![form(&once)];
        if name.contains(['+', '%']) || password.contains(['+', '%']) {
            forms.push(form(&twice));
        }
        Account { name, forms }
    }
}

/// A member, or several of one cluster, asked in turn.
pub(super) struct Client<'a, 'b> {
    pub(super) session: Session<'a>,
    pub(super) context: &'b AttemptContext<'a>,
}

impl<'a> Client<'a, '_> {
    /// The cluster's health, as the member sees it.
    pub(super) fn health(&self) -> Result<(Health, Answer), Failure> {
        let answer = self.get("/hazelcast/health", &HEALTH_CHECK)?;
        Ok((Health::read(&answer)?, answer))
    }

    /// Who is in the cluster.
    pub(super) fn member_list(&self) -> Result<MemberList, Failure> {
        MemberList::read(&self.get("/hazelcast/rest/cluster", &CLUSTER_READ)?)
    }

    fn get(&self, path: &str, group: &Group) -> Result<Answer, Failure> {
        let answer = self.ask(&Request::get(path), group)?;
        if answer.status == 200 {
            Ok(answer)
        } else {
            Err(unexpected(&answer))
        }
    }

    /// Any answer. The request may be repeated, so it must change nothing.
    fn ask(&self, request: &Request, group: &Group) -> Result<Answer, Failure> {
        let mut closed = 0;
        loop {
            let sent = self
                .session
                .send_until(request, self.context.request(), &|it| it.status == 200);
            match sent {
                Err(failure) if failure.closings == self.session.endpoints().len() => {
                    closed += 1;
                    if closed == CLOSINGS {
                        return Err(group.is_off(&failure.subject));
                    }
                    if !self.context.pause(EVERY) {
                        return Err(failure);
                    }
                }
                sent => return sent,
            }
        }
    }

    /// Requests a graceful shutdown of the member, which answers before it begins.
    pub(super) fn shut_down(&self, account: &Account) -> Result<(), Failure> {
        grant("memberShutdown", account, |request| {
            self.session.send(request, self.context.request())
        })
    }

    /// Checks the account with a request that needs one and only reads.
    pub(super) fn check(&self, account: &Account) -> Result<(), Failure> {
        grant("state", account, |request| self.ask(request, &CLUSTER_READ))
    }

    /// Whether the endpoint group that shuts members down is enabled: then a GET of its path is 404.
    pub(super) fn check_writing(&self) -> Result<(), Failure> {
        let request = Request::get(format!("{MANAGEMENT}/memberShutdown"));
        match self.ask(&request, &CLUSTER_WRITE)? {
            answer if answer.status == 404 => Ok(()),
            answer => Err(unexpected(&answer)),
        }
    }

    /// Reports what it waits for, and pauses until `every` after `begun`.
    pub(super) fn pause(&self, begun: Instant, every: Duration, what: &str) -> Result<(), Failure> {
        self.context.events.waiting(what);
        match self.context.pause(every.saturating_sub(begun.elapsed())) {
            true => Ok(()),
            false => Err(late(self.session.address(), what)),
        }
    }
}

/// Sends what needs an account.
fn grant(
    action: &str,
    account: &Account,
    send: impl Fn(&Request) -> Result<Answer, Failure>,
) -> Result<(), Failure> {
    let form = "application/x-www-form-urlencoded".to_owned();
    let mut request = Request {
        method: "POST".to_owned(),
        path: format!("{MANAGEMENT}/{action}"),
        headers: vec![("Content-Type".to_owned(), form)],
        body: None,
    };
    let mut granted = Ok(());
    for form in &account.forms {
        request.body = Some(form.clone().into_bytes());
        granted = judge(&send(&request)?, account);
        match &granted {
            Err(failure) if failure.kind == ErrorKind::Refused => {}
            _ => break,
        }
    }
    granted
}

/// Since 4.0 a refusal is a 403; before, it is a 200 with `forbidden`.
fn judge(answer: &Answer, account: &Account) -> Result<(), Failure> {
    let refused = || {
        let cause = format!(
            "the name `{}` and the password are not those of the cluster: {}",
            account.name,
            excerpt(&answer.body)
        );
        Err(Failure::new(ErrorKind::Refused, answer.url.clone(), cause))
    };
    match answer.status {
        200 => {}
        401 | 403 => return refused(),
        _ => return Err(unexpected(answer)),
    }
    let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match said.get("status").and_then(Value::as_str) {
        Some("success") => Ok(()),
        Some("forbidden") => refused(),
        _ => {
            let cause = format!(
                "answered neither success nor a refusal: {}",
                excerpt(&answer.body)
            );
            Err(Failure::new(ErrorKind::Protocol, answer.url.clone(), cause).retryable(true))
        }
    }
}
