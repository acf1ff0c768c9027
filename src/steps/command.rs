//! `command`: runs a program, and waits until it and everything that it started have ended.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::clients::http::credential_names;
use crate::config::facts::Facts;
use crate::config::section::{Field, Secrecy, Section, non_empty, path, plain};
use crate::model::deadline::{Deadline, Reason};
use crate::model::error::{ErrorKind, Failure};
use crate::model::event::Stream;
use crate::step::{Action, AttemptContext, AttemptPolicy, Dependencies, Kind, Outcome, StepSpec};
use crate::sys::cancel::Cancel;
use crate::sys::probe::{Obstacle, ProbeError};
use crate::sys::process::{End, Member, Process, ProcessOutcome, Refusal};

/// The kind's entry in the table. Its keys:
///
/// - `argv` (list of strings; required): the program and its arguments; no shell is involved
/// - `user` (string; default farewell's own): the user who runs it, by name or number. It then has a fresh environment:
///   HOME, USER, LOGNAME and SHELL of this user, farewell's own PATH, LANG and FAREWELL_…, and `environment`
/// - `no-new-privileges` (boolean; default false): `true`: neither it nor anything it starts can gain privileges by
///   sudo(8), set-user-ID programs or file capabilities
/// - `working-directory` (path; default farewell's own): its working directory; farewell's own is `/` under systemd
/// - `environment` (table of strings; default none): variables added to farewell's environment (with `user`: to the
///   fresh one); credentials go here
/// - `expect` (integers from 0 to 255; default 0): the exit code of success, or a list of them
/// - `grace` (duration; default "5s"): the time between TERM and KILL at the end of its time; at most half of its time
/// - `leave-behind` (boolean; default false): `false`: the step ends when everything it started has ended; `true`: it
///   ends with the program itself, and what that has started (a daemon) keeps running until farewell.service is down
pub const KIND: Kind = Kind {
    name: "command",
    read,
    undo: None,
};

/// How long a check of a program may take; its file system may not answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many processes are named of those that stay.
const NAMED: usize = 5;

struct Command {
    argv: Vec<Field<String>>,
    user: Option<Field<String>>,
    working_directory: Option<Field<PathBuf>>,
    environment: Vec<(String, Field<String>)>,
    no_new_privileges: bool,
    expect: Vec<i64>,
    grace: Duration,
    leave_behind: bool,
}

fn read(section: &Section<'_>) -> Option<StepSpec> {
    let argv = section.required("argv", Section::argv);
    let user = section.text("user", non_empty, Secrecy::Public);
    let working_directory = section.text("working-directory", path, Secrecy::Public);
    let environment = section.map("environment", variable, plain, |_| Secrecy::MayHold);
    for (name, value) in &environment {
        // The name of a file is not a secret itself.
        let is_plain = value
            .literal()
            .is_some_and(|it| !it.is_empty() && !it.starts_with('/'));
        if is_plain && credential_names::credential(name).is_some() {
            section.caution_of_plain_text("environment");
        }
    }
    let no_new_privileges = section.boolean("no-new-privileges");
    let expect = section.integers("expect", 0..=255);
    let grace = section.duration("grace");
    let leave_behind = section.boolean("leave-behind");
    section.finish();
    let grace = grace.unwrap_or(Duration::from_secs(5));
    let action = Command {
        argv: argv?,
        user,
        working_directory,
        environment,
        no_new_privileges: no_new_privileges.unwrap_or(false),
        expect: expect.unwrap_or_else(|| vec![0]),
        grace,
        leave_behind: leave_behind.unwrap_or(false),
    };
    if let Some(program) = action.argv.first().cloned() {
        section.check("argv", move |facts| look_at_script(&program, facts));
    }
    // A program without a slash is looked for in $PATH, which is on the root file system.
    let program = action.argv.first().map(|program| program.taken_as(path));
    let paths = program.into_iter().chain(action.working_directory.clone());
    let dependencies = Dependencies {
        paths: paths.collect(),
        ..Dependencies::default()
    };
    Some(StepSpec {
        action: Box::new(action),
        policy: AttemptPolicy::Once,
        grace,
        dependencies,
        may_stop: true,
        held: None,
        captures: Vec::new(),
        is_permanent: false,
    })
}

/// Reports a script that the kernel cannot execute. Whether the program exists is left to the rehearsal: `check` may
/// run on another machine.
fn look_at_script(program: &Field<String>, facts: &Facts) -> Result<(), String> {
    // Problems with its facts are reported by the field itself.
    let (Ok(program), Ok(cancel)) = (program.get(facts), Cancel::new()) else {
        return Ok(());
    };
    let process = Process {
        argv: vec![program],
        ..Process::default()
    };
    match process.check(Deadline::after(PATIENCE, Reason::Attempt), &cancel) {
        Ok(Err(obstacle)) if obstacle.is_of_a_script() => Err(obstacle.to_string()),
        _ => Ok(()),
    }
}

fn variable(name: &str) -> Result<(), String> {
    if name.is_empty() || name.contains(['=', '\0']) {
        Err("is not the name of a variable".to_owned())
    } else {
        Ok(())
    }
}

