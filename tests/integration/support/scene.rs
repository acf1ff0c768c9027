//! A run that has a secret wherever one can be, and peers and children that repeat it in every spelling.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use super::Dir;
use super::binary::{Binary, step_of};
use super::etcd::Cluster;
use super::servers::{Manner, Server, TlsServer, answer, make_certificates};
use super::spellings::{found, json, json_ascii, percent};
use super::stand_in::StandIn;

pub const TOKEN: &str = r#"Tq7/Zk+4%wX"9\Rm&<Hd>=Vs"#;
pub const ACCENT: &str = r#"Grüße-Ωx/8%"y\z Ñandú-🔑"#;
pub const LINES: &str = "Zeile-Aa1-Kq8vTz\nZeile-Bb2-Wm5rXy\nZeile-Cc3-Pj6nHs";
pub const LITERAL: &str = r#"Lq5/"Jy8\Nf%3+Bw$${x}"#;
pub const IN_URL: &str = "Uw6/Dg3-Sk9-Ce2";
pub const ETCD: &str = "s3cret-root";
pub const SECRETS: [&str; 6] = [TOKEN, ACCENT, LINES, LITERAL, IN_URL, ETCD];

pub fn clean(what: &str, text: &[u8]) {
    let found = found(&SECRETS, text);
    assert!(
        found.is_empty(),
        "{what}: {found:?} in {}",
        String::from_utf8_lossy(text)
    );
}

/// The servers that the steps talk to, and everything that they repeat.
pub struct Scene {
    pub dir: Dir,
    good: Server,
    json: Server,
    until: Server,
    other: Server,
    etcd: Cluster,
    tls: TlsServer,
    pub config: String,
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn step(config: &mut String, name: &str, keys: &str) {
    *config += &format!("[[step]]\nname = {name:?}\nattempts = 1\n{keys}\n");
}

fn http(config: &mut String, name: &str, url: &str, keys: &str) {
    step(
        config,
        name,
        &format!("kind = \"http\"\nurl = {url:?}\n{keys}"),
    );
}

const HEADERS: &str = "headers = { X-Token = \"${credential:token}\", Authorization = \"Bearer ${credential:token}\" }\n";

impl Scene {
    pub fn new(name: &str) -> Scene {
        let dir = Dir::new(name);
        let write = |name: &str, text: &str, mode: u32| {
            let file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(dir.file(name));
            std::io::Write::write_all(&mut file.expect("a file"), text.as_bytes())
                .expect("written");
        };
        for (name, secret) in [
            ("token", TOKEN),
            ("accent", ACCENT),
            ("lines", LINES),
            ("etcd", ETCD),
        ] {
            write(name, &format!("{secret}\n"), 0o600);
        }
        write("open", TOKEN, 0o644);
        write("url", &format!("http://joe:{IN_URL}@127.0.0.1:1/"), 0o600);
        make_certificates(&dir);
        let mut scene = Scene {
            good: Server::answers(&["200"]),
            json: Server::answers(&["200"]),
            until: Server::answers(&["200 {\"a\":1}", &format!("200 {{\"a\":{}}}", quoted(TOKEN))]),
            other: Server::answers(&["200"]),
            etcd: Cluster::start(&format!("{name}-etcd"), 1).with_auth(),
            tls: TlsServer::start(&dir, "named", false),
            config: String::new(),
            dir,
        };
        scene.config = scene.steps();
        scene
    }

