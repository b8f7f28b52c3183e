//! A logged-in session, whatever carries it, as the load sees it.

use std::time::Duration;

use bytes::Bytes;

use super::floor::{Floor, Route};
use crate::client::{Account, Client, ClientError, Mechanism, Place, Stanza};

/// How sessions are made.
pub(super) enum Way {
    /// A stream, to a server or to a sidecar.
    Stream(Place),
    /// BOSH by hand.
    Bosh {
        /// To the connection manager.
        route: Route,
        /// Seconds that a request may be held.
        wait: u64,
    },
}

/// A session.
pub(super) enum Link {
    Stream { client: Box<Client>, out: String },
    Bosh(Box<Floor>),
}

impl Link {
    pub(super) async fn login(way: &Way, account: &Account) -> Result<Self, String> {
        match way {
            Way::Stream(place) => {
                let client = Client::login(place.clone(), account, Mechanism::Plain)
                    .await
                    .map_err(|error| error.to_string())?;
                Ok(Self::Stream {
                    client: Box::new(client),
                    out: String::new(),
                })
            }
            Way::Bosh { route, wait } => {
                let floor = Floor::login(route, account, *wait).await?;
                Ok(Self::Bosh(Box::new(floor)))
            }
        }
    }

    pub(super) fn jid(&self) -> &str {
        match self {
            Self::Stream { client, .. } => client.jid(),
            Self::Bosh(floor) => floor.jid(),
        }
    }

    /// Takes a stanza for the next [`Self::flush`].
    pub(super) fn queue(&mut self, stanza: &str) {
        match self {
            Self::Stream { out, .. } => out.push_str(stanza),
            Self::Bosh(floor) => floor.queue(stanza),
        }
    }

    /// Writes what is queued.
    pub(super) async fn flush(&mut self) -> Result<(), String> {
        match self {
            Self::Stream { client, out } => {
                let sent = client.send(out).await;
                out.clear();
                sent.map_err(|error| error.to_string())
            }
            Self::Bosh(floor) => floor.flush().await,
        }
    }

    /// The next element; what is queued is written first if there is none yet. May be given up and asked again.
    pub(super) async fn next(&mut self) -> Result<Bytes, String> {
        if let Self::Stream { client, out } = self
            && !out.is_empty()
        {
            // Queued answers to what came together leave together.
            tokio::select! {
                biased;
                stanza = client.next_stanza() => return read(stanza),
                () = std::future::ready(()) => {}
            }
            self.flush().await?;
        }
        match self {
            Self::Stream { client, .. } => read(client.next_stanza().await),
            Self::Bosh(floor) => floor.next().await,
        }
    }

    /// Nothing is expected any more.
    pub(super) fn rest(&mut self) {
        if let Self::Stream { client, .. } = self {
            client.set_deadline(Duration::from_secs(24 * 60 * 60));
        }
    }

    pub(super) async fn logout(self) -> Result<(), String> {
        match self {
            Self::Stream { client, .. } => match client.logout().await {
                Ok(_) => Ok(()),
                Err(error) => Err(error.to_string()),
            },
            Self::Bosh(floor) => floor.logout().await,
        }
    }
}

fn read(stanza: Result<Stanza, ClientError>) -> Result<Bytes, String> {
    match stanza {
        Ok(stanza) => Ok(stanza.into_bytes()),
        Err(error) => Err(error.to_string()),
    }
}
