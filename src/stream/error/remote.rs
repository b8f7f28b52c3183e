//! The server's own stream errors, on their way to the client.

use std::ops::Range;

use super::super::ns;
use super::super::scan::{ScanError, Scanner, Tag, Token};
use super::{FaultReason, MAX_TEXT_CHARS, StreamCondition, StreamFault, fault};

/// Largest error that is copied; a larger one is told in our words.
const MAX_COPIED_BYTES: usize = 16 * 1024;
/// Longest host name that is kept, in characters.
const MAX_HOST_CHARS: usize = 255;
/// Shown where the server's error cannot be.
const UNREADABLE: &str = "The server closed the stream with an error that xbosh cannot pass on.";

/// A server's error, made fit for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteError {
    /// What to send: the server's own bytes, or what stands in for them.
    pub fault: StreamFault,
    /// the host that the server named in `<see-other-host/>`; for the log, bounded.
    pub other_host: Option<String>,
}

/// Makes the server's `<stream:error/>` fit for the client: with prefix `stream`, and never with
/// `<see-other-host/>`, which would lead the client past us.
///
/// `input` is one complete element in the stream namespace, with whatever prefix; every prefix it uses is
/// declared on it, `stream` excepted. An error that cannot be copied is replaced by one of ours.
#[must_use]
pub fn sanitise_remote_error(input: &[u8]) -> RemoteError {
    let Ok(error) = read(input) else {
        return ours(StreamCondition::UndefinedCondition, None);
    };
    if let Some(host) = error.other_host {
        // it must connect to us again, not to the host that the server named.
        return RemoteError {
            fault: fault(FaultReason::SeeOtherHost, None),
            other_host: Some(host),
        };
    }
    let mut remote = ours(
        error
            .condition
            .unwrap_or(StreamCondition::UndefinedCondition),
        error.text,
    );
    if error.condition.is_some() && error.copyable && input.len() <= MAX_COPIED_BYTES {
        let inside = input.get(error.inside).unwrap_or_default();
        remote.fault.copied =
            Some([b"<stream:error".as_slice(), inside, b"</stream:error>"].concat());
    }
    remote
}

/// X-18, old form: the children of the error, each a complete element, without the error around them.
///
/// `None` if none of them is a condition: the server ended the stream without an error.
#[must_use]
pub fn wrap_remote_error<'a>(children: impl IntoIterator<Item = &'a [u8]>) -> Option<RemoteError> {
    let mut input = b"<stream:error>".to_vec();
    for child in children {
        input.extend_from_slice(child);
    }
    input.extend_from_slice(b"</stream:error>");
    // One that cannot be read is told as such: it was something.
    let found = read(&input).map_or(true, |error| {
        error.condition.is_some() || error.other_host.is_some()
    });
    found.then(|| sanitise_remote_error(&input))
}

/// C-10 in our words.
fn ours(condition: StreamCondition, text: Option<String>) -> RemoteError {
    RemoteError {
        fault: StreamFault {
            condition: Some(condition),
            text: Some(text.unwrap_or_else(|| UNREADABLE.to_owned())),
            ..fault(FaultReason::CmRemoteStreamError, None)
        },
        other_host: None,
    }
}

/// What a server's error says.
struct Read {
    condition: Option<StreamCondition>,
    text: Option<String>,
    /// X-19, also if it stands in the wrong namespace or place.
    other_host: Option<String>,
    /// From behind the name in the start tag to the end tag.
    inside: Range<usize>,
    /// Whether the tag can be renamed without changing what the prefix means inside.
    copyable: bool,
}

