//! Durations as people write them: `500ms`, `90s`, `2m`, `1h 30m`.

use std::time::Duration;

use crate::sys::clock;

pub use crate::sys::clock::print_duration as print;

/// The longest duration that makes sense anywhere; far from where clocks overflow.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Parses a duration, units up to hours.
///
/// # Errors
/// One sentence that shows the format, or says that it is longer than 24 hours.
pub fn parse(text: &str) -> Result<Duration, String> {
    match clock::parse_duration(text.trim()) {
        Some(duration) if duration > LONGEST => Err(format!("`{text}` is longer than 24h")),
        Some(duration) => Ok(duration),
        None => Err(format!(
            "`{text}` is not a duration; write it like \"500ms\", \"90s\" or \"2m\""
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_printed() {
        for (text, millis) in [
            ("500ms", 500),
            ("90s", 90_000),
            ("2m", 120_000),
            ("1h 30m", 5_400_000),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "5",
            "-5s",
            "2 weeks ago",
            "1mo",
            "soon",
            "5s ago",
            "9223372036854775807s",
            "25h",
        ] {
            assert!(parse(text).is_err(), "{text}: {:?}", parse(text));
        }
        assert_eq!(print(Duration::from_secs(90)), "1m 30s");
    }
}
