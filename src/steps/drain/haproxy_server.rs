//! What both of HAProxy's APIs have of a server: its name, and its load.

use std::fmt;

/// The name of a backend or server: what else stood in a command would be another argument or command.
pub(super) fn server_name(text: &str) -> Result<String, String> {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
    match !text.is_empty() && text.bytes().all(is_good) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "`{text}` is no name of HAProxy's: letters, digits, and any of `_.:-`"
        )),
    }
}

/// What is in flight to a server.
pub(super) struct Load {
    pub(super) sessions: u64,
    pub(super) queued: u64,
}

impl Load {
    pub(super) fn is_zero(&self) -> bool {
        self.sessions + self.queued == 0
    }
}

/// `3 sessions and 1 queued`.
impl fmt::Display for Load {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.sessions == 1 { "" } else { "s" };
        write!(
            out,
            "{} session{plural} and {} queued",
            self.sessions, self.queued
        )
    }
}
