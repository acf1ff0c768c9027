//! That the pages can be read, and name what there is.

use std::fs;
use std::process::Command;

use super::pages::{self, PAGES};
use super::tree::{place, read};
use crate::support::Dir;
use crate::support::binary::{Ended, farewell};

#[test]
fn the_pages_examples_are_configurations_without_a_problem() {
    let dir = Dir::new("reference-examples");
    let path = dir.file("farewell.toml");
    let mut examples = 0;
    for (name, template) in PAGES {
        for text in pages::configurations(template) {
            fs::write(&path, &text).expect("written");
            let said = Ended::of(farewell().args(["check", "--image", "--config", &path]));
            assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{name}: {text}");
            examples += 1;
        }
    }
    assert!(examples >= 3, "{examples}");
}

#[test]
#[ignore = "needs man and mandoc; tests/run has it"]
fn nothing_is_wrong_with_the_pages() {
    for (name, _) in PAGES {
        let path = place(&format!("units/manual/{name}"));
        let mut man = Command::new("man");
        man.args(["--warnings", "-E", "UTF-8", "-l"])
            .arg(&path)
            .env("LC_ALL", "C.UTF-8");
        let said = Ended::of(&mut man);
        assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{name}");
        assert!(said.stdout.contains("SEE ALSO"), "{name}: {}", said.stdout);
        let said = Ended::of(
            Command::new("mandoc")
                .args(["-T", "lint", "-W", "warning"])
                .arg(&path),
        );
        // A date would make the page another one at each build.
        let meant = "WARNING: missing date, using \"\": TH";
        let told: Vec<&str> = said.stdout.lines().chain(said.stderr.lines()).collect();
        assert!(
            told.len() == 1 && told[0].ends_with(meant),
            "{name}: {told:?}"
        );
    }
}

/// A page as people read it.
fn shown(name: &str) -> String {
    read(&format!("units/manual/{name}")).replace("\\-", "-")
}

#[test]
#[ignore = "needs systemd; tests/run has it"]
fn everything_that_is_installed_is_named_in_the_page_of_the_units() {
    let dir = Dir::new("reference-installed");
    let mut install = Command::new(place("packer/install.sh"));
    install
        .args(["--stage", "--binary", env!("CARGO_BIN_EXE_farewell")])
        .env("DESTDIR", &dir.0);
    let said = Ended::of(&mut install);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    let installed: Vec<&str> = said
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("installed "))
        .collect();
    let page = shown("farewell.service.8");
    for path in &installed {
        assert!(
            dir.0
                .join(path.trim_start_matches('/'))
                .symlink_metadata()
                .is_ok(),
            "{path}"
        );
        let is_text = path.contains("/share/doc/") && !path.ends_with(".conf");
        if is_text || path.contains("/share/man/") || path.ends_with("/bin/farewell") {
            continue;
        }
        let name = path.rsplit('/').next().expect("a name");
        let named = if name == "farewell" { path } else { name };
        assert!(
            page.contains(named),
            "farewell.service(8) does not name {path}"
        );
    }
    for (name, _) in PAGES {
        let section = name.rsplit('.').next().expect("a section");
        let path = format!("/usr/share/man/man{section}/{name}");
        assert!(installed.contains(&path.as_str()), "{path}: {installed:?}");
    }
}

#[test]
fn every_variable_of_the_environment_is_in_the_page_of_the_program() {
    let page = shown("farewell.8");
    let variables = pages::variables();
    assert!(variables.len() > 8, "{variables:?}");
    for variable in variables {
        assert!(
            page.contains(&format!("\\fB{variable}\\fR")),
            "farewell(8) does not name {variable}"
        );
    }
}
