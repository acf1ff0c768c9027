//! Whose certificate is trusted, and what is said of one that is not: in words, and of the one whose it is.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::support::servers::{TlsServer, make_certificates, make_useless_certificates, openssl};
use crate::support::{Dir, Run, step};
use farewell::model::error::{ErrorKind, Failure};
use farewell::step::Outcome;

const TIME: Duration = Duration::from_secs(60);

fn ask(url: &str, keys: &str) -> Result<Outcome, Failure> {
    let step = step(&format!("kind = \"http\"\nurl = {url:?}\n{keys}"));
    Run::new().attempt(&step, TIME)
}

fn url(server: &TlsServer) -> String {
    format!("https://{}/", server.address)
}

/// That a server is not trusted, for good, and what is said of it.
fn refused(url: &str, keys: &str, told: &[&str]) {
    let failure = ask(url, keys).expect_err("no trust");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Tls, false),
        "{failure}"
    );
    for part in told {
        assert!(failure.cause.contains(part), "{part:?} in {failure}");
    }
}

/// `NAME.crt` and `NAME.key`, self-signed: `openssl req -x509` with these options.
fn self_signed(dir: &Dir, name: &str, options: &str) {
    openssl(
        dir,
        &format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.crt -days 2 {options}"
        ),
    );
}

fn ca(dir: &Dir, name: &str) -> String {
    format!("ca-file = {:?}", dir.file(&format!("{name}.crt")))
}

/// What curl says of it, which is the measure.
fn curl(server: &TlsServer, dir: &Dir, name: &str) -> bool {
    let output = Command::new("curl")
        .args(["--silent", "--max-time", "60", "--noproxy", "*", "--cacert"])
        .args([dir.file(&format!("{name}.crt")), url(server)])
        .output()
        .expect("curl");
    output.status.success()
}

#[test]
#[ignore = "needs openssl; tests/run has it"]
fn a_servers_own_certificate_in_the_ca_file_is_trusted_as_with_curl() {
    let dir = Dir::new("trust-own");
    make_certificates(&dir);
    let named = "-addext subjectAltName=IP:127.0.0.1";
    for (name, options) in [
        ("plain", "-subj /CN=127.0.0.1".to_owned()),
        ("named", format!("-subj /CN=app {named}")),
        (
            "leaf",
            format!("-subj /CN=app {named} -addext basicConstraints=critical,CA:FALSE"),
        ),
        (
            "leaf-plain",
            "-subj /CN=127.0.0.1 -addext basicConstraints=critical,CA:FALSE".to_owned(),
        ),
        (
            "serves",
            format!("-subj /CN=app {named} -addext extendedKeyUsage=serverAuth"),
        ),
    ] {
        self_signed(&dir, name, &options);
        let server = TlsServer::start(&dir, name, false);
        assert_eq!(
            ask(&url(&server), &ca(&dir, name)),
            Ok(Outcome::Done),
            "{name}"
        );
        assert!(curl(&server, &dir, name), "{name}");
    }
    // One that an authority has signed which is not trusted: it is itself.
    let server = TlsServer::start(&dir, "server", false);
    assert_eq!(ask(&url(&server), &ca(&dir, "server")), Ok(Outcome::Done));
    assert!(curl(&server, &dir, "server"));
    // By name.
    self_signed(&dir, "host", "-subj /CN=Cluster.test");
    let server = TlsServer::start(&dir, "host", false);
    let keys = format!("{}\nserver-name = \"cluster.test\"", ca(&dir, "host"));
    assert_eq!(ask(&url(&server), &keys), Ok(Outcome::Done));
}

