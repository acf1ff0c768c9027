//! Times and spans of time, as text.

use std::time::{Duration, SystemTime};

use jiff::fmt::friendly::{Designator, SpanParser, SpanPrinter};
use jiff::{SignedDuration, Timestamp};

/// A time as RFC 3339 in UTC, to the microsecond.
pub fn rfc3339(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| String::new(), |time| format!("{time:.6}"))
}

/// The time that [`rfc3339`] wrote; `None` for what it could not have written.
pub fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    text.parse::<Timestamp>().ok()?.try_into().ok()
}

/// A time as `20261123T235900.123Z`, which sorts as text, two runs of the same second too.
pub fn compact(time: SystemTime) -> String {
    Timestamp::try_from(time)
        .unwrap_or_default()
        .strftime("%Y%m%dT%H%M%S%.3fZ")
        .to_string()
}

/// A span of time in jiff's friendly format, units up to hours: `500ms`, `90s`, `1h 30m`; `None` for what is none, or
/// is negative.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let span: SignedDuration = SpanParser::new().parse_duration(text).ok()?;
    Duration::try_from(span).ok()
}

/// A span of time the way that [`parse_duration`] reads it: `1m 30s`.
pub fn print_duration(duration: Duration) -> String {
    let span = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    SpanPrinter::new()
        .designator(Designator::Compact)
        .duration_to_string(&span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_one_second_sort_as_text() {
        let at = |millis| compact(SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
        assert_eq!(at(86_400_007), "19700102T000000.007Z");
        assert!(at(1000) < at(1090) && at(1090) < at(1900) && at(1900) < at(2000));
    }
}
