//! `nginx`: adds `down` to a server in nginx's configuration, reloads nginx, and waits until the worker processes from before
//! the reload have ended, and with them their requests.

mod commands;
mod undo;
mod upstreams;
mod workers;

use std::path::PathBuf;

use super::ConfigFile;
use crate::config::section::{Field, Secrecy, Section, path};
use crate::model::error::Failure;
use crate::model::intent::{Datum, Keys};
use crate::step::{Action, AttemptContext, AttemptPolicy, Dependencies, Member, Outcome, StepSpec};
use crate::sys::edited_file::{EditedFile, Reading};

use commands::{Argvs, Commands};
use upstreams::{Server, servers};
use workers::{Old, Seen, look};

/// The balancer's entry in the table. Its keys:
///
/// - `path` (path; required): the file of nginx's configuration that contains the upstream; a symbolic link is not followed
/// - `server` (string; required): the server's address as written in that file; `down` is added to each server with this
///   address, in every upstream of the file
/// - `reload` (list of strings; required): the program, with its arguments, that reloads nginx
/// - `test` (list of strings; default `reload` with `-t` instead of `-s reload`, else `nginx -t`): the program, with its
///   arguments, that tests the configuration
///
/// Source: nginx's documentation, "Module ngx_http_upstream_module" and "Controlling nginx"; seen on 1.22.1.
///
/// On a reload the master starts new workers and tells the old ones to end: their title is `worker process is shutting down`
/// until their last request has ended. The change of the file is sticky.
pub const MEMBER: Member = Member {
    name: "nginx",
    read,
    undo: Some(undo::undo),
};

struct Nginx {
    path: Field<PathBuf>,
    server: Field<String>,
    commands: Commands,
}

fn read(section: &Section<'_>) -> Option<StepSpec> {
    let file = section.required("path", |section, key| {
        section.text(key, path, Secrecy::Public)
    });
    let server = section.required("server", |section, key| {
        section.text(key, address, Secrecy::Public)
    });
    let commands = Commands::read(section);
    let action = Nginx {
        path: file?,
        server: server?,
        commands: commands?,
    };
    let programs = action.commands.programs().map(|it| it.taken_as(path));
    let dependencies = Dependencies {
        paths: programs.chain([action.path.clone()]).collect(),
        ..Dependencies::default()
    };
    Some(StepSpec {
        dependencies,
        grace: commands::GRACE * 2,
        ..StepSpec::new(action, AttemptPolicy::Polled)
    })
}

/// The address of a server: a single word in nginx's configuration.
fn address(text: &str) -> Result<String, String> {
    let is_good = |it: char| !it.is_whitespace() && !it.is_control() && !"\"'\\;{}$#".contains(it);
    match !text.is_empty() && text.chars().all(is_good) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "`{text}` is not an address as in nginx's configuration: 10.0.0.11:8080"
        )),
    }
}

/// The file as it was read.
struct Found {
    file: EditedFile,
    reading: Reading,
    /// All servers of all upstreams.
    all: Vec<Server>,
}

/// The file, the server and the commands of one attempt.
struct Target<'a> {
    context: &'a AttemptContext<'a>,
    config: ConfigFile,
    server: String,
    argvs: Argvs,
}