#[test]
#[ignore = "needs openssl; tests/run has it"]
fn nothing_else_than_that_certificate_is_trusted() {
    let dir = Dir::new("trust-attacks");
    make_certificates(&dir);
    let named = "-subj /CN=app -addext subjectAltName=IP:127.0.0.1";
    self_signed(&dir, "good", named);
    let good = ca(&dir, "good");
    // The same names, with another key.
    self_signed(&dir, "false", named);
    let server = TlsServer::start(&dir, "false", false);
    refused(
        &url(&server),
        &good,
        &["self-signed", "is not in the ca-file", "good.crt"],
    );
    assert!(!curl(&server, &dir, "good"));
    // The certificate itself, shown by who has not its key.
    let server = imposter(&dir);
    refused(&server, &good, &[]);
    // Another name; a common name beside a name that counts.
    for (name, options) in [
        ("elsewhere", "-subj /CN=10.0.0.9"),
        (
            "beside",
            "-subj /CN=127.0.0.1 -addext subjectAltName=DNS:other.test",
        ),
        (
            "beside-leaf",
            "-subj /CN=127.0.0.1 -addext subjectAltName=DNS:other.test -addext basicConstraints=critical,CA:FALSE",
        ),
    ] {
        self_signed(&dir, name, options);
        let server = TlsServer::start(&dir, name, false);
        refused(&url(&server), &ca(&dir, name), &["not for 127.0.0.1"]);
        assert!(!curl(&server, &dir, name), "{name}");
    }
    // For clients alone.
    self_signed(
        &dir,
        "client-only",
        &format!("{named} -addext extendedKeyUsage=clientAuth"),
    );
    let server = TlsServer::start(&dir, "client-only", false);
    refused(
        &url(&server),
        &ca(&dir, "client-only"),
        &["not for servers"],
    );
    // What it has signed is trusted as an authority's; what another member of its authority shows is not.
    let server = TlsServer::start(&dir, "named", false);
    refused(
        &url(&server),
        &ca(&dir, "server"),
        &["not signed by an authority in the ca-file"],
    );
    // No longer and not yet valid, from an authority and by itself, as a leaf and as an authority's.
    make_useless_certificates(&dir);
    for (name, told) in [
        ("expired", "expired on 2020-01-02"),
        ("early", "before 2100-01-01"),
    ] {
        let server = TlsServer::start(&dir, name, false);
        for trusted in [name, "ca"] {
            let words = [told, "this machine's clock says 20"];
            refused(&url(&server), &ca(&dir, trusted), &words);
        }
    }
    for ca_true in [true, false] {
        let name = format!("old-{ca_true}");
        old_self_signed(&dir, &name, ca_true);
        let server = TlsServer::start(&dir, &name, false);
        refused(&url(&server), &ca(&dir, &name), &["expired on 2020-01-02"]);
    }
}

/// A self-signed certificate for 127.0.0.1 that has expired, an authority's or not.
fn old_self_signed(dir: &Dir, name: &str, ca_true: bool) {
    let config = format!(
        "[ca]\ndefault_ca = a\n[a]\ndatabase = index-{name}\nnew_certs_dir = .\nrand_serial = yes\ndefault_md = sha256\n\
         policy = p\nunique_subject = no\n[p]\ncommonName = supplied\n[e]\nsubjectAltName = IP:127.0.0.1\n\
         basicConstraints = critical,CA:{}\n",
        if ca_true { "TRUE" } else { "FALSE" }
    );
    std::fs::write(dir.file(&format!("{name}.cnf")), config).expect("written");
    std::fs::write(dir.file(&format!("index-{name}")), "").expect("written");
    for args in [
        format!("ecparam -name prime256v1 -genkey -noout -out {name}.key"),
        format!("req -new -key {name}.key -subj /CN=old -out {name}.csr"),
        format!(
            "ca -batch -selfsign -config {name}.cnf -keyfile {name}.key -notext -in {name}.csr -out {name}.crt \
             -startdate 20200101000000Z -enddate 20200102000000Z -extensions e"
        ),
    ] {
        openssl(dir, &args);
    }
}

/// A server that shows `good.crt` and has the key of `false.crt`.
fn imposter(dir: &Dir) -> String {
    #[derive(Debug)]
    struct Shows(Arc<rustls::sign::CertifiedKey>);
    impl rustls::server::ResolvesServerCert for Shows {
        fn resolve(
            &self,
            _: rustls::server::ClientHello<'_>,
        ) -> Option<Arc<rustls::sign::CertifiedKey>> {
            Some(self.0.clone())
        }
    }
    let certificate = CertificateDer::from_pem_file(dir.file("good.crt")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(dir.file("false.key")).expect("a key");
    let key = rustls::crypto::ring::sign::any_supported_type(&key).expect("a key");
    let shown = rustls::sign::CertifiedKey::new(vec![certificate], key);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Shows(Arc::new(shown))));
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut connection = rustls::ServerConnection::new(config.clone()).expect("a config");
            let _ = connection.complete_io(&mut stream);
        }
    });
    format!("https://{address}/")
}

