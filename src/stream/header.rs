//! Stream headers: judge the client's, write ours (RFC 6120 sections 4.3, 4.7 and 4.8).

use std::fmt;
use std::net::Ipv6Addr;

use bytes::BufMut;
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use super::error::{FaultReason, StreamFault, fault};
use super::ns;

/// Longest part of a JID in bytes (RFC 7622 section 3).
const MAX_JID_PART_BYTES: usize = 1023;
/// Longest `xml:lang` that is taken seriously; RFC 5646 tags in use stay far below.
const MAX_LANG_BYTES: usize = 64;

/// The start tag that opened the client's stream, as the framer read it; values unescaped.
///
/// The client's `id` is ignored (S-06).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHeader {
    /// Local name of the root element.
    pub local: String,
    /// Namespace of the root element; empty if it has none.
    pub namespace: String,
    /// Default namespace in force inside the root element, if any is declared.
    pub content_namespace: Option<String>,
    /// The domain that the client wants.
    pub to: Option<String>,
    /// The client's own address.
    pub from: Option<String>,
    /// The highest version that the client speaks.
    pub version: Option<String>,
    /// `xml:lang`.
    pub lang: Option<String>,
}

/// What headers are judged by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderRules {
    /// Used when the header has no `to`; as [`normalise_domain`] returns it.
    pub default_domain: Option<String>,
    /// Domains that clients may ask for, as [`normalise_domain`] returns them; empty means any.
    pub allowed_domains: Vec<String>,
}

/// A version of XMPP, compared by number, not by text (RFC 6120 section 4.7.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Before the dot.
    pub major: u32,
    /// After the dot.
    pub minor: u32,
}

impl Version {
    /// What we speak.
    pub const V1_0: Self = Self { major: 1, minor: 0 };

    /// Whether stream features are exchanged (S-10).
    #[must_use]
    pub fn has_features(self) -> bool {
        self >= Self::V1_0
    }

    /// Reads `major.minor`. A lone `major` is read as `major.0`, numbers too large for us as the largest.
    fn parse(text: &str) -> Option<Self> {
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            // All digits: the only way to fail is to be too large.
            plain.then(|| digits.parse().unwrap_or(u32::MAX))
        };
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        Some(Self {
            major: number(major)?,
            minor: number(minor)?,
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A header that starts a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The domain as a lower-case A-label (or IP literal): what goes upstream as `to` (B-13).
    pub domain: String,
    /// The client's bare JID, if it gave one: `to` of our header (S-07).
    pub from: Option<String>,
    /// The client's language, if it gave a plausible one (S-08).
    pub lang: Option<String>,
    /// The lower of the client's version and 1.0; `None` for a client from before 1.0 (S-40).
    pub version: Option<Version>,
}

/// A header that starts no stream. What is known of it serves the header that must precede the error (S-12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The error to send.
    pub fault: StreamFault,
    /// The domain to answer as; `None` if it was missing, bad or unknown: then `from=''` (S-05).
    pub domain: Option<String>,
    /// As in [`Accepted`].
    pub from: Option<String>,
    /// As in [`Accepted`].
    pub lang: Option<String>,
    /// As in [`Accepted`], and 1.0 for a client that asked for more.
    pub version: Option<Version>,
}

impl ClientHeader {
    /// Judges the header that opens a connection (E-01 to E-06).
    ///
    /// # Errors
    /// The first rule that is broken, in the order: root name, namespaces, version, domain.
    pub fn accept(&self, rules: &HeaderRules) -> Result<Accepted, Box<Rejected>> {
        let known = Known::of(self);
        if self.local != "stream" {
            return Err(known.reject(FaultReason::NotAStream, None));
        }
        // RFC 6120 section 4.8.5: the prefix-free style has the stream namespace as default.
        let content = self.content_namespace.as_deref().unwrap_or_default();
        if self.namespace != ns::STREAM || !["", ns::CLIENT, ns::STREAM].contains(&content) {
            return Err(known.reject(FaultReason::WrongNamespace, None));
        }
        // Section 4.7.5 does not say what to do with a version that is none. It is certainly none of ours.
        if known.bad_version {
            let asked = self
                .version
                .as_deref()
                .map(|version| format!("asked for {}", quoted(version)));
            return Err(known.reject(FaultReason::UnsupportedVersion, asked.as_deref()));
        }
        let domain = match (self.to.as_deref(), &rules.default_domain) {
            // An empty `to` is no `to`.
            (None | Some(""), None) => return Err(known.reject(FaultReason::NoDomain, None)),
            (None | Some(""), Some(default)) => default.clone(),
            (Some(to), _) => match normalise_domain(to) {
                Some(domain) => domain,
                None => {
                    let asked = asked_for(to);
                    return Err(known.reject(FaultReason::BadDomain, Some(&asked)));
                }
            },
        };
        if !rules.allowed_domains.is_empty() && !rules.allowed_domains.contains(&domain) {
            let asked = asked_for(&domain);
            return Err(Known {
                domain: None,
                ..known
            }
            .reject(FaultReason::DomainNotAllowed, Some(&asked)));
        }
        Ok(Accepted {
            domain,
            from: known.from,
            lang: known.lang,
            version: known.version,
        })
    }

