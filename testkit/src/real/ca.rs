//! A certificate authority for one test run.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// An EC P-256 authority whose key never leaves the process.
pub struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ca")
    }
}

impl Ca {
    /// A new authority.
    ///
    /// # Errors
    /// The cryptography library's word.
    pub fn new() -> Result<Self, String> {
        let make = || {
            let key = KeyPair::generate()?;
            let mut params = CertificateParams::default();
            set_validity(&mut params);
            params
                .distinguished_name
                .push(DnType::CommonName, "xbosh test authority");
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            let pem = params.self_signed(&key)?.pem();
            Ok(Self {
                pem,
                issuer: Issuer::new(params, key),
            })
        };
        make().map_err(|error: rcgen::Error| format!("no test authority: {error}"))
    }

    /// The authority's certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A server certificate for these names and addresses, and its key, both PEM.
    ///
    /// # Errors
    /// The cryptography library's word.
    pub fn leaf(&self, names: &[&str]) -> Result<(String, String), String> {
        let make = || {
            let key = KeyPair::generate()?;
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let mut params = CertificateParams::new(names)?;
            set_validity(&mut params);
            params
                .distinguished_name
                .push(DnType::CommonName, "xbosh test server");
            params.is_ca = IsCa::ExplicitNoCa;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            params.use_authority_key_identifier_extension = true;
            let certificate = params.signed_by(&key, &self.issuer)?.pem();
            Ok((certificate, key.serialize_pem()))
        };
        make().map_err(|error: rcgen::Error| format!("no test certificate: {error}"))
    }
}

/// Valid for a month: ejabberd sets a timer on the end, and rcgen's year 4096 overflows it.
fn set_validity(params: &mut CertificateParams) {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let now = SystemTime::now();
    params.not_before = (now - DAY).into();
    params.not_after = (now + 30 * DAY).into();
}
