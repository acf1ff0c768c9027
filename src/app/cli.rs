//! The command line.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};

use crate::model::trigger::Trigger;

/// The exit codes: those of sysexits(3), so that systemd prints their names.
pub mod exit {
    /// All went well.
    pub const OK: u8 = 0;
    /// A step failed.
    pub const FAILED: u8 = 1;
    /// The command line is wrong (EX_USAGE).
    pub const USAGE: u8 = 64;
    /// There is nothing to show (EX_NOINPUT).
    pub const NOTHING: u8 = 66;
    /// A defect in farewell itself (EX_SOFTWARE). A panic in a step is that step's failure instead.
    pub const SOFTWARE: u8 = 70;
    /// Cut short: the budget was spent, it was told to stop, or another run is in progress (EX_TEMPFAIL).
    pub const CUT_SHORT: u8 = 75;
    /// The configuration is wrong (EX_CONFIG).
    pub const CONFIG: u8 = 78;
}

/// The triggers, and the other values that `run --trigger` accepts.
fn triggers(more: Option<&'static str>) -> PossibleValuesParser {
    let words = Trigger::ALL.map(Trigger::as_str).into_iter().chain(more);
    PossibleValuesParser::new(words)
}

/// Runs a machine's last duties: leaves its cluster's registry, drains, waits until that is safe, and reports the
/// result.
#[derive(Debug, Parser)]
#[command(
    name = "farewell",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 all went well; 1 a step failed; 64 usage; 66 nothing to show; 75 cut short (budget \
                  spent, told to stop, or another run is on); 78 configuration.\n\
                  Environment: FAREWELL_LOG sets the level of the log on standard error (error, warn, info, debug, \
                  trace)."
)]
pub struct Cli {
    /// Options of every verb.
    #[command(flatten)]
    pub options: Options,
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options of every verb.
#[derive(Debug, Args)]
pub struct Options {
    /// Read only this file, without drop-ins. Default: /etc/farewell/farewell.toml and the drop-ins conf.d/*.toml of
    /// /usr/lib/farewell, /run/farewell and /etc/farewell
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Keep records here. Default: $STATE_DIRECTORY, else /var/lib/farewell (root) or $XDG_STATE_HOME/farewell
    #[arg(long, global = true, value_name = "DIR")]
    pub state: Option<PathBuf>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Read the configuration and report every problem with file, line and step
    #[command(
        after_help = "Checks every fact and credential that the steps name, and certificates and keys \
                            together. Exits with 0 when there are only warnings, else with 78."
    )]
    Check {
        /// For a build machine: do not check facts and credentials of the later machine
        #[arg(long)]
        image: bool,
    },
    /// Print the steps as they would run: order, what runs in parallel, deadlines, worst case
    #[command(
        after_help = "Changes nothing and contacts no peer. Exits with 78 if the configuration is wrong."
    )]
    Plan {
        /// The trigger to plan for
        #[arg(long, value_name = "TRIGGER", default_value = "stop", value_parser = triggers(None))]
        trigger: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Check everything that a run would need, and change nothing
    #[command(
        after_help = "Checks each step's peers, paths, programs and units, in parallel and for at most 10 s each: once, and \
                            again for other triggers if the answer depends on the trigger. Instead of requests other than GET and \
                            HEAD it sends OPTIONS. Then checks whether systemd has farewell.service \
                            loaded as the steps need it (not with --config), and whether everything that the steps depend on \
                            outlives the run: peers on this machine and in its containers, the interfaces and addresses on \
                            the way to peers, the daemons of FUSE file systems.\n\
                            The JSON object has result (ok, failed), steps (each with name, kind, state (ready, skipped, \
                            failed), and answer, reason or error (word, message), warnings where there are some, and triggers where the \
                            answers of a step differ, of which there are several then) and \
                            machine (state, and reason if it was not inspected, else summary, findings and remarks).\n\
                            A warning deserves attention, such as a member that is not registered under the \
                            configured name: a run would succeed without leaving anything.\n\
                            Exits with 1 if something would fail now, with --strict also if there are \
                            warnings, and with 78 when the configuration is wrong."
    )]
    Rehearse {
        /// Fail if there are warnings
        #[arg(long)]
        strict: bool,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Prepare this machine for its farewell, as farewell-start.service does at boot
    #[command(
        after_help = "Checks the configuration, keeps this machine's facts and the plan for the shutdown (not with --config), \
                            undoes what earlier runs have left, and checks whether what systemd has loaded is what the plan \
                            needs; if that is only outdated, it requests one daemon-reload.\n\
                            Nothing is undone before the units of the sequence that systemd starts at this boot are up, and a \
                            lock only when its `ready` holds: if one has failed, or is not up after 2 minutes, what is held \
                            is kept and renewed, and farewell-undo.timer tries again each minute.\n\
                            An undo that fails stays pending for the next start. What another machine has left, of \
                            which this one's disk is a copy, is not undone. What is to be undone is in the records: the \
                            configuration does not matter.\n\
                            Exits with 0 when this machine is ready, with 1 when it is not, or something is still to be \
                            undone, with 75 when a run, or another start, is in progress, and with 78 when the configuration is wrong."
    )]
    Start {
        /// Only show and do the undo
        #[arg(long)]
        undo_only: bool,
        /// Do not wait until the units of the sequence are up, or a lock's `ready` holds
        #[arg(long, requires = "undo_only")]
        yes: bool,
    },
    /// Run the sequence within its budget, and leave a record
    #[command(
        after_help = "SIGTERM or Ctrl-C cuts the run short: running steps are ended, `always` steps still run within \
                            the reserve, and the exit code is 75. A second one ends it at once.\n\
                            One run at a time per state directory; a second one exits with 75 and names the first."
    )]
    Run {
        /// Its trigger; detected if not given. With `restart` nothing is run, unless `restart = "run"`
        #[arg(long, value_name = "TRIGGER", value_parser = triggers(Some("restart")))]
        trigger: Option<String>,
    },
    /// Show the run in progress, else the last one
    #[command(
        after_help = "Asks the system bus first, where anyone sees root's run, and then the records: those of --state, \
                            if it is given, alone.\n\
                            Exits with 0 whenever it shows a run, whatever its result, and with 66 when there is none."
    )]
    Status {
        /// Follow the run until it ends
        #[arg(long)]
        follow: bool,
        /// Print one JSON object, as `farewell report --json` does; `result` is `running` while the run lasts
        #[arg(long, conflicts_with = "follow")]
        json: bool,
    },
    /// Show past runs, with a timeline
    #[command(
        after_help = "The JSON object has run, trigger, result (ok, failed, cut-short; cut-off where the record \
                            ends in the middle), reason, started (RFC 3339), duration_usec, budget_usec, warnings and \
                            steps; each step has name, kind, state, attempts, started_usec and duration_usec (from the \
                            run's start; null if it was not begun), and, where there is one, error (word, message) or \
                            reason. Where the run has left something behind there is also undo, a list of step, noun, \
                            state (pending, settled, undone) and at (RFC 3339, when it was undone).\n\
                            Exits with 0 whenever it shows a run, whatever its result, and with 66 when there is none."
    )]
    Report {
        /// The run's id, or the beginning of it; default: the last run
        run: Option<String>,
        /// List all runs, one per line, newest first
        #[arg(long, conflicts_with = "run")]
        list: bool,
        /// Print JSON: one object, with --list an array of them
        #[arg(long)]
        json: bool,
    },
}