    /// Judges the header of a restart (S-16): as [`Self::accept`], and the domain must stay the same. A
    /// header without `to` keeps it.
    ///
    /// # Errors
    /// As [`Self::accept`]; [`FaultReason::DomainChanged`] for another domain.
    pub fn accept_restart(
        &self,
        rules: &HeaderRules,
        first: &Accepted,
    ) -> Result<Accepted, Box<Rejected>> {
        self.accept_for(&first.domain, FaultReason::DomainChanged, rules)
    }

    /// Judges a header inside TLS for which the client asked by the name `sni` (S-37): as [`Self::accept`],
    /// and the domain must be that. A header without `to` means it.
    ///
    /// # Errors
    /// As [`Self::accept`]; [`FaultReason::TlsNameDiffers`] for another domain.
    pub fn accept_named(&self, rules: &HeaderRules, sni: &str) -> Result<Accepted, Box<Rejected>> {
        self.accept_for(sni, FaultReason::TlsNameDiffers, rules)
    }

    fn accept_for(
        &self,
        domain: &str,
        otherwise: FaultReason,
        rules: &HeaderRules,
    ) -> Result<Accepted, Box<Rejected>> {
        let rules = HeaderRules {
            default_domain: Some(domain.to_owned()),
            allowed_domains: rules.allowed_domains.clone(),
        };
        let accepted = self.accept(&rules)?;
        if accepted.domain == domain {
            return Ok(accepted);
        }
        let known = Known {
            domain: Some(domain.to_owned()),
            ..Known::of(self)
        };
        let change = format!("from {} to {}", quoted(domain), quoted(&accepted.domain));
        Err(known.reject(otherwise, Some(&change)))
    }
}

/// What can be read of a header whether or not it is accepted.
struct Known {
    domain: Option<String>,
    from: Option<String>,
    lang: Option<String>,
    version: Option<Version>,
    bad_version: bool,
}

impl Known {
    fn of(header: &ClientHeader) -> Self {
        let version = header.version.as_deref().map(Version::parse);
        Self {
            domain: header.to.as_deref().and_then(normalise_domain),
            from: header.from.as_deref().and_then(bare_jid),
            lang: header
                .lang
                .as_deref()
                .filter(|lang| is_lang(lang))
                .map(str::to_owned),
            version: version
                .map(|version| version.map_or(Version::V1_0, |version| version.min(Version::V1_0))),
            bad_version: version
                .is_some_and(|version| version.is_none_or(|version| version.major > 1)),
        }
    }

    fn reject(self, reason: FaultReason, detail: Option<&str>) -> Box<Rejected> {
        let Self {
            domain,
            from,
            lang,
            version,
            bad_version: _,
        } = self;
        Box::new(Rejected {
            fault: fault(reason, detail),
            domain,
            from,
            lang,
            version,
        })
    }
}

/// Our header, which answers the client's.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerHeader<'a> {
    /// Who we answer as; empty if the domain was missing or unknown (S-05).
    pub from: &'a str,
    /// The stream id. It may be as secret as the sid (T-34): not shown by `Debug`.
    pub id: &'a str,
    /// The client's bare JID, if it gave one (S-07).
    pub to: Option<&'a str>,
    /// The language of the stream; never empty (S-08).
    pub lang: &'a str,
    /// None for a client that gave none (S-09).
    pub version: Option<Version>,
}

