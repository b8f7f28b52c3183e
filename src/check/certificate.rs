//! What there is to say of a certificate that was accepted.

use std::fmt;

use x509_parser::prelude::{FromDer as _, X509Certificate, X509Name};

/// Who makes programs that read what runs through them, as they sign.
const INSPECTORS: [&str; 34] = [
    "avast",
    "avg ",
    "barracuda",
    "bitdefender",
    "blue coat",
    "bluecoat",
    "burp",
    "check point",
    "cisco secure",
    "cisco umbrella",
    "cloudflare gateway",
    "eset ssl",
    "fiddler",
    "forcepoint",
    "fortigate",
    "fortinet",
    "goguardian",
    "iboss",
    "kaspersky",
    "lightspeed",
    "mcafee",
    "menlo security",
    "mitmproxy",
    "netskope",
    "palo alto",
    "securly",
    "skyhigh",
    "smoothwall",
    "sonicwall",
    "sophos",
    "squid",
    "watchguard",
    "websense",
    "zscaler",
];

/// The names and the end of a certificate.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct About {
    subject: String,
    issuer: String,
    until: String,
}

impl About {
    /// Reads DER; `None` if it is none.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let names = certificate.subject_alternative_name().ok().flatten();
        let first = names.and_then(|names| {
            names
                .value
                .general_names
                .iter()
                .find_map(|name| match name {
                    x509_parser::extensions::GeneralName::DNSName(name) => Some((*name).to_owned()),
                    _ => None,
                })
        });
        let until = certificate.validity().not_after.to_datetime();
        Some(Self {
            subject: first.map_or_else(|| name(certificate.subject()), |first| clean(&first)),
            issuer: name(certificate.issuer()),
            until: until.date().to_string(),
        })
    }

    /// Who signed it.
    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The inspecting product that the issuer's name hints at.
    pub(super) fn inspector(&self) -> Option<&str> {
        let issuer = self.issuer.to_lowercase();
        INSPECTORS
            .iter()
            .any(|name| issuer.contains(name))
            .then_some(self.issuer.as_str())
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            subject,
            issuer,
            until,
        } = self;
        write!(
            f,
            "certificate of {subject}, issued by {issuer}, valid until {until}"
        )
    }
}

/// Common name and organization.
fn name(name: &X509Name<'_>) -> String {
    let common = name.iter_common_name().find_map(|one| one.as_str().ok());
    let organization = name.iter_organization().find_map(|one| one.as_str().ok());
    clean(&match (common, organization) {
        (Some(common), Some(organization)) => format!("{common} of {organization}"),
        (Some(one), None) | (None, Some(one)) => one.to_owned(),
        (None, None) => "somebody without a name".to_owned(),
    })
}

/// Bounded, and on one line.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}

/// For people.
pub(super) fn version(version: rustls::ProtocolVersion) -> &'static str {
    match version {
        rustls::ProtocolVersion::TLSv1_3 => "TLS 1.3",
        rustls::ProtocolVersion::TLSv1_2 => "TLS 1.2",
        _ => "TLS",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issued_by(issuer: &str) -> About {
        About {
            subject: "example.org".into(),
            issuer: issuer.into(),
            until: "2030-01-01".into(),
        }
    }

    /// The network's own authority is told from a public one by its name.
    #[test]
    fn inspecting_proxies() {
        for product in [
            "Zscaler Intermediate Root CA of Zscaler Inc.",
            "FortiGate CA of Fortinet",
        ] {
            assert_eq!(issued_by(product).inspector(), Some(product));
        }
        for public in [
            "R11 of Let's Encrypt",
            "Sectigo RSA Domain Validation of Sectigo Limited",
        ] {
            assert_eq!(issued_by(public).inspector(), None);
        }
    }

    #[test]
    fn reads_what_the_library_makes() {
        use rustls::pki_types::pem::PemObject as _;
        let pem = xbosh_testkit::tls::Authority::new().pem();
        let der = rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let about = About::read(&der).unwrap();
        assert_eq!(about.issuer, "rcgen self signed cert");
        assert!(about.until.len() >= 10, "{about}");
        assert_eq!(About::read(b"no certificate"), None);
    }
}
