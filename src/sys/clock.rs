//! The wall clock, as text.

use std::time::SystemTime;

use jiff::Timestamp;

/// A time as RFC 3339 in UTC, to the microsecond.
pub fn rfc3339(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| String::new(), |time| format!("{time:.6}"))
}

/// The time that [`rfc3339`] wrote; `None` for what it could not have written.
pub fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    text.parse::<Timestamp>().ok()?.try_into().ok()
}

/// A time as `20261123T235900Z`, which sorts as text.
pub fn compact(time: SystemTime) -> String {
    Timestamp::try_from(time)
        .unwrap_or_default()
        .strftime("%Y%m%dT%H%M%SZ")
        .to_string()
}
