//! What the applications of a machine wrote of their lives.

/// The lines of /rig/log, `UPTIME NAME WHAT` (see `app`), in their order.
#[derive(Debug)]
pub struct Life(Vec<(f64, String, String)>);

impl Life {
    pub fn read(text: &str) -> Life {
        let mut lines = Vec::new();
        for line in text.lines() {
            let mut words = line.splitn(3, ' ');
            let [at, name, what] =
                [words.next(), words.next(), words.next()].map(Option::unwrap_or_default);
            let at = at
                .parse()
                .unwrap_or_else(|_| panic!("a line of /rig/log: {line}"));
            lines.push((at, name.to_owned(), what.to_owned()));
        }
        Life(lines)
    }

    /// When `name` last did this, in seconds.
    pub fn at(&self, name: &str, what: &str) -> Option<f64> {
        let is = |it: &&(f64, String, String)| it.1 == name && it.2 == what;
        self.0.iter().rev().find(is).map(|it| it.0)
    }

    /// How often `name` did this.
    pub fn times(&self, name: &str, what: &str) -> usize {
        self.0
            .iter()
            .filter(|it| it.1 == name && it.2 == what)
            .count()
    }

    /// Fails unless each `NAME WHAT` comes after the one before it; the last time of each counts.
    pub fn in_order(&self, events: &[&str]) -> &Life {
        let place = |event: &&str| {
            let is = |it: &(f64, String, String)| format!("{} {}", it.1, it.2) == **event;
            let found = self.0.iter().rposition(is);
            found.unwrap_or_else(|| panic!("no {event:?} in {self:#?}"))
        };
        let places: Vec<usize> = events.iter().map(place).collect();
        assert!(places.is_sorted(), "{events:?}: {self:#?}");
        self
    }
}
