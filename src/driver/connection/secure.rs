//! A client's connection turns into TLS (S-02, S-37).

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use bytes::BytesMut;
use rustls::ServerConfig;

use super::super::clock;
use super::super::tls::{Choice, HandshakeError, Refusal, says_distrust};
use super::Connection;
use crate::local_tls::LocalTlsError;
use crate::stream::header::normalise_domain;

/// What a handshake is to be answered with.
pub(super) type Chosen = Result<Arc<ServerConfig>, LocalTlsError>;

/// That is being made or read from disk, for this domain.
pub(super) type Choosing = Pin<Box<dyn Future<Output = (String, Chosen)> + Send>>;

/// Where a client's TLS stands.
#[derive(Debug, Default)]
pub(super) struct Turning {
    /// TLS begins with these bytes once what is to be said in the clear is written.
    due: Option<BytesMut>,
    /// Whose certificate the client was shown.
    shown: Option<String>,
    /// The domain that the client named.
    named: Option<String>,
}

/// A domain that stands for no other: what a certificate is chosen by.
fn named_domain(sni: &str) -> Option<String> {
    normalise_domain(sni).filter(|name| name != "localhost")
}

impl Connection {
    /// The bridge asks for TLS.
    pub(super) fn turn(&mut self, received: BytesMut) {
        self.turning.due = Some(received);
    }

    /// Begins the handshake once nothing more is to be said in the clear.
    pub(super) fn begin_due_handshake(&mut self) {
        if self.turning.due.is_none() || !self.bridge.output().is_empty() {
            return;
        }
        if let (Some(received), Some(client)) = (self.turning.due.take(), &mut self.client) {
            client.begin_tls(received);
            self.handshake(Ok(()));
        }
    }

    /// Goes on with the handshake.
    pub(super) fn handshake(&mut self, ready: io::Result<()>) {
        let Some(client) = &mut self.client else {
            return;
        };
        let Some(local_tls) = self.shared.local_tls.clone() else {
            return;
        };
        let (turning, peer) = (&mut self.turning, &self.peer);
        // After `<starttls/>` the stream header has named the domain.
        let asked = self.bridge.domain();
        let mut later = None;
        let mut choose = |sni: Option<&str>| {
            let named = sni.and_then(named_domain);
            let domain = match (&named, asked) {
                (None, Some(asked)) => Ok(asked.to_owned()),
                _ => local_tls.domain_for(sni),
            };
            let found = domain.and_then(|domain| {
                let config = local_tls.ready(&domain)?;
                Ok((domain, config))
            });
            let (domain, config) = match found {
                Ok(found) => found,
                Err(error) => return Err(refusal(&error, peer)),
            };
            turning.named = named.filter(|named| *named == domain);
            match config {
                Some(config) => {
                    turning.shown = Some(domain);
                    Ok(Choice::Now(config))
                }
                None => {
                    later = Some(domain);
                    Ok(Choice::Later)
                }
            }
        };
        let result = ready
            .map_err(HandshakeError::Io)
            .and_then(|()| client.handshake(&mut choose));
        if let Some(domain) = later {
            self.choosing = Some(Box::pin(async move {
                let config = local_tls.prepare(&domain).await;
                (domain, config)
            }));
        }
        match result {
            Ok(false) => {}
            Ok(true) => {
                tracing::debug!(client = %self.peer, domain = self.turning.shown, "TLS is established");
                let named = self.turning.named.take();
                self.bridge.handle_secured(named, clock::now());
            }
            Err(error) => self.on_handshake_failed(&error),
        }
    }

    /// The certificate for a domain is ready, or there is none.
    pub(super) fn on_chosen(&mut self, domain: String, config: Chosen) {
        let peer = &self.peer;
        let Some(client) = self.client.as_mut().filter(|c| c.is_handshaking()) else {
            return;
        };
        let config = config.map_err(|error| refusal(&error, peer));
        if config.is_ok() {
            self.turning.shown = Some(domain);
        }
        match client.chosen(config) {
            Ok(()) => self.handshake(Ok(())),
            Err(error) => self.on_handshake_failed(&error),
        }
    }

    fn on_handshake_failed(&mut self, error: &HandshakeError) {
        let (peer, domain) = (&self.peer, self.turning.shown.as_deref());
        match (error, domain) {
            (error, Some(domain)) if error.is_distrust() => self.log_distrust(domain),
            (HandshakeError::Gone { answered: true }, Some(domain)) => tracing::info!(
                client = %peer,
                domain,
                "the client left in the middle of the TLS handshake; if it does not trust xbosh's certificate, run `xbosh ca trust {domain}`"
            ),
            // The reason has been told.
            (HandshakeError::NoCertificate, _) => {}
            (error, domain) => {
                tracing::info!(client = %peer, domain, "no TLS with the client: {error}");
            }
        }
        self.input_closed = true;
        self.bridge.handle_client_gone(clock::now());
    }

    fn log_distrust(&self, domain: &str) {
        tracing::warn!(
            client = %self.peer,
            domain,
            "the client does not trust xbosh's certificate for {domain}: run `xbosh ca trust {domain}`"
        );
    }

    /// The client's end was read, or an error in its place. Some clients look at the certificate only when the
    /// handshake is done.
    pub(super) fn look_for_distrust(&self, error: Option<&io::Error>) {
        let Some(domain) = &self.turning.shown else {
            return;
        };
        let silent = self.client.as_ref().is_some_and(|c| c.is_silent_in_tls());
        match error {
            Some(error) if says_distrust(error) => self.log_distrust(domain),
            _ if silent && !self.bridge.is_client_closed() => tracing::info!(
                client = %self.peer,
                domain,
                "the client left right after the TLS handshake; if it does not trust xbosh's certificate, run `xbosh ca trust {domain}`"
            ),
            Some(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::info!(client = %self.peer, domain, "no valid TLS from the client: {error}");
            }
            _ => {}
        }
    }

    /// The time for the handshake is over, or the stream's end came first.
    pub(super) fn drop_handshake(&mut self) {
        if self.client.as_ref().is_some_and(|c| c.is_handshaking()) {
            tracing::info!(client = %self.peer, domain = self.turning.shown, "the client did not finish the TLS handshake in time");
        }
    }
}

pub(super) async fn chosen(choosing: &mut Option<Choosing>) -> (String, Chosen) {
    match choosing {
        Some(choosing) => choosing.await,
        None => std::future::pending().await,
    }
}

/// What a client did is its own affair; what is wrong with our files is the user's.
fn refusal(error: &LocalTlsError, peer: &super::Peer) -> Refusal {
    match error {
        LocalTlsError::NotAllowed { .. } | LocalTlsError::BadName { .. } => {
            tracing::info!(client = %peer, "refused TLS: {error}");
            Refusal::UnrecognizedName
        }
        LocalTlsError::NoName => {
            tracing::warn!(client = %peer, "refused TLS: {error}");
            Refusal::UnrecognizedName
        }
        error => {
            tracing::warn!(client = %peer, "no TLS with the client: {error}");
            Refusal::InternalError
        }
    }
}
