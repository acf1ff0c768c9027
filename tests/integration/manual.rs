//! The manual: each member has its page, and what stands there can be pasted as it stands.

use std::fs;
use std::path::Path;

use crate::support::binary::Binary;
use crate::support::manual::{blocks, example, page};
use farewell::steps::deregister::REGISTRIES;
use farewell::steps::drain::BALANCERS;
use farewell::steps::lock::LOCKS;
use farewell::steps::wait_safe::CLUSTERS;

/// Members whose keys README.md tells whole: they ask nobody.
const WITHOUT_PAGE: [&str; 1] = ["deregister-file"];

/// The page of every member of every table, and of every kind that has one of its own.
fn pages() -> Vec<String> {
    let registries = REGISTRIES
        .iter()
        .map(|it| format!("deregister-{}", it.name));
    let clusters = CLUSTERS.iter().map(|it| format!("wait-safe-{}", it.name));
    let balancers = BALANCERS.iter().map(|it| format!("drain-{}", it.name));
    let locks = LOCKS.iter().map(|it| format!("lock-{}", it.name));
    registries
        .chain(clusters)
        .chain(balancers)
        .chain(locks)
        .chain(["copy".to_owned()])
        .filter(|it| !WITHOUT_PAGE.contains(&it.as_str()))
        .collect()
}

/// Every page that there is.
fn written() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("units/manual");
    let mut pages: Vec<String> = fs::read_dir(folder)
        .expect("the manual")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .filter_map(|name| name.strip_suffix(".md").map(str::to_owned))
        .collect();
    pages.sort();
    pages
}

#[test]
fn every_member_has_a_page_and_every_page_a_member() {
    let (pages, written) = (pages(), written());
    for page in &pages {
        assert!(written.contains(page), "units/manual/{page}.md is missing");
    }
    for page in written.iter().filter(|it| !it.starts_with("recipe-")) {
        assert!(
            pages.contains(page),
            "units/manual/{page}.md is of no member"
        );
    }
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"));
    let readme = readme.expect("README.md");
    for page in &written {
        assert!(
            readme.contains(&format!("(units/manual/{page}.md)")),
            "README.md does not name units/manual/{page}.md"
        );
    }
}

#[test]
fn every_page_says_the_same_things() {
    for name in written() {
        let text = page(&name);
        assert!(
            text.starts_with("# "),
            "units/manual/{name}.md has no title"
        );
        if name.starts_with("recipe-") {
            continue;
        }
        for heading in [
            "## Keys",
            "## What it asks, and what the answers mean",
            "## What to grant",
            "## What sticks, and how it is undone",
        ] {
            assert!(
                text.contains(&format!("\n{heading}\n")),
                "units/manual/{name}.md has no {heading:?}"
            );
        }
    }
}

#[test]
fn every_example_is_a_whole_configuration_without_a_problem() {
    for name in written() {
        let examples = blocks(&name, "toml");
        assert!(
            !examples.is_empty(),
            "units/manual/{name}.md has no example"
        );
        for example in examples {
            let binary = Binary::new(&format!("manual-{name}"), &example);
            // On a build machine: the credentials of the example are not there.
            let check = binary.verb(&["check", "--image"]);
            let told = format!("units/manual/{name}.md: {}{}", check.stdout, check.stderr);
            assert_eq!(check.code, 0, "{told}");
            // How an application is stopped is not what these pages are about.
            let is_meant = |line: &&str| line.contains("no step stops the application");
            let warnings = check.stderr.lines().filter(|line| !is_meant(line));
            assert_eq!(warnings.count(), 0, "{told}");
        }
        assert!(
            example(&name).contains("[[step]]"),
            "units/manual/{name}.md begins with something else"
        );
    }
}
