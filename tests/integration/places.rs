//! A fact is data: it fills its place in a path, a URL or a name, and never leads to another one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use crate::support::Dir;
use crate::support::binary::{Binary, Ended};
use crate::support::loopback::{Asked, Loopback, Reply};
use serde_json::{Value, json};

fn report(binary: &Binary) -> Value {
    let said = binary.verb(&["report", "--json"]);
    serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"))
}

/// State and error word of each step of the newest run.
fn steps(binary: &Binary) -> Vec<(String, String)> {
    let report = report(binary);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let steps = report["steps"].as_array().expect("steps");
    steps
        .iter()
        .map(|it| (text(&it["state"]), text(&it["error"]["word"])))
        .collect()
}

/// A server that says 200 to everything and keeps it.
struct Heard {
    server: Loopback,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Heard {
    fn start() -> Heard {
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let kept = requests.clone();
        let server = Loopback::start(move |asked: &Asked| {
            kept.lock().expect("lock").push(asked.whole.clone());
            Reply::text("200 OK", "{}")
        });
        Heard { server, requests }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.requests.lock().expect("lock"))
    }

    /// The port, for an address that is put together.
    fn port(&self) -> String {
        let url = self.server.url();
        url.rsplit(':')
            .next()
            .expect("a port")
            .trim_end_matches('/')
            .to_owned()
    }
}

#[test]
fn a_fact_removes_no_file_but_one_of_its_directory() {
    let dir = Dir::new("places-path");
    fs::create_dir_all(dir.file("members/below")).expect("made");
    let id = dir.file("instance.json");
    let toml = format!(
        "[[step]]\nname = \"leave\"\nkind = \"deregister\"\nregistry = \"file\"\npath = \"{}/${{json:{id}#/id}}\"\n\
         [[step]]\nname = \"goes-on\"\nkind = \"command\"\nargv = [\"true\"]\n",
        dir.file("members")
    );
    let binary = Binary::new("places-path-binary", &toml);
    for (value, victim) in [
        ("../victim", "victim"),
        ("below/victim", "members/below/victim"),
        ("./victim", "members/victim"),
    ] {
        fs::write(dir.file(victim), "").expect("written");
        fs::write(&id, json!({ "id": value }).to_string()).expect("written");
        assert_eq!(binary.verb(&["run"]).code, 1, "{value}");
        let [leave, other] = &steps(&binary)[..] else {
            panic!("two steps")
        };
        assert_eq!(
            leave,
            &("failed".to_owned(), "config".to_owned()),
            "{value}"
        );
        assert_eq!(other.0, "done", "{value}");
        assert!(fs::exists(dir.file(victim)).expect("looked"), "{value}");
        let checked = binary.verb(&["check"]);
        assert_eq!(checked.code, 78, "{value}");
        assert!(
            checked.stderr.contains("key \"path\": ${json:") && !checked.stderr.contains("victim"),
            "{checked:?}"
        );
    }
    fs::write(dir.file("members/web-1"), "").expect("written");
    fs::write(&id, json!({ "id": "web-1" }).to_string()).expect("written");
    assert_eq!(binary.verb(&["check"]).code, 0);
    assert_eq!(binary.verb(&["run"]).code, 0);
    assert!(!fs::exists(dir.file("members/web-1")).expect("looked"));
}

#[test]
fn a_fact_adds_no_part_and_no_parameter_to_a_url() {
    let dir = Dir::new("places-url");
    let heard = Heard::start();
    fs::write(dir.file("id"), "../../admin/delete?all=1&x#").expect("written");
    let toml = format!(
        "[[step]]\nname = \"tell\"\nkind = \"http\"\nmethod = \"DELETE\"\n\
         url = \"{}/apps/${{file:{id}}}/x?id=${{file:{id}}}&force=0\"\nheaders = {{ Authorization = \"Bearer s3cret-here\" }}\n",
        heard.server.url().trim_end_matches('/'),
        id = dir.file("id")
    );
    let binary = Binary::new("places-url-binary", &toml);
    assert_eq!(binary.verb(&["run"]).code, 0);
    let value = "..%2F..%2Fadmin%2Fdelete%3Fall%3D1%26x%23";
    let line = format!("DELETE /apps/{value}/x?id={value}&force=0 HTTP/1.1");
    let asked = heard.take();
    assert!(asked.len() == 1 && asked[0].starts_with(&line), "{asked:?}");
    // It cannot be encoded so that no server takes it for the way up.
    fs::write(dir.file("id"), "..").expect("written");
    assert_eq!(binary.verb(&["run"]).code, 1);
    assert_eq!(steps(&binary)[0].1, "config");
    assert_eq!(heard.take(), Vec::<String>::new());
}

