//! `copy`: files that must outlive the machine go to a mounted directory or to an HTTP store.

mod destination;
mod directory;
mod file_search;
mod progress;
mod store;
mod upload;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::config::section::{Field, Secrecy, Section, plain};
use crate::config::text_kind::TextKind;
use crate::model::error::{ErrorKind, Failure};
use crate::step::{Action, AttemptContext, AttemptPolicy, Kind, Outcome, StepSpec};
use crate::sys::copy::{Order, Pattern};
use crate::sys::sync::Mutex;
use destination::Destination;
use progress::Done;
use store::Store;

/// The kind's entry in the table. Its keys:
///
/// - those of every [`Peer`], without `url`
/// - `from` (paths; required): absolute paths of the files to copy, or a list of them; `*`, `?` and `[a-z]` match parts
///   of a name, and `**` any number of directories (`/var/log/app/**`); names at the target are relative to the part
///   before the first wildcard, and two files that would have the same name fail the step; symbolic links and special
///   files are left out, with a remark
/// - `to` (path or URLs; required): the directory to copy to, which must exist, since it may be a mount; or `http://…`
///   or `https://…`, to which each file is sent by PUT with its name appended to the path, or in place of `${name}`; or
///   a list of URLs, such as presigned ones, each for the file whose name ends its path
/// - `exclude` (list of strings; default none): globs for names of files and directories to leave out
/// - `bwlimit` (rate; default none): the maximum in bytes per second, such as "20M": a number and `K`, `M` or `G` (KiB,
///   MiB, GiB)
/// - `s3` (table; default none): signs the requests for S3 (AWS Signature Version 4), and sends files of more than 64
///   MiB in parts
/// - `s3.region` (string; required): the region of the bucket
/// - `s3.access-key-id` (string; required): the public part of the key
/// - `s3.secret-access-key` (string; required): the secret part of the key; a secret, best as `${credential:NAME}`
/// - `s3.session-token` (string; default none): the token of a temporary key
pub const KIND: Kind = Kind {
    name: "copy",
    read,
    undo: None,
};

/// Keys that only URLs may have.
const OF_SERVERS: [&str; 7] = [
    "headers",
    "user",
    "ca-file",
    "cert-file",
    "key-file",
    "server-name",
    "s3",
];

struct Copy {
    from: Vec<Field<String>>,
    exclude: Vec<Field<String>>,
    to: Vec<Field<Destination>>,
    store: Store,
    rate: Option<Field<u64>>,
    /// What earlier attempts have copied.
    done: Mutex<Done>,
}

fn read(section: &Section<'_>) -> Option<StepSpec> {
    let from = section.required("from", |section, key| {
        section.texts_at(TextKind::Glob, key, glob)
    });
    if let Some(from) = &from {
        warn_of_same_names(section, from);
    }
    let to = section.required("to", |section, key| {
        section.texts_naming(
            destination::NAME,
            key,
            destination::destination,
            Secrecy::MayHold,
        )
    });
    if let Some(to) = &to {
        check_destinations(section, to);
    }
    let store = Store::read(section, to.as_deref().unwrap_or_default());
    let exclude = match section.list("exclude", name_glob, Secrecy::Public) {
        None if section.has("exclude") => None,
        exclude => Some(exclude.unwrap_or_default()),
    };
    let rate = section.text("bwlimit", rate, Secrecy::Public);
    section.finish();
    let action = Copy {
        from: from?,
        exclude: exclude?,
        to: to?,
        store: store?,
        rate,
        done: Mutex::default(),
    };
    let mut dependencies = action.store.peer().dependencies();
    let directories = action.to.iter().filter(|it| !is_url(it));
    dependencies
        .paths
        .extend(directories.map(|it| it.taken_as(destination::directory)));
    let bases = action.from.iter().map(|it| it.taken_as(base));
    dependencies.paths.extend(bases);
    Some(StepSpec {
        dependencies,
        ..StepSpec::new(action, AttemptPolicy::Patient)
    })
}

/// Whether it is written as an address.
fn is_url(to: &Field<Destination>) -> bool {
    to.written().contains("://")
}

/// A list must consist of addresses, and a directory has none of a server's keys.
fn check_destinations(section: &Section<'_>, to: &[Field<Destination>]) {
    let is_directory = |it: &Field<Destination>| it.written().starts_with('/');
    if to.len() > 1 && to.iter().any(is_directory) {
        section.problem("to", "files are copied to one directory, or to URLs");
    }
    if to.iter().all(is_directory) {
        for key in OF_SERVERS.into_iter().filter(|key| section.has(key)) {
            section.warning(key, "means nothing beside a directory in `to`");
        }
    }
}

