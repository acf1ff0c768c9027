//! How the files of an installed configuration follow, replace and mask one another.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::support::Dir;
use crate::support::installed::Installed;
use farewell::config::facts::Facts;
use farewell::config::fragments::{Source, Untrusted};
use farewell::model::trigger::Trigger;
use farewell::plan::load::{LoadedConfig, Plan};
use farewell::plan::settings::Restart;

/// The three places of an installed configuration, each with its `conf.d`.
struct Places(Dir);

impl Places {
    fn new(name: &str) -> Self {
        let places = Places(Dir::new(name));
        for place in ["usr", "run", "etc"] {
            fs::create_dir_all(places.path(place).join("conf.d")).expect("made");
        }
        places
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.0.join(name)
    }

    fn write(&self, name: &str, text: &str) -> &Self {
        fs::write(self.path(name), text).expect("written");
        self
    }

    fn loaded(&self, facts: &Facts) -> LoadedConfig {
        let source = Source::Installed {
            main: self.path("etc/farewell.toml"),
            drop_ins: ["usr", "run", "etc"]
                .map(|place| self.path(place).join("conf.d"))
                .into(),
            untrusted: Untrusted::Refused,
        };
        LoadedConfig::through(&source, Some(facts))
    }

    fn plan(&self) -> Plan {
        let loaded = self.loaded(&facts());
        loaded
            .plan
            .unwrap_or_else(|| panic!("{:?}", loaded.problems))
    }

    /// Each step as `NAME<EARLIER,…`.
    fn order(&self) -> String {
        let plan = self.plan();
        let name = |at: &usize| plan.steps[*at].name.as_str();
        let told = plan.steps.iter().map(|step| {
            let after: Vec<_> = step.after.iter().map(name).collect();
            format!("{}<{}", step.name, after.join(","))
        });
        told.collect::<Vec<_>>().join(" ")
    }

    fn problems(&self) -> Vec<String> {
        let facts = facts();
        let mut loaded = self.loaded(&facts);
        loaded.check_facts(&facts);
        let root = format!("{}/", self.0.0.display());
        let told = loaded.problems.iter().map(ToString::to_string);
        told.map(|problem| problem.replace(&root, "")).collect()
    }
}

fn facts() -> Facts {
    Facts::new(Trigger::Stop, "test")
}

