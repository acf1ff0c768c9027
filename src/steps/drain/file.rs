//! `file`: creates or removes a file that the application's own health check looks at, and waits until the balancer has looked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clients::http::Peer;
use crate::config::section::{Field, Secrecy, Section, path, plain, read_kept};
use crate::model::error::{ErrorKind, Failure};
use crate::model::intent::{Chain, Datum};
use crate::step::{self, Action, AttemptContext, AttemptPolicy, Member, Outcome, StepSpec};
use crate::sys::http::{Endpoint, Request};
use crate::sys::probe::{self, Removal};
use crate::sys::small_file::{self, SmallFile};
use crate::text::duration;

/// The balancer's entry in the table. Its keys:
///
/// - those of every [`Peer`], without `url`
/// - `path` (path; required): the file that the application's health check looks at
/// - `interval` (duration; required): how often the balancer asks for the health check
/// - `threshold` (integer from 1 to 1000; required): after how many failures it sends nothing new any more
/// - `present` (boolean; default true): whether the health check fails while the file is there; false: while it is not
/// - `check` (URLs; default none): the health check itself, which must fail (any status but 2xx, or no connection) before
///   `threshold` times `interval` begins
///
/// The step waits for so long as the balancer needs to see it, which it cannot ask. It is sticky: the file outlives a restart.
pub const MEMBER: Member = Member {
    name: "file",
    read,
    undo: Some(undo),
};

/// The content of a file that a step creates.
const TEXT: &str = "farewell\n";

/// The longest file that is kept in a record.
const LIMIT: usize = 64 << 10;

struct Marker {
    path: Field<PathBuf>,
    present: bool,
    interval: Duration,
    threshold: u32,
    check: Option<Peer>,
}

fn read(section: &Section<'_>) -> Option<StepSpec> {
    let file = section.required("path", |section, key| {
        section.text(key, path, Secrecy::Public)
    });
    let interval = section.required("interval", |section, key| section.duration(key));
    let threshold = section.required("threshold", |section, key| section.integer(key, 1..=1000));
    let present = section.boolean("present").unwrap_or(true);
    let urls = section.texts("check", Endpoint::parse, Secrecy::Public);
    let peer = Peer::read_beside(section, "check", urls.unwrap_or_default());
    let (file, interval) = (file?, interval?);
    let threshold = u32::try_from(threshold?).unwrap_or(u32::MAX);
    let timeout = section.duration_elsewhere("timeout");
    let timeout = timeout.unwrap_or(step::TIMEOUT);
    if interval.saturating_mul(threshold) >= timeout {
        let timeout = duration::print(timeout);
        let message =
            format!("`threshold` times this must be shorter than the step's timeout, {timeout}");
        section.warning("interval", message);
    }
    let peer = peer?;
    let mut dependencies = peer.dependencies();
    dependencies.paths.push(file.clone());
    let action = Marker {
        path: file,
        present,
        interval,
        threshold,
        check: section.has("check").then_some(peer),
    };
    Some(StepSpec {
        dependencies,
        ..StepSpec::new(action, AttemptPolicy::Polled)
    })
}

/// What is wrong with the file.
fn failed(path: &Path, cause: impl ToString) -> Failure {
    Failure::new(ErrorKind::Io, path.display().to_string(), cause.to_string())
}

/// Removes the file; whether it was there.
fn remove(path: &Path, context: &AttemptContext<'_>) -> Result<bool, Failure> {
    let removal = probe::remove(path, context.request(), context.cancel);
    match removal.map_err(|it| it.failure(path.display().to_string()))? {
        Removal::Removed => Ok(true),
        Removal::AlreadyGone => Ok(false),
        Removal::NoParent => Err(failed(path, "its directory does not exist").retryable(true)),
    }
}

