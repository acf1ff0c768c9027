//! The release: a program that runs on every Debian, one version everywhere, and the same bytes each time.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::binary::Ended;
use crate::support::loopback::{Loopback, Reply};
use crate::support::release::{Copy, deb, dist, file_in, program};
use crate::support::roots::{Machine, SHELL};

/// As large as the design lets it be.
const LIMIT: u64 = 5 << 20;

/// Checks, runs and reports where nothing of this machine is, but for its network.
fn runs_on(suite: &str, glibc: &str) {
    let server = Loopback::start(|asked| match asked.path.as_str() {
        "/leave" => Reply::text("200 OK", "left"),
        _ => Reply::text("404 Not Found", ""),
    });
    let machine = Machine::new(&format!("portable-{suite}"), suite, SHELL);
    machine.bring(&program());
    machine.write(
        "/farewell.toml",
        &format!(
            "[[step]]\nname = \"say\"\nkind = \"command\"\nargv = [\"/bin/sh\", \"-c\", \"echo from ${{hostname}}\"]\n\
             [[step]]\nname = \"settle\"\nkind = \"wait\"\nfor = \"50ms\"\n\
             [[step]]\nname = \"leave\"\nkind = \"http\"\nmethod = \"POST\"\nurl = \"{}/leave\"\nbody = \"bye\"\n",
            server.url()
        ),
    );
    let checked = machine.must("/farewell check --config /farewell.toml");
    assert_eq!(checked, "farewell check: 1 file; 3 steps; no problems\n");
    machine.must("/farewell run --config /farewell.toml --state /state");
    let report = machine.must("/farewell report --json --state /state");
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["result"], "ok", "{report:#}");
    let steps = report["steps"].as_array().expect("steps");
    let ended: Vec<_> = steps.iter().map(|it| (&it["name"], &it["state"])).collect();
    assert_eq!(ended.len(), 3, "{report:#}");
    assert!(ended.iter().all(|(_, state)| *state == "done"), "{ended:?}");
    let said = machine.run("/lib/x86_64-linux-gnu/libc.so.6");
    let name = format!("(Debian GLIBC {glibc}");
    assert!(said.stdout.contains(&name), "{said:?}");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn it_runs_on_debian_11() {
    runs_on("bullseye", "2.31-");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn it_runs_on_debian_12() {
    runs_on("bookworm", "2.36-");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn it_runs_on_debian_13() {
    runs_on("trixie", "2.41-");
}

/// What a program needs of the libraries of the machine: versions of symbols, and libraries.
fn needs(program: &Path) -> (Vec<String>, Vec<String>) {
    let told =
        |argument: &str| Ended::of(Command::new("objdump").arg(argument).arg(program)).stdout;
    let words = told("-T");
    let words = words.split(|it: char| it.is_whitespace() || "()".contains(it));
    let mut versions: Vec<String> = words
        .filter(|word| word.starts_with("GLIBC_"))
        .map(str::to_owned)
        .collect();
    versions.sort();
    versions.dedup();
    let lines = told("-p");
    let lines = lines
        .lines()
        .filter_map(|line| line.trim().strip_prefix("NEEDED"));
    (versions, lines.map(|it| it.trim().to_owned()).collect())
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn it_needs_glibc_2_17_and_nothing_else() {
    let (versions, libraries) = needs(&program());
    let minor = |version: &String| {
        version
            .strip_prefix("GLIBC_2.")?
            .split('.')
            .next()?
            .parse()
            .ok()
    };
    let minors: Vec<u32> = versions
        .iter()
        .map(|it| minor(it).unwrap_or_else(|| panic!("{it}")))
        .collect();
    assert_eq!(minors.iter().max(), Some(&17), "{versions:?}");
    for library in &libraries {
        let is_of_glibc =
            ["libc.so.6", "libpthread.so.0", "libdl.so.2"].contains(&library.as_str());
        assert!(is_of_glibc, "{libraries:?}");
    }
    let size = fs::metadata(program()).expect("a file").len();
    assert!(size <= LIMIT, "{size} bytes");
    println!("{size} bytes, {versions:?}, {libraries:?}");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_program_that_needs_more_is_not_released() {
    let copy = Copy::new("release-needs");
    let built = Path::new(env!("CARGO_BIN_EXE_farewell"));
    let said = Ended::of(&mut copy.script(built));
    assert_eq!(said.code, 70, "{said:?}");
    assert!(
        said.stderr.contains("it must run with glibc 2.17"),
        "{said:?}"
    );
    assert!(!copy.0.0.join("target/dist/SHA256SUMS").exists());
}

/// A file, what it says, and what it says in its place.
type Change<'a> = (&'a str, &'a str, &'a str);

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_version_is_the_same_everywhere() {
    let version = env!("CARGO_PKG_VERSION");
    let (manifest, lock) = (
        format!("version = \"{version}\""),
        format!("name = \"farewell\"\nversion = \"{version}\""),
    );
    let entry = format!("## [{version}] - ");
    let page = format!("\"farewell {version}\"");
    let pages = ["farewell.8", "farewell.toml.5", "farewell.service.8"]
        .map(|name| format!("units/manual/{name}"));
    let other_page = |at: usize| (pages[at].as_str(), page.as_str(), "\"farewell 9.9.9\"");
    let cases: [(&str, &[Change]); 5] = [
        (
            "units/manual/farewell.toml.5 says '9.9.9'",
            &[other_page(1)],
        ),
        (
            "CHANGELOG.md's newest entry says '9.9.9'",
            &[("CHANGELOG.md", &entry, "## [9.9.9] - ")],
        ),
        (
            "CHANGELOG.md's newest entry says ''",
            &[("CHANGELOG.md", &entry, "## Unreleased ")],
        ),
        (
            "Cargo.lock says '9.9.9'",
            &[(
                "Cargo.lock",
                &lock,
                "name = \"farewell\"\nversion = \"9.9.9\"",
            )],
        ),
        (
            "--version says 'farewell ",
            &[
                ("Cargo.toml", &manifest, "version = \"9.9.9\""),
                (
                    "Cargo.lock",
                    &lock,
                    "name = \"farewell\"\nversion = \"9.9.9\"",
                ),
                ("CHANGELOG.md", &entry, "## [9.9.9] - "),
                other_page(0),
                other_page(1),
                other_page(2),
            ],
        ),
    ];
    for (told, changes) in cases {
        let copy = Copy::new("release-version");
        for (file, from, to) in changes {
            copy.replace(file, from, to);
        }
        let said = Ended::of(&mut copy.script(&program()));
        assert_eq!(said.code, 65, "{said:?}");
        assert!(said.stderr.contains(told), "{told}: {said:?}");
        assert!(!copy.0.0.join("target/dist/SHA256SUMS").exists());
    }
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn the_same_sources_make_the_same_bytes() {
    let copy = Copy::new("release-again");
    // By somebody else, elsewhere, at another hour.
    let all = "chown -R 65534:65534 \"$0\" && umask 077 && exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\"";
    let script = copy.script(&program());
    let mut again = Command::new("sh");
    again
        .args(["-c", all])
        .arg(&copy.0.0)
        .arg(script.get_program())
        .args(script.get_args());
    for (name, value) in script.get_envs() {
        again.env(name, value.expect("set"));
    }
    again
        .env("TZ", "Asia/Kathmandu")
        .env("LC_ALL", "tr_TR.UTF-8")
        .env("HOME", "/nonexistent");
    let said = Ended::of(&mut again);
    assert_eq!(said.code, 0, "{}\n{}", said.stdout, said.stderr);
    let sums = |dir: &Path| fs::read_to_string(dir.join("SHA256SUMS")).expect("sums");
    assert_eq!(sums(&copy.0.0.join("target/dist")), sums(dist()));
    let mut check = Command::new("sha256sum");
    let said = Ended::of(
        check
            .args(["--check", "--strict", "SHA256SUMS"])
            .current_dir(dist()),
    );
    assert_eq!((said.code, said.stdout.lines().count()), (0, 5), "{said:?}");
    // `tests/run --long` builds the program twice, too.
    if std::env::var_os("FAREWELL_TESTS_LONG").is_some() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let said = Ended::of(Command::new(root.join("packer/packages/release")).arg("--verify"));
        assert_eq!(said.code, 0, "{}\n{}", said.stdout, said.stderr);
        let end = "built twice, the same bytes";
        assert!(said.stdout.contains(end), "{said:?}");
    }
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn the_archive_installs_what_the_package_has() {
    let dir = crate::support::Dir::new("release-archive");
    let archive = file_in(dist(), ".tar.gz");
    let script = "set -eu; mkdir unpacked package root; tar -C unpacked -xzf \"$1\"; dpkg-deb -x \"$2\" package; \
        DESTDIR=$PWD/root prefix=/usr unitdir=/usr/lib/systemd/system generatordir=/usr/lib/systemd/system-generators \
            presetdir=/usr/lib/systemd/system-preset catalogdir=/usr/lib/systemd/catalog \
            zshdir=/usr/share/zsh/vendor-completions unpacked/*/packer/install.sh --stage >/dev/null; \
        find package -name '*.gz' -path '*/man/*' -exec gunzip {} +; \
        { echo && cat unpacked/*/third-party-licenses.txt; } >>root/usr/share/doc/farewell/copyright; \
        list() { (cd $1 && find . -mindepth 1 -printf '%p %m %l\\n' | sort); }; \
        list root >root.list; list package >package.list; \
        diff root.list package.list; diff -r --no-dereference root package; wc -l <root.list";
    let mut shell = Command::new("sh");
    shell
        .args(["-c", script, "sh"])
        .arg(archive)
        .arg(deb())
        .current_dir(&dir.0);
    let said = Ended::of(&mut shell);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
    let entries: usize = said.stdout.trim().parse().expect("a number");
    assert!(entries > 30, "{entries} entries");
}
