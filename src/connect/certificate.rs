//! Who a refused certificate says it is for and from: enough DER (X.690) to find two names in it.

use std::fmt;

/// Most characters of a name in an error.
const MAX_NAME: usize = 80;
/// Object identifiers 2.5.4.3 and 2.5.4.10.
const COMMON_NAME: [u8; 3] = [0x55, 4, 3];
const ORGANIZATION: [u8; 3] = [0x55, 4, 10];

/// The names in a certificate (RFC 5280 section 4.1).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Names {
    issuer: String,
    subject: String,
}

impl Names {
    /// Reads them; `None` if this is no certificate.
    pub(super) fn read(certificate: &[u8]) -> Option<Self> {
        let (_, certificate, _) = element(certificate)?;
        let (_, mut rest, _) = element(certificate)?;
        // The version is optional, and the only field with its tag.
        if rest.first() == Some(&0xa0) {
            rest = element(rest)?.2;
        }
        let (_, _serial, rest) = element(rest)?;
        let (_, _algorithm, rest) = element(rest)?;
        let (_, issuer, rest) = element(rest)?;
        let (_, _validity, rest) = element(rest)?;
        let (_, subject, _) = element(rest)?;
        Some(Self {
            issuer: name(issuer)?,
            subject: name(subject)?,
        })
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "issuer {}, subject {}", self.issuer, self.subject)
    }
}

/// The common name and organization of a `Name`.
fn name(mut sets: &[u8]) -> Option<String> {
    let (mut common, mut organization) = (None, None);
    while !sets.is_empty() {
        let (_, set, rest) = element(sets)?;
        sets = rest;
        let (_, attribute, _) = element(set)?;
        let (_, kind, value) = element(attribute)?;
        let (tag, value, _) = element(value)?;
        if kind == COMMON_NAME {
            common = Some(text(tag, value));
        } else if kind == ORGANIZATION {
            organization = Some(text(tag, value));
        }
    }
    Some(match (common, organization) {
        (Some(common), Some(organization)) => format!("\"{common}\" of \"{organization}\""),
        (Some(one), None) | (None, Some(one)) => format!("\"{one}\""),
        (None, None) => "without a name".into(),
    })
}

fn text(tag: u8, value: &[u8]) -> String {
    let text = if tag == 0x1e {
        // BMPString: two bytes a character.
        let units: Vec<u16> = value
            .chunks_exact(2)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
            .collect();
        String::from_utf16_lossy(&units)
    } else {
        String::from_utf8_lossy(value).into_owned()
    };
    text.chars()
        .filter(|c| !c.is_control())
        .take(MAX_NAME)
        .collect()
}

/// Tag, content and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if digits.len() > 4 {
            return None;
        }
        let length = digits.iter().fold(0, |n, &d| n << 8 | usize::from(d));
        (length, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use xbosh_testkit::tls::Authority;

    use super::*;

    fn der() -> Vec<u8> {
        use rustls::pki_types::pem::PemObject as _;
        let pem = Authority::new().pem();
        rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes())
            .unwrap()
            .to_vec()
    }

    /// E-40: the names that tell an inspecting proxy from the server.
    #[test]
    fn e40_names() {
        let names = Names::read(&der()).unwrap();
        assert_eq!(
            names.to_string(),
            "issuer \"rcgen self signed cert\", subject \"rcgen self signed cert\""
        );
        let sets = b"\x31\x0b\x30\x09\x06\x03\x55\x04\x0a\x1e\x02\x00\x41\
            \x31\x0e\x30\x0c\x06\x03\x55\x04\x03\x0c\x05\x1b[mYZ";
        assert_eq!(name(sets).unwrap(), "\"[mYZ\" of \"A\"");
        assert_eq!(name(b"").unwrap(), "without a name");
    }

    /// Whatever a server sends for a certificate is at worst none.
    #[test]
    fn e40_any_bytes() {
        let der = der();
        for end in 0..der.len() {
            let _ = Names::read(&der[..end]);
            let mut bent = der.clone();
            bent[end] ^= 0xff;
            let _ = Names::read(&bent);
        }
        assert_eq!(
            Names::read(b"\x30\x85\xff\xff\xff\xff\xff\xff\xff\xff"),
            None
        );
        assert_eq!(Names::read(b"\x30\x84\xff\xff\xff\xff"), None);
    }
}
