//! `[[step]]`: the steps as the configuration has them, and the keys of every one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::step::{OnFailure, Step, attempt_timeout};
use crate::config::credential_hosts::Hosts;
use crate::config::document::{Spanned, Table, Value};
use crate::config::facts::Facts;
use crate::config::fragments::Fragment;
use crate::config::problem::Problem;
use crate::config::section::{self, CapturedUse, Check, Field, Reading, Secrecy, Section};
use crate::model::trigger::Trigger;
use crate::step::{AttemptPolicy, TIMEOUT};
use crate::steps::KINDS;

/// A step as it was read, before its place among the others is known.
pub struct Draft {
    /// Its name, where it has a usable one.
    pub name: String,
    /// The step; `None` when its own keys are wrong.
    pub step: Option<Step>,
    /// The names in `after`; `None` where the key is absent.
    pub after: Option<Vec<String>>,
    /// The names in `before`.
    pub before: Vec<String>,
    /// What other steps are to capture for it.
    pub captured: Vec<CapturedUse>,
    /// Its file.
    pub file: PathBuf,
    /// The lines of `name`, of `after` and of `before`.
    pub lines: [usize; 3],
}

/// The steps of all fragments.
#[derive(Default)]
pub struct Drafts {
    /// In the order of the text: file by file; a step that replaces another one takes its position.
    pub steps: Vec<Draft>,
    /// Steps that share their name with an earlier one of the same file: not part of the plan, but what else is wrong
    /// with them is reported as well.
    pub duplicates: Vec<Draft>,
    /// Checks that need the facts, with their file and step.
    pub checks: Vec<(PathBuf, Option<String>, Check)>,
    /// The indices of the steps by their names.
    places: HashMap<String, usize>,
}

impl Drafts {
    /// Reads every step of every fragment. `hosts` are those to which facts of files may lead credentials.
    pub fn read(
        fragments: &[&Fragment],
        facts: Option<&Facts>,
        hosts: &Hosts,
        problems: &mut Vec<Problem>,
    ) -> Drafts {
        let mut drafts = Drafts::default();
        for fragment in fragments {
            let first = drafts.steps.len();
            let tables = tables(fragment, problems);
            for (number, (line, table)) in tables.into_iter().enumerate() {
                let label = label(table, number + 1);
                let reading = Reading::new(&fragment.path, Some(label.clone()), facts)
                    .with_credential_hosts(hosts);
                let draft = draft(&Section::new(&reading, table, line), &fragment.path);
                if let Some(mut draft) = draft {
                    draft.captured = reading.captured();
                    if let Some(step) = &mut draft.step {
                        let uses = draft.captured.iter().map(|it| it.fact.to_string());
                        step.uses = uses.collect();
                        step.uses.dedup();
                    }
                    drafts.place(draft, first, &reading, problems);
                }
                let (found, checks) = reading.finish();
                problems.extend(found);
                let belongs = |check| (fragment.path.clone(), Some(label.clone()), check);
                drafts.checks.extend(checks.into_iter().map(belongs));
            }
        }
        drafts
    }

    /// `first` is the index of this file's first step. The problems of a step that is replaced no longer matter.
    fn place(
        &mut self,
        draft: Draft,
        first: usize,
        reading: &Reading<'_>,
        problems: &mut Vec<Problem>,
    ) {
        match self.places.get(&draft.name).copied() {
            None => {
                self.places.insert(draft.name.clone(), self.steps.len());
                self.steps.push(draft);
            }
            Some(at) if at < first && self.steps[at].file != draft.file => {
                let replaced = std::mem::replace(&mut self.steps[at], draft);
                let label = Some(quoted(&replaced.name));
                self.checks
                    .retain(|(file, step, _)| *file != replaced.file || *step != label);
                problems.retain(|it| it.file != replaced.file || it.step != label);
            }
            Some(at) => {
                let other = self.steps[at].lines[0];
                let message = format!("another step has this name, in line {other}");
                reading.problem(draft.lines[0], Some("name".into()), message);
                self.duplicates.push(draft);
            }
        }
    }
}