    fn steps(&self) -> String {
        let mut config = "[farewell]\nbudget = \"10m\"\n".to_owned();
        let it = &mut config;
        let body = "method = \"POST\"\nbody = \"${credential:accent}\"\n";
        http(it, "good", &self.good.url(), &format!("{body}{HEADERS}"));
        let keys = "json = { a = [\"${credential:accent}\"], b = \"${credential:lines}\" }\nmethod = \"POST\"\n";
        http(
            it,
            "json",
            &self.json.url(),
            &format!("{keys}user = \"joe\"\npassword = '{LITERAL}'"),
        );
        let keys =
            "every = \"50ms\"\nuntil = { pointer = \"/a\", equals = \"${credential:token}\" }";
        http(it, "until", &self.until.url(), keys);
        for (name, password) in [
            ("etcd", "\"${credential:etcd}\""),
            ("etcd-no", &format!("'{LITERAL}'")),
        ] {
            let keys = format!("key = \"/k\"\nuser = \"root\"\npassword = {password}");
            let url = &self.etcd.urls[0];
            step(
                it,
                name,
                &format!("kind = \"deregister\"\nregistry = \"etcd\"\nurl = \"{url}\"\n{keys}"),
            );
        }
        for (at, said) in spelled().iter().enumerate() {
            let status = ["401", "400", "500"][at % 3];
            let server = Server::answers(&[&format!("{status} {said}")]);
            let keys = "user = \"joe\"\npassword = \"${credential:token}\"";
            http(it, &format!("echo-{at}"), &server.url(), keys);
        }
        let other = self.other.address;
        for (name, status, header) in [
            ("reason", format!("500 {TOKEN}"), String::new()),
            (
                "header",
                "401 No".to_owned(),
                format!("WWW-Authenticate: Basic realm={TOKEN}\r\n"),
            ),
            (
                "redirect",
                "302 Found".to_owned(),
                format!("Location: http://{other}/{TOKEN}\r\n"),
            ),
            (
                "redirect-user",
                "302 Found".to_owned(),
                format!("Location: http://{TOKEN}@{other}/\r\n"),
            ),
            (
                "redirect-host",
                "307 Found".to_owned(),
                format!("Location: http://{TOKEN}.example/\r\n"),
            ),
            ("no-http", format!("{TOKEN} x"), format!("{TOKEN}: x\r\n")),
        ] {
            let server = Server::start(Manner::Answers(vec![answer(&status, &header, TOKEN)]));
            http(it, name, &server.url(), HEADERS);
        }
        let broken = Server::answers(&[&format!("200 {{\"a\": {}, {TOKEN}", quoted(TOKEN))]);
        http(
            it,
            "broken",
            &broken.url(),
            &format!("{HEADERS}timeout = \"1s\"\nuntil = {{ pointer = \"/b\" }}"),
        );
        let tls = format!("https://{}/", self.tls.address);
        http(
            it,
            "tls",
            &tls,
            &format!("{HEADERS}ca-file = {:?}", self.dir.file("ca.crt")),
        );
        http(it, "no-name", "http://no-such-host.invalid/", HEADERS);
        http(
            it,
            "fact-url",
            &format!("${{file:{}}}", self.dir.file("url")),
            "",
        );
        http(
            it,
            "open",
            &self.good.url(),
            "headers = { X-Token = \"${credential:open}\" }",
        );
        http(
            it,
            "line-break",
            &self.good.url(),
            "headers = { X-Token = \"${credential:lines}\" }",
        );
        let environment = "environment = { TOKEN = \"${credential:token}\", ACCENT = \"x ${credential:accent}\", LINES = \"${credential:lines}\" }";
        let argv = format!("argv = [\"/bin/sh\", \"-c\", {}]", quoted(&self.script()));
        step(
            it,
            "child",
            &format!("kind = \"command\"\n{argv}\n{environment}"),
        );
        config
    }

    /// What the child does, and the files that it prints.
    fn script(&self) -> String {
        let write = |name: &str, text: &str| fs::write(self.dir.file(name), text).expect("written");
        write("spelled", &spelled().join("\n"));
        let straddling = |secret: &str, before: usize| {
            let rest = "y".repeat(200);
            format!("{}{secret}{rest}\n", "x".repeat((64 << 10) - before))
        };
        let straddle = [TOKEN.len() - 1, TOKEN.len(), 12, 1]
            .map(|it| straddling(TOKEN, it))
            .concat();
        write(
            "straddle",
            &(straddle + &straddling(&percent(ACCENT, false), 30)),
        );
        let (one, two) = TOKEN.split_at(TOKEN.len() / 2);
        write("one", one);
        write("two", two);
        format!(
            "cd '{}' && printf %s \"$TOKEN\" >control; printf '%s\\n' \"$TOKEN\" \"$ACCENT\" \"$LINES\"\n\
             printf %s \"$TOKEN\" | base64; printf '%s\\n' \"u:$ACCENT\" \"$LINES\" | base64 >&2\n\
             cat spelled >&2; echo; cat straddle; cat one; sleep 0.1; cat two; sleep 1; exit 3",
            self.dir.0.display()
        )
    }

