//! Turns TLS errors into sentences that say which side is at fault.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

use super::TlsFiles;
use super::trust::Distrust;

/// Describes the TLS error inside an I/O error.
pub(super) fn within(error: &io::Error, files: &TlsFiles) -> Option<String> {
    let inner = error.get_ref()?;
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(inner);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<Error>() {
            return Some(told(error, files));
        }
        cause = error.source();
    }
    None
}

/// Describes a TLS error.
pub(super) fn told(error: &Error, files: &TlsFiles) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            match other.0.downcast_ref::<Distrust>() {
                Some(distrust) => distrust.to_string(),
                None => error.to_string(),
            }
        }
        Error::AlertReceived(alert) => alerted(*alert, files),
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        ) => OLD.to_owned(),
        Error::PeerIncompatible(PeerIncompatible::ExtendedMasterSecretExtensionRequired) => {
            "the server does not support the extended master secret of TLS 1.2 (RFC 7627), which is required".to_owned()
        }
        Error::PeerIncompatible(PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon) => {
            "the server wants a client certificate, but accepts none with a key like that in key-file".to_owned()
        }
        Error::PeerIncompatible(_) => {
            format!("the server and this machine have no TLS version or cipher in common ({error})")
        }
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => {
            format!("the server does not speak TLS on this port, or violates the protocol ({error})")
        }
        Error::NoCertificatesPresented => "the server shows no certificate".to_owned(),
        Error::FailedToGetCurrentTime | Error::FailedToGetRandomBytes => {
            format!("this machine does not support it: {error}")
        }
        error => error.to_string(),
    }
}

const OLD: &str = "the server supports TLS 1.1 at most, and farewell needs 1.2";

/// Describes the server's alert. Alerts about a certificate concern this machine's.
fn alerted(alert: AlertDescription, files: &TlsFiles) -> String {
    use AlertDescription as Alert;
    let own = |cause: &str| match &files.cert_file {
        Some(path) => format!(
            "the server does not accept this machine's certificate, cert-file {}{cause}",
            path.display()
        ),
        None => "the server wants a client certificate: set cert-file and key-file".to_owned(),
    };
    match alert {
        Alert::ProtocolVersion => OLD.to_owned(),
        Alert::CertificateRequired => own(" (it says that it received none)"),
        Alert::CertificateExpired => own(": it says that the certificate has expired, or is not valid yet"),
        Alert::CertificateRevoked => own(": it says that the certificate is revoked"),
        Alert::UnknownCA => own(": it does not trust the authority that signed it"),
        Alert::UnsupportedCertificate => own(": it accepts none of this kind (check the extended key usage)"),
        Alert::BadCertificate | Alert::CertificateUnknown => own(""),
        Alert::DecryptError if files.cert_file.is_some() => {
            own(": it could not verify the signature of the authority or of the key")
        }
        Alert::AccessDenied => match files.cert_file {
            Some(_) => own(": it denies its owner access"),
            None => "the server denies access".to_owned(),
        },
        Alert::UnrecognisedName => {
            "the server has no certificate for the requested name (server-name, else the URL's host)".to_owned()
        }
        Alert::HandshakeFailure | Alert::InsufficientSecurity => {
            let client = match files.cert_file {
                Some(_) => "",
                None => ", or that it wants a client certificate (cert-file and key-file are not set)",
            };
            format!(
                "the server ended the handshake (alert {alert:?}), which usually means that it shares no TLS version or cipher of \
                 TLS 1.2 or 1.3 with this machine{client}"
            )
        }
        alert => format!("the server ended the connection with the TLS alert {alert:?}"),
    }
}
