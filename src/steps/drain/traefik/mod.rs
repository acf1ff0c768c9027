//! `traefik`: comments a server out in a file that Traefik watches, and waits until Traefik sends it no new requests.

mod effect;
mod entry;
mod servers;
mod toml_file;
mod undo;
mod yaml_file;

use std::path::PathBuf;

use super::ConfigFile;
use crate::config::section::{Field, Secrecy, Section, path};
use crate::model::error::Failure;
use crate::model::intent::{Datum, Keys};
use crate::step::{Action, AttemptContext, AttemptPolicy, Dependencies, Member, Outcome, StepSpec};
use crate::sys::edited_file::{EditedFile, Reading};

use effect::Effect;
use entry::Entry;
use servers::{entries, entries_before, is_commented_out};

/// The balancer's entry in the table. Its keys:
///
/// - those of every [`Peer`], without `url`
/// - `path` (path; required): the file of Traefik's file provider, in YAML or TOML, that contains the server; a symbolic link is
///   not followed
/// - `server` (URL; required): the server's URL as written in that file; it is taken out of every HTTP service of the file
/// - `settle` (duration; default "2s"; not with `api`): how long Traefik needs until it has read the file: its
///   `providers.providersThrottleDuration`
/// - `api` (URLs; default none; not with `settle`): Traefik's API, which tells when the change has taken effect
///
/// Source: Traefik's documentation, "Traefik & File" and "API"; seen on 3.7.15.
///
/// | request | replies |
/// |---|---|
/// | `GET /api/http/services/NAME@file` | 200 with `loadBalancer.servers`; 404: there is no such service |
///
/// The change of the file is sticky.
///
/// [`Peer`]: crate::clients::http::Peer
pub const MEMBER: Member = Member {
    name: "traefik",
    read,
    undo: Some(undo::undo),
};

struct Traefik {
    path: Field<PathBuf>,
    server: Field<String>,
    effect: Effect,
}

fn read(section: &Section<'_>) -> Option<StepSpec> {
    let file = section.required("path", |section, key| {
        section.text(key, path, Secrecy::Public)
    });
    let server = section.required("server", |section, key| {
        section.text(key, server, Secrecy::Public)
    });
    let effect = Effect::read(section);
    let action = Traefik {
        path: file?,
        server: server?,
        effect: effect?,
    };
    let mut dependencies: Dependencies = action.effect.dependencies();
    dependencies.paths.push(action.path.clone());
    Some(StepSpec {
        dependencies,
        ..StepSpec::new(action, AttemptPolicy::Polled)
    })
}

/// The URL of a server.
fn server(text: &str) -> Result<String, String> {
    let is_good = |it: char| !it.is_whitespace() && !it.is_control() && !"\"'#".contains(it);
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|it| text.strip_prefix(it));
    match rest.is_some_and(|it| !it.is_empty() && it.chars().all(is_good)) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "`{text}` is not a server's URL: http://10.0.0.11:8080"
        )),
    }
}

/// The file and the server of one attempt.
struct Target<'a> {
    context: &'a AttemptContext<'a>,
    config: ConfigFile,
    server: String,
}

/// The file as it was read.
struct Found {
    file: EditedFile,
    reading: Reading,
    /// All servers of all services.
    all: Vec<Entry>,
    /// The services that contain the server, or did so before farewell commented it out.
    services: Vec<String>,
    /// Whether the server is commented out, by farewell or by hand.
    is_out: bool,
}

