//! Stream management inside SASL2 and Bind 2 (XEP-0198 section 9): it ends at us like any other, so requests
//! for it are cut out of `<authenticate/>` and answered in `<success/>` (S-42).

use super::ns;
use super::scan::{ScanError, Scanner, Token};

/// What an `<authenticate/>` asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `<resume/>`, which is refused: the stream it names is looked for only after login.
    pub resume: bool,
    /// `<enable/>` inside `<bind/>`; true if with `resume='true'`.
    pub enable: Option<bool>,
}

/// An `<authenticate/>` without its requests for stream management, and what they were.
///
/// # Errors
/// [`ScanError`] if it cannot be read.
pub fn cut(authenticate: &[u8]) -> Result<(Vec<u8>, Asked), ScanError> {
    let mut asked = Asked::default();
    let mut cuts = Vec::new();
    let mut path: Vec<(bool, usize)> = Vec::new();
    let mut scanner = Scanner::new(authenticate)?;
    while let Some(token) = scanner.next()? {
        match token {
            Token::Open(tag) => {
                let in_bind = path.len() == 2 && path.last().is_some_and(|(bind, _)| *bind);
                let managed = matches!(tag.namespace.as_str(), ns::SM | ns::SM_2);
                let start = tag.span.start;
                if managed && path.len() == 1 && tag.local() == "resume" {
                    asked.resume = true;
                    cuts.push((path.len(), start..start));
                } else if managed && in_bind && tag.local() == "enable" {
                    let wants = tag.attribute("resume");
                    asked.enable = Some(matches!(wants.as_deref(), Some("true" | "1")));
                    cuts.push((path.len(), start..start));
                }
                path.push((path.len() == 1 && tag.is(ns::BIND_2, "bind"), tag.span.end));
            }
            Token::Close(span) => {
                let start_tag_end = path.pop().map_or(span.end, |(_, end)| end);
                if let Some((depth, cut)) = cuts.last_mut()
                    && *depth == path.len()
                    && cut.start == cut.end
                {
                    cut.end = span.end.max(start_tag_end);
                }
            }
            Token::Text(_) => {}
        }
    }
    let mut out = Vec::with_capacity(authenticate.len());
    let mut kept = 0;
    for (_, cut) in cuts {
        out.extend_from_slice(authenticate.get(kept..cut.start).unwrap_or_default());
        kept = cut.end;
    }
    out.extend_from_slice(authenticate.get(kept..).unwrap_or_default());
    Ok((out, asked))
}

/// A `<success/>` with our answers put in: `failed` as its last child, `enabled` as the last one of `<bound/>`.
///
/// # Errors
/// [`ScanError`] if it cannot be read.
pub fn answer(success: &[u8], failed: &str, enabled: &str) -> Result<Vec<u8>, ScanError> {
    let mut scanner = Scanner::new(success)?;
    let mut edits = Vec::new();
    let mut open: Vec<(bool, String, std::ops::Range<usize>)> = Vec::new();
    while let Some(token) = scanner.next()? {
        match token {
            Token::Open(tag) => {
                let bound = open.len() == 1 && tag.is(ns::BIND_2, "bound");
                open.push((bound, tag.name().to_owned(), tag.span.clone()));
            }
            Token::Close(span) => {
                let Some((bound, name, tag)) = open.pop() else {
                    continue;
                };
                let text = if open.is_empty() {
                    failed
                } else if bound {
                    enabled
                } else {
                    ""
                };
                if text.is_empty() {
                    continue;
                }
                if span.is_empty() {
                    // `<bound/>`: opened and closed anew.
                    edits.push((tag.end - 2..tag.end, format!(">{text}</{name}>")));
                } else {
                    edits.push((span.start..span.start, text.to_owned()));
                }
            }
            Token::Text(_) => {}
        }
    }
    let mut out = Vec::with_capacity(success.len() + failed.len() + enabled.len());
    let mut kept = 0;
    for (range, text) in edits {
        out.extend_from_slice(success.get(kept..range.start).unwrap_or_default());
        out.extend_from_slice(text.as_bytes());
        kept = range.end;
    }
    out.extend_from_slice(success.get(kept..).unwrap_or_default());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut_text(text: &str) -> (String, Asked) {
        let (bytes, asked) = cut(text.as_bytes()).unwrap();
        (String::from_utf8(bytes).unwrap(), asked)
    }

    /// S-42: both forms are cut, and nothing else.
    #[test]
    fn s42_requests_are_cut() {
        let (text, asked) = cut_text(
            "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'><initial-response>AA==</initial-response>\
             <resume xmlns='urn:xmpp:sm:3' h='1' previd='x'/>\
             <bind xmlns='urn:xmpp:bind:0'><tag>t</tag><enable xmlns='urn:xmpp:sm:3' resume='true'></enable><x/></bind></authenticate>",
        );
        assert_eq!(
            text,
            "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'><initial-response>AA==</initial-response>\
             <bind xmlns='urn:xmpp:bind:0'><tag>t</tag><x/></bind></authenticate>"
        );
        assert_eq!(
            asked,
            Asked {
                resume: true,
                enable: Some(true)
            }
        );
        let plain = "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'><bind xmlns='urn:xmpp:bind:0'/>\
                     <enable xmlns='urn:other'/></authenticate>";
        assert_eq!(cut_text(plain), (plain.to_owned(), Asked::default()));
        let (_, asked) = cut_text(
            "<authenticate xmlns='urn:xmpp:sasl:2'><bind xmlns='urn:xmpp:bind:0'><enable xmlns='urn:xmpp:sm:3'/></bind></authenticate>",
        );
        assert_eq!(asked.enable, Some(false));
    }

    /// S-42: the answers stand where the client looks for them.
    #[test]
    fn s42_answers_are_put_in() {
        let put = |text: &str| {
            String::from_utf8(answer(text.as_bytes(), "<failed/>", "<enabled/>").unwrap()).unwrap()
        };
        assert_eq!(
            put("<success xmlns='urn:xmpp:sasl:2'><bound xmlns='urn:xmpp:bind:0'/></success>"),
            "<success xmlns='urn:xmpp:sasl:2'><bound xmlns='urn:xmpp:bind:0'><enabled/></bound><failed/></success>"
        );
        assert_eq!(
            put(
                "<success xmlns='urn:xmpp:sasl:2'><b:bound xmlns:b='urn:xmpp:bind:0'><m/></b:bound></success>"
            ),
            "<success xmlns='urn:xmpp:sasl:2'><b:bound xmlns:b='urn:xmpp:bind:0'><m/><enabled/></b:bound><failed/></success>"
        );
        assert_eq!(
            put("<s:success xmlns:s='urn:xmpp:sasl:2' />"),
            "<s:success xmlns:s='urn:xmpp:sasl:2' ><failed/></s:success>"
        );
    }
}
