//! `[farewell]`: the settings of the whole sequence.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::credential_hosts::{self, Hosts};
use crate::config::document::Value;
use crate::config::facts::Facts;
use crate::config::fragments::Fragment;
use crate::config::problem::Problem;
use crate::config::section::{Reading, Section};
use crate::model::trigger::Trigger;
use crate::text::duration;

/// The default budget.
pub const BUDGET: Duration = Duration::from_secs(90);

/// The longest budget of a machine that goes down: systemd itself ends every shutdown after 30 minutes (systemd's
/// poweroff.target, JobTimeoutSec=), and other units need their time too.
pub const LONGEST: Duration = Duration::from_secs(25 * 60);

/// The time beyond the budget in which a run closes the record and the journal, and exits.
pub const CLOSING: Duration = Duration::from_secs(5);

/// What a restart of farewell.service, or a package upgrade, does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// No farewell.
    Skip,
    /// A farewell with trigger stop.
    Run,
}

/// The values of `[farewell]`. Its keys:
///
/// - `budget` (duration, or a table of them by trigger; default "90s"): the whole sequence ends within this, and sets
///   systemd's stop timeout; at most 25m, except for the trigger `stop`; in a table, `default` applies to every trigger
///   that it does not name
/// - `reserve` (duration; default a tenth of the budget where there are `always` steps, else 0s): the part of the
///   budget that is kept for `always` steps and the release of locks; less than any budget
/// - `credential-hosts` (list of hosts; default none): the hosts that `${file:…}` and `${json:…}` may provide in the
///   URL of a request with credentials: names, addresses, or `.example` for every name below that domain
/// - `restart` ("skip" or "run"; default "skip"): what `systemctl restart farewell`, or an upgrade of its package,
///   does: `"skip"`: no farewell; `"run"`: a farewell with the trigger `stop`
#[derive(Clone, Debug)]
pub struct Settings {
    /// By trigger (as `default` or a trigger's word).
    budgets: Vec<(&'static str, Duration)>,
    reserve: Option<Duration>,
    /// The hosts to which credentials may be sent if the host comes from a file.
    pub credential_hosts: Hosts,
    /// What a restart does.
    pub restart: Restart,
    /// Where `budget` and `reserve` stand, for problems.
    budget_at: (PathBuf, usize),
    reserve_at: (PathBuf, usize),
}

impl Settings {
    /// Reads `[farewell]` of every fragment; a key in a later one wins. On a build machine (no `facts`) a value with a fact
    /// of the later machine in it is not known, and its default stands in.
    pub fn read(
        fragments: &[&Fragment],
        facts: Option<&Facts>,
        problems: &mut Vec<Problem>,
    ) -> Settings {
        let somewhere = (
            fragments
                .first()
                .map(|it| it.path.clone())
                .unwrap_or_default(),
            0,
        );
        let mut settings = Settings {
            budgets: Vec::new(),
            reserve: None,
            credential_hosts: Hosts::default(),
            restart: Restart::Skip,
            budget_at: somewhere.clone(),
            reserve_at: somewhere,
        };
        for fragment in fragments {
            let reading = Reading::new(&fragment.path, None, facts);
            match fragment.table.get("farewell") {
                Some((_, line, spanned)) => match &spanned.value {
                    Value::Table(table) => {
                        settings.apply(fragment, &Section::new(&reading, table, *line))
                    }
                    other => reading.problem(
                        *line,
                        Some("farewell".into()),
                        format!("expected a table, found {}", other.type_name()),
                    ),
                },
                None => continue,
            }
            problems.extend(reading.finish().0);
        }
        settings
    }

    fn apply(&mut self, fragment: &Fragment, section: &Section<'_>) {
        let names: Vec<&'static str> = std::iter::once("default")
            .chain(Trigger::ALL.map(Trigger::as_str))
            .collect();
        if let Some(budgets) = section.durations("budget", &names) {
            self.budget_at = (fragment.path.clone(), section.line_of("budget"));
            for (name, line, budget) in &budgets {
                let key = if budgets.len() == 1 && *name == "default" {
                    "budget".into()
                } else {
                    format!("budget.{name}")
                };
                if budget.is_zero() {
                    section.problem_at(*line, &key, "must be longer than 0s");
                }
                if *budget > LONGEST && *name != "stop" {
                    let longest = duration::print(LONGEST);
                    section.problem_at(
                        *line,
                        &key,
                        format!(
                            "{} is more than the {longest} that a machine that goes down has (systemd ends a shutdown \
                             after 30m); only `stop` may take longer",
                            duration::print(*budget)
                        ),
                    );
                }
            }
            self.budgets = budgets
                .into_iter()
                .map(|(name, _, budget)| (name, budget))
                .collect();
        }
        if let Some(reserve) = section.duration("reserve") {
            self.reserve = Some(reserve);
            self.reserve_at = (fragment.path.clone(), section.line_of("reserve"));
        }
        if let Some(hosts) = section.words("credential-hosts") {
            let wrong = hosts
                .iter()
                .filter_map(|it| credential_hosts::host(it).err());
            wrong.for_each(|message| section.problem("credential-hosts", message));
            self.credential_hosts = Hosts::new(hosts);
        } else if section.has("credential-hosts") {
            self.credential_hosts = Hosts::unknown();
        }
        let choices = [("skip", Restart::Skip), ("run", Restart::Run)];
        if let Some(restart) = section.choice("restart", "value", &choices) {
            self.restart = restart;
        }
        section.finish();
    }

    /// The settings of a sequence that no file configures, with `budget` on every trigger.
    pub fn within(budget: Duration) -> Settings {
        Settings {
            budgets: vec![("default", budget)],
            reserve: None,
            credential_hosts: Hosts::default(),
            restart: Restart::Skip,
            budget_at: Default::default(),
            reserve_at: Default::default(),
        }
    }

    /// The budget of the whole sequence.
    pub fn budget(&self, trigger: Trigger) -> Duration {
        let named = |name: &str| {
            self.budgets
                .iter()
                .find(|(it, _)| *it == name)
                .map(|(_, budget)| *budget)
        };
        named(trigger.as_str())
            .or_else(|| named("default"))
            .unwrap_or(BUDGET)
    }

    /// The part of the budget that is kept for `always` steps.
    pub fn reserve(&self, trigger: Trigger, has_always: bool) -> Duration {
        let tenth = if has_always {
            self.budget(trigger) / 10
        } else {
            Duration::ZERO
        };
        self.reserve.unwrap_or(tenth)
    }

    /// A trigger whose budget is not larger than the reserve, if there is one.
    pub fn overdrawn(&self) -> Option<(Trigger, Duration)> {
        let reserve = self.reserve?;
        Trigger::ALL
            .into_iter()
            .find(|trigger| reserve >= self.budget(*trigger))
            .map(|trigger| (trigger, reserve))
    }

    /// File and line of `budget`.
    pub fn budget_at(&self) -> &(PathBuf, usize) {
        &self.budget_at
    }

    /// File and line of `reserve`.
    pub fn reserve_at(&self) -> &(PathBuf, usize) {
        &self.reserve_at
    }
}
