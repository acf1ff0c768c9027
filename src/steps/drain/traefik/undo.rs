//! The undo of a drain: restores the lines that a run has commented out.

use std::path::PathBuf;

use super::super::ConfigFile;
use super::effect::Effect;
use super::servers::{entries, put_back};
use super::{Target, server};
use crate::config::section::{Field, Secrecy, Section, path, plain, read_kept};
use crate::model::error::Failure;
use crate::model::intent::{Chain, Datum};
use crate::step::{Action, AttemptContext, Outcome};

/// Makes the undo of what [`super::Traefik`] has declared for one server in one file, over all runs.
pub(super) fn undo(chain: &Chain) -> Result<Box<dyn Action>, String> {
    let mut last = read_kept(&chain.last().what, read)?;
    for intent in chain.iter() {
        let kept = match intent.what.get("entries") {
            Some(Datum::List(kept)) => kept.as_slice(),
            _ => &[],
        };
        for kept in kept {
            let Datum::Table(keys) = kept else {
                return Err("one of its entries is not a table".to_owned());
            };
            let entry = read_kept(keys, read_entry)?;
            last.entries
                .retain(|it| it.service != entry.service || it.lines != entry.lines);
            last.entries.push(entry);
        }
    }
    Ok(Box::new(last))
}

/// An entry as it was.
struct Kept {
    service: String,
    lines: String,
}

struct PutBack {
    path: Field<PathBuf>,
    server: Field<String>,
    effect: Effect,
    entries: Vec<Kept>,
}

fn read(section: &Section<'_>) -> Option<PutBack> {
    section.know("entries");
    let file = section.required("path", |section, key| {
        section.text(key, path, Secrecy::Public)
    });
    let server = section.required("server", |section, key| {
        section.text(key, server, Secrecy::Public)
    });
    let effect = Effect::read_kept(section);
    Some(PutBack {
        path: file?,
        server: server?,
        effect: effect?,
        entries: Vec::new(),
    })
}

fn read_entry(section: &Section<'_>) -> Option<Kept> {
    let text = |key| section.text(key, plain, Secrecy::Public);
    let (service, lines) = (text("service"), text("lines"));
    Some(Kept {
        service: service?.literal()?.to_owned(),
        lines: lines?.literal()?.to_owned(),
    })
}

impl PutBack {
    fn target<'a>(&self, context: &'a AttemptContext<'a>) -> Result<Target<'a>, Failure> {
        Ok(Target {
            context,
            config: ConfigFile(self.path.get(context.facts)?),
            server: self.server.get(context.facts)?,
        })
    }

    /// The restored content, and the services that contain the server again.
    fn restored(&self, target: &Target<'_>, text: &str) -> Result<(String, Vec<String>), Failure> {
        let refused = |cause: String| target.config.refused(cause);
        let has = |text: &str, service: &str| -> Result<bool, Failure> {
            let all = entries(target.config.path(), text).map_err(refused)?;
            Ok(all
                .iter()
                .any(|it| target.is_own(it) && it.service == service))
        };
        let (mut restored, mut services) = (text.to_owned(), Vec::new());
        for kept in &self.entries {
            if let Some(text) = put_back(&restored, &kept.lines) {
                restored = text;
            }
            if has(&restored, &kept.service)? {
                services.push(kept.service.clone());
                continue;
            }
            let remark = format!(
                "{} in service {} of {} has been changed since, and is left as it is",
                target.server,
                kept.service,
                target.config.path().display()
            );
            target.context.events.remark(&remark);
        }
        Ok((restored, services))
    }
}

impl Action for PutBack {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let target = self.target(context)?;
        let Some((file, reading)) = target.config.read()? else {
            let remark = format!("{} no longer exists", target.config.path().display());
            context.events.remark(&remark);
            return Ok(Outcome::AlreadyDone);
        };
        let (text, services) = self.restored(&target, &reading.text)?;
        let is_changed = text != reading.text;
        if is_changed {
            let replaced = file.replace(&reading, &text);
            replaced.map_err(|error| target.config.not_written(&error))?;
        }
        self.effect.wait_in(&target, &services)?;
        Ok(Outcome::of_change(is_changed))
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let target = self.target(context)?;
        let is = match target.config.read()? {
            None => "no longer exists",
            Some((_, reading)) => match self.restored(&target, &reading.text)?.0 == reading.text {
                true => "contains nothing to be undone",
                false => "contains lines that are commented out",
            },
        };
        Ok(format!("{} {is}", target.config.path().display()))
    }
}
