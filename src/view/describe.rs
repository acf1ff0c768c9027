//! One sentence for each event, for logs and plain output.

use std::time::Duration;

use crate::model::event::{Event, EventKind, Purpose};
use crate::model::secrets::mask;
use crate::text::duration;
use crate::text::elapsed;
use crate::view::progress::{Progress, StepProgress};
use crate::view::timeline::headline;

/// The sentence for `event`, which `progress` includes; `None` for events that [`waiting`] reports later.
pub fn of(event: &Event, progress: &Progress) -> Option<String> {
    let name = |step: &usize| progress.steps.get(*step).map_or("", |step| &step.name);
    Some(match &event.kind {
        EventKind::RunStarted { steps, .. } if steps.is_empty() => {
            "the sequence is empty: nothing to do".to_owned()
        }
        EventKind::RunStarted {
            budget,
            steps,
            purpose,
            ..
        } => {
            let (run, trigger) = (&progress.run, progress.trigger);
            let what = match purpose {
                Purpose::Farewell => format!("run {run} begins: trigger {trigger}"),
                Purpose::Undo => format!("undo {run} begins"),
            };
            format!(
                "{what}, {} {}, budget {}",
                steps.len(),
                if steps.len() == 1 { "step" } else { "steps" },
                duration::print(*budget)
            )
        }
        EventKind::StepStarted { step, left } => format!(
            "step {} ({}): started, {} left",
            name(step),
            progress.steps.get(*step).map_or("", |step| &step.kind),
            elapsed::whole(*left)
        ),
        EventKind::AttemptFailed {
            step,
            attempt,
            failure,
            again,
        } => format!(
            "step {}: attempt {attempt} failed: {}: {failure}{}",
            name(step),
            failure.kind,
            match again.is_zero() {
                true => String::new(),
                false => format!("; again in {}", elapsed::short(*again)),
            }
        ),
        EventKind::Intended { mark, intent } => format!(
            "step {}: leaves {}, to be undone by `farewell start`",
            name(&mark.step),
            mask(&intent.subject)
        ),
        EventKind::Settled { .. } | EventKind::Waiting { .. } | EventKind::Copied { .. } => {
            return None;
        }
        EventKind::Noted { step, text } => format!("step {}: {text}", name(step)),
        EventKind::Output { step, line, .. } => format!("{} | {line}", name(step)),
        EventKind::StepFinished { step, .. } => {
            let step = progress.steps.get(*step)?;
            format!("step {}: {}", step.name, ending(step))
        }
        EventKind::Warning { message } => message.clone(),
        EventKind::RunFinished { .. } => headline(progress, true),
    })
}

/// How a step ended: "failed after 6 s (2 attempts): unreachable: http://x: connection refused".
pub fn ending(step: &StepProgress) -> String {
    let mut text = step.state.as_str().to_owned();
    if let Some(took) = step.took {
        text += &format!(" after {}", elapsed::short(took));
    }
    if step.attempts > 1 {
        text += &format!(" ({} attempts)", step.attempts);
    }
    if let Some(failure) = &step.failure {
        text += &format!(": {}: {failure}", failure.kind);
    }
    if let Some(reason) = &step.reason {
        text += &format!(": {reason}");
    }
    text
}

/// What a running step waits for, and how much time is left.
pub fn waiting(step: &StepProgress, at: Duration) -> String {
    let left = left(step, at);
    match &step.waiting {
        Some(what) => format!("step {} waits for {what}, {left}", step.name),
        None => format!("step {} still runs, {left}", step.name),
    }
}

/// The time left for a running step: "21 s left".
pub fn left(step: &StepProgress, at: Duration) -> String {
    let left = step.deadline.unwrap_or_default().saturating_sub(at);
    format!("{} left", elapsed::whole(left))
}
