//! What goes between the client's socket and the bridge.

use std::cell::RefCell;
use std::io;

use super::super::client::Client;
use super::super::clock;
use super::{Connection, LINGER};

/// Bytes read from a client at once.
const READ_BYTES: usize = 32 * 1024;
/// Bytes read from one client before others get a turn.
const READ_TURNS: usize = 4;

thread_local! {
    /// What is read goes through here. One for all: cleared once, and none of it belongs to an idle stream.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

impl Connection {
    pub(super) fn wants_bytes(&self) -> bool {
        // A handshake that waits for the socket to take something, or for a certificate, reads nothing meanwhile.
        let shakes = |client: &Client| {
            client.is_handshaking() && !client.has_unwritten() && !client.is_choosing()
        };
        self.bridge.wants_client_bytes() || self.client.as_ref().is_some_and(shakes)
    }

    pub(super) fn has_output(&self) -> bool {
        !self.bridge.output().is_empty() || self.client.as_ref().is_some_and(|c| c.has_unwritten())
    }

    /// Everything that will ever be said to the client has left.
    pub(super) fn has_said_all(&mut self) -> bool {
        if !self.bridge.is_client_closed() || !self.bridge.output().is_empty() {
            return false;
        }
        if !self.output_closed
            && let Some(client) = &mut self.client
        {
            client.finish();
            // A client that is gone shows when it is read or closed.
            let _ = client.flush();
        }
        !self.has_output()
    }

    pub(super) fn write(&mut self, ready: io::Result<()>) {
        let now = clock::now();
        let Some(client) = &mut self.client else {
            return;
        };
        if client.is_handshaking() {
            return self.handshake(ready);
        }
        if self.bridge.output().is_empty() {
            if ready.and_then(|()| client.flush()).is_err() {
                self.input_closed = true;
                self.on_client_gone();
            }
            return;
        }
        match ready.and_then(|()| client.try_write(self.bridge.output())) {
            Ok(count) => {
                self.stuck_until = None;
                self.seat.facts().stream.bytes_down += count as u64;
                self.bridge.consume_output(count, now);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => {
                self.input_closed = true;
                self.on_client_gone();
            }
        }
    }

    /// Writes what has just been said, without waiting for the system's word that there is room: mostly there is.
    pub(super) fn write_at_once(&mut self) {
        let takes = |client: &Client| !client.is_handshaking();
        let open = !self.output_closed && self.client.as_ref().is_some_and(takes);
        // A last word comes behind what the log has to say about it.
        if open && !self.bridge.is_client_closed() && !self.bridge.output().is_empty() {
            self.write(Ok(()));
        }
    }

    pub(super) fn read(&mut self, ready: io::Result<()>) {
        if self.client.as_ref().is_some_and(|c| c.is_handshaking()) {
            return self.handshake(ready);
        }
        BUFFER.with_borrow_mut(|buffer| self.read_through(ready, buffer));
    }

    fn read_through(&mut self, ready: io::Result<()>, buffer: &mut [u8]) {
        for _ in 0..READ_TURNS {
            let Some(client) = &mut self.client else {
                return;
            };
            match ready
                .as_ref()
                .map_err(|e| io::Error::from(e.kind()))
                .and_then(|()| client.try_read(buffer))
            {
                Ok(0) => {
                    self.input_closed = true;
                    self.look_for_distrust(None);
                    // A client that half-closes behind its own </stream:stream> still gets ours.
                    if !self.bridge.is_leaving() {
                        self.on_client_gone();
                    }
                    return;
                }
                // Closed already: what still comes is thrown away until the client closes too.
                Ok(_) if self.output_closed => {}
                Ok(count) => {
                    self.seat.facts().stream.bytes_up += count as u64;
                    self.bridge
                        .handle_client_bytes(&buffer[..count], clock::now());
                    if count < buffer.len() || !self.bridge.wants_client_bytes() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    self.input_closed = true;
                    self.look_for_distrust(Some(&error));
                    return self.on_client_gone();
                }
            }
        }
    }

    pub(super) fn on_client_gone(&mut self) {
        let was_closed = self.bridge.is_client_closed();
        self.bridge.handle_client_gone(clock::now());
        if self.bridge.is_away() {
            self.client = None;
            tracing::info!(client = %self.peer, domain = self.bridge.domain(), "client went away, its stream waits for it");
        } else if self.seat.facts().stream.bytes_up == 0 {
            // A load balancer that looks every second whether somebody is here.
            tracing::debug!(client = %self.peer, "client left without a word");
        } else if !was_closed {
            tracing::info!(client = %self.peer, domain = self.bridge.domain(), "client went away");
        }
    }

    pub(super) async fn close_output(&mut self) {
        self.output_closed = true;
        match &mut self.client {
            // Fails only if the client is gone, which is what we want.
            Some(client) => drop(client.shutdown().await),
            None => self.input_closed = true,
        }
    }

    /// A client that is to be told its stream's end, and does not read, is given up after a while.
    pub(super) fn watch_last_words(&mut self, written: bool) {
        if written || self.output_closed || !self.bridge.is_client_closed() {
            self.stuck_until = None;
        } else {
            self.stuck_until.get_or_insert(clock::now() + LINGER);
        }
    }
}

pub(super) async fn writable(client: Option<&Client>) -> io::Result<()> {
    match client {
        Some(client) => client.writable().await,
        None => std::future::pending().await,
    }
}

pub(super) async fn readable(client: Option<&Client>) -> io::Result<()> {
    match client {
        Some(client) => client.readable().await,
        None => std::future::pending().await,
    }
}
