//! Addresses in DNS TXT records, as XEP-0156 had them before version 1.4 (D-10).
//!
//! Anybody on the way can forge an unsigned record. So it is the last that is asked, only where the configuration says so,
//! and what it names must show the XMPP domain's own certificate ([`super::Source::names`]).

use std::time::Duration;

use hickory_resolver::config::ResolverOpts;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver};

use super::fetch::{Answer, LIMIT, Source, usable};
use super::freshness::within_bounds;
use super::host_meta::{Link, MAX_LINKS, Transport};

/// Time for one server's answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// What the records begin with.
const KINDS: [(&str, Transport); 2] = [
    ("_xmpp-client-xbosh=", Transport::Bosh),
    ("_xmpp-client-websocket=", Transport::WebSocket),
];

/// Whom to ask.
#[derive(Clone, Debug, Default)]
pub(super) struct Dns {
    /// In place of the system's.
    #[cfg(test)]
    pub(super) server: Option<std::net::SocketAddr>,
}

impl Dns {
    /// The links of a domain, or what there is in their place.
    pub(super) async fn ask(&self, domain: &str) -> Result<Answer, String> {
        let failed = |error: NetError| match error.is_no_records_found() {
            true => "its DNS has no record of one either".to_owned(),
            false => "its DNS could not be asked".to_owned(),
        };
        let resolver = self.resolver().map_err(failed)?;
        // The dot at the end keeps the system's search list out.
        let asked = resolver.lookup(format!("_xmppconnect.{domain}."), RecordType::TXT);
        let answer = tokio::time::timeout(LIMIT, asked).await;
        let answer = answer.map_err(|_| "its DNS did not answer in time".to_owned())?;
        let answer = answer.map_err(failed)?;
        let mut links = Vec::new();
        let mut fresh = Duration::MAX;
        for record in answer.answers() {
            let RData::TXT(text) = &record.data else {
                continue;
            };
            let Ok(text) = String::from_utf8(text.txt_data.concat()) else {
                continue;
            };
            fresh = fresh.min(Duration::from_secs(u64::from(record.ttl)));
            let link = KINDS.iter().find_map(|(kind, transport)| {
                Some(Link {
                    transport: *transport,
                    href: text.strip_prefix(kind)?.to_owned(),
                })
            });
            links.extend(link.filter(|_| links.len() < MAX_LINKS));
        }
        match usable(&links) {
            true => Ok(Answer {
                links,
                source: Source::Dns,
                fresh: within_bounds(fresh),
            }),
            false => Err("its DNS names no BOSH address with https either".to_owned()),
        }
    }

    /// The system's settings of now: a machine that travels has others elsewhere.
    fn resolver(&self) -> Result<TokioResolver, NetError> {
        let mut builder = self.builder()?;
        let options: &mut ResolverOpts = builder.options_mut();
        options.timeout = PATIENCE;
        options.attempts = 1;
        builder.build()
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "tests have another")]
    fn builder(&self) -> Result<Builder, NetError> {
        TokioResolver::builder_tokio()
    }

    #[cfg(test)]
    fn builder(&self) -> Result<Builder, NetError> {
        use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
        let Some(server) = self.server else {
            return TokioResolver::builder_tokio();
        };
        let mut udp = ConnectionConfig::udp();
        udp.port = server.port();
        let server = NameServerConfig::new(server.ip(), true, vec![udp]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        Ok(TokioResolver::builder_with_config(
            config,
            Default::default(),
        ))
    }
}

type Builder = ResolverBuilder<hickory_resolver::net::runtime::TokioRuntimeProvider>;
