//! A client with stream management (XEP-0198) that can lose its connection and resume.

use std::collections::VecDeque;

use super::{Account, Client, ClientError, Mechanism, Place, Stanza, escape};

const SM: &str = "urn:xmpp:sm:3";

/// A client that counts, acknowledges and remembers.
#[derive(Debug)]
pub struct Managed {
    client: Client,
    place: Place,
    account: Account,
    mechanism: Mechanism,
    id: Option<String>,
    jid: String,
    /// Stanzas received since `<enabled/>`.
    handled: u32,
    /// Stanzas sent since `<enable/>`.
    sent: u32,
    /// The server's last `h`.
    acked: u32,
    /// Sent and not acknowledged, oldest first.
    unacked: VecDeque<String>,
    /// Its answers to `<r/>` are held back.
    mute: bool,
}

/// What became of an attempt to resume.
#[derive(Debug, PartialEq, Eq)]
pub enum Resumed {
    /// The stream goes on.
    Yes,
    /// It does not; the server's `h`, if it told one. A new stream is bound and managed.
    No(Option<u32>),
}

impl Managed {
    /// Logs in, binds, and enables stream management with resumption.
    ///
    /// # Errors
    /// Whatever ended it.
    pub async fn login(
        place: impl Into<Place>,
        account: &Account,
        mechanism: Mechanism,
    ) -> Result<Self, ClientError> {
        let place = place.into();
        let client = Client::login(place.clone(), account, mechanism).await?;
        let mut managed = Self {
            jid: client.jid().to_owned(),
            client,
            place,
            account: account.clone(),
            mechanism,
            id: None,
            handled: 0,
            sent: 0,
            acked: 0,
            unacked: VecDeque::new(),
            mute: false,
        };
        managed.enable().await?;
        Ok(managed)
    }

    async fn enable(&mut self) -> Result<(), ClientError> {
        self.client
            .send(&format!("<enable xmlns='{SM}' resume='true'/>"))
            .await?;
        let enabled = self
            .client
            .wait_for(|stanza| stanza.has(SM, "enabled") || stanza.has(SM, "failed"))
            .await?;
        if enabled.name() != "enabled" {
            return Err(super::unexpected("<enabled/>", &enabled));
        }
        self.id = enabled.attribute("id");
        (self.handled, self.sent, self.acked) = (0, 0, 0);
        Ok(())
    }

    /// The full JID.
    #[must_use]
    pub fn jid(&self) -> &str {
        &self.jid
    }

    /// The stream's SM-ID.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Stanzas sent that the server has not acknowledged.
    #[must_use]
    pub fn unacked(&self) -> &VecDeque<String> {
        &self.unacked
    }

    /// Does not answer `<r/>` from now on.
    pub const fn mute(&mut self) {
        self.mute = true;
    }

    /// The plain client, for what is not counted.
    pub const fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Sends a stanza. A broken connection is no error: the stanza is remembered.
    pub async fn send(&mut self, stanza: &str) {
        self.sent = self.sent.wrapping_add(1);
        self.unacked.push_back(stanza.to_owned());
        // Told by the next read.
        let _ = self.client.send(stanza).await;
    }

    /// Sends a chat message.
    pub async fn message(&mut self, to: &str, body: &str) {
        let text = format!(
            "<message to='{}' type='chat' id='{}'><body>{}</body></message>",
            escape(to),
            self.sent,
            escape(body)
        );
        self.send(&text).await;
    }

    /// The next stanza. Stream management is done on the way.
    ///
    /// # Errors
    /// As [`Client::next_stanza`].
    pub async fn next_stanza(&mut self) -> Result<Stanza, ClientError> {
        loop {
            let stanza = self.client.next_stanza().await?;
            match stanza.name() {
                "r" if self.mute => {}
                "r" => {
                    let ack = format!("<a xmlns='{SM}' h='{}'/>", self.handled);
                    self.client.send(&ack).await?;
                }
                "a" => self.on_ack(h_of(&stanza)),
                _ => {
                    if matches!(stanza.name(), "message" | "presence" | "iq") {
                        self.handled = self.handled.wrapping_add(1);
                    }
                    return Ok(stanza);
                }
            }
        }
    }

    /// Asks the server for its `h`, and waits until everything sent is acknowledged. Other stanzas are given
    /// back.
    ///
    /// # Errors
    /// As [`Client::next_stanza`].
    pub async fn settle(&mut self) -> Result<Vec<Stanza>, ClientError> {
        let mut others = Vec::new();
        self.client.send(&format!("<r xmlns='{SM}'/>")).await?;
        while !self.unacked.is_empty() {
            let stanza = self.client.next_stanza().await?;
            match stanza.name() {
                "a" => self.on_ack(h_of(&stanza)),
                "r" => {}
                _ => {
                    self.handled = self.handled.wrapping_add(1);
                    others.push(stanza);
                }
            }
        }
        Ok(others)
    }

    fn on_ack(&mut self, h: Option<u32>) {
        let Some(h) = h else { return };
        let more = h.wrapping_sub(self.acked);
        assert!(
            more as usize <= self.unacked.len(),
            "h went from {} to {h} with {} sent",
            self.acked,
            self.sent
        );
        self.unacked.drain(..more as usize);
        self.acked = h;
    }

    /// Loses the connection as a crash would, and comes back: login, then `<resume/>`. If that fails, binds
    /// anew, and what the server's `h` does not cover is sent again.
    ///
    /// # Errors
    /// Whatever ended the new connection.
    pub async fn reconnect(&mut self) -> Result<Resumed, ClientError> {
        let account = self.account.clone();
        self.reconnect_as(&account).await
    }

    /// The same as somebody else.
    ///
    /// # Errors
    /// Whatever ended the new connection.
    pub async fn reconnect_as(&mut self, account: &Account) -> Result<Resumed, ClientError> {
        let mut client = Client::connect(self.place.clone(), &account.domain).await?;
        client.open().await?;
        client.authenticate(account, self.mechanism).await?;
        client.open().await?;
        let old = std::mem::replace(&mut self.client, client);
        old.vanish();
        let previd = self.id.clone().unwrap_or_default();
        self.client
            .send(&format!(
                "<resume xmlns='{SM}' previd='{previd}' h='{}'/>",
                self.handled
            ))
            .await?;
        let answer = self.client.next_stanza().await?;
        if answer.name() == "resumed" {
            self.on_ack(h_of(&answer));
            for stanza in &self.unacked {
                self.client.send(stanza).await?;
            }
            return Ok(Resumed::Yes);
        }
        let h = h_of(&answer);
        if answer.name() != "failed" {
            return Err(super::unexpected("<resumed/> or <failed/>", &answer));
        }
        self.on_ack(h);
        self.client.bind(None).await?;
        self.client.jid().clone_into(&mut self.jid);
        let again: Vec<String> = self.unacked.drain(..).collect();
        self.enable().await?;
        for stanza in again {
            self.send(&stanza).await;
        }
        Ok(Resumed::No(h))
    }

    /// Closes the connection in mid-stream.
    pub fn vanish(self) {
        self.client.vanish();
    }

    /// Closes the stream in order.
    ///
    /// # Errors
    /// As [`Client::logout`].
    pub async fn logout(self) -> Result<Vec<Stanza>, ClientError> {
        self.client.logout().await
    }
}

fn h_of(stanza: &Stanza) -> Option<u32> {
    stanza.attribute("h")?.parse().ok()
}
