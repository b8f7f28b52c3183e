//! What the client sent and the manager has not yet answered for.

use std::borrow::Cow;
use std::collections::VecDeque;

use bytes::{Buf as _, BytesMut};

use crate::xml::{Element, escape};

/// What one payload was.
#[derive(Clone, Copy, Debug)]
struct Carried {
    /// It counts in stream management (XEP-0198 section 4).
    counted: bool,
    /// What the client gets back if it is lost; most iqs' answers and errors get nothing.
    refund: Option<Refund>,
}

/// Enough of a stanza to return it as an error; its texts are in [`Pending::texts`], in this order.
#[derive(Clone, Copy, Debug)]
struct Refund {
    name: &'static str,
    /// Length of its `id`.
    id: Option<u32>,
    /// Length of its `to`.
    to: Option<u32>,
}

/// Payloads that the session has not confirmed, oldest first.
#[derive(Debug, Default)]
pub(super) struct Pending {
    queue: VecDeque<Carried>,
    /// Of all refunds, one behind the other.
    texts: BytesMut,
}

/// An empty buffer that is larger is let go: an idle stream stays small.
const KEPT_TEXTS: usize = 512;

impl Pending {
    /// A payload was handed to the session.
    pub(super) fn push(&mut self, element: &Element, counted: bool) {
        let refund = self.refund(element);
        self.queue.push_back(Carried { counted, refund });
    }

    /// A payload of our own.
    pub(super) fn push_own(&mut self) {
        self.queue.push_back(Carried {
            counted: false,
            refund: None,
        });
    }

    /// The manager has the oldest `payloads`; how many of them count in stream management.
    pub(super) fn confirmed(&mut self, payloads: usize) -> u32 {
        let gone = self.queue.drain(..payloads.min(self.queue.len()));
        let (mut counted, mut length) = (0, 0);
        for carried in gone {
            counted += u32::from(carried.counted);
            length += carried.refund.map_or(0, Refund::length);
        }
        let capacity = self.texts.capacity();
        self.texts.advance(length.min(self.texts.len()));
        if self.texts.is_empty() && capacity > KEPT_TEXTS {
            self.texts = BytesMut::new();
        }
        counted
    }

    /// Payloads not confirmed.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether the client would have to be told if all were lost.
    pub(super) fn owes_anything(&self) -> bool {
        self.queue.iter().any(|c| c.refund.is_some())
    }

    /// Takes everything out; the errors for what is lost. `only`: of the counted stanzas, the oldest so many;
    /// all payloads if `None`.
    pub(super) fn refunds(&mut self, only: Option<usize>) -> Vec<String> {
        let mut left = only.unwrap_or(usize::MAX);
        let mut out = Vec::new();
        let mut texts = std::mem::take(&mut self.texts);
        for carried in std::mem::take(&mut self.queue) {
            let refund = carried.refund.map(|refund| refund.error(&mut texts));
            if only.is_some() {
                if !carried.counted {
                    continue;
                }
                if left == 0 {
                    break;
                }
                left -= 1;
            }
            out.extend(refund);
        }
        out
    }

    /// Errors, and answers to iqs, are not returned: nobody waits for what becomes of them.
    fn refund(&mut self, element: &Element) -> Option<Refund> {
        if !element.is_stanza() {
            return None;
        }
        let [kind, id, to] = element.attrs(["type", "id", "to"]);
        let name = match (element.local(), kind.as_deref()) {
            (_, Some("error")) => return None,
            ("message", _) => "message",
            ("presence", _) => "presence",
            ("iq", Some("get" | "set")) => "iq",
            _ => return None,
        };
        let mut keep = |text: Option<Cow<'_, str>>| {
            let text = text?;
            // An element is never so long.
            let length = u32::try_from(text.len()).ok()?;
            self.texts.extend_from_slice(text.as_bytes());
            Some(length)
        };
        Some(Refund {
            name,
            id: keep(id),
            to: keep(to),
        })
    }
}

impl Refund {
    /// Bytes of its texts.
    fn length(self) -> usize {
        [self.id, self.to]
            .into_iter()
            .flatten()
            .map(|length| length as usize)
            .sum()
    }

    /// The stanza error of RFC 6120 section 8.3; takes its texts off the front of `texts`.
    fn error(self, texts: &mut BytesMut) -> String {
        let mut out = format!("<{} type='error'", self.name);
        for (name, length) in [("id", self.id), ("from", self.to)] {
            if let Some(length) = length {
                let value = texts.split_to(texts.len().min(length as usize));
                // They were text when they were put in.
                let value = String::from_utf8_lossy(&value);
                out.push_str(&format!(" {name}='{}'", escape::attribute(&value)));
            }
        }
        out.push_str(&format!(
            "><error type='wait'><remote-server-timeout xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
             <text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>delivery not confirmed</text></error></{}>",
            self.name
        ));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(pending: &mut Pending, stanza: &str, counted: bool) {
        pending.push(&Element::parse(stanza).unwrap(), counted);
    }

    /// What comes back: same name and id, from where it was to go; never answers and errors.
    #[test]
    fn what_is_returned() {
        let mut pending = Pending::default();
        push(
            &mut pending,
            "<message id='1' to='a&amp;&apos;b@x'><body>hi</body></message>",
            false,
        );
        push(&mut pending, "<iq id='2' type='get'/>", false);
        push(&mut pending, "<presence/>", false);
        for silent in [
            "<iq id='3' type='result' to='a@x'/>",
            "<iq id='4' type='error' to='a@x'/>",
            "<message type='error' to='a@x'/>",
            "<presence type='error' to='a@x'/>",
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
        ] {
            push(&mut pending, silent, false);
        }
        assert!(pending.owes_anything());
        let errors = pending.refunds(None);
        let facts: Vec<_> = errors
            .iter()
            .map(|error| {
                let document = roxmltree::Document::parse(error).unwrap();
                let root = document.root_element();
                assert_eq!(root.attribute("type"), Some("error"));
                let error = root.first_element_child().unwrap();
                assert_eq!(error.attribute("type"), Some("wait"));
                let names: Vec<_> = error.children().map(|c| c.tag_name().name()).collect();
                assert_eq!(names, ["remote-server-timeout", "text"]);
                [
                    root.tag_name().name().to_owned(),
                    root.attribute("id").unwrap_or("-").to_owned(),
                    root.attribute("from").unwrap_or("-").to_owned(),
                ]
            })
            .collect();
        assert_eq!(
            facts,
            [
                ["message", "1", "a&'b@x"],
                ["iq", "2", "-"],
                ["presence", "-", "-"]
            ]
        );
        assert_eq!(pending.len(), 0);
    }

    /// S-49: of an acknowledged flow only what was acknowledged without being confirmed comes back.
    #[test]
    fn s49_only_the_acknowledged_part() {
        let mut pending = Pending::default();
        push(&mut pending, "<message id='0'/>", false);
        for id in 1..=4 {
            push(&mut pending, &format!("<message id='{id}'/>"), true);
        }
        pending.push_own();
        assert_eq!(pending.confirmed(2), 1);
        let errors = pending.refunds(Some(2));
        assert_eq!(errors.len(), 2);
        assert!(errors[0].contains("id='2'") && errors[1].contains("id='3'"));
        assert_eq!(pending.len(), 0);
    }
}