fn read(input: &[u8]) -> Result<Read, ScanError> {
    let mut scanner = Scanner::new(input)?;
    let Some(Token::Open(root)) = scanner.next()? else {
        return Err(ScanError::Malformed);
    };
    if !root.is(ns::STREAM, "error") {
        return Err(ScanError::Malformed);
    }
    let name_end = root.span.start + 1 + root.name().len();
    let mut read = Read {
        condition: None,
        text: None,
        other_host: None,
        inside: name_end..name_end,
        copyable: !root.rebinds("stream", ns::STREAM),
    };
    // The texts that are being collected, by depth.
    let mut depth = 0_usize;
    let mut collecting = None;
    while let Some(token) = scanner.next()? {
        match token {
            Token::Open(tag) => {
                depth += 1;
                if let Some(found) = read.note(&tag, depth) {
                    collecting = Some((found, depth));
                }
            }
            Token::Text(text) => match collecting {
                Some((Collect::Text, at)) if at == depth => {
                    append(&mut read.text, &text, MAX_TEXT_CHARS);
                }
                Some((Collect::Host, at)) if at == depth => {
                    append(&mut read.other_host, &text, MAX_HOST_CHARS);
                }
                _ => {}
            },
            Token::Close(_) if depth > 0 => {
                if collecting.is_some_and(|(_, at)| at == depth) {
                    collecting = None;
                }
                depth -= 1;
            }
            Token::Close(end_tag) => read.inside.end = end_tag.start,
        }
    }
    Ok(read)
}

#[derive(Clone, Copy)]
enum Collect {
    Text,
    Host,
}

impl Read {
    /// Takes in one descendant; says whether its text is wanted.
    fn note(&mut self, tag: &Tag<'_>, depth: usize) -> Option<Collect> {
        if tag.local() == "see-other-host" {
            self.other_host.get_or_insert_default();
            return Some(Collect::Host);
        }
        if depth > 1 || tag.namespace != ns::STREAM_ERROR {
            return None;
        }
        if tag.local() == "text" {
            return Some(Collect::Text);
        }
        self.condition.get_or_insert_with(|| {
            StreamCondition::parse(tag.local()).unwrap_or(StreamCondition::UndefinedCondition)
        });
        None
    }
}

