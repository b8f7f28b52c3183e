//! A bare BOSH client on hyper: one connection for each request, bodies written by the test.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use xbosh_testkit::cm::{Cm, Profile};
use xbosh_testkit::xmpp::Server;

pub(crate) const HTTPBIND: &str = "http://jabber.org/protocol/httpbind";

/// A reply.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn has(&self, text: &str) -> bool {
        self.body.contains(text)
    }

    /// An attribute of `<body/>`.
    pub(crate) fn attribute(&self, name: &str) -> Option<String> {
        let document = roxmltree::Document::parse(&self.body).expect("the reply is XML");
        document.root_element().attribute(name).map(str::to_owned)
    }

    /// Terminated with this condition; none is `""`.
    pub(crate) fn assert_terminated(&self, condition: &str) {
        assert_eq!(
            self.attribute("type").as_deref(),
            Some("terminate"),
            "{self:?}"
        );
        assert_eq!(
            self.attribute("condition").unwrap_or_default(),
            condition,
            "{self:?}"
        );
    }

    pub(crate) fn is_empty(&self) -> bool {
        let document = roxmltree::Document::parse(&self.body).expect("the reply is XML");
        let root = document.root_element();
        !root.has_children() && !root.has_attribute("type")
    }
}

/// Posts a body on a connection of its own; `Err` if no whole reply came.
pub(crate) async fn post(addr: SocketAddr, body: String) -> Result<Reply, String> {
    post_with(addr, body, &[]).await
}

pub(crate) async fn post_with(
    addr: SocketAddr,
    body: String,
    headers: &[(&str, &str)],
) -> Result<Reply, String> {
    let tell = |e: &dyn std::fmt::Display| e.to_string();
    let stream = TcpStream::connect(addr).await.map_err(|e| tell(&e))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| tell(&e))?;
    let driver = tokio::spawn(connection);
    let mut request = http::Request::post("/http-bind")
        .header("Host", "localhost")
        .header("Content-Type", "text/xml; charset=utf-8");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| tell(&e))?;
    let response = sender.send_request(request).await.map_err(|e| tell(&e))?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(|e| tell(&e))?.to_bytes();
    driver.abort();
    Ok(Reply {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

/// A client's side of a session.
#[derive(Clone)]
pub(crate) struct Bosh {
    pub(crate) addr: SocketAddr,
    pub(crate) sid: String,
    pub(crate) rid: u64,
}

/// A server with two users and its manager.
pub(crate) async fn manager(profile: Profile) -> (Server, Cm) {
    let server = Server::new("localhost");
    server.add_user("user", "secret");
    server.add_user("other", "secret");
    let cm = Cm::start(&server, profile, None).await;
    (server, cm)
}

pub(crate) fn creation(rid: u64) -> String {
    creation_with(rid, "wait='60' hold='1'")
}

pub(crate) fn creation_with(rid: u64, terms: &str) -> String {
    format!(
        "<body xmlns='{HTTPBIND}' xmlns:xmpp='urn:xmpp:xbosh' rid='{rid}' to='localhost' ver='1.6' xml:lang='en' \
         xmpp:version='1.0' {terms}/>"
    )
}

impl Bosh {
    pub(crate) async fn create(cm: &Cm) -> (Self, Reply) {
        Self::create_with(cm, "wait='60' hold='1'").await
    }

    pub(crate) async fn create_with(cm: &Cm, terms: &str) -> (Self, Reply) {
        let reply = post(cm.addr(), creation_with(1000, terms)).await.unwrap();
        let sid = reply.attribute("sid").expect("a session");
        let client = Self {
            addr: cm.addr(),
            sid,
            rid: 1000,
        };
        (client, reply)
    }

    /// Logged in and bound.
    pub(crate) async fn bound(cm: &Cm, user: &str) -> Self {
        let (mut client, _) = Self::create(cm).await;
        client.log_in(user).await;
        client
    }

    pub(crate) async fn log_in(&mut self, user: &str) {
        let plain = base64::engine::general_purpose::STANDARD.encode(format!("\0{user}\0secret"));
        let auth = format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{plain}</auth>"
        );
        let reply = self.send("", &auth).await;
        assert!(reply.has("<success"), "{reply:?}");
        let reply = self.restart().await;
        assert!(reply.has("xmpp-bind"), "{reply:?}");
        let bind = "<iq xmlns='jabber:client' type='set' id='b'>\
                    <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>r</resource></bind></iq>";
        let reply = self.send("", bind).await;
        assert!(
            reply.has(&format!("<jid>{user}@localhost/r</jid>")),
            "{reply:?}"
        );
    }

    pub(crate) async fn restart(&mut self) -> Reply {
        self.send(
            "xmlns:xmpp='urn:xmpp:xbosh' to='localhost' xml:lang='en' xmpp:restart='true'",
            "",
        )
        .await
    }

    /// The body with this rid.
    pub(crate) fn body(&self, rid: u64, attributes: &str, inner: &str) -> String {
        format!(
            "<body xmlns='{HTTPBIND}' rid='{rid}' sid='{}' {attributes}>{inner}</body>",
            self.sid
        )
    }

    /// The next body.
    pub(crate) fn next(&mut self, attributes: &str, inner: &str) -> String {
        self.rid += 1;
        self.body(self.rid, attributes, inner)
    }

    pub(crate) async fn send(&mut self, attributes: &str, inner: &str) -> Reply {
        post(self.addr, self.next(attributes, inner)).await.unwrap()
    }

    /// Sends without waiting for the answer, but until the manager has the request.
    pub(crate) async fn start(
        &mut self,
        cm: &Cm,
        attributes: &str,
        inner: &str,
    ) -> JoinHandle<Result<Reply, String>> {
        let body = self.next(attributes, inner);
        self.start_body(cm, body).await
    }

    pub(crate) async fn start_body(
        &self,
        cm: &Cm,
        body: String,
    ) -> JoinHandle<Result<Reply, String>> {
        let before = cm.posts().len();
        let waiting = tokio::spawn(post(self.addr, body));
        until(|| cm.posts().len() > before).await;
        waiting
    }
}

pub(crate) fn message(to: &str, text: &str) -> String {
    format!("<message xmlns='jabber:client' to='{to}'><body>{text}</body></message>")
}

/// Gives other tasks the time until this is true.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    limited(waiting).await;
}

/// Nothing here takes ten seconds, unless it never happens.
pub(crate) async fn limited<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(3600), future)
        .await
        .expect("it happens in time")
}
