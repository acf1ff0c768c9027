//! The files that a configuration consists of, and their order.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::document::{self, Document, Table};
use super::problem::{Problem, Severity};
use crate::sys::{file_trust, files, signals};

/// One file of the configuration.
#[derive(Clone, Debug)]
pub struct Fragment {
    /// Where it is.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// What is in it, as far as it could be understood.
    pub table: Table,
    /// Whether a syntax error makes what is missing in it, or seems wrong, mean nothing.
    pub is_broken: bool,
}

impl Fragment {
    fn parse(path: &Path, text: String, problems: &mut Vec<Problem>) -> Fragment {
        let Document {
            table,
            errors,
            warnings,
        } = document::parse(&text);
        let is_broken = errors.iter().any(|error| error.is_structural);
        let errors = errors.into_iter();
        problems.extend(errors.map(|error| problem(path, error.line, error.message)));
        let warning = |(line, message)| Problem {
            severity: Severity::Warning,
            ..problem(path, line, message)
        };
        problems.extend(warnings.into_iter().map(warning));
        Fragment {
            path: path.to_owned(),
            text,
            table,
            is_broken,
        }
    }
}

/// What becomes of installed files that others than root could have written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untrusted {
    /// They are errors. A plain user, for whom nothing runs as root, is only warned.
    Refused,
    /// They are left out, with a warning each: a weaker drop-in of the same name counts again.
    LeftOut,
    /// They are read, with a warning each.
    Read,
}

/// Where a configuration comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// This file alone, without drop-ins.
    File(PathBuf),
    /// The installed configuration.
    Installed {
        /// The main file, which may be missing.
        main: PathBuf,
        /// Directories of drop-ins, `*.toml`, the weakest first: a file replaces one of the same name in a weaker one.
        drop_ins: Vec<PathBuf>,
        /// What becomes of files that others could have written.
        untrusted: Untrusted,
    },
    /// These texts, of files that had them once.
    Kept(Vec<(PathBuf, String)>),
}

impl Source {
    /// The configuration of this machine.
    pub fn installed(untrusted: Untrusted) -> Source {
        let places = ["/usr/lib/farewell", "/run/farewell", "/etc/farewell"];
        Source::Installed {
            main: "/etc/farewell/farewell.toml".into(),
            drop_ins: places
                .iter()
                .map(|place| Path::new(place).join("conf.d"))
                .collect(),
            untrusted,
        }
    }

    /// Reads every file in the order in which their steps follow one another, and tells every file that cannot be
    /// read, every file that is not to be trusted, and every syntax error.
    pub fn load(&self) -> (Vec<Fragment>, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut fragments = Vec::new();
        match self {
            Source::File(path) => {
                if signals::is_root() {
                    warn_of(path, &mut problems);
                }
                match files::read_any(path) {
                    Ok(text) => fragments.push(Fragment::parse(path, text, &mut problems)),
                    Err(error) => problems.push(unreadable(path, &error)),
                }
            }
            Source::Installed {
                main,
                drop_ins,
                untrusted,
            } => {
                let mut reader = Reader::new(*untrusted, &mut problems);
                let main = reader.read(main, true);
                let drop_ins = reader.drop_ins(drop_ins);
                for (path, text) in main.into_iter().chain(drop_ins) {
                    fragments.push(Fragment::parse(&path, text, &mut problems));
                }
            }
            Source::Kept(files) => {
                let parse = |(path, text): &(PathBuf, String)| {
                    Fragment::parse(path, text.clone(), &mut problems)
                };
                fragments = files.iter().map(parse).collect();
            }
        }
        (fragments, problems)
    }
}

/// Reads installed files, as far as they are to be trusted.
struct Reader<'a> {
    untrusted: Untrusted,
    problems: &'a mut Vec<Problem>,
    told: BTreeSet<String>,
}