/// The keys of a step that make its request carry a credential.
const CREDENTIALS: [&str; 6] = [
    "headers = { Authorization = \"Bearer s3cret-here\" }",
    "headers = { X-Site = \"${credential:token}\" }",
    "headers = { X-Api-Key = \"s3cret-here\" }",
    "user = \"joe\"\npassword = \"s3cret-here\"",
    "method = \"POST\"\nbody = \"token=${credential:token}\"",
    "method = \"POST\"\njson = { a = [\"${credential:token}\"] }",
];

fn with_token(binary: &Binary, arguments: &[&str]) -> Ended {
    binary.dir.credential("token", "s3cret-here");
    Ended::of(
        binary
            .command(arguments)
            .env("CREDENTIALS_DIRECTORY", &binary.dir.0),
    )
}

#[test]
fn a_file_takes_credentials_to_listed_hosts_alone() {
    let dir = Dir::new("places-hosts");
    let heard = Heard::start();
    let port = heard.port();
    fs::write(dir.file("host"), "127.0.0.1").expect("written");
    fs::write(dir.file("port"), &port).expect("written");
    fs::write(dir.file("url"), format!("http://127.0.0.1:{port}/x")).expect("written");
    fs::write(
        dir.file("data.json"),
        json!({ "host": "127.0.0.1" }).to_string(),
    )
    .expect("written");
    let file = |name: &str| format!("${{file:{}}}", dir.file(name));
    let urls = [
        format!("http://{}:{port}/x", file("host")),
        format!("http://${{json:{}#/host}}:{port}/x", dir.file("data.json")),
        format!("http://127.0.0.1:{}/x", file("port")),
        file("url"),
    ];
    for (at, url) in urls.iter().enumerate() {
        for (which, credentials) in CREDENTIALS.iter().enumerate() {
            let step = format!(
                "[[step]]\nname = \"tell\"\nkind = \"http\"\nurl = \"{url}\"\n{credentials}\n\
                 [[step]]\nname = \"goes-on\"\nkind = \"command\"\nargv = [\"true\"]\n"
            );
            let case = format!("{url} {credentials}");
            let binary = Binary::new(&format!("places-hosts-{at}-{which}"), &step);
            for verb in [&["check"][..], &["check", "--image"], &["start"]] {
                let said = with_token(&binary, verb);
                assert_eq!(said.code, 78, "{case}: {said:?}");
                assert!(
                    said.stderr.contains("credential-hosts = [\".example\"]"),
                    "{case}: {said:?}"
                );
            }
            assert_eq!(with_token(&binary, &["run"]).code, 1, "{case}");
            let is = |state: &str, word: &str| (state.to_owned(), word.to_owned());
            assert_eq!(
                steps(&binary),
                [is("failed", "config"), is("done", "")],
                "{case}"
            );
            assert_eq!(heard.take(), Vec::<String>::new(), "{case}");
            // Others are listed, and then this one.
            let list = |hosts: &str| {
                let head = format!("[farewell]\ncredential-hosts = {hosts}\n");
                fs::write(binary.dir.file("farewell.toml"), head + &step).expect("written");
            };
            list("[\".example\", \"127.0.0.2\"]");
            let said = with_token(&binary, &["check"]);
            assert!(
                said.code == 78 && said.stderr.contains("names a host that is not in"),
                "{case}: {said:?}"
            );
            assert_eq!(with_token(&binary, &["run"]).code, 1, "{case}");
            assert_eq!(heard.take(), Vec::<String>::new(), "{case}");
            // On a build machine the facts of the later machine are not there yet.
            list("[\"${env:FAREWELL_TEST_NOT_SET}\"]");
            let said = with_token(&binary, &["check", "--image"]);
            assert_eq!(said.code, 0, "{case}: {said:?}");
            list("[\".example\", \"127.0.0.1\"]");
            assert_eq!(with_token(&binary, &["check"]).code, 0, "{case}");
            assert_eq!(with_token(&binary, &["run"]).code, 0, "{case}");
            assert_eq!(heard.take().len(), 1, "{case}");
        }
    }
}

#[test]
fn other_hosts_are_free() {
    let dir = Dir::new("places-free");
    let heard = Heard::start();
    let port = heard.port();
    let url = format!("http://127.0.0.1:{port}/x");
    fs::write(dir.file("url"), &url).expect("written");
    let token = "headers = { Authorization = \"Bearer s3cret-here\" }";
    for (url, keys) in [
        // Without credentials a file may name the whole URL.
        (format!("${{file:{}}}", dir.file("url")), ""),
        // The machine itself and the environment of the service are what its owner says.
        (format!("http://${{ip:lo}}:{port}"), token),
        ("${env:FAREWELL_TEST_URL}".to_owned(), token),
        (
            format!(
                "http://${{env:FAREWELL_TEST_HOST}}:{port}/${{file:{}}}",
                dir.file("url")
            ),
            token,
        ),
    ] {
        let step = format!("[[step]]\nname = \"tell\"\nkind = \"http\"\nurl = \"{url}\"\n{keys}\n");
        let binary = Binary::new("places-free-binary", &step);
        let whole = format!("http://127.0.0.1:{port}/x");
        let variables = [
            ("FAREWELL_TEST_URL", whole.as_str()),
            ("FAREWELL_TEST_HOST", "127.0.0.1"),
        ];
        for verb in ["check", "run"] {
            let said = Ended::of(binary.command(&[verb]).envs(variables));
            assert_eq!(said.code, 0, "{url}: {said:?}");
        }
        assert_eq!(heard.take().len(), 1, "{url}");
    }
}