impl Action for Command {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let process = self.process(context)?;
        let program = process.argv.first().cloned().unwrap_or_default();
        context.events.waiting(&format!("the end of {program}"));
        let mut tell = |stream: Stream, line: &str| context.events.output(stream, line);
        let outcome = process
            .run(context.deadline, context.cancel, &mut tell)
            .map_err(|refusal| not_started(context, &process, &program, refusal))?;
        if outcome.dropped > 0 {
            let remark = format!("{} bytes of its output were dropped", outcome.dropped);
            context.events.remark(&remark);
        }
        if self.leave_behind && !outcome.stayed.is_empty() {
            let remark = format!("{} is still running", named(&outcome.stayed));
            context.events.remark(&remark);
        }
        self.judge(&program, &outcome)
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let process = self.process(context)?;
        let program = process.argv.first().cloned().unwrap_or_default();
        let found = process
            .check(context.deadline, context.cancel)
            .map_err(|error| not_known(&program, &error))?
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
    fn process(&self, context: &AttemptContext<'_>) -> Result<Process, Failure> {
        let facts = context.facts;
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
            no_new_privileges: self.no_new_privileges,
            grace: self.grace,
            leave_behind: self.leave_behind,
        })
    }

    fn judge(&self, program: &str, outcome: &ProcessOutcome) -> Result<Outcome, Failure> {
        let is_expected =
            |end: &End| matches!(end, End::Exited(code) if self.expect.contains(&(*code).into()));
        let own = outcome.leader.unwrap_or(outcome.end);
        if is_expected(&outcome.end) {
            return Ok(Outcome::Done);
        }
        // The program's own failure is more significant than remaining processes of its group.
        let (word, mut cause) = match own {
            End::Exited(_) if !is_expected(&own) => (ErrorKind::ExitStatus, own.to_string()),
            End::Signalled(_) => (ErrorKind::Signalled, own.to_string()),
            _ => match outcome.end {
                End::TimedOut(reason) => (ErrorKind::TimedOut, timed_out(outcome, reason)),
                _ => (ErrorKind::TimedOut, End::Cancelled.to_string()),
            },
        };
        if word != ErrorKind::TimedOut && !outcome.stayed.is_empty() && !self.leave_behind {
            cause += &format!("; {} did not end by itself", named(&outcome.stayed));
        }
        if let Some(stuck) = outcome.stuck {
            cause = format!("{cause}; it is {stuck}");
        }
        // `attempts` says whether it is tried again.
        let is_own = matches!(word, ErrorKind::ExitStatus | ErrorKind::Signalled);
        Err(Failure::new(word, program, cause).retryable_if(is_own))
    }
}

/// What was still there when the time was over.
fn timed_out(outcome: &ProcessOutcome, reason: Reason) -> String {
    if outcome.leader.is_none() {
        return End::TimedOut(reason).to_string();
    }
    format!(
        "ended, but processes that it started had not when the {} was over: {} (`leave-behind = true` lets them run on)",
        reason.describe(),
        named(&outcome.stayed)
    )
}

/// `process 17 (sleep)`; with several, the first few.
fn named(members: &[Member]) -> String {
    let mut names: Vec<String> = members
        .iter()
        .take(NAMED)
        .map(|it| format!("{} ({})", it.pid, it.name))
        .collect();
    if members.len() > NAMED {
        names.push(format!("{} more", members.len() - NAMED));
    }
    let subject = if members.len() == 1 {
        "process"
    } else {
        "processes"
    };
    format!("{subject} {}", names.join(", "))
}

/// The system's error is the same for a missing file, a missing directory, and a script with a missing interpreter; a
/// second check distinguishes them.
fn not_started(
    context: &AttemptContext<'_>,
    process: &Process,
    program: &str,
    refusal: Refusal,
) -> Failure {
    match refusal {
        Refusal::UnknownUser(user) => unknown_user(program, &user),
        Refusal::Io(error) => match process.check(context.deadline, context.cancel) {
            Ok(Err(obstacle)) => not_startable(process, program, &obstacle),
            _ => cannot_be_started(process, program, &error),
        },
    }
}

fn not_startable(process: &Process, program: &str, obstacle: &Obstacle) -> Failure {
    match (obstacle, &process.user) {
        (Obstacle::UnknownUser, Some(user)) => unknown_user(program, user),
        _ => cannot_be_started(process, program, obstacle),
    }
}

fn unknown_user(program: &str, user: &str) -> Failure {
    Failure::new(
        ErrorKind::Config,
        program,
        format!("there is no user `{user}`"),
    )
}

fn cannot_be_started(process: &Process, program: &str, why: &dyn fmt::Display) -> Failure {
    let place = process
        .working_directory
        .as_ref()
        .map_or_else(String::new, |directory| {
            format!(" in {}", directory.display())
        });
    let cause = format!("cannot be started{place}: {why}");
    Failure::new(ErrorKind::Io, program, cause)
}

/// Whether it could be started is unknown.
fn not_known(program: &str, error: &ProbeError) -> Failure {
    match error {
        ProbeError::Io(error) => Failure::new(ErrorKind::Io, program, error.to_string()),
        ProbeError::TimedOut(_) | ProbeError::Cancelled => {
            let cause = format!("its file system or the user database {error}");
            Failure::new(ErrorKind::TimedOut, program, cause)
        }
    }
}
