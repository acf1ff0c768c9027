//! Loopback servers that behave, and some that do not.

use std::io::{BufRead as _, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a server does with a connection.
#[derive(Clone)]
pub enum Manner {
    /// Answers each request with the next of these; the last one again and again.
    Answers(Vec<String>),
    /// Answers this many requests on each connection, and then closes it without a word.
    Closes { after: usize },
    /// Reads and says nothing.
    Silent,
    /// Sends a whole answer, one byte a second.
    Drips,
    /// Sends 10 GB.
    Floods,
    /// Sends this and closes.
    Breaks(String),
    /// Answers 200 to a request when so much time has gone by; to all but the first one at once with `is_first_alone`.
    Slow {
        after: Duration,
        is_first_alone: bool,
    },
}

/// A server on a free port.
pub struct Server {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
    sent: Arc<AtomicUsize>,
}

/// Serves each connection to this port (0: any) on a thread of its own, to the end of the test's process; the address.
pub fn each_connection(port: u16, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("a port");
    let address = listener.local_addr().expect("an address");
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

/// A whole answer.
pub fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
}

impl Server {
    pub fn start(manner: Manner) -> Server {
        let connections: Arc<AtomicUsize> = Arc::default();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let sent: Arc<AtomicUsize> = Arc::default();
        let (counted, heard, flooded) = (connections.clone(), requests.clone(), sent.clone());
        let address = each_connection(0, move |stream| {
            counted.fetch_add(1, Ordering::SeqCst);
            serve(stream, &manner, &heard, &flooded);
        });
        Server {
            address,
            connections,
            requests,
            sent,
        }
    }

    pub fn answers(answers: &[&str]) -> Server {
        let whole = |it: &&str| match it.split_once(' ') {
            Some((status, body)) => answer(&format!("{status} X"), "", body),
            None => answer(&format!("{it} X"), "", ""),
        };
        Server::start(Manner::Answers(answers.iter().map(whole).collect()))
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Head and body of every request so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("lock").clone()
    }

    /// The bytes that were sent in a flood.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }
}

/// A port on which nobody listens, to the end of the test's process.
pub fn dead_url() -> String {
    format!("http://127.0.0.1:{}", super::ports::ports(1)[0])
}

pub fn read_request(reader: &mut impl std::io::BufRead) -> Option<String> {
    let mut text = String::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        text.push_str(&line);
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    text.push_str(&String::from_utf8_lossy(&body));
    Some(text)
}

fn serve(
    mut stream: TcpStream,
    manner: &Manner,
    requests: &Mutex<Vec<String>>,
    sent: &AtomicUsize,
) {
    let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
    let mut served = 0;
    while let Some(request) = read_request(&mut reader) {
        let at = {
            let mut requests = requests.lock().expect("lock");
            requests.push(request);
            requests.len() - 1
        };
        match manner {
            Manner::Answers(answers) => {
                let answer = &answers[at.min(answers.len() - 1)];
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
            Manner::Closes { after } => {
                if served == *after {
                    return;
                }
                let _ = stream.write_all(answer("200 OK", "", "ok").as_bytes());
            }
            Manner::Silent => {
                let _ = reader.read_line(&mut String::new());
                return;
            }
            Manner::Drips => {
                for byte in answer("200 OK", "", "ok").bytes() {
                    if stream.write_all(&[byte]).is_err() {
                        return;
                    }
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
            Manner::Floods => {
                let settings = "HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n";
                let _ = stream.write_all(settings.as_bytes());
                let block = vec![b'x'; 1 << 16];
                while stream.write_all(&block).is_ok() {
                    sent.fetch_add(block.len(), Ordering::SeqCst);
                }
                return;
            }
            Manner::Slow {
                after,
                is_first_alone,
            } => {
                if at == 0 || !is_first_alone {
                    std::thread::sleep(*after);
                }
                if stream
                    .write_all(answer("200 OK", "", "ok").as_bytes())
                    .is_err()
                {
                    return;
                }
            }
            Manner::Breaks(text) => {
                let _ = stream.write_all(text.as_bytes());
                return;
            }
        }
        served += 1;
    }
}

/// An HTTPS server with certificates of its own authority.
pub struct TlsServer {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl TlsServer {
    /// A server with the certificate `NAME.crt` and its key in `dir`, which wants a client's certificate or does not.
    pub fn start(dir: &super::Dir, name: &str, wants_client: bool) -> TlsServer {
        use rustls::pki_types::pem::PemObject as _;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        let certificate = |name: &str| {
            CertificateDer::from_pem_file(dir.file(&format!("{name}.crt"))).expect("a certificate")
        };
        let key = PrivateKeyDer::from_pem_file(dir.file(&format!("{name}.key"))).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("versions");
        let builder = if wants_client {
            let mut trusted = rustls::RootCertStore::empty();
            trusted.add(certificate("ca")).expect("an authority");
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
                Arc::new(trusted),
                provider,
            );
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        } else {
            builder.with_no_client_auth()
        };
        let config = builder
            .with_single_cert(vec![certificate(name)], key)
            .expect("a certificate and its key");
        let config = Arc::new(config);
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = requests.clone();
        let address = each_connection(0, move |stream| {
            let connection = rustls::ServerConnection::new(config.clone()).expect("a config");
            let mut stream = BufReader::new(rustls::StreamOwned::new(connection, stream));
            while let Some(request) = read_request(&mut stream) {
                let name = stream.get_ref().conn.server_name().unwrap_or("none");
                let request = format!("{name}\n{request}");
                heard.lock().expect("lock").push(request);
                let whole = answer("200 OK", "", "ok");
                let _ = stream.get_mut().write_all(whole.as_bytes());
            }
        });
        TlsServer { address, requests }
    }

    /// The name that the client asked for, and head and body, of every request so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("lock").clone()
    }
}

/// Runs openssl(1) in a directory, with arguments that have no blanks in them.
pub fn openssl(dir: &super::Dir, args: &str) {
    let output = std::process::Command::new("openssl")
        .current_dir(&dir.0)
        .args(args.split(' '))
        .output()
        .expect("openssl");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {args}: {said}");
}

/// Makes certificates of the same authority for 127.0.0.1 that are of no use: `expired`, `early` (valid from the year
/// 2100 on), and `serves`, which is for servers alone.
pub fn make_useless_certificates(dir: &super::Dir) {
    let config = "[ca]\ndefault_ca = a\n[a]\ndatabase = index\nnew_certs_dir = .\nrand_serial = yes\n\
                  default_md = sha256\npolicy = p\nunique_subject = no\n[p]\ncommonName = supplied\n\
                  [e]\nsubjectAltName = IP:127.0.0.1\n\
                  [s]\nsubjectAltName = IP:127.0.0.1\nextendedKeyUsage = serverAuth\n";
    std::fs::write(dir.file("ca.cnf"), config).expect("written");
    std::fs::write(dir.file("index"), "").expect("written");
    for (name, from, to, extensions) in [
        ("expired", "20200101000000Z", "20200102000000Z", "e"),
        ("early", "21000101000000Z", "21000102000000Z", "e"),
        ("serves", "20200101000000Z", "21000102000000Z", "s"),
    ] {
        openssl(
            dir,
            &format!("ecparam -name prime256v1 -genkey -noout -out {name}.key"),
        );
        openssl(
            dir,
            &format!("req -new -key {name}.key -subj /CN={name} -out {name}.csr"),
        );
        openssl(
            dir,
            &format!(
                "ca -batch -config ca.cnf -cert ca.crt -keyfile ca.key -notext -in {name}.csr -out {name}.crt \
                 -startdate {from} -enddate {to} -extensions {extensions}"
            ),
        );
    }
}

/// Makes an authority, and certificates of it for 127.0.0.1 (`server`), cluster.test (`named`), and a client.
pub fn make_certificates(dir: &super::Dir) {
    let openssl = |args: &str| openssl(dir, args);
    let key = |name: &str| {
        openssl(&format!(
            "ecparam -name prime256v1 -genkey -noout -out {name}.key"
        ));
    };
    key("ca");
    openssl("req -x509 -new -key ca.key -subj /CN=ca -days 2 -out ca.crt");
    for (name, subject) in [
        ("server", "IP:127.0.0.1"),
        ("named", "DNS:cluster.test"),
        ("client", "DNS:client.test"),
    ] {
        key(name);
        std::fs::write(
            dir.file("extensions"),
            format!("subjectAltName={subject}\n"),
        )
        .expect("written");
        openssl(&format!(
            "req -new -key {name}.key -subj /CN={name} -out {name}.csr"
        ));
        openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out {name}.crt"
        ));
    }
}