#[test]
fn what_everybody_can_write_begins_no_path_and_no_url() {
    let dir = Dir::new("places-trust");
    let heard = Heard::start();
    fs::write(dir.file("victim"), "").expect("written");
    fs::write(dir.file("path"), dir.file("victim")).expect("written");
    fs::write(dir.file("url"), heard.server.url()).expect("written");
    let toml = format!(
        "[[step]]\nname = \"leave\"\nkind = \"deregister\"\nregistry = \"file\"\npath = \"${{file:{}}}\"\n\
         [[step]]\nname = \"tell\"\nkind = \"http\"\nurl = \"${{file:{}}}\"\n",
        dir.file("path"),
        dir.file("url")
    );
    let binary = Binary::new("places-trust-binary", &toml);
    let set = |mode| {
        for name in ["path", "url"] {
            fs::set_permissions(dir.file(name), fs::Permissions::from_mode(mode)).expect("set");
        }
    };
    set(0o666);
    let said = binary.verb(&["check"]);
    assert_eq!(
        (
            said.code,
            said.stderr.matches("(mode 0666): chmod o-w ").count()
        ),
        (78, 2),
        "{said:?}"
    );
    assert_eq!(binary.verb(&["run"]).code, 1);
    assert!(
        steps(&binary).iter().all(|(_, word)| word == "config"),
        "{:?}",
        steps(&binary)
    );
    assert!(fs::exists(dir.file("victim")).expect("looked"));
    assert_eq!(heard.take(), Vec::<String>::new());
    set(0o644);
    assert_eq!(binary.verb(&["run"]).code, 0);
    assert!(!fs::exists(dir.file("victim")).expect("looked"));
    assert_eq!(heard.take().len(), 1);
}

#[test]
fn a_fact_is_never_a_pattern_of_units() {
    let dir = Dir::new("places-pattern");
    let toml = format!(
        "[[step]]\nname = \"stop\"\nkind = \"stop-unit\"\nunits = [\"app@${{file:{}}}.service\"]\n",
        dir.file("zone")
    );
    let binary = Binary::new("places-pattern-binary", &toml);
    for (value, code) in [("*", 78), ("[a-z]", 78), ("?", 78), ("a", 0)] {
        fs::write(dir.file("zone"), value).expect("written");
        let said = binary.verb(&["check"]);
        assert_eq!(said.code, code, "{value}: {said:?}");
    }
}

#[test]
fn an_empty_fact_makes_no_prefix_of_everything() {
    let dir = Dir::new("places-prefix");
    let heard = Heard::start();
    let toml = format!(
        "[[step]]\nname = \"leave\"\nkind = \"deregister\"\nregistry = \"etcd\"\nurl = \"{}\"\nprefix = \"services/${{file:{}}}\"\n",
        heard.server.url(),
        dir.file("name")
    );
    let binary = Binary::new("places-prefix-binary", &toml);
    for value in ["", "a/b", ".."] {
        fs::write(dir.file("name"), value).expect("written");
        assert_eq!(binary.verb(&["run"]).code, 1, "{value}");
        assert_eq!(steps(&binary)[0].1, "config", "{value}");
    }
    assert_eq!(heard.take(), Vec::<String>::new());
}

#[test]
fn facts_are_read_from_regular_files_alone() {
    let dir = Dir::new("places-fifo");
    // Nobody ever writes to this one.
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    nix::unistd::mkfifo(dir.file("fifo").as_str(), mode).expect("made");
    for path in [
        dir.file("fifo"),
        "/dev/zero".to_owned(),
        dir.0.display().to_string(),
    ] {
        let toml = format!(
            "[[step]]\nname = \"tell\"\nkind = \"command\"\nargv = [\"true\", \"${{file:{path}}}\", \"${{json:{path}#/a}}\"]\n"
        );
        let binary = Binary::new("places-fifo-binary", &toml);
        let said = binary.verb(&["check"]);
        assert_eq!(
            (said.code, said.stderr.matches("not a regular file").count()),
            (78, 2),
            "{said:?}"
        );
    }
}

#[test]
fn a_configuration_that_is_given_by_hand_may_come_through_a_pipe() {
    let toml = "[[step]]\nname = \"a\"\nkind = \"wait\"\nfor = \"1ms\"\n";
    let mut command = crate::support::binary::farewell();
    let mut child = command
        .args(["check", "--config", "/dev/stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), toml.as_bytes())
        .expect("written");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 step"), "{said}");
}
