//! Runs of one step against a peer, and the ends that `report --json` tells of them.

use std::time::Duration;

use serde_json::Value;

use super::binary::{Binary, step_of};

/// What the machine may add to a deadline while other tests keep it busy: this tells a wait without an end from a slow one.
pub const SLACK: Duration = Duration::from_secs(30);

/// The time of a step: enough for what it should do on a machine three times slower than most.
pub const TIMEOUT: Duration = Duration::from_millis(4500);

/// How a step ends: its state, its word, the fewest and the most attempts.
pub type End = (&'static str, &'static str, u64, u64);

/// One step, which has 4.5 s and 1.8 s for an attempt, and its expected end.
pub struct Case {
    pub name: &'static str,
    pub keys: String,
    pub end: End,
}

pub fn http(name: &'static str, url: &str, keys: &str, end: End) -> Case {
    urls(name, &[url], keys, end)
}

pub fn urls(name: &'static str, urls: &[&str], keys: &str, end: End) -> Case {
    Case {
        name,
        keys: format!("kind = \"http\"\nurl = {urls:?}\n{keys}"),
        end,
    }
}

pub fn leave(url: &str, keys: &str) -> String {
    format!("kind = \"deregister\"\nregistry = \"etcd\"\nurl = \"{url}\"\n{keys}")
}

impl Case {
    pub fn holds(&self) {
        let pace = if self.keys.contains("attempt-timeout") {
            ""
        } else {
            "attempt-timeout = \"1800ms\"\n"
        };
        let config = format!(
            "[farewell]\nbudget = \"60s\"\n[[step]]\nname = \"asked\"\ntimeout = \"4500ms\"\n{pace}{}\n\
             [[step]]\nname = \"next\"\nkind = \"wait\"\nfor = \"0s\"\n",
            self.keys
        );
        let binary = Binary::new(&format!("peers-{}", self.name.replace(' ', "-")), &config);
        let run = binary.verb(&["run"]);
        let report = binary.report();
        let told = format!("{}: {report:#} {}", self.name, run.stderr);
        let (mut state, mut word, fewest, most) = self.end;
        let step = step_of(&report, "asked");
        // On a busy machine the last attempt may begin with too little time left to read a flood up to its limit.
        let message = step["error"]["message"].as_str().unwrap_or_default();
        if step["state"] == "timed-out"
            && message.contains("the first attempt: status 200, and an answer longer than")
        {
            (state, word) = ("timed-out", "timed-out");
        }
        assert_eq!(step["state"], state, "{told}");
        assert_eq!(
            step["error"]["word"].as_str().unwrap_or_default(),
            word,
            "{told}"
        );
        let attempts = step["attempts"].as_u64().expect("a number");
        assert!((fewest..=most).contains(&attempts), "{told}");
        let took = Duration::from_micros(step["duration_usec"].as_u64().expect("a number"));
        assert!(
            took < TIMEOUT + SLACK && run.took < TIMEOUT + 2 * SLACK,
            "{told}"
        );
        assert_eq!(step_of(&report, "next")["state"], "done", "{told}");
        let (code, result) = if word.is_empty() {
            (0, "ok")
        } else {
            (1, "failed")
        };
        assert_eq!(
            (run.code, &report["result"]),
            (code, &Value::from(result)),
            "{told}"
        );
    }
}

/// All at once, as each of them mostly waits.
pub fn all_hold(cases: &[Case]) {
    std::thread::scope(|threads| {
        for case in cases {
            threads.spawn(|| case.holds());
        }
    });
}
