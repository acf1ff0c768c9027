//! The ordering in unit files on disk, for use before systemd has loaded them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::name::{stem, template};

/// systemd's unit search path, highest priority first; see systemd.unit(5). Units from generators are not there yet
/// when another generator runs.
pub const UNIT_PATH: [&str; 9] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// The largest file that is read; units are a few kilobytes.
const LIMIT: u64 = 256 << 10;

/// The settings of one file.
#[derive(Debug, Default)]
struct Settings {
    after: Vec<String>,
    before: Vec<String>,
    wants: Vec<String>,
    has_no_defaults: bool,
}

/// The unit files of a machine.
#[derive(Debug, Default)]
pub struct UnitFiles {
    /// The settings by unit, template, or drop-in directory for several units.
    settings: BTreeMap<String, Settings>,
    /// Aliases of units.
    aliases: BTreeMap<String, String>,
    masked: BTreeSet<String>,
    /// By unit, the units with a `Before=` on it.
    after: BTreeMap<String, BTreeSet<String>>,
}

impl UnitFiles {
    /// Reads `directories`, highest priority first. Unreadable files are ignored.
    pub fn read<P: AsRef<Path>>(directories: &[P]) -> UnitFiles {
        let mut files = UnitFiles::default();
        // A drop-in's name counts once for each directory name.
        let mut drop_ins: BTreeSet<(String, String)> = BTreeSet::new();
        let mut units: BTreeSet<String> = BTreeSet::new();
        for directory in directories {
            for (name, path) in entries(directory.as_ref()) {
                if let Some(unit) = name.strip_suffix(".d") {
                    for (file, path) in entries(&path) {
                        let is_new = drop_ins.insert((unit.to_owned(), file.clone()));
                        if is_new && file.ends_with(".conf") {
                            files.add(unit, &path);
                        }
                    }
                } else if let Some((unit, _)) = name
                    .rsplit_once('.')
                    .filter(|(_, how)| matches!(*how, "wants" | "requires" | "upholds"))
                {
                    let wanted = entries(&path).into_iter().map(|(name, _)| name);
                    files.of(unit).wants.extend(wanted);
                } else if units.insert(name.clone()) {
                    files.add_unit(&name, &path);
                }
            }
        }
        files.turn();
        files
    }

    fn of(&mut self, unit: &str) -> &mut Settings {
        self.settings.entry(unit.to_owned()).or_default()
    }

    /// Adds the file of a unit.
    fn add_unit(&mut self, name: &str, path: &Path) {
        if let Ok(target) = fs::read_link(path) {
            let is_null = target == Path::new("/dev/null");
            let target = target.file_name().and_then(|it| it.to_str());
            match target {
                _ if is_null => {
                    self.masked.insert(name.to_owned());
                    return;
                }
                Some(target) if target != name => {
                    self.aliases.insert(name.to_owned(), target.to_owned());
                    return;
                }
                _ => {}
            }
        }
        self.add(name, path);
    }

    /// Adds a file's settings for a unit.
    fn add(&mut self, unit: &str, path: &Path) {
        if let Some(text) = text(path) {
            parse(&text, self.of(unit));
        }
    }

    /// Turns every `Before=` into the corresponding `After=`, and adds systemd's implicit ordering for sockets, timers
    /// and paths.
    fn turn(&mut self) {
        let mut after: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut add = |unit: &str, before: &str| {
            after
                .entry(unit.to_owned())
                .or_default()
                .insert(before.to_owned());
        };
        for (unit, settings) in &self.settings {
            for later in &settings.before {
                add(self.own_name(&expand(later, unit)), unit);
            }
            if let Some((stem, "socket" | "timer" | "path")) = unit.rsplit_once('.') {
                add(self.own_name(&format!("{stem}.service")), unit);
            }
        }
        self.after = after;
    }

    fn own_name<'a>(&'a self, unit: &'a str) -> &'a str {
        // Aliases of aliases do not count, so that a cycle of links ends.
        let first = self.aliases.get(unit).map_or(unit, String::as_str);
        self.aliases.get(first).map_or(first, String::as_str)
    }

