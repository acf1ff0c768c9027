//! Logging: to the journal with fields, or as plain lines to standard error.

pub mod message_id;

use std::borrow::Cow;
use std::io::Write as _;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use log::kv::{Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::model::secrets::mask;
use crate::sys::journal::{self, Journal};
use crate::text::sanitize::plain;

/// Where log records go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// To the journal, with fields.
    Journal,
    /// To standard error, as lines.
    Lines,
}

/// The environment's variable for the level, in env_logger's syntax.
const LEVEL: &str = "FAREWELL_LOG";

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Sends the log records of this process to the journal if standard error goes there too, else to standard error. The
/// level is that of `FAREWELL_LOG`, else `default`, or `info` in the journal. Later calls change nothing.
pub fn install(default: LevelFilter) -> Sink {
    let journal = (journal::stderr_is_journal())
        .then(|| Journal::at(Path::new(journal::SOCKET)).ok())
        .flatten();
    install_to(journal, default)
}

/// The same with the journal given; `None` means standard error.
pub fn install_to(journal: Option<Journal>, default: LevelFilter) -> Sink {
    let logger = LOGGER.get_or_init(|| Logger::new(journal, default));
    if log::set_logger(logger).is_ok() {
        log::set_max_level(logger.lines.filter());
    }
    match logger.journal {
        Some(_) => Sink::Journal,
        None => Sink::Lines,
    }
}

/// Logs an event of a run with its fields, which must be masked already.
pub fn event(level: Level, text: &str, fields: &[(&'static str, Cow<'_, str>)]) {
    let args = format_args!("{text}");
    let record = Record::builder()
        .args(args)
        .level(level)
        .target("farewell::run")
        .build();
    match LOGGER.get() {
        Some(Logger {
            journal: Some(journal),
            lines,
        }) => {
            if lines.matches(&record) {
                let fields: Vec<_> = fields.iter().map(|(name, it)| (*name, &**it)).collect();
                journal.send(priority(level), text, &fields);
            }
        }
        // Lines have no fields.
        _ => log::logger().log(&record),
    }
}

/// Sends outstanding entries to the journal, for at most `limit`.
pub fn flush(limit: Duration) {
    if let Some(Logger {
        journal: Some(journal),
        ..
    }) = LOGGER.get()
    {
        journal.flush(limit);
    }
}

struct Logger {
    journal: Option<Journal>,
    /// Filters by level for both.
    lines: env_logger::Logger,
}

impl Logger {
    fn new(journal: Option<Journal>, default: LevelFilter) -> Logger {
        let default = match journal {
            Some(_) => LevelFilter::Info,
            None => default,
        };
        let lines = env_logger::Builder::new()
            .filter_level(default)
            .parse_env(env_logger::Env::new().filter(LEVEL))
            .format(|out, record| writeln!(out, "{}", line(record)))
            .build();
        Logger { journal, lines }
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_welcome(metadata) && self.lines.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !is_welcome(record.metadata()) {
            return;
        }
        let Some(journal) = &self.journal else {
            return self.lines.log(record);
        };
        if !self.lines.matches(record) {
            return;
        }
        let mut fields = Fields(Vec::new());
        // A field that cannot be read is left out; the message is not.
        let _ = record.key_values().visit(&mut fields);
        let fields: Vec<(&str, &str)> = (fields.0.iter())
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let text = record.args().to_string();
        journal.send(priority(record.level()), &mask(&text), &fields);
    }

    fn flush(&self) {
        if let Some(journal) = &self.journal {
            journal.flush(Duration::ZERO);
        }
    }
}

/// At debug level other crates may print whole requests, including headers and credentials. Encoded secrets in headers
/// cannot be masked, so details of other crates are never logged.
fn is_welcome(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    metadata.level() <= Level::Warn || target == "farewell" || target.starts_with("farewell::")
}

/// The priority of syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

fn line(record: &Record<'_>) -> String {
    let level = match record.level() {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    };
    let message = record.args().to_string();
    format!("farewell: {level}: {}", plain(&mask(&message)))
}

struct Fields(Vec<(String, String)>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(
        &mut self,
        key: Key<'kvs>,
        value: Value<'kvs>,
    ) -> std::result::Result<(), log::kv::Error> {
        let value = mask(&value.to_string()).into_owned();
        self.0.push((key.to_string(), value));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(target: &str, level: Level) -> Metadata<'_> {
        Metadata::builder().target(target).level(level).build()
    }

    #[test]
    fn details_of_other_crates_are_dropped() {
        let logger = Logger::new(None, LevelFilter::Trace);
        for (target, level, enabled) in [
            ("farewell", Level::Debug, true),
            ("farewell::run", Level::Trace, true),
            ("farewells", Level::Info, false),
            ("ureq::run", Level::Info, false),
            ("ureq::run", Level::Warn, true),
        ] {
            assert_eq!(
                logger.enabled(&metadata(target, level)),
                enabled,
                "{target}"
            );
        }
    }

    #[test]
    fn a_line_is_masked_and_harmless() {
        crate::model::secrets::hide("logged-secret");
        let args = format_args!("token logged-secret\nand \x1b[2J");
        let record = Record::builder().args(args).level(Level::Warn).build();
        assert_eq!(
            line(&record),
            "farewell: warning: token ******** and \\x1b[2J"
        );
    }
}
