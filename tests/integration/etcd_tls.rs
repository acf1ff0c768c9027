//! etcd over TLS, and gateways that will not answer: each is told in one sentence, at once.

use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::binary::wait_until;
use crate::support::loopback::{Loopback, Reply};
use crate::support::ports::ports;
use crate::support::servers::{make_certificates, openssl};
use crate::support::{Dir, Run, step};
use farewell::model::error::{ErrorKind, Failure};
use farewell::step::{Outcome, StepSpec};

const TIME: Duration = Duration::from_secs(60);

/// What is asked of a member beyond its addresses.
struct Manner {
    /// The name of its certificate, in the directory; none: plain HTTP.
    certificate: Option<&'static str>,
    more: &'static [&'static str],
}

/// Real members of one cluster, killed when they go out of scope.
struct Members {
    urls: Vec<String>,
    nodes: Vec<Child>,
    dir: Dir,
}

impl Members {
    fn start(name: &str, manners: &[Manner]) -> Members {
        let dir = Dir::new(name);
        make_certificates(&dir);
        std::fs::write(
            dir.file("extensions"),
            "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n",
        )
        .expect("written");
        openssl(
            &dir,
            "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out for-servers.crt",
        );
        std::fs::copy(dir.file("server.key"), dir.file("for-servers.key")).expect("copied");
        let ports = ports(2 * manners.len());
        let (clients, peers) = ports.split_at(manners.len());
        let peer = |at: usize| format!("http://127.0.0.1:{}", peers[at]);
        let names: Vec<String> = (0..peers.len())
            .map(|at| format!("n{}={}", at + 1, peer(at)))
            .collect();
        let mut urls = Vec::new();
        let mut nodes = Vec::new();
        for (at, manner) in manners.iter().enumerate() {
            let scheme = manner.certificate.map_or("http", |_| "https");
            let url = format!("{scheme}://127.0.0.1:{}", clients[at]);
            let mut command = Command::new("/usr/bin/etcd");
            command
                .env_clear()
                .args(["--name", &format!("n{}", at + 1)])
                .args(["--data-dir", &dir.file(&format!("n{}", at + 1))])
                .args(["--listen-client-urls", &url])
                .args(["--advertise-client-urls", &url])
                .args(["--listen-peer-urls", &peer(at)])
                .args(["--initial-advertise-peer-urls", &peer(at)])
                .args(["--initial-cluster", &names.join(",")])
                .args(manner.more)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            if let Some(name) = manner.certificate {
                command
                    .args(["--cert-file", &dir.file(&format!("{name}.crt"))])
                    .args(["--key-file", &dir.file(&format!("{name}.key"))])
                    .args(["--trusted-ca-file", &dir.file("ca.crt")]);
            }
            nodes.push(command.spawn().expect("etcd (apt install etcd-server)"));
            urls.push(url);
        }
        let members = Members { urls, nodes, dir };
        for url in &members.urls {
            wait_until("the member is healthy", || members.is_healthy(url));
        }
        members
    }

    fn is_healthy(&self, url: &str) -> bool {
        let mut command = Command::new("/usr/bin/etcdctl");
        command.env_clear().env("ETCDCTL_API", "3").args([
            "--endpoints",
            url,
            "--command-timeout",
            "60s",
        ]);
        if url.starts_with("https") {
            command
                .arg("--insecure-skip-tls-verify")
                .args(["--cert", &self.dir.file("client.crt")])
                .args(["--key", &self.dir.file("client.key")]);
        }
        let output = command.args(["endpoint", "health"]).output();
        output
            .expect("etcdctl (apt install etcd-client)")
            .status
            .success()
    }