    /// What `unit` is ordered after.
    pub fn after(&self, unit: &str) -> Vec<String> {
        let unit = self.own_name(unit);
        let template = template(unit).unwrap_or_else(|| unit.to_owned());
        if self.masked.contains(unit) || self.masked.contains(&template) {
            return Vec::new();
        }
        let mut keys = keys(unit, &template);
        let aliases = self.aliases.iter().filter(|(_, own)| *own == unit);
        keys.extend(aliases.map(|(alias, _)| alias.clone()));
        let all = || keys.iter().filter_map(|key| self.settings.get(key));
        let mut after: Vec<String> = all()
            .flat_map(|it| &it.after)
            .map(|name| self.own_name(&expand(name, unit)).to_owned())
            .collect();
        let earlier = keys.iter().filter_map(|key| self.after.get(key));
        after.extend(earlier.flatten().map(|name| name.to_owned()));
        // A target is ordered after what it wants, unless one of them has no default dependencies or is ordered
        // otherwise.
        if unit.ends_with(".target") && !all().any(|it| it.has_no_defaults) {
            let wanted = all()
                .flat_map(|it| &it.wants)
                .map(|name| self.own_name(name));
            let waits = |name: &&str| {
                let own = self.settings.get(*name);
                !own.is_some_and(|it| it.has_no_defaults || it.after.iter().any(|it| it == unit))
            };
            after.extend(wanted.filter(waits).map(str::to_owned));
        }
        after
    }
}

/// The names whose settings apply to a unit: its own, its template's, those of its prefixes (`app-.service.d`), and its
/// type's (`service.d`).
fn keys(unit: &str, template: &str) -> Vec<String> {
    let mut keys = vec![unit.to_owned()];
    if template != unit {
        keys.push(template.to_owned());
    }
    if let Some((name, kind)) = stem(template) {
        let dashes = name.match_indices('-').map(|(at, _)| at);
        keys.extend(dashes.map(|at| format!("{}-.{kind}", &name[..at])));
        keys.push(kind.to_owned());
    }
    keys
}

/// Expands the specifiers that are usual in unit names; a name with others matches no unit.
fn expand(name: &str, unit: &str) -> String {
    if !name.contains('%') {
        return name.to_owned();
    }
    let (whole, _) = stem(unit).unwrap_or((unit, ""));
    let (prefix, instance) = whole.split_once('@').unwrap_or((whole, ""));
    let of = [
        ("%i", instance),
        ("%I", instance),
        ("%p", prefix),
        ("%P", prefix),
        ("%j", prefix.rsplit('-').next().unwrap_or(prefix)),
        ("%n", unit),
        ("%N", whole),
    ];
    of.iter()
        .fold(name.to_owned(), |name, (from, to)| name.replace(from, to))
}

fn entries(directory: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .collect()
}

/// The text of a regular file; anything that could block is ignored.
fn text(path: &Path) -> Option<String> {
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)
        .ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(LIMIT).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Adds the settings in the `[Unit]` section of a file; see systemd.syntax(7).
fn parse(text: &str, settings: &mut Settings) {
    let mut is_unit = false;
    let mut whole = String::new();
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with(['#', ';']) || (line.is_empty() && whole.is_empty()) {
            continue;
        }
        if let Some(first) = line.strip_suffix('\\') {
            whole += first;
            whole.push(' ');
            continue;
        }
        let line = std::mem::take(&mut whole) + line;
        if line.starts_with('[') {
            is_unit = line == "[Unit]";
            continue;
        }
        let Some((key, value)) = line.split_once('=').filter(|_| is_unit) else {
            continue;
        };
        let names = || {
            let names = value.split_whitespace();
            names.map(|name| name.trim_matches(['"', '\'']).to_owned())
        };
        match key.trim() {
            "After" => settings.after.extend(names()),
            "Before" => settings.before.extend(names()),
            "Wants" | "Requires" | "Requisite" | "BindsTo" | "Upholds" => {
                settings.wants.extend(names());
            }
            "DefaultDependencies" => {
                settings.has_no_defaults =
                    matches!(value.trim(), "no" | "false" | "off" | "0" | "n" | "f");
            }
            _ => {}
        }
    }
}
