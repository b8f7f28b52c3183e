//! A client moves from its new connection to the stream that it resumes, or stays (S-49).

use tokio::sync::{mpsc, oneshot};

use super::super::client::Client;
use super::super::clock;
use super::super::resume::{Attachment, Found, Owner, Returned};
use super::{Connection, LINGER};
use crate::bridge::SmId;

impl Connection {
    /// Whose stream this is.
    pub(super) fn owner(&self, user: Option<String>) -> Owner {
        Owner {
            domain: self.bridge.domain().unwrap_or_default().to_owned(),
            user,
        }
    }

    /// The client names an earlier stream: it is handed over to it, or stays.
    pub(super) fn on_resume(&mut self, previd: SmId, h: u32, user: Option<String>) {
        let now = clock::now();
        let owner = self.owner(user);
        match self.shared.registry.find(&previd, &owner, h, now) {
            Found::Live(door) => {
                let Some(client) = self.client.take() else {
                    return;
                };
                self.asked = Some((previd, h, owner.user));
                let (back, given) = oneshot::channel();
                let attachment = Attachment {
                    client,
                    peer: self.peer.clone(),
                    side: self.bridge.detach(),
                    h,
                    back,
                };
                self.given = Some(given);
                if let Err(mpsc::error::SendError(attachment)) = door.send(attachment) {
                    attachment.decline();
                }
            }
            Found::Gone(h, kept) => {
                self.claimed = Some(previd);
                self.bridge.refuse_resume(Some(h), kept, now);
            }
            Found::Unknown => self.bridge.refuse_resume(None, Vec::new(), now),
        }
    }

    /// The other stream has the client, or could not take it.
    pub(super) fn on_returned(&mut self, back: Option<Returned>) {
        self.given = None;
        let now = clock::now();
        match back {
            Some(Returned { client, side }) => {
                self.client = Some(client);
                self.bridge.take_back(side);
                let Some((previd, h, user)) = self.asked.take() else {
                    return;
                };
                // What the stream left when it ended in the meantime.
                match self
                    .shared
                    .registry
                    .find(&previd, &self.owner(user), h, now)
                {
                    Found::Gone(h, kept) => {
                        self.claimed = Some(previd);
                        self.bridge.refuse_resume(Some(h), kept, now);
                    }
                    Found::Live(_) | Found::Unknown => {
                        self.bridge.refuse_resume(None, Vec::new(), now);
                    }
                }
            }
            None => {
                self.input_closed = true;
                self.output_closed = true;
                if let Some(ticket) = self.ticket.take() {
                    ticket.spare();
                }
                self.bridge.given_away(now);
            }
        }
    }

    /// A client resumes this stream.
    pub(super) fn on_attachment(&mut self, attachment: Attachment) {
        if !self.bridge.can_attach() {
            // The stream is ending: the client hears how far it came once that is known.
            return self.waiting.push(attachment);
        }
        let Attachment {
            client,
            peer,
            side,
            h,
            back,
        } = attachment;
        let farewell = self.bridge.attach(side, h, clock::now());
        drop(back);
        if let Some(old) = self.client.replace(client) {
            tokio::spawn(dismiss(old, farewell));
        }
        self.peer = peer;
        self.input_closed = false;
        tracing::info!(client = %self.peer, domain = self.bridge.domain(), "client resumed its stream");
    }

    /// Nobody can come in any more; who is already there goes back.
    pub(super) fn close_door(&mut self) {
        if let Some(mut door) = self.door.take() {
            door.close();
            while let Ok(attachment) = door.try_recv() {
                attachment.decline();
            }
        }
        for attachment in self.waiting.drain(..) {
            attachment.decline();
        }
    }
}

/// Tells an old connection why it ends; it may be dead.
async fn dismiss(mut client: Client, farewell: Vec<u8>) {
    let telling = async {
        // Nobody may be there to hear it.
        let _ = client.write_all(&farewell).await;
        let _ = client.shutdown().await;
    };
    drop(tokio::time::timeout(LINGER, telling).await);
}

pub(super) async fn next(
    door: &mut Option<mpsc::UnboundedReceiver<Attachment>>,
) -> Option<Attachment> {
    match door {
        Some(door) => door.recv().await,
        None => std::future::pending().await,
    }
}

/// The client that came back, or `None` once it was taken.
pub(super) async fn returned(given: &mut Option<oneshot::Receiver<Returned>>) -> Option<Returned> {
    match given {
        Some(given) => given.await.ok(),
        None => std::future::pending().await,
    }
}
