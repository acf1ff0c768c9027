//! The capabilities of an output: whether it is a terminal, its size, colours and characters.

use std::io::IsTerminal;
use std::os::fd::{AsFd, OwnedFd};

/// The capabilities of an output.
#[derive(Debug)]
pub struct Capabilities {
    /// It is a terminal on which lines can be overwritten.
    pub live: bool,
    /// Colours may be used.
    pub colour: bool,
    /// The locale's characters are UTF-8.
    pub unicode: bool,
    /// Its size.
    pub window: Window,
}

/// The size of an output.
#[derive(Debug)]
pub enum Window {
    /// A fixed size.
    Fixed {
        /// Characters in a line.
        columns: usize,
        /// Lines.
        rows: usize,
    },
    /// The current size of this terminal.
    Of(OwnedFd),
}

const COLUMNS: usize = 80;
const ROWS: usize = 24;

impl Capabilities {
    /// The capabilities of `output` in this process' environment.
    pub fn of(output: &(impl IsTerminal + AsFd)) -> Capabilities {
        let mut look = Capabilities::guess(output.is_terminal(), |name| std::env::var(name).ok());
        if look.live
            && let Ok(terminal) = output.as_fd().try_clone_to_owned()
        {
            look.window = Window::Of(terminal);
        }
        look
    }

    /// The capabilities of a terminal, pipe or file, given the environment.
    pub fn guess(terminal: bool, variable: impl Fn(&str) -> Option<String>) -> Capabilities {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let live = terminal && set("TERM").is_some_and(|term| term != "dumb");
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
        let unicode = locale.is_some_and(|locale| {
            let locale = locale.to_ascii_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        });
        Capabilities {
            live,
            colour: live && set("NO_COLOR").is_none(),
            unicode,
            window: Window::Fixed {
                columns: COLUMNS,
                rows: ROWS,
            },
        }
    }

    /// Columns and rows, as they are now.
    pub fn size(&self) -> (usize, usize) {
        match &self.window {
            Window::Fixed { columns, rows } => (*columns, *rows),
            Window::Of(terminal) => match rustix::termios::tcgetwinsize(terminal) {
                // A serial console reports 0.
                Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                    (usize::from(size.ws_col), usize::from(size.ws_row))
                }
                _ => (COLUMNS, ROWS),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(terminal: bool, environment: &[(&str, &str)]) -> (bool, bool, bool) {
        let look = Capabilities::guess(terminal, |name| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        });
        (look.live, look.colour, look.unicode)
    }

    #[test]
    fn the_environment_is_honoured() {
        let term = ("TERM", "xterm");
        assert_eq!(look(true, &[term]), (true, true, false));
        assert_eq!(look(false, &[term]), (false, false, false));
        assert_eq!(look(true, &[term, ("NO_COLOR", "1")]), (true, false, false));
        assert_eq!(look(true, &[term, ("NO_COLOR", "")]), (true, true, false));
        assert_eq!(look(true, &[("TERM", "dumb")]), (false, false, false));
        assert_eq!(look(true, &[]), (false, false, false));
    }

    #[test]
    fn the_strongest_locale_decides() {
        let lang = ("LANG", "en_US.UTF-8");
        assert!(look(false, &[lang]).2);
        assert!(look(false, &[("LC_CTYPE", "C.utf8")]).2);
        assert!(!look(false, &[lang, ("LC_ALL", "C")]).2);
        assert!(look(false, &[lang, ("LC_ALL", "")]).2);
    }
}
