//! What goes to the client: bytes in order, and which of them are stanzas that are not known to have arrived.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Buf, BytesMut};

/// Memory kept for the next burst.
const SPARE: usize = 64 * 1024;

/// A stanza in the buffer, until it is written or acknowledged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    start: u64,
    end: u64,
    /// When it came from the manager.
    pub(super) at: Instant,
    /// It waits for the client's acknowledgement (XEP-0198).
    managed: bool,
}

/// The bytes for one client, from the oldest stanza that is not known to have arrived.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    buffer: BytesMut,
    /// Position of the buffer's first byte in all that was ever put in.
    base: u64,
    /// Position behind the last byte handed to the socket.
    written: u64,
    records: VecDeque<Record>,
    managed: bool,
}

impl Outbox {
    /// From now on stanzas stay until they are acknowledged.
    pub(super) fn manage(&mut self) {
        self.managed = true;
    }

    /// Bytes that are no stanza.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// One stanza, or something else in the client's content namespace that must arrive, as `write` appends it.
    pub(super) fn push_stanza(&mut self, now: Instant, write: impl FnOnce(&mut BytesMut)) {
        let start = self.end();
        write(&mut self.buffer);
        self.records.push_back(Record {
            start,
            end: self.end(),
            at: now,
            managed: self.managed,
        });
    }

    /// For what writes into a buffer by itself.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    fn end(&self) -> u64 {
        self.base + self.buffer.len() as u64
    }

    fn slice(&self, start: u64, end: u64) -> &[u8] {
        let at = |position: u64| usize::try_from(position.saturating_sub(self.base)).unwrap_or(0);
        self.buffer.get(at(start)..at(end)).unwrap_or_default()
    }

    /// What is to be written.
    pub(super) fn unwritten(&self) -> &[u8] {
        self.slice(self.written, self.end())
    }

    /// Bytes held, those that wait for an acknowledgement included.
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// The first `count` bytes of [`Self::unwritten`] are on their way.
    pub(super) fn wrote(&mut self, count: usize) {
        self.written = (self.written + count as u64).min(self.end());
        while let Some(first) = self.records.front()
            && !first.managed
            && first.end <= self.written
        {
            self.records.pop_front();
        }
        self.trim();
    }

    /// The client has the oldest `count` stanzas that wait for its acknowledgement.
    pub(super) fn acknowledged(&mut self, count: usize) {
        let mut left = count;
        self.records.retain(|record| {
            let gone = record.managed && left > 0;
            left -= usize::from(gone);
            !gone
        });
        self.trim();
    }

    fn trim(&mut self) {
        let needed = self
            .records
            .front()
            .map_or(self.written, |first| first.start.min(self.written));
        let free = usize::try_from(needed - self.base).unwrap_or(0);
        self.buffer.advance(free.min(self.buffer.len()));
        self.base = needed;
        if self.buffer.is_empty() && self.buffer.capacity() > SPARE {
            // A burst must not stay in memory for the life of an idle stream.
            self.buffer = BytesMut::new();
        }
    }

    /// Stanzas that are not known to have arrived, oldest first.
    pub(super) fn undelivered(&self) -> impl Iterator<Item = (Record, &[u8])> {
        self.records
            .iter()
            .map(|r| (*r, self.slice(r.start, r.end)))
    }

    /// How many there are.
    pub(super) fn undelivered_count(&self) -> usize {
        self.records.len()
    }

    /// Nothing more is owed to the client.
    pub(super) fn clear(&mut self) {
        *self = Self {
            managed: self.managed,
            ..Self::default()
        };
    }

    /// The rest of what is partly written, so that something else may follow it on the wire.
    pub(super) fn rest_of_partial(&self) -> &[u8] {
        let cut = self
            .records
            .iter()
            .find(|r| r.end > self.written)
            .map_or(self.end(), |next| {
                if next.start < self.written {
                    next.end
                } else {
                    next.start
                }
            });
        self.slice(self.written, cut)
    }

    /// A new connection takes over: `first` goes out, then every stanza that is not acknowledged, again.
    pub(super) fn start_over(&mut self, first: &[u8]) {
        let mut fresh = Self {
            managed: self.managed,
            ..Self::default()
        };
        fresh.push(first);
        for (record, bytes) in self.undelivered() {
            fresh.managed = record.managed;
            fresh.push_stanza(record.at, |out| out.extend_from_slice(bytes));
        }
        fresh.managed = self.managed;
        *self = fresh;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stanza(outbox: &mut Outbox, text: &str) {
        outbox.push_stanza(crate::driver::clock::now(), |out| {
            out.extend_from_slice(text.as_bytes());
        });
    }

    fn waiting(outbox: &Outbox) -> Vec<String> {
        let text = |(_, bytes): (Record, &[u8])| String::from_utf8(bytes.to_vec()).unwrap();
        outbox.undelivered().map(text).collect()
    }

    /// S-50: without stream management what is written whole has arrived; what is cut has not.
    #[test]
    fn s50_written_whole_or_not() {
        let mut outbox = Outbox::default();
        outbox.push(b"<head>");
        stanza(&mut outbox, "<a/>");
        stanza(&mut outbox, "<b/>");
        assert_eq!(outbox.unwritten(), b"<head><a/><b/>");
        outbox.wrote(8);
        assert_eq!(waiting(&outbox), ["<a/>", "<b/>"]);
        assert_eq!(outbox.rest_of_partial(), b"/>");
        assert_eq!(outbox.unwritten(), b"/><b/>");
        outbox.wrote(2);
        assert_eq!(waiting(&outbox), ["<b/>"]);
        assert_eq!(outbox.rest_of_partial(), b"");
        outbox.wrote(4);
        assert_eq!((outbox.len(), outbox.undelivered_count()), (0, 0));
    }

    /// S-48: with it stanzas stay until they are acknowledged; what came before it does not.
    #[test]
    fn s48_kept_until_acknowledged() {
        let mut outbox = Outbox::default();
        stanza(&mut outbox, "<old/>");
        outbox.manage();
        outbox.push(b"<enabled/>");
        stanza(&mut outbox, "<a/>");
        outbox.push(b"<r/>");
        stanza(&mut outbox, "<b/>");
        outbox.wrote(100);
        assert_eq!(outbox.unwritten(), b"");
        assert_eq!(waiting(&outbox), ["<a/>", "<b/>"]);
        outbox.acknowledged(1);
        assert_eq!(waiting(&outbox), ["<b/>"]);
        stanza(&mut outbox, "<c/>");
        assert_eq!(outbox.unwritten(), b"<c/>");
        outbox.start_over(b"<resumed/>");
        assert_eq!(outbox.unwritten(), b"<resumed/><b/><c/>");
        outbox.acknowledged(9);
        assert_eq!(waiting(&outbox), Vec::<String>::new());
        assert_eq!(outbox.unwritten(), b"<resumed/><b/><c/>");
        outbox.wrote(18);
        assert_eq!(outbox.len(), 0);
    }

    /// S-49: another element may follow what is on the wire only at a border.
    #[test]
    fn s49_what_is_partly_written_is_finished() {
        let mut outbox = Outbox::default();
        outbox.push(b"<r/>");
        stanza(&mut outbox, "<a/>");
        outbox.wrote(1);
        assert_eq!(outbox.rest_of_partial(), b"r/>");
        outbox.wrote(5);
        assert_eq!(outbox.rest_of_partial(), b"/>");
    }
}
