//! `farewell rehearse`: checks everything that a run would need, and changes nothing.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use log::LevelFilter;
use serde_json::{Value, json};

use super::{complain, count, facts, print, source};
use crate::app::cli::{Options, exit};
use crate::config::facts::Facts;
use crate::logging;
use crate::model::deadline::{Deadline, Reason};
use crate::model::event::State;
use crate::model::secrets::mask;
use crate::model::trigger::Trigger;
use crate::plan::load::{LoadedConfig, Plan};
use crate::plan::step::Step;
use crate::preflight::{self, Inspection, resolved_peers};
use crate::run::rehearsal::{self, Answer, Verdict};
use crate::sys::terminal::Capabilities;
use crate::text::sanitize::{columns, padding, plain};
use crate::view::style::Style;

/// The time limit for inspecting this machine, after that of the steps.
const MACHINE: Duration = Duration::from_secs(15);

/// The time limit for sending the last lines to the journal.
const LOG_CLOSING: Duration = Duration::from_millis(500);

/// Rehearses every step, then inspects this machine, and prints what would fail and what deserves attention. With
/// `is_strict` a warning fails, too.
pub fn rehearse(options: &Options, is_strict: bool, as_json: bool) -> u8 {
    logging::install(LevelFilter::Warn);
    let facts = Arc::new(facts(options, Trigger::Stop, "rehearse"));
    let loaded = LoadedConfig::through(&source(options), Some(&facts));
    loaded
        .problems
        .iter()
        .for_each(|problem| complain(&problem.to_string()));
    let Some(plan) = loaded.plan.map(Arc::new) else {
        return exit::CONFIG;
    };
    let sheet = Sheet::of(&plan);
    let tell = |index: usize, verdicts: &[Verdict]| {
        if !as_json {
            print(&sheet.lines(&plan.steps[index], verdicts));
        }
    };
    let answers = match rehearsal::rehearse(&plan, &facts, super::http(super::kept(options)), tell)
    {
        Ok(answers) => answers,
        Err(error) => {
            complain(&format!("farewell rehearse: nothing was asked: {error}"));
            return exit::FAILED;
        }
    };
    let inspected = inspect(options, &plan, &facts);
    let would_fail = |it: &&Verdict| matches!(it.answer, Answer::Failed(_));
    let failed = answers.iter().flatten().filter(would_fail).count();
    let findings = inspected.as_ref().map_or(0, |it| it.findings.len());
    let warnings = answers.iter().flatten();
    let warnings = warnings.map(|it| it.answer.warnings().len()).sum::<usize>();
    let is_good = failed + findings == 0 && (warnings == 0 || !is_strict);
    if as_json {
        let document = document(&plan, &answers, &inspected, is_good);
        print(&format!("{document:#}\n"));
    } else {
        print(&sheet.machine(&inspected));
        let warnings = match warnings {
            0 => String::new(),
            count_of if is_strict => format!("; {} (--strict: fails)", count(count_of, "warning")),
            count_of => format!("; {}", count(count_of, "warning")),
        };
        print(&headline(&answers, findings, &warnings));
    }
    logging::flush(LOG_CLOSING);
    if is_good { exit::OK } else { exit::FAILED }
}

fn inspect(options: &Options, plan: &Plan, facts: &Facts) -> Result<Inspection, String> {
    if options.config.is_some() {
        let reason = "farewell.service runs the installed configuration, and not that of --config";
        return Err(reason.to_owned());
    }
    let deadline = Deadline::after(MACHINE, Reason::Attempt);
    let peers = resolved_peers::peers(plan, facts, deadline);
    preflight::inspect(plan, facts, &peers, deadline)
}

/// The layout of the lines.
struct Sheet {
    style: Style,
    /// The widths of the columns.
    names: usize,
    kinds: usize,
}

impl Sheet {
    fn of(plan: &Plan) -> Sheet {
        let look = Capabilities::of(&io::stdout());
        let (width, _) = look.size();
        let widest = |width: fn(&Step) -> usize| plan.steps.iter().map(width).max();
        Sheet {
            style: Style {
                width,
                unicode: look.unicode,
                colour: look.colour,
            },
            names: widest(|step| columns(&step.name)).unwrap_or_default(),
            kinds: widest(|step| columns(step.kind)).unwrap_or_default(),
        }
    }

    /// A line for each answer of a step, with its triggers where there are several.
    fn lines(&self, step: &Step, verdicts: &[Verdict]) -> String {
        let on = |verdict: &Verdict| match verdicts {
            [_] => String::new(),
            _ => format!("on {}: ", words(&verdict.triggers).join(", ")),
        };
        let lines = verdicts
            .iter()
            .map(|it| self.line(step, &on(it), &it.answer));
        lines.collect()
    }

    fn line(&self, step: &Step, on: &str, answer: &Answer) -> String {
        let (state, sentence) = match answer {
            Answer::Ready { said, .. } => (State::Done, said.clone()),
            Answer::Skipped(reason) => (State::Skipped, format!("would be skipped: {reason}")),
            Answer::Failed(failure) => {
                let sentence = format!("would fail: {}: {failure}", failure.kind);
                (State::Failed, sentence)
            }
        };
        let name = format!("{}{}", step.name, padding(&step.name, self.names));
        let kind = format!("{}{}", step.kind, padding(step.kind, self.kinds));
        let mut text = self.marked(state, &format!("{name}  {kind}  {on}{sentence}"));
        for warning in answer.warnings() {
            text += &self.warning(&format!("{name}  warning: {on}{warning}"));
        }
        text
    }

