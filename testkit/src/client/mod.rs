//! An XMPP client on a plain TCP connection or Unix socket, independent of xbosh's own code.
//!
//! ```text
//! Client::login(addr, &account, Mechanism::Scram)   connect, header, SASL, restart, bind
//!   .roster() .ping() .available()                  the usual first steps
//!   .send(text) .next_stanza()                      anything else
//!   .logout()                                       `</stream:stream>` and wait for the server's
//! ```
//! [`Client::split`] gives the two directions to different tasks. For bytes that no client would send there
//! is [`raw::Raw`]. Every wait has a deadline ([`Client::set_deadline`], ten seconds at first).

pub mod crowd;
mod error;
pub mod managed;
mod place;
pub mod raw;
pub mod rude;
pub(crate) mod scanner;
pub(crate) mod scram;
mod stanza;
mod stream;
pub mod tls;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

pub use error::{ClientError, StreamError};
pub use place::Place;
pub use stanza::{Stanza, escape};
pub use stream::{Reader, Writer};

const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";

/// Who logs in. All parts are plain ASCII.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The localpart.
    pub user: String,
    /// The domain.
    pub domain: String,
    /// The password.
    pub password: String,
}

impl Account {
    /// An account from its parts.
    pub fn new(user: &str, domain: &str, password: &str) -> Self {
        Self {
            user: user.to_owned(),
            domain: domain.to_owned(),
            password: password.to_owned(),
        }
    }

    /// `user@domain`.
    pub fn jid(&self) -> String {
        format!("{}@{}", self.user, self.domain)
    }
}

/// How to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// SASL PLAIN (RFC 4616).
    Plain,
    /// SASL SCRAM-SHA-1 (RFC 5802).
    Scram,
    /// As [`Self::Scram`], by a client that could bind the channel and believes that the server cannot (GS2 flag y).
    ScramY,
}

impl Mechanism {
    /// The name in `<mechanism/>`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Scram | Self::ScramY => "SCRAM-SHA-1",
        }
    }
}

/// A connected client.
#[derive(Debug)]
pub struct Client {
    reader: Reader,
    writer: Writer,
    domain: String,
    jid: String,
    ids: u64,
}

impl Client {
    /// Connects, and sends nothing yet.
    ///
    /// # Errors
    /// [`ClientError::Io`].
    pub async fn connect(place: impl Into<Place>, domain: &str) -> Result<Self, ClientError> {
        let (reader, writer) = place.into().connect().await?;
        Ok(Self {
            reader,
            writer,
            domain: domain.to_owned(),
            jid: String::new(),
            ids: 0,
        })
    }

    /// The whole login: connect, header, SASL, restart, bind (with a resource of the server's choice).
    ///
    /// # Errors
    /// Whatever ended it; [`ClientError::Stream`] for a stream error in the place of features.
    pub async fn login(
        place: impl Into<Place>,
        account: &Account,
        mechanism: Mechanism,
    ) -> Result<Self, ClientError> {
        let mut client = Self::connect(place, &account.domain).await?;
        client.open().await?;
        client.authenticate(account, mechanism).await?;
        client.open().await?;
        client.bind(None).await?;
        Ok(client)
    }

    /// The longest wait for anything from now on.
    pub const fn set_deadline(&mut self, deadline: Duration) {
        self.reader.set_deadline(deadline);
    }

    /// The full JID that the server gave at [`Client::bind`]; empty before.
    pub fn jid(&self) -> &str {
        &self.jid
    }

    /// The last stream header from the server.
    pub fn header(&self) -> &str {
        self.reader.header()
    }

    /// Sends a stream header and reads the server's header and features. After SASL success this is the restart.
    ///
    /// # Errors
    /// Whatever came instead.
    pub async fn open(&mut self) -> Result<Stanza, ClientError> {
        let header = format!(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams' version='1.0' to='{}'>",
            escape(&self.domain)
        );
        self.reader.expect_header();
        self.writer.send(&header).await?;
        self.reader.next_header().await?;
        let features = self.next_stanza().await?;
        if features.has("http://etherx.jabber.org/streams", "features") {
            Ok(features)
        } else {
            Err(unexpected("stream features", &features))
        }
    }

    /// SASL, up to `<success/>`; [`Client::open`] must follow.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the condition of a `<failure/>`.
    pub async fn authenticate(
        &mut self,
        account: &Account,
        mechanism: Mechanism,
    ) -> Result<(), ClientError> {
        let flag = match mechanism {
            Mechanism::ScramY => "y",
            Mechanism::Plain | Mechanism::Scram => "n",
        };
        let mut scram = scram::Scram::new(flag, &account.user, &account.password);
        let first = match mechanism {
            Mechanism::Plain => format!("\0{}\0{}", account.user, account.password),
            Mechanism::Scram | Mechanism::ScramY => scram.first(),
        };
        let name = mechanism.name();
        let first = BASE64.encode(first);
        self.send(&format!(
            "<auth xmlns='{SASL}' mechanism='{name}'>{first}</auth>"
        ))
        .await?;
        loop {
            let answer = self.next_stanza().await?;
            let text = answer.read(|element| {
                element
                    .text()
                    .and_then(|text| BASE64.decode(text.trim()).ok())
                    .and_then(|bytes| String::from_utf8(bytes).ok())
                    .unwrap_or_default()
            });
            match answer.name() {
                "success" if mechanism == Mechanism::Plain || scram.verify(&text) => return Ok(()),
                "challenge" if mechanism != Mechanism::Plain => {
                    let response = scram
                        .respond(&text)
                        .map_err(|why| ClientError::Unexpected("a SCRAM challenge", why))?;
                    let response = BASE64.encode(response);
                    self.send(&format!("<response xmlns='{SASL}'>{response}</response>"))
                        .await?;
                }
                "failure" => {
                    return Err(ClientError::Refused(answer.read(|element| {
                        element
                            .first_element_child()
                            .map(|child| child.tag_name().name().to_owned())
                            .unwrap_or_default()
                    })));
                }
                _ => return Err(unexpected("a SASL answer", &answer)),
            }
        }
    }