    /// Runs it all with `command`'s environment, and looks for a secret in everything that came of it.
    pub fn plays(&self, binary: &Binary, mut command: Command) {
        let notify = StandIn::at(Path::new(&self.dir.file("notify")));
        command
            .env("FAREWELL_LOG", "trace")
            .env("NOTIFY_SOCKET", self.dir.file("notify"));
        command.stdout(fs::File::create(self.dir.file("stdout")).expect("a file"));
        let mut run = command.spawn().expect("it starts");
        let commands = watched(&mut run);
        let report = binary.report();
        let status = run.wait().expect("waited for");
        assert_eq!(status.code(), Some(1), "{report:#}");

        for (name, state, word) in [
            ("good", "done", ""),
            ("json", "done", ""),
            ("until", "done", ""),
            ("etcd", "already-done", ""),
            ("etcd-no", "failed", "refused"),
            ("echo-0", "failed", "refused"),
            ("echo-1", "failed", "status"),
            ("redirect", "failed", "status"),
            ("broken", "timed-out", "timed-out"),
            ("tls", "failed", "tls"),
            ("no-name", "failed", "unreachable"),
            ("fact-url", "failed", "config"),
            ("open", "failed", "config"),
            ("line-break", "failed", "config"),
            ("child", "failed", "exit-status"),
        ] {
            let step = step_of(&report, name);
            assert_eq!(step["state"], state, "{step:#}");
            assert_eq!(
                step["error"]["word"].as_str().unwrap_or_default(),
                word,
                "{step:#}"
            );
        }
        // They had what is looked for, and the search finds it there.
        let (good, sent) = (self.good.requests().concat(), self.json.requests().concat());
        assert!(good.contains(TOKEN) && good.contains(ACCENT), "{good}");
        let pair = STANDARD.encode(format!("joe:{}", LITERAL.replace("$${", "${")));
        assert!(
            sent.contains(&json(ACCENT)) && sent.contains(&json(LINES)) && sent.contains(&pair),
            "{sent}"
        );
        for text in [&good, &sent] {
            assert!(found(&SECRETS, text.as_bytes()).len() > 3, "{text}");
        }
        assert_eq!(
            fs::read_to_string(self.dir.file("control")).expect("the child's"),
            TOKEN
        );
        assert_eq!(self.other.connections(), 0, "a redirect was followed");

        let said = fs::read(self.dir.file("stdout")).expect("standard output");
        let text = String::from_utf8_lossy(&said);
        assert!(
            text.matches("********").count() > 10 && text.contains("exited with 3"),
            "{text}"
        );
        clean("standard output", &said);
        clean(
            "standard error",
            &fs::read(self.dir.file("stderr")).expect("standard error"),
        );
        let notified = notify.heard();
        assert!(String::from_utf8_lossy(&notified).contains("STATUS="));
        clean("to systemd", &notified);
        assert!(
            commands.contains("--state") && commands.contains("cat one"),
            "{commands}"
        );
        clean("command lines", commands.as_bytes());
        let state = Path::new(&binary.dir.file("state")).to_owned();
        clean(
            "run.lock",
            &fs::read(state.join("run.lock")).expect("a lock"),
        );
        let mut records = 0;
        for record in fs::read_dir(state.join("runs")).expect("records") {
            clean(
                "record",
                &fs::read(record.expect("an entry").path()).expect("a record"),
            );
            records += 1;
        }
        assert!(records > 0);
        for verb in [
            &["report"][..],
            &["report", "--json"],
            &["report", "--list"],
            &["status"],
            &["status", "--json"],
            &["plan"],
            &["plan", "--json"],
            &["rehearse"],
            &["rehearse", "--json"],
            &["check"],
        ] {
            let mut command = binary.command(verb);
            let output = command
                .env("CREDENTIALS_DIRECTORY", &self.dir.0)
                .output()
                .expect("it runs");
            assert!(!output.stdout.is_empty(), "{verb:?}");
            clean(
                &format!("{verb:?}"),
                &[output.stdout, output.stderr].concat(),
            );
        }
    }

    pub fn command(&self, binary: &Binary) -> Command {
        let mut command = binary.command(&["run"]);
        command.env("CREDENTIALS_DIRECTORY", &self.dir.0);
        command.stderr(fs::File::create(self.dir.file("stderr")).expect("a file"));
        command
    }
}

/// What peers and children repeat.
fn spelled() -> Vec<String> {
    let basic = |pair: String| STANDARD.encode(pair);
    vec![
        format!("who? {TOKEN}"),
        format!("q={}&x", percent(TOKEN, false)),
        format!("{{\"t\":{}}}", quoted(TOKEN)),
        basic(format!("joe:{TOKEN}")),
        basic(format!("u:{TOKEN}, and more")),
        URL_SAFE.encode(format!("up:{TOKEN}x")),
        percent(ACCENT, true),
        json_ascii(ACCENT),
        format!("{}{TOKEN}", "z".repeat(190)),
    ]
}

/// The command lines of a process and of all below it, until it ends.
fn watched(run: &mut Child) -> String {
    let mut lines = BTreeSet::new();
    while run.try_wait().expect("a child").is_none() {
        let mut family = BTreeSet::from([run.id()]);
        let mut processes: Vec<u32> = fs::read_dir("/proc")
            .expect("/proc")
            .filter_map(|it| it.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        processes.sort_unstable();
        for pid in processes {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let parent = stat
                .rsplit(") ")
                .next()
                .and_then(|it| it.split(' ').nth(1)?.parse().ok());
            if pid == run.id() || parent.is_some_and(|parent| family.contains(&parent)) {
                family.insert(pid);
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                lines.insert(String::from_utf8_lossy(&line).replace('\0', " "));
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    lines.into_iter().collect::<Vec<_>>().join("\n")
}