impl Marker {
    /// The result of the health check, if one is configured; `None` when it fails.
    fn healthy(&self, context: &AttemptContext<'_>) -> Result<Option<String>, Failure> {
        let Some(peer) = &self.check else {
            return Ok(None);
        };
        let answer = match peer
            .open(context)?
            .send(&Request::get(""), context.request())
        {
            Ok(answer) => answer,
            Err(failure) if failure.kind == ErrorKind::Unreachable => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let subject = || {
            format!(
                "the health check {} to fail: status {}",
                answer.url, answer.status
            )
        };
        Ok(answer.is_success().then(subject))
    }

    /// Declares the change of the file and makes it. Returns whether there was anything to change.
    fn change(&self, context: &AttemptContext<'_>) -> Result<bool, Failure> {
        let path = self.path.get(context.facts)?;
        let found = small_file::read(&path).map_err(|error| failed(&path, error))?;
        if found.is_some() == self.present {
            return Ok(false);
        }
        let shown = path.display().to_string();
        let mut what: Vec<(&str, Datum)> = vec![
            ("path", shown.as_str().into()),
            ("present", self.present.into()),
        ];
        if let Some(file) = found {
            if file.text.len() > LIMIT {
                let cause = "has more than 64 KiB, which are not kept for its undo";
                return Err(failed(&path, cause));
            }
            let numbers = [file.mode, file.owner.0, file.owner.1].map(i64::from);
            let [mode, user, group] = numbers.map(Datum::from);
            what.extend([
                ("text", file.text.into()),
                ("mode", mode),
                ("user", user),
                ("group", group),
            ]);
        }
        let verb = if self.present { "creation" } else { "removal" };
        let subject = format!("the {verb} of {shown}");
        super::declared(
            context,
            MEMBER.name,
            subject,
            super::keys(what),
            &mut || {
                if !self.present {
                    return remove(&path, context).map(drop);
                }
                let created = small_file::replace(&path, &SmallFile::new(TEXT));
                created.map_err(|error| failed(&path, error))
            },
        )?;
        Ok(true)
    }
}

impl Action for Marker {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let is_changed = self.change(context)?;
        super::until_quiet(context, &mut || self.healthy(context))?;
        let times = self.threshold;
        let interval = duration::print(self.interval);
        let subject = format!("the balancer to look {times} times, every {interval}");
        super::settle(context, &subject, self.interval * times)?;
        Ok(Outcome::of_change(is_changed))
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let path = self.path.get(context.facts)?;
        let prospect = probe::prospect(&path, context.request(), context.cancel);
        let (is_there, is) = match prospect
            .map_err(|it| it.failure(path.display().to_string()))?
            .removal
        {
            Removal::NoParent => return Err(failed(&path, "its directory does not exist")),
            Removal::Removed => (true, "is there"),
            Removal::AlreadyGone => (false, "is not there"),
        };
        let shown = path.display();
        let health = match self.healthy(context)? {
            _ if self.check.is_none() => "",
            Some(_) => ", and the health check is good",
            None => ", and the health check fails",
        };
        if is_there == self.present || health.ends_with("fails") {
            let warning =
                format!("{shown} {is}{health}: a run would find this server taken out already");
            context.events.warn(&warning);
        }
        Ok(format!(
            "{shown} {is}, and its directory can be written{health}"
        ))
    }
}

/// The undo of a change that a run has made.
struct Restore {
    path: Field<PathBuf>,
    /// What was removed; `None` where the file was created.
    file: Option<(Field<String>, SmallFile)>,
}

fn undo(chain: &Chain) -> Result<Box<dyn Action>, String> {
    Ok(Box::new(read_kept(&chain.first().what, read_restore)?))
}

fn read_restore(section: &Section<'_>) -> Option<Restore> {
    let file = section.required("path", |section, key| {
        section.text(key, path, Secrecy::Public)
    })?;
    if section.required("present", |section, key| section.boolean(key))? {
        return Some(Restore {
            path: file,
            file: None,
        });
    }
    let number = |key| {
        let number = section.required(key, |section, key| {
            section.integer(key, 0..=u32::MAX.into())
        });
        u32::try_from(number?).ok()
    };
    let text = section.required("text", |section, key| {
        section.text(key, plain, Secrecy::Public)
    });
    let removed = SmallFile {
        text: String::new(),
        mode: number("mode")?,
        owner: (number("user")?, number("group")?),
    };
    Some(Restore {
        path: file,
        file: Some((text?, removed)),
    })
}

impl Action for Restore {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let path = self.path.get(context.facts)?;
        let failed = |error| failed(&path, error);
        let found = small_file::read(&path).map_err(failed)?;
        match (&self.file, found) {
            (None, None) | (Some(_), Some(_)) => return Ok(Outcome::AlreadyDone),
            (None, Some(found)) if found.text != TEXT => {
                context
                    .events
                    .remark("somebody has written it since: it is left as it is");
                return Ok(Outcome::AlreadyDone);
            }
            (None, Some(_)) => drop(remove(&path, context)?),
            (Some((text, removed)), None) => {
                let file = SmallFile {
                    text: text.get(context.facts)?,
                    ..removed.clone()
                };
                small_file::replace(&path, &file).map_err(failed)?;
            }
        }
        Ok(Outcome::Done)
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let path = self.path.get(context.facts)?;
        let found = small_file::read(&path).map_err(|error| failed(&path, error))?;
        let is = if found.is_some() {
            "is there"
        } else {
            "is not there"
        };
        Ok(format!("{} {is}", path.display()))
    }
}
