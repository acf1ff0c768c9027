//! Times and spans of time, as text.

use std::time::{Duration, SystemTime};

use jiff::fmt::friendly::SpanParser;
use jiff::{SignedDuration, Timestamp};

/// A time as RFC 3339 in UTC, to the microsecond.
pub fn rfc3339(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| String::new(), |time| format!("{time:.6}"))
}

/// The time that [`rfc3339`] wrote; `None` for what it could not have written.
pub fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    text.parse::<Timestamp>().ok()?.try_into().ok()
}

/// A time as `20261123T235900.123Z`, which sorts as text.
pub fn compact(time: SystemTime) -> String {
    let time = Timestamp::try_from(time).unwrap_or_default();
    format!("{time:.3}").replace(['-', ':'], "")
}

/// A time in seconds as `20261123T235900Z`, the basic format of ISO 8601.
pub fn basic(time: SystemTime) -> String {
    let time = Timestamp::try_from(time).unwrap_or_default();
    time.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// A span of time in jiff's friendly format, units up to hours: `500ms`, `90s`, `1h 30m`; `None` for other text and for
/// negative spans.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let span: SignedDuration = SpanParser::new().parse_duration(text).ok()?;
    Duration::try_from(span).ok()
}

/// A span of time the way that [`parse_duration`] reads it: `1m 30s`.
pub fn print_duration(duration: Duration) -> String {
    let span = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    format!("{span:#}")
}