#[test]
#[ignore = "needs openssl; tests/run has it"]
fn what_is_wrong_is_told_in_words_and_of_the_one_whose_it_is() {
    let dir = Dir::new("trust-words");
    make_certificates(&dir);
    make_useless_certificates(&dir);
    self_signed(
        &dir,
        "self",
        "-subj /CN=app -addext subjectAltName=IP:127.0.0.1",
    );
    let server = TlsServer::start(&dir, "self", false);
    refused(&url(&server), "", &["self-signed", "ca-file"]);
    let server = TlsServer::start(&dir, "server", false);
    refused(&url(&server), "", &["an authority that the system trusts"]);
    let server = TlsServer::start(&dir, "named", false);
    refused(
        &url(&server),
        &ca(&dir, "ca"),
        &["is for cluster.test, not for 127.0.0.1"],
    );
    // Ours: there is none, one that it does not trust, one that has expired.
    let foreign = Dir::new("trust-words-foreign");
    make_certificates(&foreign);
    let wants = TlsServer::start(&dir, "server", true);
    let own = |at: &Dir, name: &str| {
        let file = |end: &str| at.file(&format!("{name}.{end}"));
        format!(
            "{}\ncert-file = {:?}\nkey-file = {:?}",
            ca(&dir, "ca"),
            file("crt"),
            file("key")
        )
    };
    refused(
        &url(&wants),
        &ca(&dir, "ca"),
        &["wants a client certificate", "cert-file"],
    );
    let ours = "does not accept this machine's certificate, cert-file";
    refused(
        &url(&wants),
        &own(&foreign, "client"),
        &[ours, "client.crt"],
    );
    refused(&url(&wants), &own(&dir, "expired"), &[ours, "expired"]);
    assert_eq!(ask(&url(&wants), &own(&dir, "client")), Ok(Outcome::Done));
    // No TLS at all: one that says so, and one that only closes.
    refused(
        &talks("HTTP/1.1 400 Bad Request\r\n\r\n"),
        "",
        &["does not speak TLS"],
    );
    let failure = ask(&talks(""), "").expect_err("no TLS");
    assert_eq!(failure.kind, ErrorKind::Unreachable, "{failure}");
    assert!(
        failure.cause.contains("closed in the TLS handshake"),
        "{failure}"
    );
}

/// A server that says this whatever it hears, and closes.
fn talks(text: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // What was heard first must be read, else the closing is a reset.
            let _ = std::io::Read::read(&mut stream, &mut [0; 4096]);
            let _ = std::io::Write::write_all(&mut stream, text.as_bytes());
        }
    });
    format!("https://{address}/")
}

/// A server of OpenSSL's own, ended with the test.
struct Openssl {
    child: Child,
    url: String,
}

impl Openssl {
    fn start(dir: &Dir, options: &[&str]) -> Openssl {
        let child = Command::new("openssl")
            .current_dir(&dir.0)
            .args([
                "s_server",
                "-accept",
                "127.0.0.1:0",
                "-www",
                "-cert",
                "server.crt",
                "-key",
                "server.key",
            ])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl");
        let mut server = Openssl {
            child,
            url: String::new(),
        };
        let stdout = server.child.stdout.take().expect("a pipe");
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let accepts = lines.find_map(|line| Some(line.strip_prefix("ACCEPT ")?.to_owned()));
        server.url = format!("https://{}/", accepts.expect("it listens"));
        std::thread::spawn(move || lines.for_each(drop));
        server
    }
}

impl Drop for Openssl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "needs openssl; tests/run has it"]
fn a_server_of_an_older_day_is_told_as_one() {
    let dir = Dir::new("trust-old");
    make_certificates(&dir);
    let ca = ca(&dir, "ca");
    let server = Openssl::start(&dir, &["-tls1_2"]);
    assert_eq!(ask(&server.url, &ca), Ok(Outcome::Done), "TLS 1.2");
    for version in ["-tls1", "-tls1_1"] {
        let server = Openssl::start(&dir, &[version, "-cipher", "ALL:@SECLEVEL=0"]);
        refused(&server.url, &ca, &["TLS 1.1 at most"]);
    }
    // TLS 1.2, with nothing in common.
    let server = Openssl::start(&dir, &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"]);
    refused(&server.url, &ca, &["HandshakeFailure", "cipher"]);
}
