//! Numbered messages, and the receiver's check that each came once, in order and as it was sent.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use memchr::memmem;

use crate::client::escape;

/// Writes message `number` to `to`, with the namespace that BOSH needs on every stanza.
pub(super) fn write(to: &str, number: usize, out: &mut String) {
    let to = escape(to);
    // Writing to a string does not fail.
    let _ = write!(
        out,
        "<message xmlns='jabber:client' to='{to}' type='chat' id='m{number}'><body>{}</body></message>",
        text(number)
    );
}

/// Something of everything that could be changed on the way.
fn text(number: usize) -> String {
    format!("message number {number} of many: cr\u{e8}me &amp; caf\u{e9} \u{2615}")
}

/// What receives messages.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    next: usize,
}

impl Receiver {
    /// How many came.
    pub(super) const fn count(&self) -> usize {
        self.next
    }

    /// Whether the element was a message; it must be the next one then.
    ///
    /// # Errors
    /// It is another message, or a changed one.
    pub(super) fn take(&mut self, element: &[u8]) -> Result<bool, String> {
        if !is_message(element) {
            return Ok(false);
        }
        let number = self.next;
        let wrong = || {
            let got = String::from_utf8_lossy(element);
            format!("lost, reordered or changed: in place of message {number} came {got}")
        };
        let body = format!("<body>{}</body>", text(number));
        let fits = has_id(element, &format!("m{number}"))
            && !has_attribute(element, "type", "error")
            && memmem::find(element, body.as_bytes()).is_some();
        if !fits {
            return Err(wrong());
        }
        self.next += 1;
        Ok(true)
    }
}

/// Writes message `number` to `to`, which says when it was written.
pub(super) fn write_timed(to: &str, number: usize, out: &mut String) {
    let to = escape(to);
    let now = nanoseconds();
    let _ = write!(
        out,
        "<message xmlns='jabber:client' to='{to}' type='chat' id='t{number}'><body>at {now}</body></message>"
    );
}

/// How long message `number` took, in microseconds; `None` if the element is no message.
///
/// # Errors
/// It is another message.
pub(super) fn read_timed(element: &[u8], number: usize) -> Result<Option<f64>, String> {
    if !is_message(element) {
        return Ok(None);
    }
    let now = nanoseconds();
    let sent = memmem::find(element, b"<body>at ").and_then(|found| {
        let rest = element.get(found + b"<body>at ".len()..)?;
        let digits = rest.split(|&byte| byte == b'<').next()?;
        std::str::from_utf8(digits).ok()?.parse::<u128>().ok()
    });
    match sent {
        Some(sent) if has_id(element, &format!("t{number}")) => {
            Ok(Some(now.saturating_sub(sent) as f64 / 1e3))
        }
        _ => Err(format!(
            "lost, reordered or changed: in place of timed message {number} came {}",
            String::from_utf8_lossy(element)
        )),
    }
}

/// The one clock that two processes share.
fn nanoseconds() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos())
}

fn is_message(element: &[u8]) -> bool {
    element.starts_with(b"<message")
}

fn has_id(element: &[u8], id: &str) -> bool {
    has_attribute(element, "id", id)
}

fn has_attribute(element: &[u8], name: &str, value: &str) -> bool {
    let end = memchr::memchr(b'>', element).unwrap_or(element.len());
    let tag = &element[..end];
    [b'\'', b'"'].iter().any(|&quote| {
        let quote = char::from(quote);
        let wanted = format!(" {name}={quote}{value}{quote}");
        memmem::find(tag, wanted.as_bytes()).is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: usize) -> String {
        let mut out = String::new();
        write("peer@localhost/x", number, &mut out);
        out
    }

    #[test]
    fn takes_what_was_sent() {
        let mut receiver = Receiver::default();
        for number in 0..3 {
            assert_eq!(receiver.take(message(number).as_bytes()), Ok(true));
            assert_eq!(receiver.take(b"<presence/>"), Ok(false));
        }
        assert_eq!(receiver.count(), 3);
    }

    #[test]
    fn refuses_lost_doubled_and_changed_messages() {
        let mut receiver = Receiver::default();
        assert!(receiver.take(message(1).as_bytes()).is_err());
        assert_eq!(receiver.take(message(0).as_bytes()), Ok(true));
        assert!(receiver.take(message(0).as_bytes()).is_err());
        let changed = message(1).replace("&amp;", "and");
        assert!(receiver.take(changed.as_bytes()).is_err());
        let bounced = message(1).replace("'chat'", "'error'");
        assert!(receiver.take(bounced.as_bytes()).is_err());
    }

    #[test]
    fn reads_how_long_a_message_took() {
        let mut out = String::new();
        write_timed("peer@localhost/x", 7, &mut out);
        let took = read_timed(out.as_bytes(), 7);
        assert!(matches!(took, Ok(Some(us)) if us < 1e6), "{took:?}");
        assert!(read_timed(out.as_bytes(), 8).is_err());
    }
}
