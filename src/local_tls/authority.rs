//! Certificates: an authority that can vouch for one domain on this machine, and the leaf it signs.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{RootCertStore, ServerConfig};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{LocalTlsError, limits};

/// How long an authority lasts: clients are told of it by hand.
const AUTHORITY_LASTS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
const LEAF_LASTS: Duration = Duration::from_secs(365 * 24 * 3600);
/// A leaf is made anew when it has less than this left.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Clocks that are a little slow take it as well.
const BACKDATED: Duration = Duration::from_secs(3600);

/// A domain's authority.
pub(super) struct Authority {
    domain: String,
    pub(super) certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", self.domain)
    }
}

/// What a handshake is answered with.
pub(super) struct Leaf {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: KeyPair,
    pub(super) ends: SystemTime,
}

/// What a person wants to know of an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The XMPP domain.
    pub domain: String,
    /// Its common name.
    pub subject: String,
    /// SHA-256 over the certificate, as pairs of hexadecimal digits joined by colons.
    pub fingerprint: String,
    /// First day.
    pub begins: SystemTime,
    /// Last day.
    pub ends: SystemTime,
    /// Whether `xbosh ca trust` has run for it.
    pub trusted: bool,
}

fn made<T>(domain: &str, result: Result<T, rcgen::Error>) -> Result<T, LocalTlsError> {
    result.map_err(|error| LocalTlsError::Make {
        domain: domain.to_owned(),
        said: error.to_string(),
    })
}

fn date(time: SystemTime) -> OffsetDateTime {
    OffsetDateTime::from(time)
}

/// The names that count: the domain, and this machine.
fn names(domain: &str) -> Result<Vec<SanType>, LocalTlsError> {
    let bad = |_| LocalTlsError::BadName {
        domain: domain.to_owned(),
    };
    let mut names = vec![
        SanType::DnsName("localhost".try_into().map_err(bad)?),
        SanType::IpAddress(Ipv4Addr::LOCALHOST.into()),
        SanType::IpAddress(Ipv6Addr::LOCALHOST.into()),
    ];
    match domain.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) if address.is_loopback() => {}
        Ok(address) => names.insert(0, SanType::IpAddress(address)),
        Err(_) if domain == "localhost" => {}
        Err(_) => names.insert(0, SanType::DnsName(domain.try_into().map_err(bad)?)),
    }
    Ok(names)
}

impl Authority {
    /// A new one: it can sign for nothing but the domain and this machine, and no other authority (RFC 5280
    /// sections 4.2.1.9 and 4.2.1.10).
    pub(super) fn make(domain: &str, now: SystemTime) -> Result<Self, LocalTlsError> {
        let key = made(domain, KeyPair::generate())?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.name_constraints = Some(limits::of(&names(domain)?));
        params
            .distinguished_name
            .push(DnType::CommonName, subject(domain));
        params.not_before = date(now - BACKDATED);
        params.not_after = date(now + AUTHORITY_LASTS);
        let certificate = made(domain, params.self_signed(&key))?;
        Ok(Self {
            domain: domain.to_owned(),
            certificate: certificate.der().clone(),
            key,
        })
    }

    /// What was read from disk, if it is what [`Self::make`] makes: it vouches for the domain, now, with this key, and
    /// can vouch for nothing else.
    ///
    /// # Errors
    /// What is wrong with it, for a sentence.
    pub(super) fn take(
        domain: &str,
        certificate: CertificateDer<'static>,
        key: KeyPair,
        now: SystemTime,
    ) -> Result<Self, String> {
        let authority = Self {
            domain: domain.to_owned(),
            certificate,
            key,
        };
        let (begins, ends) = authority.dates()?;
        if now < begins {
            return Err("it is not valid yet (is this machine's clock right?)".into());
        }
        if now >= ends {
            return Err("it has expired".into());
        }
        let names = names(domain).map_err(|error| error.to_string())?;
        limits::check(&authority.certificate, &names)
            .map_err(|what| format!("it is no authority for {domain} alone: {what}"))?;
        let probe = authority
            .sign(names, None, now)
            .map_err(|error| error.to_string())?;
        if !authority.accepts(&probe, domain, now) {
            return Err("the key beside it is not its key".into());
        }
        Ok(authority)
    }

    fn dates(&self) -> Result<(SystemTime, SystemTime), String> {
        validity(&self.certificate)
    }