fn wait(name: &str, more: &str) -> String {
    format!(
        "[[step]]\nname = \"{name}\"\nkind = \"wait\"\nfor = \"1s\"\ntimeout = \"5s\"\n{more}\n"
    )
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn files_are_sorted_by_name_whatever_their_place() {
    let places = Places::new("sorted");
    places
        .write(
            "etc/farewell.toml",
            &(wait("main-1", "") + &wait("main-2", "")),
        )
        .write("usr/conf.d/30-c.toml", &wait("c", ""))
        .write("run/conf.d/20-b.toml", &wait("b", ""))
        .write("etc/conf.d/10-a.toml", &wait("a", ""))
        .write("etc/conf.d/05-no.conf", "not TOML")
        .write("etc/conf.d/.hidden.toml", "not TOML");
    assert_eq!(places.order(), "main-1< main-2<main-1 a<main-2 b<a c<b");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_file_in_a_stronger_place_replaces_the_weaker_one() {
    let places = Places::new("stronger");
    places.write("usr/conf.d/10.toml", &wait("usr", ""));
    assert_eq!(places.order(), "usr<");
    places.write("run/conf.d/10.toml", &wait("run", ""));
    assert_eq!(places.order(), "run<");
    places.write("etc/conf.d/10.toml", &wait("etc", ""));
    assert_eq!(places.order(), "etc<");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_link_to_dev_null_or_an_empty_file_masks() {
    let places = Places::new("masked");
    places
        .write("usr/conf.d/10.toml", "this is [not TOML")
        .write("usr/conf.d/20.toml", &wait("b", ""))
        .write("usr/conf.d/30.toml", &wait("c", ""))
        .write("run/conf.d/30.toml", "");
    assert!(!places.problems().is_empty());
    std::os::unix::fs::symlink("/dev/null", places.path("etc/conf.d/10.toml")).expect("linked");
    assert_eq!(places.order(), "b<");
    // What leads nowhere is no mask, and is told.
    std::os::unix::fs::symlink("/no/such", places.path("etc/conf.d/20.toml")).expect("linked");
    assert_eq!(
        places.problems(),
        ["etc/conf.d/20.toml: cannot be read: No such file or directory (os error 2)"]
    );
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_drop_in_says_where_its_steps_go() {
    let places = Places::new("places");
    places.write("etc/farewell.toml", &(wait("a", "") + &wait("b", "")));
    places.write("usr/conf.d/10.toml", &wait("c", ""));
    assert_eq!(places.order(), "a< b<a c<b");
    places.write("usr/conf.d/10.toml", &wait("c", "after = [\"a\"]"));
    assert_eq!(places.order(), "a< b<a c<a");
    places.write("usr/conf.d/10.toml", &wait("c", "after = []"));
    assert_eq!(places.order(), "a< b<a c<");
    places.write("usr/conf.d/10.toml", &wait("c", "before = [\"b\"]"));
    assert_eq!(places.order(), "a< c< b<a,c");
    let between = "after = [\"a\"]\nbefore = [\"b\"]";
    places.write("usr/conf.d/10.toml", &wait("c", between));
    assert_eq!(places.order(), "a< c<a b<a,c");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn what_is_wrong_with_a_replaced_step_does_not_matter() {
    let places = Places::new("replaced");
    places
        .write(
            "usr/conf.d/10.toml",
            &wait("app", "bogus = 1\nafter = [\"nobody\"]"),
        )
        .write("usr/conf.d/20.toml", &wait("next", ""));
    assert_eq!(
        places.problems(),
        [
            "usr/conf.d/10.toml:6: step \"app\": key \"bogus\": unknown key",
            "usr/conf.d/10.toml:7: step \"app\": key \"after\": unknown step `nobody`"
        ]
    );
    // Another step of the same file is still looked at.
    places.write("etc/conf.d/30.toml", &wait("app", ""));
    assert_eq!(places.problems(), [""; 0]);
    assert_eq!(places.order(), "app< next<app");
    places.write("usr/conf.d/20.toml", &wait("next", "bogus = 1"));
    assert_eq!(places.problems().len(), 1);
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_step_replaces_an_earlier_one_of_its_name_whole_and_keeps_its_place() {
    let places = Places::new("replaced");
    let earlier = wait("b", "attempts = 7\nif-path = \"${file:/no/such/file}\"");
    places
        .write(
            "etc/farewell.toml",
            &(wait("a", "") + &earlier + &wait("c", "")),
        )
        .write(
            "usr/conf.d/10.toml",
            &(wait("x", "") + &wait("b", "on-failure = \"stop\"").replace("5s", "6s")),
        );
    assert_eq!(places.order(), "a< b<a c<b x<c");
    let plan = places.plan();
    assert_eq!(plan.steps[1].attempts, None);
    assert_eq!(plan.steps[1].timeout, Duration::from_secs(6));
    // Nor is anything told of what was replaced.
    assert_eq!(places.problems(), [""; 0]);
    // Twice in one file it is a mistake, even where both could replace an earlier one.
    places.write("usr/conf.d/10.toml", &(wait("b", "") + &wait("b", "")));
    assert_eq!(
        places.problems(),
        ["usr/conf.d/10.toml:8: step \"b\": key \"name\": another step has this name, in line 2"]
    );
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn keys_of_the_head_in_a_later_file_win() {
    let places = Places::new("head");
    places
        .write(
            "etc/farewell.toml",
            "[farewell]\nbudget = \"60s\"\nreserve = \"3s\"\nrestart = \"run\"\n",
        )
        .write(
            "usr/conf.d/10.toml",
            "[farewell]\nbudget = { stop = \"5m\" }\n",
        )
        .write("etc/conf.d/20.toml", "[farewell]\nreserve = \"4s\"\n");
    let plan = places.plan();
    assert_eq!(plan.budget(Trigger::Stop), Duration::from_secs(300));
    // The key is replaced whole.
    assert_eq!(plan.budget(Trigger::Reboot), Duration::from_secs(90));
    assert_eq!(plan.reserve(Trigger::Stop), Duration::from_secs(4));
    assert_eq!(plan.restart(), Restart::Run);
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn what_is_wrong_is_told_with_the_path_of_its_file() {
    let places = Places::new("paths");
    places
        .write("etc/farewell.toml", &wait("a", "tiemout = \"1s\""))
        .write("usr/conf.d/10.toml", &wait("b", "after = [\"aa\"]"))
        .write("run/conf.d/20.toml", "[farewell]\nreserve = \"10m\"\n")
        .write(
            "etc/conf.d/30.toml",
            &wait("d", "if-path = \"${env:FAREWELL_TEST_NOT_SET}\""),
        );
    assert_eq!(
        places.problems(),
        [
            "etc/farewell.toml:6: step \"a\": key \"tiemout\": unknown key; did you mean `timeout`, which is set in line 5?",
            "usr/conf.d/10.toml:6: step \"b\": key \"after\": unknown step `aa`; did you mean `a`?",
            "run/conf.d/20.toml:2: key \"reserve\": a reserve of 10m leaves nothing of the budget of 1m 30s (on poweroff) for the \
             steps",
            "etc/conf.d/30.toml:6: step \"d\": key \"if-path\": ${env:FAREWELL_TEST_NOT_SET} is not available: not set",
        ]
    );
    // Of a file that is no TOML only that is told, and nobody misses its steps; the others are read all the same.
    places
        .write("etc/farewell.toml", "[[step]\nname = \"aa\"\n")
        .write("run/conf.d/20.toml", "[farewell]\nreserv = \"10m\"\n");
    assert_eq!(
        places.problems()[..2],
        [
            "etc/farewell.toml:1: a `[[` without its `]]`".to_owned(),
            "run/conf.d/20.toml:2: key \"reserv\": unknown key; did you mean `reserve`?".to_owned(),
        ]
    );
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn the_program_reads_all_three_directories() {
    let places = Installed::new("namespace");
    places
        .write("etc/farewell.toml", &wait("main", ""))
        .write("usr/conf.d/10.toml", &wait("masked", ""))
        .write("usr/conf.d/20.toml", &wait("from-usr", ""))
        .write("run/conf.d/30.toml", &wait("from-run", ""))
        .write("etc/conf.d/10.toml", &wait("from-etc", ""));
    let said = places.run("farewell", &["plan"]);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
    let names: Vec<_> = said
        .stdout
        .lines()
        .filter(|line| line.contains("  wait  "))
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    assert_eq!(
        names,
        ["main", "from-etc", "from-usr", "from-run"],
        "{said:?}"
    );
}
