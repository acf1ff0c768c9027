//! Reads certificates and keys, and checks that they belong together.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, RootCertStore};

use super::trust::Trust;
use crate::model::error::{ErrorKind, Failure};
use crate::sys::clock::rfc3339;
use crate::sys::{file_trust, files};

/// The files that a TLS connection needs, and the name that the server's certificate must have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlsFiles {
    /// The trusted authorities, in PEM; `None` for the system's.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate with its chain, in PEM. Set together with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// The key of that certificate, in PEM.
    pub key_file: Option<PathBuf>,
    /// The name that the server's certificate must be for; `None` for the URL's host.
    pub server_name: Option<String>,
}

impl TlsFiles {
    /// Reads the files and checks that they belong together. Nothing is sent.
    ///
    /// # Errors
    /// A `tls` failure that names the file.
    pub fn check(&self) -> Result<(), Failure> {
        match self.problems().into_iter().next() {
            Some((_, failure)) => Err(failure),
            None => Ok(()),
        }
    }

    /// As [`TlsFiles::check`], with every problem and the configuration key that it concerns.
    pub fn problems(&self) -> Vec<(&'static str, Failure)> {
        let mut problems = Vec::new();
        let mut note = |key, failure: Option<Failure>| {
            problems.extend(failure.map(|failure| (key, failure)));
        };
        note(
            "ca-file",
            self.ca_file.as_deref().and_then(|it| authorities(it).err()),
        );
        if let (Some(cert_file), Some(key_file)) = (&self.cert_file, &self.key_file) {
            match (certificates(cert_file), private_key(key_file)) {
                (Ok(chain), Ok(_)) => {
                    let unfit = self.identity(&provider()).err();
                    note("key-file", unfit.or_else(|| exposed(key_file)));
                    note("cert-file", refusal(cert_file, &chain));
                }
                (certificates, key) => {
                    note("cert-file", certificates.err());
                    note("key-file", key.err());
                }
            }
        }
        problems
    }

    /// The client's certificate and key.
    fn identity(&self, provider: &CryptoProvider) -> Result<Option<Identity>, Failure> {
        let (Some(cert_file), Some(key_file)) = (&self.cert_file, &self.key_file) else {
            return Ok(None);
        };
        let chain = certificates(cert_file)?;
        let key = private_key(key_file)?;
        let together = CertifiedKey::from_der(chain.clone(), key.clone_key(), provider);
        together.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => failure(
                key_file,
                format!("is not the key of the certificate {}", cert_file.display()),
            ),
            error => failure(
                cert_file,
                format!(
                    "cannot be used with the key {}: {error}",
                    key_file.display()
                ),
            ),
        })?;
        Ok(Some((chain, key)))
    }

    /// What the client needs for connections over TLS.
    ///
    /// # Errors
    /// As [`TlsFiles::check`]; also if no authority is trusted.
    pub(super) fn load(&self) -> Result<Arc<ClientConfig>, Failure> {
        let provider = provider();
        let identity = self.identity(&provider)?;
        let trusted = match &self.ca_file {
            Some(path) => authorities(path)?,
            None => system_authorities()?,
        };
        let unusable = |cause: String| match &self.ca_file {
            Some(path) => failure(path, cause),
            None => Failure::new(ErrorKind::Tls, STORE, cause),
        };
        let trust = Trust::new(trusted, self.ca_file.as_deref(), provider.clone())
            .map_err(|cause| unusable(format!("cannot be used: {cause}")))?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(trust));
        let Some((chain, key)) = identity else {
            return Ok(Arc::new(client.with_no_client_auth()));
        };
        let client = client.with_client_auth_cert(chain, key);
        client
            .map(Arc::new)
            .map_err(|error| unusable(error.to_string()))
    }
}

/// A certificate chain and its key.
type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

const STORE: &str = "the system's certificate store";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn failure(path: &Path, cause: impl Into<String>) -> Failure {
    Failure::new(ErrorKind::Tls, path.display().to_string(), cause)
}

fn read(path: &Path) -> Result<String, Failure> {
    files::read(path).map_err(|error| failure(path, error.to_string()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let text = read(path)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| failure(path, "a certificate in it is damaged"))?;
    if certificates.is_empty() {
        return Err(failure(path, "contains no certificate in PEM"));
    }
    Ok(certificates)
}

/// Why no server would accept a client's certificate today, as far as that can be told without its issuer. It is used
/// all the same: this machine's clock may be wrong.
fn refusal(path: &Path, chain: &[CertificateDer<'static>]) -> Option<Failure> {
    let (own, others) = chain.split_first()?;
    // It serves as its own issuer here: what is checked first does not depend on the issuer.
    let mut roots = RootCertStore::empty();
    roots.add(own.clone()).ok()?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .ok()?;
    let verified = verifier.verify_client_cert(own, others, UnixTime::now());
    let Err(rustls::Error::InvalidCertificate(error)) = verified else {
        return None;
    };
    let day =
        |time: UnixTime| rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs()));
    let cause = match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("the certificate expired on {}", day(not_after))
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("the certificate is valid only from {} on", day(not_before))
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the certificate is not for clients (its extended key usage says so)".to_owned()
        }
        _ => return None,
    };
    Some(failure(path, cause))
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Failure> {
    PrivateKeyDer::from_pem_slice(read(path)?.as_bytes()).map_err(|_| {
        let cause = "contains no private key in PEM (one with a passphrase is not supported)";
        failure(path, cause)
    })
}

/// Why a key is not secret. It is used all the same: a file mode is no reason to fail a step at shutdown.
fn exposed(path: &Path) -> Option<Failure> {
    let about = fs::metadata(path).ok()?;
    let cause = file_trust::keeps_secret(path, &about).err()?;
    Some(Failure::new(ErrorKind::Tls, "the key", cause))
}

fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let certificates = certificates(path)?;
    let mut store = RootCertStore::empty();
    for certificate in &certificates {
        store.add(certificate.clone()).map_err(|error| {
            failure(path, format!("a certificate in it cannot be used: {error}"))
        })?;
    }
    Ok(certificates)
}

fn system_authorities() -> Result<Vec<CertificateDer<'static>>, Failure> {
    let found = rustls_native_certs::load_native_certs();
    let (usable, _) = RootCertStore::empty().add_parsable_certificates(found.certs.iter().cloned());
    if usable > 0 {
        return Ok(found.certs);
    }
    let cause = match found.errors.first() {
        Some(error) => format!("cannot be read: {error}"),
        None => "is empty: install ca-certificates, or set ca-file".to_owned(),
    };
    Err(Failure::new(ErrorKind::Tls, STORE, cause))
}
