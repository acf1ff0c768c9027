//! The commands that test nginx's configuration and reload it.

use std::time::Duration;

use crate::clients::http::excerpt;
use crate::config::section::{Field, Section};
use crate::model::error::{ErrorKind, Failure};
use crate::model::intent::Datum;
use crate::step::AttemptContext;
use crate::sys::process::{End, Process, Refusal};

/// The time between TERM and KILL.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// How many lines of a command's output are reported: the last ones.
const LINES: usize = 4;

/// The configured commands.
pub(super) struct Commands {
    /// `None` if it is derived from `reload`.
    test: Option<Vec<Field<String>>>,
    reload: Vec<Field<String>>,
}

/// The commands with all facts resolved.
pub(super) struct Argvs {
    pub(super) test: Vec<String>,
    pub(super) reload: Vec<String>,
}

impl Commands {
    /// Reads both keys. The default of `test` is `reload` with `-t` instead of `-s reload`, so that it uses the same program,
    /// the same container and the same `-c`; it is `nginx -t` if `reload` does not contain `-s reload`.
    pub(super) fn read(section: &Section<'_>) -> Option<Commands> {
        let reload = section.required("reload", Section::argv);
        let given = section.has("test");
        let test = section.argv("test");
        let test = match given {
            true => Some(test?),
            false => None,
        };
        Some(Commands {
            test,
            reload: reload?,
        })
    }

    /// The programs without their arguments.
    pub(super) fn programs(&self) -> impl Iterator<Item = &Field<String>> {
        let argvs = self.test.iter().chain([&self.reload]);
        argvs.filter_map(|argv| argv.first())
    }

    pub(super) fn get(&self, context: &AttemptContext<'_>) -> Result<Argvs, Failure> {
        let get = |argv: &Vec<Field<String>>| -> Result<Vec<String>, Failure> {
            argv.iter().map(|it| it.get(context.facts)).collect()
        };
        let reload = get(&self.reload)?;
        let test = match &self.test {
            Some(test) => get(test)?,
            None => derived(&reload),
        };
        Ok(Argvs { test, reload })
    }
}

/// The position of `-s reload`.
fn signal(argv: &[String]) -> Option<usize> {
    argv.windows(2).position(|it| it == ["-s", "reload"])
}

/// `nginx -c FILE -t` for `nginx -c FILE -s reload`, and `nginx -t` for `systemctl reload nginx`.
fn derived(reload: &[String]) -> Vec<String> {
    let Some(at) = signal(reload) else {
        return ["nginx", "-t"].map(str::to_owned).to_vec();
    };
    let mut test = reload.to_vec();
    test.splice(at..at + 2, ["-t".to_owned()]);
    test
}

impl Argvs {
    /// Tests the configuration on disk.
    ///
    /// # Errors
    /// `refused`, with nginx's message, if the test fails.
    pub(super) fn test(&self, context: &AttemptContext<'_>) -> Result<(), Failure> {
        run(&self.test, ErrorKind::Refused, context)
    }

    /// Reloads nginx.
    pub(super) fn reload(&self, context: &AttemptContext<'_>) -> Result<(), Failure> {
        let reloaded = run(&self.reload, ErrorKind::ExitStatus, context);
        reloaded.map_err(|failure| match failure.kind {
            // While nginx is being restarted, its pid file is missing for a moment.
            ErrorKind::ExitStatus => failure.retryable(true),
            _ => failure,
        })
    }

    /// Checks that both commands can be started.
    pub(super) fn look(&self, context: &AttemptContext<'_>) -> Result<(), Failure> {
        for argv in [&self.test, &self.reload] {
            let found = process(argv).check(context.request(), context.cancel);
            let found = found.map_err(|error| error.failure(argv.join(" ")))?;
            found.map_err(|obstacle| not_started(argv, &obstacle.to_string()))?;
        }
        Ok(())
    }

    /// The commands as kept in the record.
    pub(super) fn kept(&self) -> [(&'static str, Datum); 2] {
        let list = |argv: &[String]| {
            Datum::from(
                argv.iter()
                    .map(|it| it.as_str().into())
                    .collect::<Vec<Datum>>(),
            )
        };
        [("test", list(&self.test)), ("reload", list(&self.reload))]
    }
}

fn process(argv: &[String]) -> Process {
    Process {
        argv: argv.to_vec(),
        grace: GRACE,
        ..Process::default()
    }
}

fn not_started(argv: &[String], why: &str) -> Failure {
    let cause = format!("cannot be started: {why}");
    Failure::new(ErrorKind::Io, argv.join(" "), cause)
}

/// Runs a command to its end; an exit code other than 0 is a failure of this kind.
fn run(argv: &[String], kind: ErrorKind, context: &AttemptContext<'_>) -> Result<(), Failure> {
    let subject = argv.join(" ");
    let mut lines: Vec<String> = Vec::new();
    let mut tell = |_, line: &str| {
        lines.push(line.to_owned());
        if lines.len() > LINES {
            lines.remove(0);
        }
    };
    let outcome = process(argv)
        .run(context.request(), context.cancel, &mut tell)
        .map_err(|refusal| match refusal {
            Refusal::Io(error) => not_started(argv, &error.to_string()),
            Refusal::UnknownUser(user) => not_started(argv, &format!("no user {user}")),
        })?;
    let ended = outcome.leader.unwrap_or(outcome.end);
    let kind = match ended {
        End::Exited(0) => return Ok(()),
        End::Exited(_) => kind,
        End::Signalled(_) => ErrorKind::Signalled,
        End::TimedOut(_) | End::Cancelled => ErrorKind::TimedOut,
    };
    let said = excerpt(lines.join(" / ").as_bytes());
    let cause = match said.is_empty() {
        true => ended.to_string(),
        false => format!("{ended}: {said}"),
    };
    Err(Failure::new(kind, subject, cause))
}
