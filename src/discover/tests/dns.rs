//! Asking the DNS, which here is a socket on loopback.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use url::Url;
use xbosh_testkit::proxy::{HttpProxy, HttpTrick, ProxyOptions};
use xbosh_testkit::tls::Authority;
use xbosh_testkit::web::WebHost;

use super::super::dns::Dns;
use super::super::{DiscoverError, Discovery, Found, Source};
use crate::config::{DiscoverySettings, Proxy, ProxySource, Tls};
use crate::connect::Connector;
use crate::driver::clock;

/// Texts by name; each is split where a `|` stands. Names without one do not exist.
type Records = HashMap<&'static str, Vec<String>>;

/// A DNS server; it ends with the process.
pub(crate) struct FakeDns {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl FakeDns {
    pub(crate) fn start(records: Records) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let (name, reply) = answer(&buffer[..length], &records);
                log.lock().unwrap().push(name);
                let _ = socket.send_to(&reply, from);
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// RFC 1035 section 4.1: the question again, and a TXT record for each text.
fn answer(query: &[u8], records: &Records) -> (String, Vec<u8>) {
    let (mut labels, mut at) = (Vec::new(), 12);
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
        at = end;
    }
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let name = labels.join(".");
    let texts = records.get(name.as_str());
    let code = if texts.is_some() { 0x80 } else { 0x83 };
    let texts = texts.map(Vec::as_slice).unwrap_or_default();
    let mut reply = query[..2].to_vec();
    reply.extend([0x81, code, 0, 1, 0, texts.len() as u8, 0, 0, 0, 0]);
    reply.extend(&query[12..at + 5]);
    for text in texts {
        let data: Vec<u8> = text
            .split('|')
            .flat_map(|part| [&[part.len() as u8], part.as_bytes()].concat())
            .collect();
        reply.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60, 0, data.len() as u8]);
        reply.extend(data);
    }
    (format!("{name} {kind}"), reply)
}

/// One that asks this server, if it may ask the DNS at all.
pub(crate) fn discovery(server: &FakeDns, settings: DiscoverySettings) -> Discovery {
    let mut discovery = Discovery::new(true).asking(settings);
    if let Some(dns) = &mut discovery.dns {
        *dns = Dns {
            server: Some(server.address),
        };
    }
    discovery
}

pub(crate) const DNS_ALONE: DiscoverySettings = DiscoverySettings {
    host_meta: false,
    dns_txt: true,
    cache: true,
};

fn direct() -> Connector {
    let way = Proxy {
        source: ProxySource::None,
        ..Proxy::default()
    };
    Connector::new(&way, &Tls::default()).unwrap()
}

/// D-10: records of BOSH with https count, whatever else there is; they are kept for five minutes at least.
#[tokio::test]
async fn d10_txt_records() {
    let texts = [
        "v=spf1 -all",
        "_xmpp-client-websocket=wss://cm.example.test/ws",
        "_xmpp-client-xbosh=http://cm.example.test/plain",
        "_xmpp-client-xbosh=https://cm.example|.test/http-bind",
    ];
    let server = FakeDns::start(
        [(
            "_xmppconnect.example.test",
            texts.map(str::to_owned).to_vec(),
        )]
        .into(),
    );
    let discovery = discovery(&server, DNS_ALONE);
    for _ in 0..2 {
        let found = discovery
            .find(&direct(), "example.test", clock::now())
            .await;
        let expected = Found {
            urls: vec![Url::parse("https://cm.example.test/http-bind").unwrap()],
            source: Source::Dns,
        };
        assert_eq!(found.unwrap(), expected);
        assert_eq!(server.asked(), ["_xmppconnect.example.test 16"]);
    }
    let later = clock::now() + Duration::from_secs(301);
    discovery
        .find(&direct(), "example.test", later)
        .await
        .unwrap();
    assert_eq!(server.asked().len(), 2);
}

/// D-10: off by default; where it finds nothing, the sentence says that it was asked.
#[tokio::test]
async fn d10_nothing_found() {
    let http = vec!["_xmpp-client-xbosh=http://cm.example.test/".to_owned()];
    let server = FakeDns::start([("_xmppconnect.http.test", http)].into());
    let told = async |settings: DiscoverySettings, domain: &str| {
        let discovery = discovery(&server, settings);
        let error = discovery.find(&direct(), domain, clock::now()).await;
        let error = error.unwrap_err();
        assert!(
            matches!(error, DiscoverError::NoAddress { .. }),
            "{error:?}"
        );
        error.to_string()
    };
    let off = DiscoverySettings {
        dns_txt: false,
        ..DNS_ALONE
    };
    let text = told(off, "example.test").await;
    assert!(!text.contains("DNS"), "{text}");
    assert_eq!(server.asked(), Vec::<String>::new());
    let text = told(DNS_ALONE, "example.test").await;
    assert!(
        text.contains("; its DNS has no record of one either"),
        "{text}"
    );
    let text = told(DNS_ALONE, "http.test").await;
    assert!(
        text.contains("; its DNS names no BOSH address with https either"),
        "{text}"
    );
}

/// D-10, P-17: behind a proxy nothing is resolved here, and that is told.
#[tokio::test]
async fn d10_no_dns_behind_a_proxy() {
    let authority = Authority::new();
    let web = WebHost::start(Some(authority.acceptor(&["example.test"]))).await;
    let options = ProxyOptions {
        places: [("example.test:443".to_owned(), web.addr())].into(),
        ..ProxyOptions::default()
    };
    let proxy = HttpProxy::start(options, HttpTrick::None).await;
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, authority.pem()).unwrap();
    let way = Proxy {
        source: ProxySource::Url(Url::parse(&format!("http://{}", proxy.addr())).unwrap()),
        ..Proxy::default()
    };
    let tls = Tls {
        ca_file: Some(ca_file),
        ..Tls::default()
    };
    let connector = Connector::new(&way, &tls).unwrap();
    let text = vec!["_xmpp-client-xbosh=https://cm.example.test/".to_owned()];
    let records = ["_xmppconnect.example.test", "_xmppconnect.nowhere.test"];
    let server = FakeDns::start(records.map(|name| (name, text.clone())).into());
    let settings = DiscoverySettings {
        host_meta: true,
        ..DNS_ALONE
    };
    let discovery = discovery(&server, settings);
    for (domain, said) in [
        (
            "example.test",
            "404 Not Found to host-meta; behind a proxy there is no DNS for discovery.dns_txt",
        ),
        (
            "nowhere.test",
            "(behind a proxy there is no DNS for discovery.dns_txt)",
        ),
    ] {
        let error = discovery.find(&connector, domain, clock::now()).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    assert_eq!(server.asked(), Vec::<String>::new());
}
