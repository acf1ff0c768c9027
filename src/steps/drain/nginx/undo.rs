//! The undo of a drain: removes the `down` that a run has added.

use std::path::PathBuf;

use super::super::ConfigFile;
use super::commands::Commands;
use super::upstreams::{self, Server, servers};
use super::workers::{Old, Seen, look};
use super::{Target, address};
use crate::config::section::{Field, Secrecy, Section, path, plain, read_kept};
use crate::model::error::{ErrorKind, Failure};
use crate::model::intent::{Chain, Datum};
use crate::step::{Action, AttemptContext, Outcome};
use crate::sys::edited_file::{EditedFile, Reading};

/// Makes the undo of what [`super::Nginx`] has declared for one server in one file. Every server that any of the runs has
/// changed was up before.
pub(super) fn undo(chain: &Chain) -> Result<Box<dyn Action>, String> {
    let mut last = read_kept(&chain.last().what, read)?;
    for intent in chain.iter() {
        let lines = match intent.what.get("lines") {
            Some(Datum::List(lines)) => lines.as_slice(),
            _ => &[],
        };
        for line in lines {
            let Datum::Table(keys) = line else {
                return Err("one of its lines is not a table".to_owned());
            };
            let line = read_kept(keys, read_line)?;
            last.lines.retain(|it| !it.is_at(&line));
            last.lines.push(line);
        }
    }
    Ok(Box::new(last))
}

/// A server as a run left it.
struct Line {
    upstream: String,
    number: usize,
    words: String,
}

impl Line {
    fn is_at(&self, other: &Line) -> bool {
        (&self.upstream, self.number) == (&other.upstream, other.number)
    }
}

struct PutBack {
    path: Field<PathBuf>,
    server: Field<String>,
    commands: Commands,
    lines: Vec<Line>,
}

fn read(section: &Section<'_>) -> Option<PutBack> {
    section.know("lines");
    let file = section.required("path", |section, key| {
        section.text(key, path, Secrecy::Public)
    });
    let server = section.required("server", |section, key| {
        section.text(key, address, Secrecy::Public)
    });
    let commands = Commands::read(section);
    Some(PutBack {
        path: file?,
        server: server?,
        commands: commands?,
        lines: Vec::new(),
    })
}

fn read_line(section: &Section<'_>) -> Option<Line> {
    let text = |key| section.text(key, plain, Secrecy::Public);
    let (upstream, words) = (text("upstream"), text("words"));
    let number = section.integer("number", 0..=i64::MAX)?;
    Some(Line {
        upstream: upstream?.literal()?.to_owned(),
        number: usize::try_from(number).ok()?,
        words: words?.literal()?.to_owned(),
    })
}

/// The file, and what is to be restored in it.
struct Found {
    file: EditedFile,
    reading: Reading,
    /// The restored content.
    text: String,
    /// Whether one of the servers is up already.
    is_up: bool,
}

impl PutBack {
    fn target<'a>(&self, context: &'a AttemptContext<'a>) -> Result<Target<'a>, Failure> {
        Ok(Target {
            context,
            config: ConfigFile(self.path.get(context.facts)?),
            server: self.server.get(context.facts)?,
            argvs: self.commands.get(context)?,
        })
    }

    /// `None` if the file no longer exists.
    fn found(&self, target: &Target<'_>) -> Result<Option<Found>, Failure> {
        let Some((file, reading)) = target.config.read()? else {
            return Ok(None);
        };
        let refused = |cause: String| target.config.refused(cause);
        let all = servers(&reading.text).map_err(refused)?;
        let (mut ours, mut is_up) = (Vec::new(), false);
        for line in &self.lines {
            let is_at = |it: &&Server| {
                (it.upstream.as_str(), it.number, it.address())
                    == (line.upstream.as_str(), line.number, target.server.as_str())
            };
            let remark = match all.iter().find(is_at) {
                None => "no longer exists",
                Some(it) if !it.is_down() => {
                    is_up = true;
                    continue;
                }
                Some(it) if it.words.join(" ") == line.words => {
                    ours.push(it);
                    continue;
                }
                Some(_) => "has been changed since, and is left as it is",
            };
            let remark = format!(
                "`server {}` of upstream {} in {} {remark}",
                line.words,
                line.upstream,
                target.config.path().display()
            );
            target.context.events.remark(&remark);
        }
        ours.sort_by_key(|it| all.iter().position(|other| other == *it));
        let text = upstreams::put_back(&reading.text, &ours);
        Ok(Some(Found {
            file,
            reading,
            text,
            is_up,
        }))
    }

    /// Reloads nginx, and waits until it has replaced its workers.
    fn reload(&self, target: &Target<'_>, seen: &Seen) -> Result<(), Failure> {
        target.argvs.test(target.context)?;
        target.argvs.reload(target.context)?;
        super::super::until_quiet(target.context, &mut || {
            Ok(match seen.now()? {
                Old::Gone | Old::Ending(_) => None,
                Old::Untouched(_) => Some("nginx to start new workers".to_owned()),
            })
        })
    }
}

impl Action for PutBack {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let target = self.target(context)?;
        let Some(found) = self.found(&target)? else {
            let remark = format!("{} no longer exists", target.config.path().display());
            context.events.remark(&remark);
            return Ok(Outcome::AlreadyDone);
        };
        let is_changed = found.text != found.reading.text;
        let mut reading = found.reading;
        if is_changed {
            let replaced = found.file.replace(&reading, &found.text);
            reading = replaced.map_err(|error| target.config.not_written(&error))?;
        }
        let outcome = Outcome::of_change(is_changed);
        if !is_changed && !found.is_up {
            return Ok(outcome);
        }
        match look(&target.argvs.test) {
            // nginx reads the file when it starts.
            Err(failure) if failure.kind == ErrorKind::Unreachable => {
                context
                    .events
                    .remark("nginx is not running, and reads the file when it starts");
            }
            Err(failure) => return Err(failure),
            Ok(seen) if !is_changed && seen.have_read(reading.changed()) => {}
            Ok(seen) => self.reload(&target, &seen)?,
        }
        Ok(outcome)
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let target = self.target(context)?;
        let is = match self.found(&target)? {
            None => "no longer exists",
            Some(found) if found.text == found.reading.text => "contains nothing to be undone",
            Some(_) => "contains a server that is down",
        };
        Ok(format!("{} {is}", target.config.path().display()))
    }
}
