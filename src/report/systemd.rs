//! Tells systemd the run's status line and how much time it still needs.

use std::time::Duration;

use crate::model::event::EventKind;
use crate::plan::settings::CLOSING;
use crate::report::dispatch::{Reporter, Update};
use crate::sys::notify;
use crate::text::elapsed;
use crate::text::sanitize::plain;
use crate::view::describe::left;
use crate::view::progress::Progress;

/// How often the time is extended.
const EXTEND_EVERY: Duration = Duration::from_secs(5);

/// How many changes are sent between two ticks. systemd emits a signal for each; a thousand quick steps must not keep
/// it from its own work.
const BURST: u32 = 5;

/// Sends a run's status to systemd.
#[derive(Debug, Default)]
pub struct Systemd {
    told: String,
    burst: u32,
    extended: Option<Duration>,
}

impl Systemd {
    /// How often this reporter wants a tick.
    pub const EVERY: Duration = Duration::from_secs(1);

    /// A reporter, if a service manager listens.
    pub fn new() -> Option<Systemd> {
        notify::is_heard().then(Systemd::default)
    }

    fn tell(&mut self, progress: &Progress, at: Duration) {
        let status = status(progress, at).filter(|status| *status != self.told);
        let due = self.extended.is_none_or(|last| at >= last + EXTEND_EVERY);
        let extend = (due && progress.result.is_none())
            .then(|| progress.budget.saturating_sub(at) + CLOSING);
        if !notify::send(status.as_deref(), extend) {
            // systemd is busy; the next update sends it again.
            return;
        }
        if extend.is_some() {
            self.extended = Some(at);
        }
        if let Some(status) = status {
            self.told = status;
            self.burst += 1;
        }
    }
}

impl Reporter for Systemd {
    fn report(&mut self, update: Update<'_>, progress: &Progress) {
        match update {
            Update::Event(event) => {
                if let EventKind::RunStarted { .. } | EventKind::RunFinished { .. } = event.kind {
                    self.tell(progress, event.at);
                }
            }
            Update::Tick(at) => {
                self.burst = 0;
                self.tell(progress, at);
            }
            Update::Idle if self.burst < BURST => self.tell(progress, progress.at),
            Update::Idle => {}
        }
    }
}

/// What the run does now, or how it ended; `None` between two steps, where there is nothing new.
fn status(progress: &Progress, at: Duration) -> Option<String> {
    let total = progress.steps.len();
    let text = if let Some(result) = progress.result {
        let reason = progress.reason.as_deref();
        format!(
            "{} after {}{}{}",
            result.as_str(),
            elapsed::short(progress.at),
            if reason.is_some() { ": " } else { "" },
            reason.unwrap_or_default()
        )
    } else if let Some((index, step)) = progress.running().next() {
        let what = match (&step.waiting, step.attempts) {
            (Some(what), _) => format!("waiting for {what}, "),
            (None, 0 | 1) => String::new(),
            (None, attempt) => format!("attempt {attempt}, "),
        };
        let others = match progress.running().count() - 1 {
            0 => String::new(),
            others => format!(" (+{others} more)"),
        };
        let number = index + 1;
        let left = left(step, at);
        format!("{number}/{total} {}: {what}{left}{others}", step.name)
    } else if progress.ended() == 0 {
        format!("0/{total} starting, trigger {}", progress.trigger)
    } else {
        return None;
    };
    Some(plain(&text).into_owned())
}
