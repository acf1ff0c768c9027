//! Shows a run on a terminal, or as plain lines in a pipe.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use crate::model::event::{Event, EventKind, State};
use crate::report::dispatch::{Reporter, Update};
use crate::sys::terminal::Capabilities;
use crate::text::elapsed;
use crate::text::sanitize::{columns, fit, padding, plain};
use crate::view::describe;
use crate::view::heartbeat::Reminder;
use crate::view::progress::{Progress, StepProgress};
use crate::view::style::Style;
use crate::view::timeline;

/// The pause between two writes: too short for a person to notice, and long enough to batch a thousand quick steps.
const WRITE_PAUSE: Duration = Duration::from_millis(100);

/// The most bytes that are kept for later.
const BACKLOG: usize = 32 << 10;

/// The widest that the column of names becomes.
const NAMES: usize = 32;

/// Shows a run: finished steps scroll by above a line for each running one; without a terminal, line after line.
pub struct Terminal {
    out: Box<dyn Write + Send>,
    output: Capabilities,
    reminder: Reminder,
    /// Complete lines that are not written yet.
    kept: String,
    /// The columns of each live line on the screen.
    drawn: Vec<usize>,
    /// When something was written last.
    written: Option<Duration>,
    /// Whether the reader is gone.
    deaf: bool,
}

impl Terminal {
    /// How often this reporter wants a tick.
    pub const EVERY: Duration = WRITE_PAUSE;

    /// A reporter that writes to `out`.
    pub fn new(out: Box<dyn Write + Send>, output: Capabilities) -> Terminal {
        Terminal {
            out,
            output,
            reminder: Reminder::default(),
            kept: String::new(),
            drawn: Vec::new(),
            written: None,
            deaf: false,
        }
    }

    fn event(&mut self, event: &Event, progress: &Progress) {
        let ended = matches!(event.kind, EventKind::RunFinished { .. });
        let style = style(&self.output, self.output.size().0);
        if ended {
            if !progress.steps.is_empty() {
                self.kept.push('\n');
            }
            self.kept.push_str(&timeline::draw(progress, true, &style));
        } else if let Some(line) = if self.output.live {
            watched(event, progress, &style)
        } else {
            piped(event, progress)
        } {
            self.kept.push_str(&line);
            self.kept.push('\n');
        }
        if ended || self.kept.len() > BACKLOG {
            self.write(progress, event.at);
        }
    }

    fn remind(&mut self, progress: &Progress, at: Duration) {
        if self.output.live {
            return;
        }
        for step in self.reminder.due(progress, at) {
            let line = stamped(at, &describe::waiting(&progress.steps[step], at));
            self.kept.push_str(&line);
            self.kept.push('\n');
        }
    }

    fn write(&mut self, progress: &Progress, at: Duration) {
        let is_busy = |error: io::Error| error.kind() == io::ErrorKind::WouldBlock;
        if progress.result.is_none() && self.out.flush().is_err_and(is_busy) {
            // The last write is not out yet: lines wait here, and live lines are drawn once.
            return;
        }
        self.written = Some(at);
        let mut text = std::mem::take(&mut self.kept);
        if self.output.live {
            text = self.redraw(&text, progress, at);
        }
        if self.deaf || text.is_empty() {
            return;
        }
        let written = self.out.write_all(text.as_bytes());
        let written = written.and_then(|()| self.out.flush());
        // The run goes on without the reader.
        self.deaf = written.is_err_and(|error| !is_busy(error));
    }

    /// Writes `lines` over the live lines, and the live lines below them.
    fn redraw(&mut self, lines: &str, progress: &Progress, at: Duration) -> String {
        let (width, rows) = self.output.size();
        let live: Vec<String> = match progress.result {
            None => live(progress, at, width, rows, &self.output),
            Some(_) => Vec::new(),
        };
        // A window that has become narrower has wrapped the lines on the screen.
        let above: usize = (self.drawn.iter())
            .map(|columns| columns.div_ceil(width).max(1))
            .sum();
        let mut text = String::new();
        if above > 0 {
            // Writing to a string cannot fail.
            let _ = write!(text, "\r\x1b[{above}A\x1b[J");
        }
        text.push_str(lines);
        let style = style(&self.output, width);
        for line in &live {
            text.push_str(&style.paint(State::Running, line));
            text.push('\n');
        }
        self.drawn = live.iter().map(|line| columns(line)).collect();
        text
    }
}

