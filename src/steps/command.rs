//! `command`: runs a program, and waits until it and everything that it started have ended.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::section::{Field, Secrecy, Section, path, plain};
use crate::event::Stream;
use crate::failure::{Failure, Word};
use crate::step::{Action, Blueprint, Effect, Kind, Pace, Scope, Ties};
use crate::sys::guarded::{Obstacle, Trouble};
use crate::sys::process::{End, Outcome, Process, Refusal, signal_noun};

/// The kind's entry in the table. Its keys:
///
/// - `argv` (list of strings; required): the program and its arguments; no shell is asked
/// - `user` (string; default farewell's own): who runs it, by name or number
/// - `working-directory` (path; default farewell's own): where it runs; farewell's own is `/` under systemd
/// - `environment` (table of strings; default none): what is in its environment beside farewell's own; credentials go
///   here
/// - `expect` (integers from 0 to 255; default 0): the exit code that is a success, or a list of them
/// - `grace` (duration; default "5s"): the time between TERM and KILL when its time ends, at most half of its time
pub const KIND: Kind = Kind {
    name: "command",
    read,
    undo: None,
};

struct Command {
    argv: Vec<Field<String>>,
    user: Option<Field<String>>,
    working_directory: Option<Field<PathBuf>>,
    environment: Vec<(String, Field<String>)>,
    expect: Vec<i64>,
    grace: Duration,
}

fn read(section: &Section<'_>) -> Option<Blueprint> {
    let argv = section.required("argv", |section, key| {
        section.list(key, plain, Secrecy::Public)
    });
    if argv
        .as_ref()
        .is_some_and(|argv| argv[0].literal() == Some(""))
    {
        section.problem("argv", "its first word, the program, must not be empty");
    }
    let user = section.text("user", named, Secrecy::Public);
    let working_directory = section.text("working-directory", path, Secrecy::Public);
    let environment = section.map("environment", variable, plain, |_| Secrecy::MayHold);
    let expect = section.integers("expect", 0..=255);
    let grace = section.duration("grace");
    section.finish();
    let grace = grace.unwrap_or(Duration::from_secs(5));
    let action = Command {
        argv: argv?,
        user,
        working_directory,
        environment,
        expect: expect.unwrap_or_else(|| vec![0]),
        grace,
    };
    // A program without a slash is looked for in $PATH, which is on the root file system.
    let program = action.argv.first().map(|program| program.taken_as(path));
    let paths = program.into_iter().chain(action.working_directory.clone());
    let ties = Ties {
        paths: paths.collect(),
        ..Ties::default()
    };
    Some(Blueprint {
        action: Box::new(action),
        pace: Pace::Once,
        grace,
        ties,
        may_stop: true,
        aftermath: None,
        is_permanent: false,
    })
}

fn variable(name: &str) -> Result<(), String> {
    if name.is_empty() || name.contains(['=', '\0']) {
        Err("is no name of a variable".to_owned())
    } else {
        Ok(())
    }
}

