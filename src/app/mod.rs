//! One function for each verb: it wires configuration, plan, run and reporters.

mod check;
pub mod cli;
mod configuration;
mod generator;
mod observers;
mod plan;
mod rehearse;
mod report;
mod run;
pub mod runtime_dir;
mod start;
mod status;
pub mod undo;

use std::io::Write as _;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser as _;

use crate::app::cli::{Cli, Options, Verb, exit};
use crate::app::runtime_dir::RuntimeDir;
use crate::config::facts::Facts;
use crate::config::fragments::{Source, Untrusted};
use crate::history::state_dir::Store;
use crate::model::trigger::Diagnosis;
use crate::run::panics::catch_panics;
use crate::sys::http::Http;
use crate::sys::process;
use crate::sys::signals;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    // The budget starts here.
    let begun = Instant::now();
    if let Some(code) = generator::serve(std::env::args_os()) {
        return code;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are not errors, and go to standard output.
            let code = if error.use_stderr() {
                exit::USAGE
            } else {
                exit::OK
            };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    catch_panics();
    let code = panic::catch_unwind(AssertUnwindSafe(|| call(cli, begun)));
    ExitCode::from(code.unwrap_or(exit::SOFTWARE))
}

fn call(cli: Cli, begun: Instant) -> u8 {
    let options = &cli.options;
    if matches!(
        cli.verb,
        Verb::Run { .. } | Verb::Rehearse { .. } | Verb::Start { .. }
    ) {
        process::prepare();
    }
    match cli.verb {
        Verb::Check { image } => check::check(options, image),
        Verb::Plan { trigger, json } => plan::plan(options, &trigger, json),
        Verb::Rehearse { strict, json } => rehearse::rehearse(options, strict, json),
        Verb::Start {
            undo_only: true,
            yes,
        } => start::undo_only(options, yes),
        Verb::Start {
            undo_only: false, ..
        } => start::start(options),
        Verb::Run { trigger } => run::run(options, trigger.as_deref(), begun),
        Verb::Status { follow, json } => status::status(options, follow, json),
        Verb::Report { run, list, json } => report::report(options, run.as_deref(), list, json),
    }
}

fn source(options: &Options) -> Source {
    options
        .config
        .clone()
        .map_or_else(|| Source::installed(Untrusted::Refused), Source::File)
}

/// The runtime directory; none if a configuration is given on the command line.
fn kept(options: &Options) -> Option<RuntimeDir> {
    match options.config {
        Some(_) => None,
        None => RuntimeDir::locate(signals::is_root()),
    }
}

/// The facts for a run, with the values saved at boot.
fn facts(options: &Options, diagnosis: impl Into<Diagnosis>, run: &str) -> Facts {
    let kept = kept(options).map(|kept| kept.facts());
    Facts::new(diagnosis, run).with_kept(kept.unwrap_or_default())
}

/// The HTTP client, with the interfaces that led to peers at `farewell start`.
fn http(kept: Option<RuntimeDir>) -> Http {
    Http::with_ways(kept.map(|kept| kept.ways()).unwrap_or_default())
}

fn store(options: &Options) -> Store {
    Store::locate(options.state.clone(), signals::is_root())
}

/// Prints to standard output. A reader that has gone away, as `head` does, is not an error.
fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Prints a message for the operator to standard error.
fn complain(text: &str) {
    let _ = writeln!(
        std::io::stderr().lock(),
        "{}",
        crate::model::secrets::mask(text)
    );
}

/// `1 step`, `2 steps`.
fn count(number: usize, subject: &str) -> String {
    if number == 1 {
        format!("1 {subject}")
    } else {
        format!("{number} {subject}s")
    }
}