/// The label of a step in problems: its name if it can be read, else its number in the file.
fn label(table: &Table, number: usize) -> String {
    match table.get("name") {
        Some((
            _,
            _,
            Spanned {
                value: Value::Text(name),
                ..
            },
        )) => quoted(name),
        _ => number.to_string(),
    }
}

fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

/// The `[[step]]` tables of a file with their lines. Other top-level tables are reported as problems.
fn tables<'a>(fragment: &'a Fragment, problems: &mut Vec<Problem>) -> Vec<(usize, &'a Table)> {
    let reading = Reading::new(&fragment.path, None, None);
    let top = Section::new(&reading, &fragment.table, 0);
    top.know("farewell");
    top.know("step");
    top.finish();
    let mut tables = Vec::new();
    if let Some((_, line, spanned)) = fragment.table.get("step") {
        let items = match &spanned.value {
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(spanned),
        };
        for item in items {
            match &item.value {
                Value::Table(table)
                    if items.len() > 1 || matches!(spanned.value, Value::List(_)) =>
                {
                    tables.push((item.line, table));
                }
                _ => reading.problem(
                    *line,
                    Some("step".into()),
                    "a step is written as [[step]], in double brackets",
                ),
            }
        }
    }
    problems.extend(reading.finish().0);
    tables
}

fn draft(section: &Section<'_>, file: &Path) -> Option<Draft> {
    let name = section.required("name", |section, key| section.word(key));
    if let Some(name) = &name {
        check_name(section, name);
    }
    let kinds: Vec<_> = KINDS.iter().map(|kind| (kind.name, kind)).collect();
    let common = Common::read(section);
    let kind = section.required("kind", |section, key| section.choice(key, "kind", &kinds));
    // Without its kind the valid keys are not known, so they are not checked.
    let spec = kind.and_then(|kind| (kind.read)(section));
    let step = name
        .clone()
        .zip(kind)
        .zip(spec)
        .map(|((name, kind), spec)| {
            let attempts = common
                .attempts
                .or((spec.policy == AttemptPolicy::Once).then_some(1));
            // For a wait it is the limit of each check.
            let whole = spec.policy != AttemptPolicy::Polled && attempts == Some(1);
            let default = if whole {
                common.timeout
            } else {
                attempt_timeout(common.timeout)
            };
            Step {
                attempt_timeout: common.attempt_timeout.unwrap_or(default),
                attempts,
                on_failure: common.on_failure,
                when: common.when,
                if_path: common.if_path,
                if_unit: common.if_unit,
                always: common.always,
                needs: common.needs,
                policy: spec.policy,
                grace: spec.grace,
                dependencies: spec.dependencies,
                captures: spec.captures,
                is_undone: kind.undo.is_some(),
                may_stop: spec.may_stop,
                held: spec.held,
                is_permanent: spec.is_permanent,
                ..Step::new(name, kind.name, spec.action.into(), common.timeout)
            }
        });
    Some(Draft {
        name: name?,
        step,
        after: common.after,
        before: common.before,
        captured: Vec::new(),
        file: file.to_owned(),
        lines: [
            section.line_of("name"),
            section.line_of("after"),
            section.line_of("before"),
        ],
    })
}

/// Names appear in journal fields, in records and on command lines, so they are plain words.
fn check_name(section: &Section<'_>, name: &str) {
    let plain = |character: char| character.is_alphanumeric() || "-_.:@".contains(character);
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
        section.problem(
            "name",
            "a name is 1 to 64 letters, digits, `-`, `_`, `.`, `:` or `@`",
        );
    }
}