fn glob(text: &str) -> Result<String, String> {
    Pattern::parse(text).map(|_| text.to_owned())
}

fn base(text: &str) -> Result<PathBuf, String> {
    Pattern::parse(text).map(|pattern| pattern.base().to_owned())
}

fn name_glob(text: &str) -> Result<String, String> {
    match text.contains('/') || text.is_empty() {
        true => Err(format!(
            "`{text}` must be like the name of a file or directory, without `/`"
        )),
        false => plain(text),
    }
}

/// Bytes a second: a number, and `K`, `M` or `G` for KiB, MiB or GiB.
fn rate(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(number) => (number, &text[number.len()..]),
        None => (text, ""),
    };
    let factor = match unit {
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => 1,
    };
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    let bytes = number.parse::<u64>().ok().filter(|_| is_number);
    match bytes.and_then(|it| it.checked_mul(factor)) {
        Some(rate) if rate > 0 => Ok(rate),
        _ => Err(format!(
            "`{text}` is not a rate: write a number of bytes a second with K, M or G, like 20M"
        )),
    }
}

/// Two files that are named in full and would have the same name are a problem before any run.
fn warn_of_same_names(section: &Section<'_>, from: &[Field<String>]) {
    let mut known: HashMap<PathBuf, &str> = HashMap::new();
    for text in from.iter().filter_map(Field::literal) {
        let name = Pattern::parse(text).ok();
        let Some(name) = name.as_ref().and_then(Pattern::literal) else {
            continue;
        };
        match known.get(name) {
            Some(other) if Path::new(other) != Path::new(text) => {
                let message = format!(
                    "{other} and {text} would both be copied to `{}`",
                    name.display()
                );
                section.problem("from", message);
            }
            _ => {
                known.insert(name.to_owned(), text);
            }
        }
    }
}

impl Copy {
    fn order(&self, context: &AttemptContext<'_>) -> Result<Order, Failure> {
        let texts = |fields: &[Field<String>]| -> Result<Vec<String>, Failure> {
            fields.iter().map(|it| it.get(context.facts)).collect()
        };
        Ok(Order {
            from: texts(&self.from)?,
            exclude: texts(&self.exclude)?,
            rate: match &self.rate {
                Some(rate) => Some(rate.get(context.facts)?),
                None => None,
            },
            ..Order::default()
        })
    }

    /// Where they go now.
    fn destination(&self, context: &AttemptContext<'_>) -> Result<Destination, Failure> {
        let mut urls = Vec::new();
        for to in &self.to {
            match to.get(context.facts)? {
                Destination::Urls(more) => urls.extend(more),
                directory if self.to.len() == 1 => return Ok(directory),
                Destination::Directory(path) => {
                    let cause = format!("{} is a directory among URLs", path.display());
                    return Err(Failure::new(ErrorKind::Config, "key \"to\"", cause));
                }
            }
        }
        Ok(Destination::Urls(urls))
    }

    fn copy(
        &self,
        order: Order,
        done: &mut Done,
        context: &AttemptContext<'_>,
    ) -> Result<Outcome, Failure> {
        let mut order = order;
        match self.destination(context)? {
            Destination::Directory(to) => {
                order.to = Some(to);
                directory::copy(order, done, context)
            }
            Destination::Urls(urls) => {
                order.done.clone_from(&done.versions);
                let found = file_search::find(&order, context.deadline, context)?;
                store::copy(&self.store, urls, (found, order.rate), (done, context))
            }
        }
    }
}

impl Action for Copy {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let order = self.order(context)?;
        // An abandoned attempt must not block the next one.
        let mut done = self.done.lock().clone();
        let copied = self.copy(order, &mut done, context);
        *self.done.lock() = done;
        copied
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let order = Order {
            rehearses: true,
            ..self.order(context)?
        };
        match self.destination(context)? {
            Destination::Directory(to) => {
                let to = Some(to);
                directory::rehearse(Order { to, ..order }, context)
            }
            Destination::Urls(urls) => {
                let found = file_search::count(&order, context)?;
                self.store.rehearse(urls, found, context)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_units() {
        for (text, expected) in [
            ("20M", 20 << 20),
            ("512K", 512 << 10),
            ("1G", 1 << 30),
            ("9", 9),
        ] {
            assert_eq!(rate(text), Ok(expected), "{text}");
        }
        for text in ["", "M", "0", "1.5M", "-1", "+1", "1m", "99999999999G"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