fn append(to: &mut Option<String>, text: &str, max_chars: usize) {
    let to = to.get_or_insert_default();
    let left = max_chars.saturating_sub(to.chars().count());
    to.extend(
        text.chars()
            .filter(|character| !character.is_control())
            .take(left),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(fault: &StreamFault) -> String {
        let mut out = Vec::new();
        fault.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// prefix `stream`, the rest verbatim, whatever prefix the server used.
    #[test]
    fn copied_with_our_prefix() {
        let inside = "<conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
            <text xml:lang=\"de\" xmlns='urn:ietf:params:xml:ns:xmpp-streams'>Ersetzt &amp; weg</text>\
            <x:app xmlns:x='urn:example'><x:y/></x:app>";
        let usual = format!("<stream:error>{inside}</stream:error>");
        let remote = sanitise_remote_error(usual.as_bytes());
        assert_eq!(written(&remote.fault), usual);
        assert_eq!(remote.fault.condition, Some(StreamCondition::Conflict));
        assert_eq!(remote.fault.reason, FaultReason::CmRemoteStreamError);
        assert_eq!(remote.fault.text.as_deref(), Some("Ersetzt & weg"));

        let other =
            format!("<s:error xmlns:s='http://etherx.jabber.org/streams' >{inside}</s:error >");
        assert_eq!(
            written(&sanitise_remote_error(other.as_bytes()).fault),
            format!(
                "<stream:error xmlns:s='http://etherx.jabber.org/streams' >{inside}</stream:error>"
            )
        );
        let unprefixed =
            format!("<error xmlns='http://etherx.jabber.org/streams'>{inside}</error>");
        assert_eq!(
            written(&sanitise_remote_error(unprefixed.as_bytes()).fault),
            format!(
                "<stream:error xmlns='http://etherx.jabber.org/streams'>{inside}</stream:error>"
            )
        );
    }

    /// XEP-0124's own example, with the condition's name from RFC 3920.
    #[test]
    fn old_condition_name() {
        let remote = sanitise_remote_error(
            b"<stream:error xmlns:stream='http://etherx.jabber.org/streams'>\n\
              <xml-not-well-formed xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\n\
              <escape-your-data xmlns='application-ns'/></stream:error>",
        );
        assert_eq!(remote.fault.condition, Some(StreamCondition::NotWellFormed));
        assert!(written(&remote.fault).contains("<xml-not-well-formed "));
    }

    /// the other host never reaches the client, in whatever form it comes.
    #[test]
    fn see_other_host_becomes_reset() {
        for inside in [
            "<see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>[2001:db8::1]:5222</see-other-host>",
            "<see-other-host>[2001:db8::1]:5222</see-other-host>",
            "<text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>moved</text>\
             <see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>[2001:<![CDATA[db8]]>::&#49;]:5222</see-other-host>",
            "<conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
             <a xmlns='b'><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>[2001:db8::1]:5222</see-other-host></a>",
        ] {
            let input = format!("<stream:error>{inside}</stream:error>");
            let remote = sanitise_remote_error(input.as_bytes());
            assert_eq!(
                remote.other_host.as_deref(),
                Some("[2001:db8::1]:5222"),
                "{inside}"
            );
            assert_eq!(remote.fault.reason.row(), "X-19");
            let written = written(&remote.fault);
            assert!(written.starts_with("<stream:error><reset "), "{written}");
            assert!(
                !written.contains("see-other-host") && !written.contains("2001"),
                "{written}"
            );
        }
        let empty = sanitise_remote_error(b"<stream:error><see-other-host/></stream:error>");
        assert_eq!(empty.fault.condition, Some(StreamCondition::Reset));
        assert_eq!(empty.other_host.as_deref(), Some(""));
    }

    /// X-18, old form: children without the error are wrapped; without a condition there is no error.
    #[test]
    fn old_form_is_wrapped() {
        let condition =
            b"<system-shutdown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>".as_slice();
        let detail = b"<bye xmlns='urn:example'/>".as_slice();
        let remote = wrap_remote_error([condition, detail]).unwrap();
        assert_eq!(
            written(&remote.fault),
            "<stream:error><system-shutdown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
             <bye xmlns='urn:example'/></stream:error>"
        );
        assert_eq!(wrap_remote_error([detail]), None);
        assert_eq!(wrap_remote_error([]), None);
        let moved = wrap_remote_error([b"<see-other-host>h</see-other-host>".as_slice()]).unwrap();
        assert_eq!(moved.fault.condition, Some(StreamCondition::Reset));
        // Children that would break out of the error are not passed on.
        let broken = wrap_remote_error([condition, b"</stream:error><message/>"]).unwrap();
        assert_eq!(broken.fault.copied, None);
    }

    /// what cannot be copied is told in our words, and is still well-formed.
    #[test]
    fn uncopyable_errors_become_ours() {
        let huge = format!(
            "<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/><a xmlns='b'>{}</a></stream:error>",
            "x".repeat(MAX_COPIED_BYTES)
        );
        let rebound = "<s:error xmlns:s='http://etherx.jabber.org/streams' xmlns:stream='urn:x'>\
            <reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/><stream:a/></s:error>";
        for input in [huge.as_str(), rebound] {
            let fault = sanitise_remote_error(input.as_bytes()).fault;
            assert_eq!(
                (fault.condition, &fault.copied),
                (Some(StreamCondition::Reset), &None)
            );
        }
        let deep = format!("<stream:error>{}", "<a xmlns='b'>".repeat(5000));
        for input in [
            "",
            "text",
            "<stream:error>",
            "<stream:error/>",
            "<stream:features/>",
            "<error/>",
            "<s:error/>",
            "<!DOCTYPE a><stream:error/>",
            "<stream:error><!-- --><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
            "<stream:error>&bomb;</stream:error>",
            "<stream:error></stream:error><message/>",
            deep.as_str(),
        ] {
            let fault = sanitise_remote_error(input.as_bytes()).fault;
            assert_eq!(
                fault.condition,
                Some(StreamCondition::UndefinedCondition),
                "{input}"
            );
            assert_eq!(fault.copied, None, "{input}");
            let xml = format!("<r xmlns:stream='{}'>{}</r>", ns::STREAM, written(&fault));
            roxmltree::Document::parse(&xml).unwrap();
        }
        assert_eq!(
            sanitise_remote_error(b"<stream:error>\xff</stream:error>")
                .fault
                .copied,
            None
        );
    }
}
