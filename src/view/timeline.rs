//! Draws a run as text: its steps on a common time axis, what took the time, and what went wrong.

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::time::Duration;

use crate::model::event::Purpose;
use crate::text::duration;
use crate::text::elapsed;
use crate::text::sanitize::{columns, fit, padding, plain};
use crate::view::progress::{Progress, StepProgress};
use crate::view::style::Style;

/// Shorter bars are useless.
const SHORTEST_AXIS: usize = 10;

/// Draws `progress`, each line with its end. A run without a result is shown as running, or, when it is `over`, as cut
/// off.
pub fn draw(progress: &Progress, over: bool, style: &Style) -> String {
    let mut text = style.bold(&headline(progress, over));
    text.push('\n');
    let pace = pacemakers(progress);
    table(&mut text, progress, &pace, style);
    if !pace.is_empty() {
        let lengths = progress.steps.iter();
        let lengths = lengths.filter_map(|step| length(step, progress.at));
        let sum: Duration = lengths.sum();
        let _ = writeln!(
            text,
            "{} set the pace: {} in all, {} if one step at a time",
            style.pace(),
            elapsed::short(progress.at),
            elapsed::short(sum),
        );
    }
    for step in &progress.steps {
        let name = plain(&step.name);
        if let Some(failure) = &step.failure {
            let message = failure.to_string();
            let _ = writeln!(text, "{name}: {}: {}", failure.kind, plain(&message));
        }
        if let Some(reason) = &step.reason {
            let _ = writeln!(text, "{name}: {}", plain(reason));
        }
    }
    for warning in &progress.warnings {
        let _ = writeln!(text, "warning: {}", plain(warning));
    }
    text
}

/// The result of the run, in one line without its line end.
pub fn headline(progress: &Progress, over: bool) -> String {
    let result = match progress.result {
        Some(result) => result.as_str(),
        None if over => "cut off",
        None => "running",
    };
    let reason = progress.reason.as_deref().map(plain);
    let (what, trigger) = match progress.purpose {
        Purpose::Farewell => ("farewell", format!("trigger {}, ", progress.trigger)),
        Purpose::Undo => ("undo", String::new()),
    };
    format!(
        "{what} {}: {result} after {} ({trigger}budget {}){}{}",
        plain(&progress.run),
        elapsed::short(progress.at),
        duration::print(progress.budget),
        if reason.is_some() { ": " } else { "" },
        reason.unwrap_or_default(),
    )
}

