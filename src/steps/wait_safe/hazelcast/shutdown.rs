//! Shuts the member down gracefully, and verifies that the others have taken over.

use std::time::{Duration, Instant};

use super::client::{Account, CLUSTER_WRITE, Client, EVERY};
use super::{Hazelcast, is_gone};
use crate::model::error::{ErrorKind, Failure};
use crate::step::Outcome;
use crate::sys::http::Endpoint;

/// The pause between the two checks that must both find the cluster safe.
const AGAIN: Duration = Duration::from_millis(100);

/// How many polls a member may seem unaffected after a request without an answer.
const UNTOUCHED: u32 = 10;

/// A member that leaves, and those that it leaves.
#[derive(Clone, Debug)]
pub(super) struct LeavingMember {
    own: String,
    others: Vec<Endpoint>,
    /// How many there are, and how many of them hold data.
    counts: (usize, usize),
    /// Whether this run requested the shutdown.
    is_asked: bool,
}

impl Hazelcast {
    /// Shuts the member down once the cluster is safe, and waits until the cluster is safe without it.
    pub(super) fn leave(&self, client: &Client<'_, '_>) -> Result<Outcome, Failure> {
        let account = self.account(client.context.facts)?;
        let known = self.leaving.lock().clone();
        let leaves = match known {
            None => {
                let health = self.wait(client, true)?;
                self.learn_others(client)?;
                health.is_leaving()
            }
            // An earlier attempt knew it; the effect of its request is checked now.
            Some(_) => match self.wait(client, true) {
                Ok(health) => health.is_leaving(),
                Err(failure) if is_gone(&failure) => true,
                Err(failure) => return Err(failure),
            },
        };
        if !leaves {
            self.ask(client, &account)?;
        }
        wait_until_down(client, &account)?;
        self.wait_for_others(client, &account)?;
        let is_asked = self.leaving.lock().as_ref().is_some_and(|it| it.is_asked);
        Ok(if is_asked {
            Outcome::Done
        } else {
            Outcome::AlreadyDone
        })
    }

    /// Reads the list of the others from the member while it answers.
    fn learn_others(&self, client: &Client<'_, '_>) -> Result<(), Failure> {
        let member_list = client.member_list()?;
        let own = client.session.endpoint();
        *self.leaving.lock() = Some(LeavingMember {
            own: member_list.own().to_owned(),
            others: own.map_or_else(Vec::new, |own| member_list.others(own)),
            counts: member_list.count_of_others(),
            is_asked: false,
        });
        Ok(())
    }

    fn ask(&self, client: &Client<'_, '_>, account: &Account) -> Result<(), Failure> {
        if let Some(leaving) = self.leaving.lock().as_mut() {
            leaving.is_asked = true;
        }
        let failure = match client.shut_down(account) {
            Ok(()) => return Ok(()),
            Err(failure) if failure.kind == ErrorKind::Unreachable => failure,
            Err(failure) => return Err(failure),
        };
        // Either the shutdown has begun before the answer, or the request is not allowed.
        for _ in 0..UNTOUCHED {
            let begun = Instant::now();
            match client.health() {
                Ok((health, _)) if !health.is_leaving() => {
                    let what = format!("cluster {}: the member's shutdown", account.name);
                    client.pause(begun, EVERY, &what)?;
                }
                _ => return Ok(()),
            }
        }
        Err(CLUSTER_WRITE.is_off(&failure.subject))
    }

    /// Waits until another member does not list this one any more, and is safe, twice in a row.
    fn wait_for_others(&self, client: &Client<'_, '_>, account: &Account) -> Result<(), Failure> {
        let Some(LeavingMember {
            own,
            others,
            counts: (count, holding),
            ..
        }) = self.leaving.lock().clone()
        else {
            return Ok(());
        };
        if holding == 0 {
            let what = if count == 0 { "" } else { " that holds data" };
            let remark = format!(
                "it was the last member{what} of the cluster {}: no other member has its data",
                account.name
            );
            client.context.events.remark(&remark);
        }
        if count == 0 {
            return Ok(());
        }
        let mut elsewhere = Client {
            session: client.session.elsewhere(others),
            context: client.context,
        };
        let mut safe_before = false;
        loop {
            let begun = Instant::now();
            let seen = look(&mut elsewhere, &own);
            let (every, what) = match seen {
                Ok(None) if safe_before => return Ok(()),
                Ok(None) => (AGAIN, "safe, seen once".to_owned()),
                Ok(Some(ref what)) => (EVERY, what.clone()),
                // The member is down, which another attempt could not change: temporary failures are waited out here.
                Err(ref failure) if failure.retryable => (EVERY, failure.to_string()),
                Err(failure) => return Err(unverified(failure)),
            };
            safe_before = matches!(seen, Ok(None));
            let what = format!("cluster {} without this member: {what}", account.name);
            if let Err(late) = elsewhere.pause(begun, every, &what) {
                return Err(unverified(seen.err().unwrap_or(late)));
            }
        }
    }
}

/// What the others still have to do; `None` when they are done with the member. The one that answered is asked first
/// from now on.
fn look(elsewhere: &mut Client<'_, '_>, own: &str) -> Result<Option<String>, Failure> {
    let (health, answer) = elsewhere.health()?;
    let mut others = elsewhere.session.endpoints().to_vec();
    let answered = |it: &Endpoint| it.join("/hazelcast/health").to_string() == answer.url;
    if let Some(at) = others.iter().position(answered).filter(|at| *at > 0) {
        others[..=at].rotate_right(1);
        elsewhere.session = elsewhere.session.elsewhere(others);
    }
    // The list is read only if needed, so that a poll usually takes one request.
    if !health.is_safe() {
        return Ok(Some(health.describe()));
    }
    let is_listed = elsewhere.member_list()?.has(own);
    Ok(is_listed.then(|| format!("{}, and this one is still one of them", health.describe())))
}

fn unverified(failure: Failure) -> Failure {
    let cause = format!(
        "the member was shut down, but whether the others have its data could not be seen: {}",
        failure.cause
    );
    Failure { cause, ..failure }
}

/// Waits until the member does not answer any more. Its process may go on.
fn wait_until_down(client: &Client<'_, '_>, account: &Account) -> Result<(), Failure> {
    loop {
        let begun = Instant::now();
        let what = match client.health() {
            Ok((health, _)) => {
                format!("{}, {}", super::word(&health.node_state), health.describe())
            }
            Err(failure) if is_gone(&failure) => return Ok(()),
            Err(failure) => failure.to_string(),
        };
        let what = format!("cluster {}: the member's shutdown: {what}", account.name);
        client.pause(begun, EVERY, &what)?;
    }
}