fn named(text: &str) -> Result<String, String> {
    if text.is_empty() {
        Err("must not be empty".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

impl Action for Command {
    fn attempt(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        let process = self.process(scope)?;
        let program = process.argv.first().cloned().unwrap_or_default();
        scope.voice.waiting(&format!("the end of {program}"));
        let mut tell = |stream: Stream, line: &str| scope.voice.output(stream, line);
        let outcome = process
            .run(scope.deadline, scope.cancel, &mut tell)
            .map_err(|refusal| not_started(&process, &program, refusal))?;
        if outcome.dropped > 0 {
            let remark = format!("{} bytes of its output were dropped", outcome.dropped);
            scope.voice.remark(&remark);
        }
        if let Some(remark) = left_behind(&outcome) {
            scope.voice.remark(&remark);
        }
        self.judge(&program, &outcome)
    }

    fn rehearse(&self, scope: &Scope<'_>) -> Result<String, Failure> {
        let process = self.process(scope)?;
        let program = process.argv.first().cloned().unwrap_or_default();
        let found = process
            .look(scope.deadline, scope.cancel)
            .map_err(|trouble| not_known(&program, &trouble))?
            .map_err(|obstacle| not_startable(&process, &program, &obstacle))?;
        let user = process.user.map(|user| format!(" by {user}"));
        let place = (process.working_directory)
            .map(|directory| format!(" in {}", directory.display()))
            .unwrap_or_default();
        Ok(format!(
            "{} can be executed{}{place}; it was not started",
            found.display(),
            user.unwrap_or_default()
        ))
    }
}

impl Command {
    fn process(&self, scope: &Scope<'_>) -> Result<Process, Failure> {
        let facts = scope.facts;
        let pair = |(name, value): &(String, Field<String>)| Ok((name.clone(), value.get(facts)?));
        Ok(Process {
            argv: self
                .argv
                .iter()
                .map(|word| word.get(facts))
                .collect::<Result<_, _>>()?,
            user: self.user.as_ref().map(|it| it.get(facts)).transpose()?,
            working_directory: self
                .working_directory
                .as_ref()
                .map(|it| it.get(facts))
                .transpose()?,
            environment: self
                .environment
                .iter()
                .map(pair)
                .collect::<Result<_, Failure>>()?,
            grace: self.grace,
        })
    }

    fn judge(&self, program: &str, outcome: &Outcome) -> Result<Effect, Failure> {
        let (word, mut cause) = match outcome.end {
            End::Exited(code) if self.expect.contains(&code.into()) => return Ok(Effect::Done),
            End::Exited(code) => (Word::ExitStatus, format!("exited with {code}")),
            End::Signalled(number) => {
                (Word::Signalled, format!("ended by {}", signal_noun(number)))
            }
            End::TimedOut(reason) => (
                Word::TimedOut,
                format!("had not ended when the {} was over", reason.noun()),
            ),
            End::Cancelled => (Word::TimedOut, "told to stop".to_owned()),
        };
        if let Some(stuck) = outcome.stuck {
            cause = format!("{cause}; it is {stuck}");
        }
        Err(Failure::new(word, program, cause))
    }
}

/// The remark on processes that were still there when the leader had ended by itself.
fn left_behind(outcome: &Outcome) -> Option<String> {
    let (count, ended) = match (outcome.left_behind, outcome.stuck) {
        (0, _) => return None,
        (count, Some(stuck)) => (count, format!("could not be ended: {stuck}")),
        (1, None) => (1, "was ended".to_owned()),
        (count, None) => (count, "were ended".to_owned()),
    };
    let noun = if count == 1 { "process" } else { "processes" };
    Some(format!("{count} {noun} it left behind {ended}"))
}

fn not_started(process: &Process, program: &str, refusal: Refusal) -> Failure {
    match refusal {
        Refusal::UnknownUser(user) => unknown_user(program, &user),
        // The system does not say whether it was the program or its directory that it did not find.
        Refusal::Io(error) => cannot_be_started(process, program, &error),
    }
}

fn not_startable(process: &Process, program: &str, obstacle: &Obstacle) -> Failure {
    match (obstacle, &process.user) {
        (Obstacle::UnknownUser, Some(user)) => unknown_user(program, user),
        _ => cannot_be_started(process, program, obstacle),
    }
}

fn unknown_user(program: &str, user: &str) -> Failure {
    Failure::new(Word::Config, program, format!("there is no user `{user}`"))
}

fn cannot_be_started(process: &Process, program: &str, why: &dyn fmt::Display) -> Failure {
    let place = process
        .working_directory
        .as_ref()
        .map_or_else(String::new, |directory| {
            format!(" in {}", directory.display())
        });
    let cause = format!("cannot be started{place}: {why}");
    Failure::new(Word::Io, program, cause)
}

/// Nobody says whether it could be started.
fn not_known(program: &str, trouble: &Trouble) -> Failure {
    match trouble {
        Trouble::Io(error) => Failure::new(Word::Io, program, error.to_string()),
        Trouble::TimedOut(_) | Trouble::Cancelled => {
            let cause = format!("its file system or the user database {trouble}");
            Failure::new(Word::TimedOut, program, cause)
        }
    }
}
