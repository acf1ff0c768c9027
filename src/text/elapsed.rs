//! Elapsed times for people; configured values are printed by [`super::duration::print`] instead.

use std::time::Duration;

/// A duration at a glance: `12 ms`, `0.1 s`, `30 s`, `1 min 30 s`, `1 h 5 min`.
pub fn short(duration: Duration) -> String {
    let millis = rounded(duration, 1_000);
    if millis < 100 {
        return format!("{millis} ms");
    }
    let text = tenths(duration);
    match text.strip_suffix(".0 s") {
        Some(whole) => format!("{whole} s"),
        None => text,
    }
}

/// A growing duration, always with a decimal below a minute: `0.0 s`, `3.0 s`, `1 min 30 s`.
pub fn tenths(duration: Duration) -> String {
    let tenths = rounded(duration, 100_000);
    if tenths < 600 {
        format!("{}.{} s", tenths / 10, tenths % 10)
    } else {
        whole(duration)
    }
}

/// A duration to the second, for the rest of a limit: `21 s`, `1 min 30 s`.
pub fn whole(duration: Duration) -> String {
    let seconds = rounded(duration, 1_000_000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes, seconds) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, 0) => format!("{minutes} min"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, 0, _) => format!("{hours} h"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

fn rounded(duration: Duration, micros: u128) -> u128 {
    (duration.as_micros() + micros / 2) / micros
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_told() {
        for (micros, glance, watched, left) in [
            (0, "0 ms", "0.0 s", "0 s"),
            (400, "0 ms", "0.0 s", "0 s"),
            (12_300, "12 ms", "0.0 s", "0 s"),
            (99_600, "0.1 s", "0.1 s", "0 s"),
            (100_000, "0.1 s", "0.1 s", "0 s"),
            (2_340_000, "2.3 s", "2.3 s", "2 s"),
            (29_999_800, "30 s", "30.0 s", "30 s"),
            (59_960_000, "1 min", "1 min", "1 min"),
            (90_000_000, "1 min 30 s", "1 min 30 s", "1 min 30 s"),
            (3_600_000_000, "1 h", "1 h", "1 h"),
            (3_900_000_000, "1 h 5 min", "1 h 5 min", "1 h 5 min"),
        ] {
            let duration = Duration::from_micros(micros);
            assert_eq!(short(duration), glance);
            assert_eq!(tenths(duration), watched);
            assert_eq!(whole(duration), left);
        }
    }
}
