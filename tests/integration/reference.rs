//! The reference: manual pages, completions and the JSON Schema are made of the sources, and say what the program does.
//!
//! `FAREWELL_UPDATE_REFERENCE=1 cargo test --test integration reference::` makes the committed files anew.

mod cases;
mod keys;
mod pages;
mod reading;
mod roff;
mod schema;
mod shells;
mod taken;
mod tree;
mod validity;
mod values;

use std::collections::BTreeSet;
use std::fs;

use clap::CommandFactory as _;
use clap_complete::Shell;

use farewell::app::cli::Cli;
use farewell::plan::settings::BUDGET;
use farewell::step::TIMEOUT;
use farewell::steps::KINDS;
use farewell::steps::deregister::REGISTRIES;
use farewell::steps::drain::BALANCERS;
use farewell::steps::lock::LOCKS;
use farewell::steps::wait_safe::CLUSTERS;
use farewell::text::duration;

use keys::{Documented, Member, is_readable};
use pages::PAGES;
use tree::place;

const SCHEMA: &str = "units/farewell.schema.json";

/// Everything that is made: where it is committed, and its text.
fn made() -> Vec<(String, String)> {
    let documented = Documented::read();
    let page = |(name, template): (&str, &str)| {
        (
            format!("units/manual/{name}"),
            pages::page(name, template, &documented),
        )
    };
    let completion = |(shell, name): (Shell, &str)| {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "farewell", &mut text);
        let text = String::from_utf8(text).expect("UTF-8");
        (format!("units/completions/{name}"), text)
    };
    let completions = [
        (Shell::Bash, "farewell.bash"),
        (Shell::Zsh, "_farewell"),
        (Shell::Fish, "farewell.fish"),
    ];
    let mut made: Vec<(String, String)> = PAGES.into_iter().map(page).collect();
    made.extend(completions.into_iter().map(completion));
    made.push((SCHEMA.to_owned(), schema::schema(&documented)));
    made
}

#[test]
fn what_is_committed_is_what_is_made() {
    for (path, text) in made() {
        if std::env::var_os("FAREWELL_UPDATE_REFERENCE").is_some() {
            fs::create_dir_all(place(&path).parent().expect("a folder")).expect("made");
            fs::write(place(&path), &text).expect("written");
        }
        let committed = fs::read_to_string(place(&path)).unwrap_or_default();
        assert!(
            committed == text,
            "{path} is another one: FAREWELL_UPDATE_REFERENCE=1 makes it anew"
        );
    }
}

#[test]
fn a_key_that_is_not_documented_as_all_are_is_not_read() {
    assert!(is_readable(
        "`a` (string; default none; only with `b`): text"
    ));
    for wrong in [
        "`a`: text",
        "`a` (text; required): text",
        "`a` (string): text",
        "`a` (string; optional): text",
        "`a` (string; required; beside `b`): text",
        "`a` (string; required; only with b): text",
        "`a` (string; required): ",
        "`a` (string; required): text.",
        "a (string; required): text",
        "`a` (string; exactly one of b): text",
        "those of each [`Peer`]",
        "those of every [`Peer`] but `user`",
    ] {
        assert!(!is_readable(wrong), "{wrong}");
    }
}

#[test]
fn the_defaults_of_times_are_those_of_the_code() {
    let documented = Documented::read();
    for (keys, name, time) in [
        (&documented.settings, "budget", BUDGET),
        (&documented.step, "timeout", TIMEOUT),
    ] {
        let key = keys.iter().find(|key| key.name == name).expect("a key");
        let default = key.default().expect("a value").trim_matches('"');
        assert_eq!(duration::parse(default), Ok(time), "{name}");
    }
}

#[test]
fn every_kind_and_member_is_documented() {
    let documented = Documented::read();
    let names = |members: &[Member]| -> BTreeSet<String> {
        members.iter().map(|it| it.name.clone()).collect()
    };
    let known = |names: &mut dyn Iterator<Item = &'static str>| -> BTreeSet<String> {
        names.map(str::to_owned).collect()
    };
    assert_eq!(
        names(&documented.kinds),
        known(&mut KINDS.iter().map(|it| it.name))
    );
    for (key, members) in &documented.members {
        let known = match *key {
            "registry" => known(&mut REGISTRIES.iter().map(|it| it.name)),
            "balancer" => known(&mut BALANCERS.iter().map(|it| it.name)),
            "cluster" => known(&mut CLUSTERS.iter().map(|it| it.name)),
            _ => known(&mut LOCKS.iter().map(|it| it.name)),
        };
        assert_eq!(names(members), known, "{key}");
    }
}
