//! Reading host-meta: the XRD that every host must have, and its JSON form (XEP-0156 section 3).

use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{Namespace, ResolveResult};
use quick_xml::{NsReader, XmlVersion};
use serde::Deserialize;
use url::Url;

const XRD: Namespace<'_> = Namespace("http://docs.oasis-open.org/ns/xri/xrd-1.0");
const BOSH: &str = "urn:xmpp:alt-connections:xbosh";
const WEBSOCKET: &str = "urn:xmpp:alt-connections:websocket";
/// A host with more than these has them for somebody else.
pub(super) const MAX_LINKS: usize = 16;

/// Another way to a server than TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// XEP-0124, the one that we speak.
    Bosh,
    /// RFC 7395.
    WebSocket,
}

/// One address that a domain names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// What is spoken there.
    pub transport: Transport,
    /// The address as written.
    pub href: String,
}

impl Link {
    /// Where BOSH is spoken, if this is such an address and one that may be used: https, without user name (D-05).
    #[must_use]
    pub fn usable(&self) -> Option<Url> {
        let url = Url::parse(self.href.trim()).ok()?;
        let plain = url.username().is_empty() && url.password().is_none();
        (self.transport == Transport::Bosh && url.scheme() == "https" && plain).then_some(url)
    }
}

/// A document that is no host-meta.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Not well-formed, or with a DTD or entities, which nobody expands (D-14).
    #[error("it is no well-formed XML of the plain kind")]
    Xml,
    /// Something else, a web page perhaps.
    #[error("it is no XRD document")]
    NotXrd,
    /// Not the JSON of a host-meta.
    #[error("it is no JRD document")]
    NotJrd,
}

/// The XMPP links of an XRD (D-04), in their order.
///
/// # Errors
/// [`Unreadable`] if the document cannot be trusted to say anything.
pub fn read_xrd(document: &[u8]) -> Result<Vec<Link>, Unreadable> {
    let document = std::str::from_utf8(document).map_err(|_| Unreadable::Xml)?;
    let mut reader = NsReader::from_str(document.trim_start_matches('\u{feff}'));
    reader.config_mut().expand_empty_elements = true;
    let mut links = Vec::new();
    let mut depth = 0_usize;
    let mut has_root = false;
    loop {
        let (namespace, event) = reader.read_resolved_event().map_err(|_| Unreadable::Xml)?;
        let ours = namespace == ResolveResult::Bound(XRD);
        match event {
            Event::Start(tag) => {
                match (depth, tag.local_name().as_ref()) {
                    (0, "XRD") if ours && !has_root => has_root = true,
                    (0, _) => return Err(Unreadable::NotXrd),
                    (1, "Link") if ours => links.extend(read_link(&tag)?),
                    _ => {}
                }
                depth += 1;
            }
            Event::End(_) => depth -= 1,
            Event::DocType(_) => return Err(Unreadable::Xml),
            Event::GeneralRef(reference) => {
                let known = ["lt", "gt", "amp", "apos", "quot"];
                if !reference.is_char_ref() && !known.contains(&reference.as_ref()) {
                    return Err(Unreadable::Xml);
                }
            }
            Event::Eof if depth == 0 && has_root => break,
            Event::Eof => return Err(Unreadable::NotXrd),
            _ => {}
        }
    }
    links.truncate(MAX_LINKS);
    Ok(links)
}

fn read_link(tag: &BytesStart<'_>) -> Result<Option<Link>, Unreadable> {
    let (mut rel, mut href) = (None, None);
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|_| Unreadable::Xml)?;
        let wanted = match attribute.key.as_ref() {
            "rel" => &mut rel,
            "href" => &mut href,
            _ => continue,
        };
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|_| Unreadable::Xml)?;
        *wanted = Some(value.into_owned());
    }
    Ok(link(rel.as_deref(), href))
}

fn link(rel: Option<&str>, href: Option<String>) -> Option<Link> {
    let transport = match rel?.trim() {
        BOSH => Transport::Bosh,
        WEBSOCKET => Transport::WebSocket,
        _ => return None,
    };
    Some(Link {
        transport,
        href: href?,
    })
}

#[derive(Deserialize)]
struct Jrd {
    links: Option<Vec<JrdLink>>,
}

#[derive(Deserialize)]
struct JrdLink {
    rel: Option<String>,
    href: Option<String>,
}

/// The XMPP links of a JRD (D-04), in their order.
///
/// # Errors
/// [`Unreadable::NotJrd`].
pub fn read_jrd(document: &[u8]) -> Result<Vec<Link>, Unreadable> {
    let jrd: Jrd = serde_json::from_slice(document).map_err(|_| Unreadable::NotJrd)?;
    let links = jrd.links.unwrap_or_default().into_iter();
    Ok(links
        .filter_map(|one| link(one.rel.as_deref(), one.href))
        .take(MAX_LINKS)
        .collect())
}

/// The addresses to try, those under the domain itself first (D-06), each once.
#[must_use]
pub fn in_order(links: &[Link], domain: &str) -> Vec<Url> {
    let under = |url: &Url| {
        url.host_str().is_some_and(|host| {
            host == domain
                || host
                    .strip_suffix(domain)
                    .is_some_and(|front| front.ends_with('.'))
        })
    };
    let mut urls: Vec<Url> = Vec::new();
    for url in links.iter().filter_map(Link::usable) {
        if !urls.contains(&url) {
            urls.push(url);
        }
    }
    urls.sort_by_key(|url| !under(url));
    urls
}