    /// Its key as PKCS#8 PEM.
    pub(super) fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.key.serialize_pem())
    }

    /// A leaf for the domain and this machine; `key` is used again if there is one, for clients that remember it.
    pub(super) fn leaf(
        &self,
        key: Option<KeyPair>,
        now: SystemTime,
    ) -> Result<Leaf, LocalTlsError> {
        self.sign(names(&self.domain)?, key, now)
    }

    fn sign(
        &self,
        names: Vec<SanType>,
        key: Option<KeyPair>,
        now: SystemTime,
    ) -> Result<Leaf, LocalTlsError> {
        let domain = &self.domain;
        let key = match key {
            Some(key) => key,
            None => made(domain, KeyPair::generate())?,
        };
        let begins = now - BACKDATED;
        let lasts = self
            .dates()
            .map_or(now + LEAF_LASTS, |(_, ends)| ends.min(now + LEAF_LASTS));
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        // Old clients look here, where no more than 64 characters fit.
        let name = if domain.len() <= 64 {
            domain
        } else {
            "localhost"
        };
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date(begins);
        params.not_after = date(lasts);
        let issuer = Issuer::from_ca_cert_der(&self.certificate, &self.key);
        let issuer = made(domain, issuer)?;
        let certificate = made(domain, params.signed_by(&key, &issuer))?;
        Ok(Leaf {
            chain: vec![certificate.der().clone(), self.certificate.clone()],
            key,
            ends: lasts,
        })
    }

    /// Whether a client that trusts this authority alone would take the leaf for this name.
    fn accepts(&self, leaf: &Leaf, name: &str, now: SystemTime) -> bool {
        let end = leaf.chain.first();
        end.is_some_and(|end| verify(&self.certificate, end, name, now).is_ok())
    }

    /// What somebody with the key could try.
    #[cfg(test)]
    pub(super) fn forge(&self, name: &str, now: SystemTime) -> Leaf {
        self.sign(names(name).unwrap(), None, now).unwrap()
    }

    /// When a leaf is to be made anew. Not before its end if the authority does not last longer: a new one would not,
    /// either.
    pub(super) fn renew_at(&self, leaf: &Leaf) -> SystemTime {
        match self.dates() {
            Ok((_, ends)) if leaf.ends >= ends => leaf.ends,
            _ => leaf.ends - RENEW_BEFORE,
        }
    }

    /// Whether a leaf from disk can still be served: signed by this authority, for the domain, not to be made anew.
    pub(super) fn owns(&self, leaf: &Leaf, now: SystemTime) -> bool {
        now < self.renew_at(leaf) && self.accepts(leaf, &self.domain, now)
    }

    pub(super) fn describe(&self, trusted: bool) -> Result<Description, LocalTlsError> {
        let digest = sha256(&self.certificate);
        let pairs: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        let (begins, ends) = self.dates().map_err(|said| LocalTlsError::Make {
            domain: self.domain.clone(),
            said,
        })?;
        Ok(Description {
            domain: self.domain.clone(),
            subject: subject(&self.domain),
            fingerprint: pairs.join(":"),
            begins,
            ends,
            trusted,
        })
    }
}

/// What a client says that trusts this authority alone.
pub(super) fn verify(
    authority: &CertificateDer<'static>,
    leaf: &CertificateDer<'_>,
    name: &str,
    now: SystemTime,
) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone())?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let name = ServerName::try_from(name.trim_matches(['[', ']']))
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let since = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let now = UnixTime::since_unix_epoch(since);
    let _ = verifier.verify_server_cert(leaf, &[], &name, &[], now)?;
    Ok(())
}

fn subject(domain: &str) -> String {
    let name = if domain.len() <= 40 {
        domain
    } else {
        "a long domain"
    };
    format!("xbosh on this machine ({name})")
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).to_vec()
}

/// First and last moment of a certificate.
pub(super) fn validity(certificate: &[u8]) -> Result<(SystemTime, SystemTime), String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|_| "it is no certificate".to_owned())?;
    let at = |time: x509_parser::time::ASN1Time| {
        let seconds = u64::try_from(time.timestamp()).unwrap_or_default();
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    };
    let validity = parsed.validity();
    Ok((at(validity.not_before), at(validity.not_after)))
}

impl Leaf {
    /// TLS 1.2 and 1.3; a client that names protocols must name XMPP (XEP-0368 section 4).
    pub(super) fn serve(&self) -> Result<Arc<ServerConfig>, LocalTlsError> {
        let failed = |error: rustls::Error| LocalTlsError::Make {
            domain: "this domain".into(),
            said: error.to_string(),
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), key)
            .map_err(failed)?;
        config.alpn_protocols = vec![b"xmpp-client".to_vec()];
        Ok(Arc::new(config))
    }
}
