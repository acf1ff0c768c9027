//! The files that a configuration consists of, and their order.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::document::{self, Document, Table};
use super::problem::{Problem, Severity};
use crate::sys::files;

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
    },
    /// These texts, of files that had them once.
    Kept(Vec<(PathBuf, String)>),
}

impl Source {
    /// The configuration of this machine.
    pub fn installed() -> Source {
        let places = ["/usr/lib/farewell", "/run/farewell", "/etc/farewell"];
        Source::Installed {
            main: "/etc/farewell/farewell.toml".into(),
            drop_ins: places
                .iter()
                .map(|place| Path::new(place).join("conf.d"))
                .collect(),
        }
    }

    /// Reads every file in the order in which their steps follow one another, and tells every file that cannot be
    /// read and every syntax error.
    pub fn load(&self) -> (Vec<Fragment>, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut fragments = Vec::new();
        let mut add =
            |path: &Path, may_be_missing: bool, problems: &mut Vec<Problem>| match files::read_any(
                path,
            ) {
                Ok(text) => fragments.push(Fragment::parse(path, text, problems)),
                Err(error) if may_be_missing && error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => problems.push(problem(path, 0, format!("cannot be read: {error}"))),
            };
        match self {
            Source::File(path) => add(path, false, &mut problems),
            Source::Installed { main, drop_ins } => {
                add(main, true, &mut problems);
                for path in drop_in_files(drop_ins, &mut problems) {
                    add(&path, false, &mut problems);
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

/// The drop-ins that count, sorted by name. An empty one, or a link to /dev/null, masks what it replaces.
fn drop_in_files(directories: &[PathBuf], problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let mut files = BTreeMap::new();
    for directory in directories {
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                problems.push(problem(directory, 0, format!("cannot be read: {error}")));
                continue;
            }
        };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let name = path.file_name().unwrap_or_default().to_owned();
            let hidden = name.as_encoded_bytes().starts_with(b".");
            if !hidden
                && path
                    .extension()
                    .is_some_and(|extension| extension == "toml")
            {
                files.insert(name, path);
            }
        }
    }
    files.into_values().collect()
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
