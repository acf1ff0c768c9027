//! Decides when to report again what a running step waits for.

use std::time::Duration;

use crate::view::progress::Progress;

/// How long a step runs before the first report.
const PATIENCE: Duration = Duration::from_secs(5);

/// A long step is reported whenever its time has grown by an eighth, and at least this often.
const PART: u32 = 8;
const LONGEST: Duration = Duration::from_secs(600);

/// Remembers when each step was last reported.
#[derive(Debug, Default)]
pub struct Reminder {
    told: Vec<Option<Duration>>,
}

impl Reminder {
    /// The running steps to report now, `at` from the run's start: those that began, or were reported, five seconds
    /// ago; less often in long steps.
    pub fn due(&mut self, progress: &Progress, at: Duration) -> Vec<usize> {
        self.told.resize(progress.steps.len(), None);
        let mut due = Vec::new();
        for (index, step) in progress.running() {
            let told = &mut self.told[index];
            let started = step.started.unwrap_or_default();
            let since = told.unwrap_or(started);
            let patience = (since.saturating_sub(started) / PART).clamp(PATIENCE, LONGEST);
            if at >= since + patience {
                *told = Some(at);
                due.push(index);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::{Event, EventKind, StepName};
    use crate::model::trigger::Trigger;

    #[test]
    fn a_step_is_spoken_of_every_five_seconds() {
        let name = |name: &str| StepName {
            name: name.to_owned(),
            kind: "wait".to_owned(),
        };
        let seconds = Duration::from_secs;
        let mut progress = Progress::begin(&Event {
            at: Duration::ZERO,
            kind: EventKind::RunStarted {
                run: "R1".to_owned(),
                purpose: crate::model::event::Purpose::Farewell,
                machine: crate::model::machine::Machine::default(),
                trigger: Trigger::Stop,
                started: std::time::UNIX_EPOCH,
                budget: seconds(90),
                reserve: seconds(0),
                steps: [name("a"), name("b"), name("c")].into(),
            },
        })
        .expect("a start");
        for (at, step) in [(0, 0), (3, 1)] {
            let left = seconds(30);
            progress.apply(&Event {
                at: seconds(at),
                kind: EventKind::StepStarted { step, left },
            });
        }
        let mut reminder = Reminder::default();
        let due: Vec<Vec<usize>> = (4..=13)
            .map(|at| reminder.due(&progress, seconds(at)))
            .collect();
        let none = Vec::new;
        let expected = [
            none(),
            vec![0],
            none(),
            none(),
            vec![1],
            none(),
            vec![0],
            none(),
            none(),
            vec![1],
        ];
        assert_eq!(due, expected);
        // Six hours: 24 times in the first two minutes and a half would be every five seconds for ever.
        let told = (14..6 * 3600).filter(|at| reminder.due(&progress, seconds(*at)).contains(&0));
        let told: Vec<u64> = told.collect();
        assert!(told.len() < 100, "{told:?}");
        assert!(
            told.windows(2).all(|pair| pair[1] - pair[0] <= 601),
            "{told:?}"
        );
        assert!(told[0] == 15 && told[1] == 20, "{told:?}");
    }
}