/// What every step has, whatever its kind. Its keys:
///
/// - `name` (name; required): unique; 1 to 64 letters, digits, `-`, `_`, `.`, `:` or `@`; a step with the name of one
///   in an earlier file replaces it whole and keeps its place
/// - `kind` (kind; required): what it does; determines its other keys
/// - `after` (list of names; default the step above it): the steps that must have ended before it begins; `[]`: begins
///   at once, in parallel with others
/// - `before` (list of names; default none): the steps that begin only when it has ended; a step with `before` and
///   without `after` begins at once
/// - `timeout` (duration; default "30s"): the limit of the whole step; never more than the budget leaves
/// - `attempt-timeout` (duration; default a third of `timeout`, at least 2s, or all of it with `attempts = 1`): the
///   limit of one attempt or request, and of each check of a step that waits; at most `timeout`; without it a request
///   of kind `http` with a body, and every POST and PATCH, is not repeated while the first one may still be in
///   progress: its connection has this time, and its answer the rest of `timeout`
/// - `attempts` (integer from 1 to 1000000; default as many as `timeout` allows): the maximum number of attempts, with
///   jittered pauses of up to 2s between them; the default for a command is 1; with 1 no request is sent twice, not
///   even if the connection is closed without an answer
/// - `on-failure` ("continue" or "stop"; default "continue"): what its failure does to other steps: `"continue"`:
///   nothing; `"stop"`: cancels those that have not begun, except `always` steps
/// - `when` (list of triggers; default all of them): the triggers that it runs on; on others it is skipped, and counts
///   as done for those after it
/// - `if-path` (path; default none): it runs only if this path exists; else it is skipped
/// - `if-unit` (unit; default none): it runs only if this systemd unit is loaded and not inactive; else it is skipped
/// - `always` (boolean; default false): it runs even after a stop, or when only the reserve is left
/// - `needs` (list of units; default none): units that must still run while it runs: farewell.service is ordered after
///   them
struct Common {
    after: Option<Vec<String>>,
    before: Vec<String>,
    timeout: Duration,
    attempt_timeout: Option<Duration>,
    attempts: Option<u32>,
    on_failure: OnFailure,
    when: Vec<Trigger>,
    if_path: Option<Field<PathBuf>>,
    if_unit: Option<Field<String>>,
    always: bool,
    needs: Vec<String>,
}

impl Common {
    fn read(section: &Section<'_>) -> Common {
        let positive = |key| {
            let duration = section.duration(key)?;
            if duration.is_zero() {
                section.problem(key, "must be longer than 0s");
            }
            Some(duration).filter(|duration| !duration.is_zero())
        };
        let timeout = positive("timeout");
        let triggers = Trigger::ALL.map(|trigger| (trigger.as_str(), trigger));
        let on_failure = [("continue", OnFailure::Continue), ("stop", OnFailure::Stop)];
        let common = Common {
            after: section.words("after"),
            before: section.words("before").unwrap_or_default(),
            timeout: timeout.unwrap_or(TIMEOUT),
            attempt_timeout: positive("attempt-timeout"),
            attempts: section
                .integer("attempts", 1..=1_000_000)
                .and_then(|it| u32::try_from(it).ok()),
            on_failure: section
                .choice("on-failure", "value", &on_failure)
                .unwrap_or(OnFailure::Continue),
            when: section
                .choices("when", "trigger", &triggers)
                .unwrap_or_else(|| Trigger::ALL.to_vec()),
            if_path: section.text("if-path", section::path, Secrecy::Public),
            if_unit: section.text("if-unit", section::unit_name, Secrecy::Public),
            always: section.boolean("always").unwrap_or(false),
            needs: section.words("needs").unwrap_or_default(),
        };
        let is_longer = |attempt| attempt > common.timeout;
        let is_timeout_sound = timeout.is_some() || !section.has("timeout");
        if is_timeout_sound && common.attempt_timeout.is_some_and(is_longer) {
            section.problem("attempt-timeout", "is longer than the step's timeout");
        }
        for problem in common
            .needs
            .iter()
            .filter_map(|need| section::unit_name(need).err())
        {
            section.problem("needs", problem);
        }
        common
    }
}