impl Target<'_> {
    /// Reads the file, which must contain the server.
    fn found(&self) -> Result<Found, Failure> {
        let (file, reading) = self.config.must_read()?;
        let refused = |cause: String| self.config.refused(cause);
        let all = servers(&reading.text).map_err(refused)?;
        if all.iter().any(|it| it.address() == self.server) {
            return Ok(Found { file, reading, all });
        }
        let server = &self.server;
        let mut known: Vec<&str> = all.iter().map(Server::address).collect();
        known.sort_unstable();
        known.dedup();
        Err(refused(match known.is_empty() {
            true => "contains no upstream with a server".to_owned(),
            false => format!(
                "contains no server {server} in an upstream, only {}",
                known.join(", ")
            ),
        }))
    }

    fn is_own(&self, server: &Server) -> bool {
        server.address() == self.server
    }

    /// A warning if an upstream has no other server that is up.
    fn last_ones(&self, all: &[Server]) -> Option<String> {
        let ours = all.iter().filter(|it| self.is_own(it));
        let is_up = |it: &Server| !it.is_down() && !self.is_own(it);
        let mut alone: Vec<&str> = ours
            .map(|it| it.upstream.as_str())
            .filter(|name| !all.iter().any(|it| it.upstream == *name && is_up(it)))
            .collect();
        alone.dedup();
        (!alone.is_empty()).then(|| {
            format!(
                "{} is the only server that is up in upstream {}: without it nginx answers 502",
                self.server,
                alone.join(", ")
            )
        })
    }

    /// Adds `down` to the server wherever it is up, after declaring the intent, and tests the configuration. If the test fails,
    /// the file is restored. Returns whether the file was changed, and its current content.
    fn take_down(&self, found: Found) -> Result<(bool, Reading), Failure> {
        let Found { file, reading, all } = found;
        let ours: Vec<&Server> = all
            .iter()
            .filter(|it| self.is_own(it) && !it.is_down())
            .collect();
        if ours.is_empty() {
            return Ok((false, reading));
        }
        if let Some(remark) = self.last_ones(&all) {
            self.context.events.remark(&remark);
        }
        let text = upstreams::take_down(&reading.text, &ours);
        let subject = format!(
            "`down` for {} in {}",
            self.server,
            self.config.path().display()
        );
        let what = self.kept(&text, &all)?;
        let mut changed = None;
        super::declared(self.context, MEMBER.name, subject, what, &mut || {
            let replaced = file.replace(&reading, &text);
            let replaced = replaced.map_err(|error| self.config.not_written(&error))?;
            if let Err(failure) = self.argvs.test(self.context) {
                return Err(self.put_back(&file, &replaced, &reading.text, failure));
            }
            changed = Some(replaced);
            Ok(())
        })?;
        Ok((true, changed.unwrap_or(reading)))
    }

    /// Restores the file after a failed test, and returns the failure to report.
    fn put_back(&self, file: &EditedFile, now: &Reading, text: &str, failure: Failure) -> Failure {
        let path = self.config.path().display();
        match file.replace(now, text) {
            Ok(_) => {
                let cause = format!("{}; {path} was restored", failure.cause);
                Failure { cause, ..failure }
            }
            // The intent must stay, so that it is undone later.
            Err(error) => {
                let cause = format!("{}; {path} could not be restored: {error}", failure.cause);
                Failure { cause, ..failure }.retryable(true)
            }
        }
    }

    /// What an undo needs: the servers that get `down`, and the commands.
    fn kept(&self, text: &str, before: &[Server]) -> Result<Keys, Failure> {
        let all = servers(text).map_err(|cause| self.config.refused(cause))?;
        let was_down = |server: &Server| {
            let is_same = |it: &&Server| {
                (&it.upstream, it.number, it.address())
                    == (&server.upstream, server.number, server.address())
            };
            before.iter().find(is_same).is_some_and(Server::is_down)
        };
        let lines = all.iter().filter(|it| self.is_own(it) && !was_down(it));
        let lines = lines.map(|it| -> Datum {
            super::keys(vec![
                ("upstream", it.upstream.as_str().into()),
                (
                    "number",
                    i64::try_from(it.number).unwrap_or(i64::MAX).into(),
                ),
                ("words", it.words.join(" ").into()),
            ])
            .into()
        });
        let mut what = vec![
            ("path", self.config.path().display().to_string().into()),
            ("server", self.server.as_str().into()),
            ("lines", lines.collect::<Vec<_>>().into()),
        ];
        what.extend(self.argvs.kept());
        Ok(super::keys(what))
    }

    /// Waits until all workers of `seen` have ended.
    fn wait(&self, seen: &Seen) -> Result<(), Failure> {
        super::until_quiet(self.context, &mut || {
            let (pids, so) = match seen.now()? {
                Old::Gone => return Ok(None),
                Old::Ending(pids) => (pids, "with requests in flight"),
                Old::Untouched(pids) => (
                    pids,
                    "not told to end yet (if that does not change, see nginx's error log)",
                ),
            };
            let workers = if pids.len() == 1 { "worker" } else { "workers" };
            let named: Vec<String> = pids.iter().map(u32::to_string).collect();
            let named = named.join(", ");
            Ok(Some(format!(
                "{} old {workers} of nginx ({named}) {so}",
                pids.len()
            )))
        })
    }
}

impl Nginx {
    fn target<'a>(&self, context: &'a AttemptContext<'a>) -> Result<Target<'a>, Failure> {
        Ok(Target {
            context,
            config: ConfigFile(self.path.get(context.facts)?),
            server: self.server.get(context.facts)?,
            argvs: self.commands.get(context)?,
        })
    }
}

impl Action for Nginx {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let target = self.target(context)?;
        let found = target.found()?;
        look(&target.argvs.test)?;
        let (is_changed, reading) = target.take_down(found)?;
        let seen = look(&target.argvs.test)?;
        if !is_changed && seen.have_read(reading.changed()) {
            target.wait(&seen.ending())?;
            return Ok(Outcome::AlreadyDone);
        }
        if !is_changed {
            target.argvs.test(context)?;
        }
        target.argvs.reload(context)?;
        target.wait(&seen)?;
        Ok(Outcome::of_change(is_changed))
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let target = self.target(context)?;
        let all = target.found()?.all;
        target.config.check_replaceable(context)?;
        target.argvs.look(context)?;
        target.argvs.test(context)?;
        let seen = look(&target.argvs.test)?;
        let ours: Vec<&Server> = all.iter().filter(|it| target.is_own(it)).collect();
        let up = ours.iter().filter(|it| !it.is_down()).count();
        let (path, server) = (target.config.path().display(), &target.server);
        if up == 0 {
            let warning =
                format!("{server} is already down in {path}, so a run would change nothing");
            context.events.warn(&warning);
        } else if let Some(warning) = target.last_ones(&all) {
            context.events.warn(&warning);
        }
        Ok(format!(
            "{path}: {server} is found {} times, {up} of them up; the file can be replaced, the configuration test passes, and nginx has {} workers",
            ours.len(),
            seen.count()
        ))
    }
}
