//! Payload that waits to be sent, one behind the other as it will stand in the bodies.

use std::collections::VecDeque;

use bytes::{Buf as _, BytesMut};

use super::session::PayloadClass;

/// An empty buffer that is larger is let go: an idle session stays small.
const KEPT_BUFFER: usize = 1024;
/// Places kept for payloads while there are none.
const KEPT_PAYLOADS: usize = 16;

#[derive(Clone, Copy, Debug)]
struct Payload {
    length: usize,
    class: PayloadClass,
}

/// The payloads, oldest first.
#[derive(Debug, Default)]
pub(super) struct Queue {
    bytes: BytesMut,
    payloads: VecDeque<Payload>,
}

impl Queue {
    /// One more, as `write` appends it.
    pub(super) fn push(&mut self, class: PayloadClass, write: impl FnOnce(&mut BytesMut)) {
        let before = self.bytes.len();
        write(&mut self.bytes);
        self.payloads.push_back(Payload {
            length: self.bytes.len() - before,
            class,
        });
    }

    pub(super) fn len(&self) -> usize {
        self.payloads.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.payloads.is_empty()
    }

    /// Bytes of all.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// How many of the oldest go into a body with this much room (X-01, T-20): one at least.
    pub(super) fn batch(&self, room: usize) -> usize {
        let Some(first) = self.payloads.front() else {
            return 0;
        };
        if first.class == PayloadClass::Alone {
            return 1;
        }
        let mut total = first.length;
        let more = self.payloads.iter().skip(1).take_while(|payload| {
            total += payload.length;
            payload.class == PayloadClass::Together && total <= room
        });
        1 + more.count()
    }

    /// The bytes of the `count` oldest.
    pub(super) fn oldest(&self, count: usize) -> &[u8] {
        let length: usize = self.payloads.iter().take(count).map(|p| p.length).sum();
        self.bytes.get(..length).unwrap_or_default()
    }

    /// Takes the `count` oldest out.
    pub(super) fn remove(&mut self, count: usize) {
        let count = count.min(self.payloads.len());
        let length: usize = self.payloads.drain(..count).map(|p| p.length).sum();
        let capacity = self.bytes.capacity();
        self.bytes.advance(length.min(self.bytes.len()));
        if self.bytes.is_empty() && capacity > KEPT_BUFFER {
            self.bytes = BytesMut::new();
        }
        if self.payloads.is_empty() {
            self.payloads.shrink_to(KEPT_PAYLOADS);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(queue: &mut Queue, text: &str, class: PayloadClass) {
        queue.push(class, |out| out.extend_from_slice(text.as_bytes()));
    }

    /// What goes together, in order, whatever was taken out before.
    #[test]
    fn x01_gathers_what_may_go_together() {
        let mut queue = Queue::default();
        assert_eq!((queue.batch(100), queue.oldest(1)), (0, &b""[..]));
        for text in ["<a/>", "<bb/>", "<ccc/>"] {
            push(&mut queue, text, PayloadClass::Together);
        }
        push(&mut queue, "<auth/>", PayloadClass::Alone);
        push(&mut queue, "<d/>", PayloadClass::Together);
        assert_eq!((queue.len(), queue.bytes()), (5, 26));
        // One that is too large goes all the same.
        assert_eq!(
            [0, 4, 8, 9, 14, 15, 99].map(|room| queue.batch(room)),
            [1, 1, 1, 2, 2, 3, 3]
        );
        assert_eq!(queue.oldest(2), b"<a/><bb/>");
        queue.remove(2);
        assert_eq!(queue.oldest(queue.batch(99)), b"<ccc/>");
        queue.remove(1);
        assert_eq!(queue.oldest(queue.batch(99)), b"<auth/>");
        queue.remove(1);
        push(&mut queue, "<e/>", PayloadClass::Together);
        assert_eq!(queue.oldest(queue.batch(99)), b"<d/><e/>");
        queue.remove(99);
        assert!(queue.is_empty());
        assert_eq!(queue.bytes(), 0);
    }

    /// Memory of a burst does not stay.
    #[test]
    fn an_empty_queue_is_small() {
        let mut queue = Queue::default();
        for _ in 0..1000 {
            push(&mut queue, &"x".repeat(200), PayloadClass::Together);
        }
        queue.remove(1000);
        assert!(queue.bytes.capacity() <= KEPT_BUFFER);
        assert!(queue.payloads.capacity() < 100);
    }
}
