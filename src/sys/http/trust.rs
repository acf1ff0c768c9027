//! Verifies server certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

use super::certificate::Certificate;
use crate::sys::clock::rfc3339;

/// Verifies a server's certificate as the TLS library does, with one addition: as with curl, a server certificate that
/// is itself in `ca-file`, byte for byte, is trusted, whoever signed it and whether or not it claims to be an authority
/// (as one made by plain `openssl req -x509` does). Its dates, its name and its key are verified all the same.
#[derive(Debug)]
pub(super) struct Trust {
    authorities: Arc<WebPkiServerVerifier>,
    /// The source of the authorities; `None` for the system's.
    ca_file: Option<PathBuf>,
    /// The certificates in `ca-file`.
    known: Vec<CertificateDer<'static>>,
}

/// One sentence: what is wrong with a server's certificate.
#[derive(Debug)]
pub(super) struct Distrust(String);

impl std::fmt::Display for Distrust {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Distrust {}

impl Trust {
    /// Trust in these authorities, which `ca_file` holds, or the system's store.
    pub(super) fn new(
        authorities: Vec<CertificateDer<'static>>,
        ca_file: Option<&Path>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Trust, String> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities.iter().cloned());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        Ok(Trust {
            authorities: verifier.build().map_err(|error| error.to_string())?,
            ca_file: ca_file.map(Path::to_owned),
            known: match ca_file {
                Some(_) => authorities,
                None => Vec::new(),
            },
        })
    }

    /// Whether a certificate is trusted despite this error, since it is itself in `ca-file`.
    fn is_known(
        &self,
        shown: &CertificateDer<'_>,
        name: &ServerName<'_>,
        error: &CertificateError,
    ) -> bool {
        let certificate = Certificate::parse(shown).filter(|_| self.known.contains(shown));
        let Some(certificate) = certificate else {
            return false;
        };
        match error {
            // The library checks the dates first and the issuer last: the rest is verified here.
            CertificateError::UnknownIssuer => {}
            error if is_of_authority(error) => {}
            // Without alternative names the common name counts, as with curl.
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                return is_common_name(&certificate, name);
            }
            _ => return false,
        }
        let is_named = match rustls::server::ParsedCertificate::try_from(shown) {
            Ok(parsed) => rustls::client::verify_server_name(&parsed, name).is_ok(),
            Err(_) => false,
        };
        certificate.is_for_servers() && (is_named || is_common_name(&certificate, name))
    }

    fn explain(
        &self,
        shown: &CertificateDer<'_>,
        name: &ServerName<'_>,
        error: &CertificateError,
    ) -> String {
        let certificate = Certificate::parse(shown);
        let is_known = self.known.contains(shown);
        match error {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                self.unknown(certificate.as_ref())
            }
            error if is_of_authority(error) && is_known => match &certificate {
                Some(certificate) if certificate.is_for_servers() => {
                    not_named(Some(certificate), name, &[])
                }
                _ => NOT_FOR_SERVERS.to_owned(),
            },
            error if is_of_authority(error) => format!(
                "the server's certificate is that of an authority (CA:TRUE), which is trusted only where it \
                 stands in ca-file itself; {}",
                self.unknown(certificate.as_ref())
            ),
            CertificateError::NotValidForNameContext { presented, .. } => {
                not_named(certificate.as_ref(), name, presented)
            }
            CertificateError::NotValidForName => not_named(certificate.as_ref(), name, &[]),
            error => dated(error).unwrap_or_else(|| of_library(error)),
        }
    }

    fn unknown(&self, certificate: Option<&Certificate<'_>>) -> String {
        let is_self_signed = certificate.is_some_and(Certificate::is_self_signed);
        match (&self.ca_file, is_self_signed) {
            (Some(path), true) => format!(
                "the server's certificate is self-signed, and is not in the ca-file {}",
                path.display()
            ),
            (Some(path), false) => format!(
                "the server's certificate is not signed by an authority in the ca-file {}",
                path.display()
            ),
            (None, true) => "the server's certificate is self-signed: to trust it, set ca-file to a file that contains it".to_owned(),
            (None, false) => "the server's certificate is not signed by an authority that the system trusts (ca-file \
                              names others)"
                .to_owned(),
        }
    }
}

const NOT_FOR_SERVERS: &str =
    "the server's certificate is not for servers (its extended key usage says so)";

/// Whether a server's certificate was rejected because it claims to be an authority.
fn is_of_authority(error: &CertificateError) -> bool {
    // The library has no variant for it.
    matches!(error, CertificateError::Other(_))
        && format!("{error:?}").contains("CaUsedAsEndEntity")
}

fn is_common_name(certificate: &Certificate<'_>, name: &ServerName<'_>) -> bool {
    let common = certificate.common_name();
    !certificate.has_alternative_names()
        && common.is_some_and(|it| it.eq_ignore_ascii_case(&name.to_str()))
}

fn not_named(
    certificate: Option<&Certificate<'_>>,
    name: &ServerName<'_>,
    presented: &[String],
) -> String {
    let name = name.to_str();
    let has_names = certificate.is_some_and(Certificate::has_alternative_names);
    let whose = match presented {
        [] if has_names => format!("is not for {name}"),
        [] => format!("is not for {name}: it has no subjectAltName"),
        // As the library writes them: `DnsName("a.test")`, `IpAddress(127.0.0.1)`.
        names => {
            let bare = |name: &String| match name.split_once('(') {
                Some((_, rest)) => rest.trim_end_matches(')').trim_matches('"').to_owned(),
                None => name.clone(),
            };
            let names: Vec<String> = names.iter().map(bare).collect();
            format!("is for {}, not for {name}", names.join(", "))
        }
    };
    format!(
        "the server's certificate {whose} (the name is that in server-name, else the URL's host)"
    )
}

/// What is wrong with the dates of a certificate; this machine's clock may be wrong.
fn dated(error: &CertificateError) -> Option<String> {
    let day =
        |time: UnixTime| rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs()));
    Some(match error {
        CertificateError::ExpiredContext { time, not_after } => format!(
            "the server's certificate expired on {} (this machine's clock says {})",
            day(*not_after),
            day(*time)
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "the server's certificate is not valid before {} (this machine's clock says {})",
            day(*not_before),
            day(*time)
        ),
        _ => return None,
    })
}

fn of_library(error: &CertificateError) -> String {
    match error {
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            NOT_FOR_SERVERS.to_owned()
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "the server's certificate, or one that leads up to its authority, is signed in a way that is not supported \
             (SHA-1, say, or an RSA key below 2048 bits)"
                .to_owned()
        }
        error if format!("{error:?}").contains("UnsupportedCertVersion") => {
            "the server's certificate is X.509 version 1, and must be version 3".to_owned()
        }
        error => format!("the server's certificate cannot be used: {error}"),
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = (self.authorities).verify_server_cert(shown, intermediates, name, ocsp, now);
        match verified {
            Err(Error::InvalidCertificate(error)) if self.is_known(shown, name, &error) => {
                Ok(ServerCertVerified::assertion())
            }
            Err(Error::InvalidCertificate(error)) => {
                let distrust = Distrust(self.explain(shown, name, &error));
                Err(CertificateError::Other(OtherError(Arc::new(distrust))).into())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        (self.authorities).verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        (self.authorities).verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}