    fn warning(&self, text: &str) -> String {
        let mark = self.style.paint(State::Cancelled, "!");
        format!("{mark} {}\n", plain(&mask(text)))
    }

    fn machine(&self, inspected: &Result<Inspection, String>) -> String {
        let inspection = match inspected {
            Ok(inspection) => inspection,
            Err(reason) => {
                let line = format!("this machine was not inspected: {reason}");
                return self.marked(State::Skipped, &line);
            }
        };
        let mut text = String::new();
        for finding in &inspection.findings {
            text += &self.marked(State::Failed, &finding.message);
        }
        if inspection.findings.is_empty() {
            text += &self.marked(State::Done, &inspection.summary);
        }
        for remark in &inspection.remarks {
            text += &self.marked(State::Skipped, remark);
        }
        text
    }

    fn marked(&self, state: State, text: &str) -> String {
        let mark = self.style.paint(state, self.style.marker(state));
        format!("{mark} {}\n", plain(&mask(text)))
    }
}

/// `farewell rehearse: 5 steps: 3 ready, 1 would be skipped, 1 would fail; 1 finding on this machine; 2 warnings`
fn headline(answers: &[Vec<Verdict>], findings: usize, warnings: &str) -> String {
    if answers.is_empty() {
        let text = "the sequence is empty: farewell run would do nothing";
        return format!("farewell rehearse: {text}\n");
    }
    let worst: Vec<&Answer> = answers.iter().filter_map(|it| worst(it)).collect();
    let number = |is_one: fn(&Answer) -> bool| worst.iter().filter(|it| is_one(it)).count();
    let parts = [
        (number(|it| matches!(it, Answer::Ready { .. })), "ready"),
        (
            number(|it| matches!(it, Answer::Skipped(_))),
            "would be skipped",
        ),
        (number(|it| matches!(it, Answer::Failed(_))), "would fail"),
    ];
    let parts: Vec<String> = (parts.into_iter())
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{number} {what}"))
        .collect();
    let findings = match findings {
        0 => String::new(),
        findings => format!("; {} on this machine", count(findings, "finding")),
    };
    let steps = count(answers.len(), "step");
    format!(
        "farewell rehearse: {steps}: {}{findings}{warnings}\n",
        parts.join(", ")
    )
}

/// The answer of a step that decides: a failure, else that it is ready.
fn worst(verdicts: &[Verdict]) -> Option<&Answer> {
    let rank = |answer: &&Answer| match answer {
        Answer::Failed(_) => 0,
        Answer::Ready { .. } => 1,
        Answer::Skipped(_) => 2,
    };
    verdicts.iter().map(|it| &it.answer).min_by_key(rank)
}

fn words(triggers: &[Trigger]) -> Vec<&'static str> {
    triggers.iter().map(|it| it.as_str()).collect()
}

fn document(
    plan: &Plan,
    answers: &[Vec<Verdict>],
    inspected: &Result<Inspection, String>,
    is_good: bool,
) -> Value {
    let shown = |text: &str| Value::from(mask(text));
    let step = |step: &Step, verdict: &Verdict, is_one_of_several: bool| {
        let answer = &verdict.answer;
        let (state, key, value) = match answer {
            Answer::Ready { said, .. } => ("ready", "answer", shown(said)),
            Answer::Skipped(reason) => ("skipped", "reason", shown(reason)),
            Answer::Failed(failure) => {
                let message = shown(&failure.to_string());
                let error = json!({"word": failure.kind.as_str(), "message": message});
                ("failed", "error", error)
            }
        };
        let mut told = json!({"name": step.name, "kind": step.kind, "state": state, key: value});
        let warnings = answer.warnings().iter().map(|it| shown(it));
        let warnings: Vec<Value> = warnings.collect();
        if !warnings.is_empty() {
            told["warnings"] = warnings.into();
        }
        if is_one_of_several {
            told["triggers"] = words(&verdict.triggers).into();
        }
        told
    };
    let each = plan.steps.iter().zip(answers).flat_map(|(of, verdicts)| {
        let told = verdicts.iter().map(move |it| (of, it, verdicts.len() > 1));
        told.map(|(of, verdict, is_one_of_several)| step(of, verdict, is_one_of_several))
    });
    let steps: Vec<Value> = each.collect();
    let machine = match inspected {
        Err(reason) => json!({"state": "skipped", "reason": shown(reason)}),
        Ok(inspection) => {
            let is_good = inspection.findings.is_empty();
            let findings = inspection.findings.iter().map(|it| shown(&it.message));
            let remarks = inspection.remarks.iter().map(|it| shown(it));
            json!({
                "state": if is_good { "ready" } else { "failed" },
                "summary": is_good.then(|| shown(&inspection.summary)),
                "findings": findings.collect::<Vec<_>>(),
                "remarks": remarks.collect::<Vec<_>>(),
            })
        }
    };
    let result = if is_good { "ok" } else { "failed" };
    json!({"result": result, "steps": steps, "machine": machine})
}