    /// Binds a resource and remembers the JID.
    ///
    /// # Errors
    /// [`ClientError::Unexpected`] with the iq error.
    pub async fn bind(&mut self, resource: Option<&str>) -> Result<(), ClientError> {
        let resource = resource
            .map(|name| format!("<resource>{}</resource>", escape(name)))
            .unwrap_or_default();
        let payload = format!("<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>{resource}</bind>");
        let result = self.iq("set", None, &payload).await?;
        self.jid = result.read(|iq| {
            iq.descendants()
                .find(|node| node.tag_name().name() == "jid")
                .and_then(|node| node.text().map(str::to_owned))
                .unwrap_or_default()
        });
        if self.jid.is_empty() {
            return Err(unexpected("a bound JID", &result));
        }
        Ok(())
    }

    /// Sends an iq and returns its result. Other stanzas that come before it are dropped.
    ///
    /// # Errors
    /// [`ClientError::Unexpected`] with the iq error.
    pub async fn iq(
        &mut self,
        kind: &str,
        to: Option<&str>,
        payload: &str,
    ) -> Result<Stanza, ClientError> {
        self.ids += 1;
        let id = format!("q{}", self.ids);
        let to = to
            .map(|to| format!(" to='{}'", escape(to)))
            .unwrap_or_default();
        self.send(&format!("<iq type='{kind}' id='{id}'{to}>{payload}</iq>"))
            .await?;
        loop {
            let answer = self.next_stanza().await?;
            if answer.name() != "iq" || answer.attribute("id") != Some(id.clone()) {
                continue;
            }
            return match answer.attribute("type").as_deref() {
                Some("result") => Ok(answer),
                _ => Err(unexpected("an iq result", &answer)),
            };
        }
    }

    /// Fetches the roster.
    ///
    /// # Errors
    /// As [`Client::iq`].
    pub async fn roster(&mut self) -> Result<Stanza, ClientError> {
        self.iq("get", None, "<query xmlns='jabber:iq:roster'/>")
            .await
    }

    /// One XEP-0199 ping to the server.
    ///
    /// # Errors
    /// As [`Client::iq`].
    pub async fn ping(&mut self) -> Result<Stanza, ClientError> {
        let domain = self.domain.clone();
        self.iq("get", Some(&domain), "<ping xmlns='urn:xmpp:ping'/>")
            .await
    }

    /// Sends available presence, to one JID or to all who are subscribed.
    ///
    /// # Errors
    /// [`ClientError::Io`].
    pub async fn available(&mut self, to: Option<&str>) -> Result<(), ClientError> {
        let to = to
            .map(|to| format!(" to='{}'", escape(to)))
            .unwrap_or_default();
        self.send(&format!("<presence{to}/>")).await
    }

    /// Sends a chat message.
    ///
    /// # Errors
    /// [`ClientError::Io`].
    pub async fn message(&mut self, to: &str, body: &str) -> Result<(), ClientError> {
        self.writer.message(to, body).await
    }

    /// Sends any text as it is.
    ///
    /// # Errors
    /// [`ClientError::Io`].
    pub async fn send(&mut self, text: &str) -> Result<(), ClientError> {
        self.writer.send(text).await
    }

    /// The next first-level element.
    ///
    /// # Errors
    /// [`ClientError::Stream`] in the place of a stream error, [`ClientError::Ended`] of the stream's end.
    pub async fn next_stanza(&mut self) -> Result<Stanza, ClientError> {
        self.reader.next_stanza().await
    }

    /// Drops what comes until an element fits.
    ///
    /// # Errors
    /// As [`Client::next_stanza`].
    pub async fn wait_for(
        &mut self,
        fits: impl Fn(&Stanza) -> bool,
    ) -> Result<Stanza, ClientError> {
        loop {
            let stanza = self.next_stanza().await?;
            if fits(&stanza) {
                return Ok(stanza);
            }
        }
    }

    /// Closes the stream as RFC 6120 section 4.4 has it; gives what came before the server's close.
    ///
    /// # Errors
    /// A stream error, or a connection closed without `</stream:stream>`.
    pub async fn logout(mut self) -> Result<Vec<Stanza>, ClientError> {
        self.writer.send("</stream:stream>").await?;
        let mut last = Vec::new();
        loop {
            match self.next_stanza().await {
                Ok(stanza) => last.push(stanza),
                Err(ClientError::Ended) => return Ok(last),
                Err(error) => return Err(error),
            }
        }
    }

    /// Closes the TCP connection in mid-stream, as a crash would.
    pub fn vanish(self) {
        drop(self);
    }

    /// Both directions at once, for sending while receiving.
    pub const fn halves(&mut self) -> (&mut Reader, &mut Writer) {
        (&mut self.reader, &mut self.writer)
    }

    /// Gives the two directions to different tasks.
    pub fn split(self) -> (Reader, Writer) {
        (self.reader, self.writer)
    }
}

fn unexpected(wanted: &'static str, got: &Stanza) -> ClientError {
    ClientError::Unexpected(wanted, got.text().into_owned())
}