impl Reader<'_> {
    fn new(untrusted: Untrusted, problems: &mut Vec<Problem>) -> Reader<'_> {
        Reader {
            untrusted,
            problems,
            told: BTreeSet::new(),
        }
    }

    /// A file and its text. A file that cannot be read, or is not to be trusted, is told.
    fn read(&mut self, path: &Path, may_be_missing: bool) -> Option<(PathBuf, String)> {
        let owned = path.to_owned();
        let opened = files::within(files::PATIENCE, move || {
            let mut opened = file_trust::open(&owned)?;
            let text = opened.text();
            Ok((text, opened))
        });
        let (text, opened) = match opened {
            Ok(read) => read,
            Err(error) if may_be_missing && error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                self.problems.push(unreadable(path, &error));
                return None;
            }
        };
        if !self.judge(path, &opened) {
            return None;
        }
        text.map_err(|error| self.problems.push(unreadable(path, &error)))
            .ok()
            .map(|text| (path.to_owned(), text))
    }

    /// Tells what is wrong with what was opened; whether it is to be used.
    fn judge(&mut self, path: &Path, opened: &file_trust::Opened) -> bool {
        let is_refused = self.untrusted == Untrusted::Refused && signals::is_root();
        let is_used = opened.distrust().is_none() || self.untrusted != Untrusted::LeftOut;
        for finding in &opened.findings {
            // A directory above several files is told once.
            if !self.told.insert(finding.message.clone()) {
                continue;
            }
            let fate = match (finding.is_untrusted, self.untrusted) {
                (true, Untrusted::LeftOut) => "left out, since it is not to be trusted: ",
                (true, _) => "is not to be trusted: ",
                (false, _) => "",
            };
            let problem = problem(path, 0, format!("{fate}{finding}"));
            self.problems.push(Problem {
                severity: match is_refused && finding.is_untrusted {
                    true => Severity::Error,
                    false => Severity::Warning,
                },
                ..problem
            });
        }
        is_used
    }

    /// The drop-ins that count with their texts, sorted by name. An empty one, or a link to /dev/null, masks what it
    /// replaces.
    fn drop_ins(&mut self, directories: &[PathBuf]) -> Vec<(PathBuf, String)> {
        let mut places: BTreeMap<OsString, Vec<PathBuf>> = BTreeMap::new();
        for directory in directories {
            let looked = directory.clone();
            match files::within(files::PATIENCE, move || file_trust::open(&looked)) {
                Ok(opened) => drop(self.judge(directory, &opened)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    self.problems.push(unreadable(directory, &error));
                    continue;
                }
            }
            match names(directory) {
                Ok(names) => names.into_iter().for_each(|name| {
                    let path = directory.join(&name);
                    places.entry(name).or_default().push(path);
                }),
                Err(error) => self.problems.push(unreadable(directory, &error)),
            }
        }
        let mut read = Vec::new();
        for paths in places.into_values() {
            // The strongest one that is to be trusted, or the strongest one at all.
            for path in paths.iter().rev() {
                let found = self.read(path, false);
                let is_found = found.is_some();
                read.extend(found);
                if is_found || self.untrusted != Untrusted::LeftOut {
                    break;
                }
            }
        }
        read
    }
}

/// The names of the drop-ins in a directory.
fn names(directory: &Path) -> io::Result<Vec<OsString>> {
    let is_drop_in = |name: &OsString| {
        let is_hidden = name.as_encoded_bytes().starts_with(b".");
        !is_hidden && Path::new(name).extension().is_some_and(|it| it == "toml")
    };
    let entries = std::fs::read_dir(directory)?.flatten();
    Ok(entries
        .map(|entry| entry.file_name())
        .filter(is_drop_in)
        .collect())
}

/// Warns of a file given by hand that others could have written.
fn warn_of(path: &Path, problems: &mut Vec<Problem>) {
    let owned = path.to_owned();
    // What cannot be opened like this is told where it is read; a pipe has no owner that matters.
    let opened = files::within(files::PATIENCE, move || file_trust::open(&owned));
    let findings = opened.map(|it| it.findings).unwrap_or_default();
    problems.extend(
        findings
            .into_iter()
            .filter(|it| it.is_untrusted)
            .map(|finding| {
                let message = format!("a farewell that is installed would refuse it: {finding}");
                Problem {
                    severity: Severity::Warning,
                    ..problem(path, 0, message)
                }
            }),
    );
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    problem(path, 0, format!("cannot be read: {error}"))
}

fn problem(path: &Path, line: usize, message: impl Into<String>) -> Problem {
    Problem {
        severity: Severity::Error,
        file: path.to_owned(),
        line,
        step: None,
        key: None,
        message: message.into(),
    }
}