impl Target<'_> {
    fn is_own(&self, entry: &Entry) -> bool {
        entry.url == self.server
    }

    fn found(&self) -> Result<Found, Failure> {
        let (file, reading) = self.config.must_read()?;
        let refused = |cause: String| self.config.refused(cause);
        let all = entries(self.config.path(), &reading.text).map_err(refused)?;
        let before = entries_before(self.config.path(), &reading.text).map_err(refused)?;
        let of = |entries: &[Entry]| {
            let ours = entries.iter().filter(|it| self.is_own(it));
            let mut services: Vec<String> = ours.map(|it| it.service.clone()).collect();
            services.dedup();
            services
        };
        let is_out = of(&all).is_empty();
        if is_out && !is_commented_out(&reading.text, &self.server) {
            return Err(self.unknown(&all));
        }
        let services = of(if is_out { &before } else { &all });
        Ok(Found {
            file,
            reading,
            all,
            services,
            is_out,
        })
    }

    fn unknown(&self, all: &[Entry]) -> Failure {
        let server = &self.server;
        let mut known: Vec<&str> = all.iter().map(|it| it.url.as_str()).collect();
        known.sort_unstable();
        known.dedup();
        self.config.refused(match known.is_empty() {
            true => "contains no HTTP service with a server".to_owned(),
            false => format!("contains no server {server}, only {}", known.join(", ")),
        })
    }

    /// Checks that each service has other servers: Traefik does not load a file with an empty service, and keeps the old
    /// configuration.
    fn check_others(&self, found: &Found) -> Result<(), Failure> {
        let has_others = |name: &&String| {
            let mut all = found.all.iter();
            all.any(|it| it.service == **name && !self.is_own(it))
        };
        match found.services.iter().find(|it| !has_others(it)) {
            Some(name) if !found.is_out => Err(self.config.refused(format!(
                "{} is the only server of service {name}, and is not taken out: Traefik does not load a file with an empty service",
                self.server
            ))),
            _ => Ok(()),
        }
    }

    /// Comments the server out, after declaring the intent.
    fn take_out(&self, found: &Found, effect: &Effect) -> Result<(), Failure> {
        self.check_others(found)?;
        let ours: Vec<&Entry> = found.all.iter().filter(|it| self.is_own(it)).collect();
        let text = &found.reading.text;
        let out = servers::take_out(text, &ours);
        // Verify the result before it is written.
        let left = entries(self.config.path(), &out).map_err(|cause| self.config.refused(cause))?;
        if left.len() + ours.len() != found.all.len() || left.iter().any(|it| self.is_own(it)) {
            return Err(self
                .config
                .refused("the servers of this file are not supported"));
        }
        let subject = format!(
            "the removal of {} from {}",
            self.server,
            self.config.path().display()
        );
        let what = self.kept(text, &ours, effect)?;
        super::declared(self.context, MEMBER.name, subject, what, &mut || {
            let replaced = found.file.replace(&found.reading, &out);
            replaced
                .map(drop)
                .map_err(|error| self.config.not_written(&error))
        })?;
        Ok(())
    }

    fn kept(&self, text: &str, ours: &[&Entry], effect: &Effect) -> Result<Keys, Failure> {
        let entries = ours.iter().map(|it| -> Datum {
            super::keys(vec![
                ("service", it.service.as_str().into()),
                ("lines", servers::lines_of(text, it).into()),
            ])
            .into()
        });
        let mut what = effect.keep(self.context.facts)?;
        what.extend(super::keys(vec![
            ("path", self.config.path().display().to_string().into()),
            ("server", self.server.as_str().into()),
            ("entries", entries.collect::<Vec<_>>().into()),
        ]));
        Ok(what)
    }
}

impl Traefik {
    fn target<'a>(&self, context: &'a AttemptContext<'a>) -> Result<Target<'a>, Failure> {
        Ok(Target {
            context,
            config: ConfigFile(self.path.get(context.facts)?),
            server: self.server.get(context.facts)?,
        })
    }
}

impl Action for Traefik {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let target = self.target(context)?;
        let found = target.found()?;
        if !found.is_out {
            target.take_out(&found, &self.effect)?;
        }
        self.effect.wait_out(&target, &found.services)?;
        Ok(Outcome::of_change(!found.is_out))
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let target = self.target(context)?;
        let found = target.found()?;
        target.check_others(&found)?;
        let (path, server) = (target.config.path().display(), &target.server);
        target.config.check_replaceable(context)?;
        let said = self.effect.rehearse(&target, &found)?;
        if found.is_out {
            let warning = format!(
                "{server} is already commented out in {path}, so a run would change nothing"
            );
            context.events.warn(&warning);
            return Ok(format!("{path}: {server} is already commented out{said}"));
        }
        Ok(format!(
            "{path}: {server} is in service {}, and can be taken out{said}",
            found.services.join(", ")
        ))
    }
}