fn table(text: &mut String, progress: &Progress, pace: &[usize], style: &Style) {
    let rows: Vec<[String; 4]> = (progress.steps.iter())
        .map(|step| {
            let took = length(step, progress.at).map(elapsed::short);
            let attempts = match step.attempts {
                0 | 1 => String::new(),
                many => format!("{many} attempts"),
            };
            let longest = (style.width / 3).max(8);
            [
                fit(&plain(&step.name), longest, style.dots()).into_owned(),
                step.state.as_str().to_owned(),
                took.unwrap_or_default(),
                attempts,
            ]
        })
        .collect();
    let widest = |column: usize| {
        let widths = rows.iter().map(|row| columns(&row[column]));
        widths.max().unwrap_or_default()
    };
    let [names, states, times, attempts] = [0, 1, 2, 3].map(widest);
    let attempts_and_gap = if attempts > 0 { attempts + 2 } else { 0 };
    // Two for the marker, two between columns, two for the sign at the end.
    let taken = 2 + names + 2 + states + 2 + times + attempts_and_gap + 2 + 2;
    let axis = Some(style.width.saturating_sub(taken)).filter(|axis| *axis >= SHORTEST_AXIS);
    let mut sets_pace = vec![false; rows.len()];
    pace.iter().for_each(|index| sets_pace[*index] = true);
    let steps = progress.steps.iter().zip(&rows).zip(sets_pace);
    for ((step, [name, state, took, tries]), paced) in steps {
        let bar = match (axis, span(step, progress.at)) {
            (Some(axis), Some(span)) => bar(span, progress.at, axis, style),
            _ => (String::new(), String::new()),
        };
        let mut line = format!(
            "{} {name}{}  {}{}  {}{took}",
            style.paint(step.state, style.marker(step.state)),
            padding(name, names),
            style.paint(step.state, state),
            padding(state, states),
            padding(took, times),
        );
        if attempts > 0 {
            let _ = write!(line, "  {tries}{}", padding(tries, attempts));
        }
        let (before, cells) = bar;
        let after = match axis {
            Some(axis) => " ".repeat(axis - columns(&before) - columns(&cells)),
            None => String::new(),
        };
        let cells = style.paint(step.state, &cells);
        let cells = if paced { style.bold(&cells) } else { cells };
        let _ = write!(line, "  {before}{cells}{after}");
        if paced {
            let _ = write!(line, " {}", style.pace());
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

/// The spaces before a bar and its cells, at least one.
fn bar(
    (start, end): (Duration, Duration),
    total: Duration,
    axis: usize,
    style: &Style,
) -> (String, String) {
    let total = total.max(end).as_micros().max(1);
    let first = start.as_micros() * axis as u128 / total;
    let first = usize::try_from(first).unwrap_or(axis).min(axis - 1);
    let last = (end.as_micros() * axis as u128).div_ceil(total);
    let last = usize::try_from(last).unwrap_or(axis).clamp(first + 1, axis);
    (" ".repeat(first), style.block().repeat(last - first))
}

/// From when to when a step ran; until `now` if it has not ended.
fn span(step: &StepProgress, now: Duration) -> Option<(Duration, Duration)> {
    let start = step.started?;
    let end = step.took.map_or(now, |took| start + took);
    Some((start, end.max(start)))
}

/// How long a step has run until `now`; known even if its start is not.
fn length(step: &StepProgress, now: Duration) -> Option<Duration> {
    let span = span(step, now).map(|(start, end)| end - start);
    span.or(step.took)
}

/// The steps that set the pace, by their ends: the one that ended last, the last one that ended before that began, and
/// so on. Empty if no step ran, or the start of one that ran is not known.
fn pacemakers(progress: &Progress) -> Vec<usize> {
    let mut steps = progress.steps.iter();
    if steps.any(|step| step.took.is_some() && step.started.is_none()) {
        return Vec::new();
    }
    let mut ran: Vec<(usize, Duration, Duration)> = (progress.steps.iter().enumerate())
        .filter_map(|(index, step)| Some((index, step.started?, step.ended.unwrap_or(progress.at))))
        .collect();
    // Of steps that end together, the longest one.
    ran.sort_unstable_by_key(|&(index, start, end)| (Reverse(end), start, index));
    let mut chain = Vec::new();
    let mut bound = Duration::MAX;
    for (index, start, end) in ran {
        if end <= bound {
            chain.push(index);
            bound = start;
        }
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::error::{ErrorKind, Failure};
    use crate::model::event::State;
    use crate::model::event::{Event, EventKind, Result, StepName};
    use crate::model::trigger::Trigger;

    const ASCII: Style = Style {
        width: 80,
        unicode: false,
        colour: false,
    };

    fn at(millis: u64, kind: EventKind) -> Event {
        let at = Duration::from_millis(millis);
        Event { at, kind }
    }

    fn progress(names: &[&str], events: &[Event]) -> Progress {
        let steps = names.iter().map(|name| StepName {
            name: (*name).to_owned(),
            kind: "http".to_owned(),
        });
        let mut progress = Progress::begin(&at(
            0,
            EventKind::RunStarted {
                run: "R1".to_owned(),
                purpose: crate::model::event::Purpose::Farewell,
                machine: crate::model::machine::Machine::default(),
                trigger: Trigger::Stop,
                started: std::time::UNIX_EPOCH,
                budget: Duration::from_secs(90),
                reserve: Duration::ZERO,
                steps: steps.collect(),
            },
        ))
        .expect("a start");
        for event in events {
            progress.apply(event);
        }
        progress
    }

    fn started(millis: u64, step: usize) -> Event {
        let left = Duration::from_secs(30);
        at(millis, EventKind::StepStarted { step, left })
    }

    fn finished(millis: u64, step: usize, state: State, attempts: u32, took: u64) -> Event {
        let failure = matches!(state, State::Failed).then(|| {
            Failure::new(
                ErrorKind::Unreachable,
                "http://x/\x1b[2J",
                "connection refused",
            )
        });
        let reason = matches!(state, State::Skipped).then(|| "/opt/app does not exist".to_owned());
        at(
            millis,
            EventKind::StepFinished {
                step,
                state,
                attempts,
                took: Duration::from_millis(took),
                failure,
                reason,
            },
        )
    }

    fn mixed(result: Option<Result>) -> Progress {
        let mut events = vec![
            started(0, 0),
            started(0, 1),
            finished(1000, 1, State::AlreadyDone, 1, 1000),
            finished(1500, 0, State::Failed, 3, 1500),
            started(1501, 2),
            finished(1501, 2, State::Done, 1, 0),
            finished(1502, 3, State::Skipped, 0, 0),
            started(1503, 4),
            at(
                3000,
                EventKind::Warning {
                    message: "late".to_owned(),
                },
            ),
        ];
        if let Some(result) = result {
            events.push(finished(3000, 4, State::Done, 1, 1497));
            let reason = (result == Result::CutShort).then(|| "told to stop".to_owned());
            events.push(at(3000, EventKind::RunFinished { result, reason }));
        }
        let names = [
            "leave-registry",
            "drain",
            "x",
            "only-app",
            "a-step-with-a-really-long-name",
        ];
        progress(&names, &events)
    }

    #[test]
    fn a_run_is_drawn() {
        let expected = "\
farewell R1: failed after 3 s (trigger stop, budget 1m 30s)
x leave-registry              failed        1.5 s  3 attempts  ########        <
+ drain                       already-done    1 s              #####
+ x                           done           0 ms                     #        <
- only-app                    skipped
+ a-step-with-a-really-lo...  done          1.5 s                     ######## <
< set the pace: 3 s in all, 4 s if one step at a time
leave-registry: unreachable: http://x/\\x1b[2J: connection refused
only-app: /opt/app does not exist
warning: late
";
        let drawn = draw(&mixed(Some(Result::Failed)), true, &ASCII);
        assert_eq!(drawn, expected, "\n{drawn}");
        assert!(drawn.lines().take(6).all(|line| line.len() <= 80));
    }

    #[test]
    fn a_run_is_drawn_in_colour_and_unicode() {
        let events = [started(0, 0), finished(100, 0, State::Done, 1, 100)];
        let style = Style {
            width: 40,
            unicode: true,
            colour: true,
        };
        let drawn = draw(&progress(&["leave", "wait"], &events), false, &style);
        let expected = "\
\x1b[1mfarewell R1: running after 0.1 s (trigger stop, budget 1m 30s)\x1b[0m
\x1b[32m✓\x1b[0m leave  \x1b[32mdone\x1b[0m     0.1 s  \x1b[1m\x1b[32m█████████████\x1b[0m\x1b[0m ◂
\x1b[2m·\x1b[0m wait   \x1b[2mpending\x1b[0m
◂ set the pace: 0.1 s in all, 0.1 s if one step at a time
";
        assert_eq!(drawn, expected, "\n{drawn}");
    }

    #[test]
    fn the_headline_says_how_it_ended() {
        let cut_short = mixed(Some(Result::CutShort));
        assert_eq!(
            headline(&cut_short, true),
            "farewell R1: cut-short after 3 s (trigger stop, budget 1m 30s): told to stop"
        );
        let open = mixed(None);
        assert_eq!(
            headline(&open, true),
            "farewell R1: cut off after 3 s (trigger stop, budget 1m 30s)"
        );
        assert!(headline(&open, false).starts_with("farewell R1: running after 3 s"));
    }

    #[test]
    fn a_narrow_line_has_no_bars() {
        let style = Style { width: 30, ..ASCII };
        let events = [started(0, 0), finished(100, 0, State::Done, 1, 100)];
        let drawn = draw(&progress(&["leave-the-registry"], &events), true, &style);
        assert_eq!(drawn.lines().nth(1), Some("+ leave-t...  done  0.1 s   <"));
    }

    #[test]
    fn a_step_that_began_nobody_knows_when_has_its_length_and_no_bar() {
        // As a run is seen by somebody who looks at it when its first step is over.
        let events = [
            finished(200, 0, State::Done, 1, 100),
            started(200, 1),
            finished(400, 1, State::Done, 1, 200),
        ];
        let drawn = draw(&progress(&["a", "b"], &events), false, &ASCII);
        let expected = "\
farewell R1: running after 0.4 s (trigger stop, budget 1m 30s)
+ a  done  0.1 s
+ b  done  0.2 s                                ##############################
";
        assert_eq!(drawn, expected, "\n{drawn}");
    }

    #[test]
    fn an_empty_run_is_its_headline() {
        assert_eq!(draw(&progress(&[], &[]), true, &ASCII).lines().count(), 1);
    }
}
