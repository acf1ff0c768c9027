//! Reads from a certificate (RFC 5280) only what the verifier does not report.

/// Parts of a certificate in DER. Nothing in it is verified.
pub(super) struct Certificate<'a> {
    issuer: &'a [u8],
    subject: &'a [u8],
    extensions: &'a [u8],
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const OCTETS: u8 = 0x04;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const ANY_PURPOSE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];
const SERVER_PURPOSE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];

impl<'a> Certificate<'a> {
    /// `None` if `der` is not a certificate.
    pub(super) fn parse(der: &'a [u8]) -> Option<Certificate<'a>> {
        let (certificate, _) = expect(der, SEQUENCE)?;
        let (signed, _) = expect(certificate, SEQUENCE)?;
        let rest = match element(signed)? {
            (VERSION, _, rest) => rest,
            _ => signed,
        };
        let (_, _, rest) = element(rest)?;
        let (_, rest) = expect(rest, SEQUENCE)?;
        let (issuer, rest) = expect(rest, SEQUENCE)?;
        let (_, rest) = expect(rest, SEQUENCE)?;
        let (subject, rest) = expect(rest, SEQUENCE)?;
        let (_, rest) = expect(rest, SEQUENCE)?;
        let last = elements(rest).find(|(tag, _)| *tag == EXTENSIONS);
        let extensions = match last {
            Some((_, extensions)) => expect(extensions, SEQUENCE)?.0,
            None => &[],
        };
        Some(Certificate {
            issuer,
            subject,
            extensions,
        })
    }

    /// Whether it names itself as its issuer.
    pub(super) fn is_self_signed(&self) -> bool {
        self.issuer == self.subject
    }

    /// Whether it has a subjectAltName, in which case its common name does not count (RFC 6125, 6.4.4).
    pub(super) fn has_alternative_names(&self) -> bool {
        self.extension(ALTERNATIVE_NAMES).is_some()
    }

    /// Whether a server may use it: its extended key usage allows that, or it has none.
    pub(super) fn is_for_servers(&self) -> bool {
        let Some(usage) = self.extension(EXTENDED_KEY_USAGE) else {
            return true;
        };
        let purposes = expect(usage, SEQUENCE).map_or(&[][..], |(purposes, _)| purposes);
        elements(purposes).any(|(_, purpose)| [ANY_PURPOSE, SERVER_PURPOSE].contains(&purpose))
    }

    /// The last common name of its subject.
    pub(super) fn common_name(&self) -> Option<&'a str> {
        let sets = elements(self.subject).filter(|(tag, _)| *tag == SET);
        let attributes = sets.flat_map(|(_, set)| elements(set));
        let names = attributes.filter_map(|(_, attribute)| {
            let (kind, value) = expect(attribute, OBJECT_ID)?;
            let (_, text, _) = element(value).filter(|_| kind == COMMON_NAME)?;
            std::str::from_utf8(text).ok()
        });
        names.last()
    }

    fn extension(&self, wanted: &[u8]) -> Option<&'a [u8]> {
        elements(self.extensions).find_map(|(_, extension)| {
            let (kind, rest) = expect(extension, OBJECT_ID)?;
            let (_, value) = elements(rest).find(|(tag, _)| *tag == OCTETS)?;
            (kind == wanted).then_some(value)
        })
    }
}

/// The content of the first element, which must have this tag, and what follows it.
fn expect(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    match element(der)? {
        (found, content, rest) if found == tag => Some((content, rest)),
        _ => None,
    }
}

/// All elements up to the first damaged one.
fn elements(mut der: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (tag, content, rest) = element(der)?;
        der = rest;
        Some((tag, content))
    })
}

/// Tag and content of the first element, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        ..=0x7f => (usize::from(*first), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = digits
                .iter()
                .fold(0, |it, digit| it << 8 | usize::from(*digit));
            (length, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `openssl req -x509 -newkey ed25519 -subj /O=x/CN=leaf.test -addext subjectAltName=DNS:a.test -addext
    /// extendedKeyUsage=clientAuth`.
    const CLIENT: &str = "MIIBfzCCATGgAwIBAgIUCWPY0+9sTxQ/rMZ9cqi2B42NebgwBQYDK2VwMCAxCjAIBgNVBAoMAXgxEjAQBgNVBAMMCWxlYWYudGVz\
        dDAgFw0yNjExMjgxMzQyNTZaGA8yMTI2MTEwNDEzNDI1NlowIDEKMAgGA1UECgwBeDESMBAGA1UEAwwJbGVhZi50ZXN0MCowBQYD\
        K2VwAyEASI6DhHtMqY8QuKZuMv0b4fk+sf0YUP5gDcmGv1ymsXGjezB5MB0GA1UdDgQWBBQBL5GVX4NKk8HK4OI8aRhKytOYuTAf\
        BgNVHSMEGDAWgBQBL5GVX4NKk8HK4OI8aRhKytOYuTAPBgNVHRMBAf8EBTADAQH/MBEGA1UdEQQKMAiCBmEudGVzdDATBgNVHSUE\
        DDAKBggrBgEFBQcDAjAFBgMrZXADQQCUzdekjD7jobzY098XNT5FMX5yZfy6VUSQhTWpgGi0WVJ1pMTaN3TP3OQ0jF1nBQjWxNVq\
        MgxeSYojpv4eC8AH";

    fn der() -> Vec<u8> {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD
            .decode(CLIENT)
            .expect("base64")
    }

    #[test]
    fn what_it_says_of_itself_is_read() {
        let der = der();
        let certificate = Certificate::parse(&der).expect("a certificate");
        assert!(certificate.is_self_signed() && certificate.has_alternative_names());
        assert!(!certificate.is_for_servers());
        assert_eq!(certificate.common_name(), Some("leaf.test"));
    }

    #[test]
    fn what_is_damaged_is_no_certificate_and_no_panic() {
        let der = der();
        for end in 0..der.len() {
            assert!(Certificate::parse(&der[..end]).is_none(), "{end}");
        }
        for at in 0..der.len() {
            let mut damaged = der.clone();
            for byte in [0, 0x7f, 0x80, 0x83, 0xff] {
                damaged[at] = byte;
                if let Some(certificate) = Certificate::parse(&damaged) {
                    let _ = (certificate.common_name(), certificate.is_for_servers());
                }
            }
        }
    }
}