    fn wait_safe(&self, more: &str) -> StepSpec {
        let url = &self.urls[0];
        let file = |key: &str, name: &str| format!("{key} = \"{}\"\n", self.dir.file(name));
        let files = match url.starts_with("https") {
            true => {
                file("ca-file", "ca.crt")
                    + &file("cert-file", "client.crt")
                    + &file("key-file", "client.key")
            }
            false => String::new(),
        };
        step(&format!(
            "kind = \"wait-safe\"\ncluster = \"etcd\"\nurl = \"{url}\"\n{files}{more}"
        ))
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

/// The failure that ends the attempts, of which none may use all the time that it has.
fn at_once(step: &StepSpec) -> Failure {
    let begun = Instant::now();
    loop {
        let failure = Run::new()
            .attempt(step, 4 * TIME)
            .expect_err("it cannot be");
        assert!(begun.elapsed() < 2 * TIME, "{failure}");
        if !failure.retryable {
            return failure;
        }
        // etcd's gateway hears now and then that the connection was reset before it hears why.
        assert!(
            failure.cause.contains("connection reset by peer"),
            "{failure}"
        );
    }
}

#[test]
#[ignore = "needs openssl; tests/run has it"]
fn other_members_prove_names_of_their_own() {
    let with = |certificate| Manner {
        certificate: Some(certificate),
        more: &[],
    };
    let members = Members::start(
        "etcd-names",
        &[with("named"), with("server"), with("server")],
    );
    let run = Run::new();
    let step = members.wait_safe("server-name = \"cluster.test\"\n");
    assert_eq!(run.retry(&step, TIME), Ok(Outcome::Done));
    // Its own address does prove the name that was asked for.
    let wrong = members.wait_safe("server-name = \"other.test\"\n");
    assert_eq!(at_once(&wrong).kind, ErrorKind::Tls);
}

#[test]
#[ignore = "needs openssl; tests/run has it"]
fn a_gateway_that_is_off_is_told() {
    let on = || Manner {
        certificate: None,
        more: &[],
    };
    let off = || Manner {
        certificate: None,
        more: &["--enable-grpc-gateway=false"],
    };
    let members = Members::start("etcd-off", &[off()]);
    let failure = at_once(&members.wait_safe(""));
    assert_eq!(failure.kind, ErrorKind::Status, "{failure}");
    assert!(
        failure.cause.contains("no JSON gateway")
            && failure.cause.contains("--enable-grpc-gateway"),
        "{failure}"
    );
    // At the others nothing is waited for that cannot come.
    let members = Members::start("etcd-off-others", &[on(), off(), off()]);
    let failure = at_once(&members.wait_safe(""));
    assert_eq!(failure.kind, ErrorKind::Status, "{failure}");
    assert!(
        failure.cause.contains("n2 does not answer") && failure.cause.contains("no JSON gateway"),
        "{failure}"
    );
}

#[test]
#[ignore = "needs openssl; tests/run has it"]
fn a_server_s_certificate_that_is_not_for_clients_is_told() {
    let members = Members::start(
        "etcd-usage",
        &[Manner {
            certificate: Some("for-servers"),
            more: &["--client-cert-auth"],
        }],
    );
    let failure = at_once(&members.wait_safe(""));
    assert_eq!(failure.kind, ErrorKind::Tls, "{failure}");
    assert!(failure.cause.contains("clientAuth"), "{failure}");
}

#[test]
fn a_gateway_that_closes_on_its_own_token_is_told() {
    // A stand-in for a gateway that does so; it answers who comes without one.
    let gateway = Loopback::start(|asked| match asked.path.as_str() {
        "/v3/auth/authenticate" => Reply::text("200 OK", r#"{"header":{},"token":"t0ken.7"}"#),
        _ if asked.header("authorization").is_some() => Reply::Close,
        _ => Reply::text(
            "400 Bad Request",
            r#"{"error":"user name is empty","message":"user name is empty","code":3}"#,
        ),
    });
    let account = "user = \"root\"\npassword = \"s3cret-closing\"";
    let url = gateway.url();
    for text in [
        format!("kind = \"wait-safe\"\ncluster = \"etcd\"\nurl = \"{url}\"\n{account}"),
        format!(
            "kind = \"deregister\"\nregistry = \"etcd\"\nurl = \"{url}\"\nkey = \"k\"\n{account}"
        ),
    ] {
        let failure = at_once(&step(&text));
        assert_eq!(failure.kind, ErrorKind::Refused, "{failure}");
        assert!(
            failure
                .cause
                .contains("closes the connection on each request with the token that it gave"),
            "{failure}"
        );
    }
}

#[test]
#[ignore = "needs openssl; tests/run has it"]
fn addresses_that_a_member_tells_get_no_credentials_and_need_tls_where_the_url_has_it() {
    let plain = || Manner {
        certificate: None,
        more: &[],
    };
    let with_tls = Manner {
        certificate: Some("server"),
        more: &[],
    };
    let members = Members::start("etcd-mixed", &[with_tls, plain(), plain()]);
    let failure = Run::new()
        .attempt(&members.wait_safe(""), Duration::from_secs(3))
        .expect_err("nobody else is asked");
    assert_eq!(failure.kind, ErrorKind::TimedOut, "{failure}");
    assert!(
        failure
            .cause
            .contains("n2 has announced only addresses without TLS"),
        "{failure}"
    );

    // Stand-ins for two members, of which the second one leads and keeps what it hears.
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let hears = heard.clone();
    let status =
        |id: &str| format!(r#"{{"header":{{"member_id":"{id}"}},"leader":"2","raftIndex":"10"}}"#);
    let of_second = status("2");
    let second = Loopback::start(move |asked| {
        hears.lock().expect("no panic").push(asked.whole.clone());
        Reply::text("200 OK", &of_second)
    });
    let (of_first, told) = (status("1"), second.url());
    let first = Loopback::start(move |asked| match asked.path.as_str() {
        "/v3/cluster/member/list" => {
            let list = format!(
                r#"{{"header":{{}},"members":[{{"ID":"1","name":"n1"}},{{"ID":"2","name":"n2","clientURLs":["{told}"]}}]}}"#
            );
            Reply::text("200 OK", &list)
        }
        "/v3/auth/authenticate" => Reply::text("200 OK", r#"{"header":{},"token":"t0ken.8"}"#),
        _ => Reply::text("200 OK", &of_first),
    });
    for account in [
        "headers = { Authorization = \"Basic czNjcmV0LXRvbGQ6cHc=\" }",
        "user = \"root\"\npassword = \"s3cret-told\"",
    ] {
        let text = format!(
            "kind = \"wait-safe\"\ncluster = \"etcd\"\nurl = \"{}\"\n{account}",
            first.url()
        );
        assert_eq!(Run::new().attempt(&step(&text), TIME), Ok(Outcome::Done));
    }
    let heard = heard.lock().expect("no panic").join("\n").to_lowercase();
    assert!(heard.contains("/v3/maintenance/status"), "{heard}");
    for secret in ["basic", "s3cret", "authenticate", "t0ken"] {
        assert!(!heard.contains(secret), "{heard}");
    }
}
