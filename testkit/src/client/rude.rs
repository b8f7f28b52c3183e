//! Clients that others must not notice.

use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc::UnboundedSender;

use super::{Account, Client, ClientError, Mechanism, Place};

/// A way to misbehave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rude {
    /// Connects and says nothing.
    Silent,
    /// Begins a TLS handshake and stops in the middle.
    HalfHandshake,
    /// Never finishes its header: a blank now and then.
    HalfHeader,
    /// Sends a stanza that never ends, and comes again when it is thrown out.
    EndlessStanza,
    /// Is sent more and more, and reads nothing.
    NeverReads,
    /// Connects, says hello and is gone, again and again.
    Reconnects,
}

impl Rude {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Silent,
        Self::HalfHandshake,
        Self::HalfHeader,
        Self::EndlessStanza,
        Self::NeverReads,
        Self::Reconnects,
    ];

    /// Misbehaves until dropped; says when it has begun.
    pub async fn misbehave(
        self,
        place: impl Into<Place> + Send,
        account: Account,
        begun: UnboundedSender<Self>,
    ) {
        let place = place.into();
        let mut told = false;
        loop {
            let mut tell = || {
                if !std::mem::replace(&mut told, true) {
                    // Nobody may wait any more.
                    let _ = begun.send(self);
                }
            };
            // Thrown out: again. A pause lets others run.
            let _thrown_out = self.once(&place, &account, &mut tell).await;
            tokio::task::yield_now().await;
        }
    }

    async fn once(
        self,
        place: &Place,
        account: &Account,
        tell: &mut impl FnMut(),
    ) -> Result<(), ClientError> {
        match self {
            Self::Silent => {
                let _open = place.bare().await?;
                tell();
                std::future::pending().await
            }
            Self::HalfHandshake => {
                let mut open = place.bare().await?;
                open.write_all(b"\x16\x03\x01\x02\x00\x01").await?;
                tell();
                std::future::pending().await
            }
            Self::HalfHeader => {
                let mut open = place.bare().await?;
                open.write_all(b"<?xml version='1.0'?><stream:stream")
                    .await?;
                loop {
                    open.write_all(b" ").await?;
                    tell();
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
            }
            Self::EndlessStanza => {
                let mut client = Client::login(place.clone(), account, Mechanism::Plain).await?;
                client
                    .send("<message to='nobody@example.org'><body>")
                    .await?;
                let text = "x".repeat(1 << 16);
                loop {
                    client.send(&text).await?;
                    tell();
                }
            }
            Self::NeverReads => {
                let mut client = Client::login(place.clone(), account, Mechanism::Plain).await?;
                let (to, text) = (client.jid().to_owned(), "x".repeat(4096));
                loop {
                    client.message(&to, &text).await?;
                    tell();
                }
            }
            Self::Reconnects => {
                let mut client = Client::connect(place.clone(), &account.domain).await?;
                client.open().await?;
                tell();
                Ok(())
            }
        }
    }
}