impl ServerHeader<'_> {
    /// Appends the XML declaration and the header (S-04).
    pub fn write(&self, out: &mut impl BufMut) {
        let mut attribute = |name: &str, value: &str| {
            out.put_slice(name.as_bytes());
            out.put_slice(b"='");
            super::put_escaped(out, value);
            out.put_slice(b"' ");
        };
        attribute("<?xml version='1.0'?><stream:stream from", self.from);
        attribute("id", self.id);
        if let Some(to) = self.to {
            attribute("to", to);
        }
        if let Some(version) = self.version {
            attribute("version", &version.to_string());
        }
        attribute("xml:lang", self.lang);
        out.put_slice(b"xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>");
    }
}

impl fmt::Debug for ServerHeader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            from,
            id: _,
            to,
            lang,
            version,
        } = self;
        write!(
            f,
            "ServerHeader(from: {from:?}, to: {to:?}, lang: {lang:?}, version: {version:?})"
        )
    }
}

/// The domain in the form in which domains are compared and sent: lower-case A-labels without a final dot,
/// or an IP literal. `None` if it is no domain: with `@`, `/`, a port, blanks, or a label IDNA refuses.
#[must_use]
pub fn normalise_domain(domain: &str) -> Option<String> {
    if domain.len() > MAX_JID_PART_BYTES {
        return None;
    }
    if let Some(address) = domain
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return address
            .parse::<Ipv6Addr>()
            .ok()
            .map(|address| format!("[{address}]"));
    }
    // RFC 7622 section 3.2.1: a final dot is not part of the domain. UTS 46 knows other dots, too.
    let domain = domain
        .strip_suffix(['.', '\u{3002}', '\u{ff0e}', '\u{ff61}'])
        .unwrap_or(domain);
    let ascii = Uts46::new()
        .to_ascii(
            domain.as_bytes(),
            AsciiDenyList::URL,
            Hyphens::Allow,
            DnsLength::Verify,
        )
        .ok()?;
    // Underscores are no host name, but machines and containers are called so.
    let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    ascii.bytes().all(plain).then(|| ascii.into_owned())
}

/// The bare JID (`local@domain`) of a bare or full JID, as written; `None` if it is not plausibly an account.
#[must_use]
pub fn bare_jid(jid: &str) -> Option<String> {
    // RFC 7622 section 3.1: the first slash begins the resource, whatever it contains.
    let bare = jid.split_once('/').map_or(jid, |(bare, _)| bare);
    let (local, domain) = bare.split_once('@')?;
    // RFC 7622 section 3.3.1.
    let refused = |character: char| {
        character.is_whitespace() || character.is_control() || "\"&'/:<>@".contains(character)
    };
    let plausible = !local.is_empty()
        && local.len() <= MAX_JID_PART_BYTES
        && !local.contains(refused)
        && normalise_domain(domain).is_some();
    plausible.then(|| bare.to_owned())
}

/// The shape of RFC 5646, loosely.
fn is_lang(lang: &str) -> bool {
    lang.len() <= MAX_LANG_BYTES
        && lang.starts_with(|first: char| first.is_ascii_alphabetic())
        && lang
            .split('-')
            .all(|tag| !tag.is_empty() && tag.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// A foreign value for a text: short, in quotes, without control characters.
/// The detail of a fault about a domain.
pub(crate) fn asked_for(domain: &str) -> String {
    format!("asked for {}", quoted(domain))
}

fn quoted(value: &str) -> String {
    const SHOWN: usize = 80;
    let short: String = value
        .chars()
        .filter(|character| !character.is_control())
        .take(SHOWN)
        .collect();
    let more = if value.chars().nth(SHOWN).is_some() {
        "…"
    } else {
        ""
    };
    format!("\"{short}{more}\"")
}

#[cfg(test)]
mod tests;
