//! What a terminal can show of a run: its width, its signs and its colours.

use crate::model::event::State;

/// How a timeline is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Characters in a line; a message may be longer.
    pub width: usize,
    /// Whether non-ASCII characters can be shown.
    pub unicode: bool,
    /// Whether to use colours.
    pub colour: bool,
}

impl Style {
    /// The sign of a step in this state.
    pub fn marker(&self, state: State) -> &'static str {
        let (sign, ascii) = match state {
            State::Pending => ("·", "."),
            State::Running => ("▸", ">"),
            State::Done | State::AlreadyDone => ("✓", "+"),
            State::Skipped => ("○", "-"),
            State::Failed | State::TimedOut => ("✗", "x"),
            State::Cancelled => ("■", "!"),
        };
        if self.unicode { sign } else { ascii }
    }

    /// Marks where a text was cut.
    pub fn dots(&self) -> &'static str {
        if self.unicode { "…" } else { "..." }
    }

    /// `text` in the colour of a step in this state.
    pub fn paint(&self, state: State, text: &str) -> String {
        let code = match state {
            State::Pending | State::Skipped => "2",
            State::Running => "36",
            State::Done | State::AlreadyDone => "32",
            State::Failed | State::TimedOut => "31",
            State::Cancelled => "33",
        };
        self.coded(code, text)
    }

    /// `text` in bold.
    pub fn bold(&self, text: &str) -> String {
        self.coded("1", text)
    }

    fn coded(&self, code: &str, text: &str) -> String {
        if self.colour && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    pub(super) fn block(&self) -> &'static str {
        if self.unicode { "█" } else { "#" }
    }

    pub(super) fn pace(&self) -> &'static str {
        if self.unicode { "◂" } else { "<" }
    }
}