impl Reporter for Terminal {
    fn report(&mut self, update: Update<'_>, progress: &Progress) {
        match update {
            Update::Event(event) => self.event(event, progress),
            Update::Tick(at) => {
                self.remind(progress, at);
                self.write(progress, at);
            }
            Update::Idle => {
                let now = progress.at;
                if self.written.is_none_or(|last| now >= last + WRITE_PAUSE) {
                    self.write(progress, now);
                }
            }
        }
    }
}

fn style(output: &Capabilities, width: usize) -> Style {
    Style {
        width,
        unicode: output.unicode,
        colour: output.colour,
    }
}

/// The line that scrolls by on a terminal. What a live line shows is not repeated.
fn watched(event: &Event, progress: &Progress, style: &Style) -> Option<String> {
    let step = |step: &usize| progress.steps.get(*step);
    Some(match &event.kind {
        EventKind::StepStarted { .. } | EventKind::AttemptFailed { .. } => return None,
        EventKind::StepFinished { step: index, .. } => {
            let step = step(index)?;
            let ending = describe::ending(step);
            format!(
                "{} {}  {}",
                style.paint(step.state, style.marker(step.state)),
                plain(&step.name),
                plain(&ending)
            )
        }
        EventKind::Warning { message } => {
            let text = format!("warning: {message}");
            style.paint(State::Cancelled, &plain(&text))
        }
        _ => plain(&describe::of(event, progress)?).into_owned(),
    })
}

/// The line for output that is not a terminal.
fn piped(event: &Event, progress: &Progress) -> Option<String> {
    let sentence = describe::of(event, progress)?;
    Some(match &event.kind {
        EventKind::Warning { .. } => stamped(event.at, &format!("warning: {sentence}")),
        _ => stamped(event.at, &sentence),
    })
}

fn stamped(at: Duration, sentence: &str) -> String {
    format!("[{:>7.3}] {}", at.as_secs_f64(), plain(sentence))
}

/// A line for each running step, as many as there is room for.
fn live(
    progress: &Progress,
    at: Duration,
    width: usize,
    rows: usize,
    output: &Capabilities,
) -> Vec<String> {
    let dots = style(output, width).dots();
    // The last column stays free, since terminals differ in what they do there; and one row for the cursor, one for
    // what scrolls by.
    let (width, room) = (width.saturating_sub(1), rows.saturating_sub(2).max(1));
    let running: Vec<&StepProgress> = progress.running().map(|(_, step)| step).collect();
    let shown = if running.len() > room {
        room - 1
    } else {
        running.len()
    };
    let names = (running[..shown].iter())
        .map(|step| columns(&plain(&step.name)))
        .max()
        .unwrap_or_default()
        .min(NAMES);
    let mut lines: Vec<String> = (running[..shown].iter())
        .map(|step| fit(&live_line(step, at, names, dots), width, dots).into_owned())
        .collect();
    if shown < running.len() {
        let more = format!("  {dots} and {} more", running.len() - shown);
        lines.push(fit(&more, width, dots).into_owned());
    }
    lines
}

fn live_line(step: &StepProgress, at: Duration, names: usize, dots: &str) -> String {
    let name = plain(&step.name);
    let name = fit(&name, names, dots);
    let ran = at.saturating_sub(step.started.unwrap_or_default());
    let left = step.deadline.unwrap_or_default().saturating_sub(at);
    let mut line = format!(
        "  {name}{}  {:>6}  {:>6} left",
        padding(&name, names),
        elapsed::tenths(ran),
        elapsed::tenths(left)
    );
    if step.attempts > 1 {
        line += &format!("  attempt {}", step.attempts);
    }
    let what = match (&step.waiting, &step.failure) {
        (Some(what), _) => format!("  waiting for {what}"),
        (None, Some(failure)) => format!("  {}: {failure}", failure.kind),
        (None, None) => String::new(),
    };
    line + &plain(&what)
}
