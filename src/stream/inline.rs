//! Stream management inside SASL2 and Bind 2 (XEP-0198 section 9): it ends at us like any other, so requests
//! for it are cut out of `<authenticate/>` and answered in `<success/>` (S-42). Where the server manages streams they
//! pass, less what would not work ([`pass_up`], [`pass_down`]).

use std::ops::Range;

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
    let edits = cuts.into_iter().map(|(_, cut)| (cut, String::new()));
    Ok((edited(authenticate, edits), asked))
}

/// Replaces parts, which are in order.
fn edited(text: &[u8], edits: impl IntoIterator<Item = (Range<usize>, String)>) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut kept = 0;
    for (range, new) in edits {
        out.extend_from_slice(text.get(kept..range.start).unwrap_or_default());
        out.extend_from_slice(new.as_bytes());
        kept = range.end;
    }
    out.extend_from_slice(text.get(kept..).unwrap_or_default());
    out
}

/// Mode `pass`: an `<authenticate/>` for a server that cannot resume over BOSH: without `<resume/>`, and with an
/// `<enable/>` that does not ask for it. Returns whether there was a `<resume/>`, which is to be refused.
///
/// # Errors
/// [`ScanError`] if it cannot be read.
pub fn pass_up(authenticate: &[u8]) -> Result<(Vec<u8>, bool), ScanError> {
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    let (mut depth, mut resumes, mut open) = (0_usize, false, false);
    let mut scanner = Scanner::new(authenticate)?;
    while let Some(token) = scanner.next()? {
        match token {
            Token::Open(tag) => {
                let managed = matches!(tag.namespace.as_str(), ns::SM | ns::SM_2);
                if managed && depth == 1 && tag.local() == "resume" {
                    (resumes, open) = (true, true);
                    edits.push((tag.span.clone(), String::new()));
                } else if managed && depth == 2 && tag.local() == "enable" {
                    let empty = is_empty(authenticate, &tag.span);
                    edits.extend(tag.without("resume", empty).map(|new| (tag.span, new)));
                }
                depth += 1;
            }
            Token::Close(span) => {
                depth = depth.saturating_sub(1);
                if depth == 1
                    && std::mem::take(&mut open)
                    && let Some((cut, _)) = edits.last_mut()
                {
                    cut.end = span.end.max(cut.end);
                }
            }
            Token::Text(_) => {}
        }
    }
    Ok((edited(authenticate, edits), resumes))
}

/// What a server's `<success/>` says of stream management.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The server manages the stream from now on.
    pub enabled: bool,
    /// An earlier stream goes on.
    pub resumed: bool,
}

/// Mode `pass`: a `<success/>` whose `<enabled/>` has no `location`, which would lead the client past us (S-44).
///
/// # Errors
/// [`ScanError`] if it cannot be read.
pub fn pass_down(success: &[u8]) -> Result<(Vec<u8>, Told), ScanError> {
    let mut told = Told::default();
    let mut edits = Vec::new();
    let mut depth = 0_usize;
    let mut scanner = Scanner::new(success)?;
    while let Some(token) = scanner.next()? {
        match token {
            Token::Open(tag) => {
                if matches!(tag.namespace.as_str(), ns::SM | ns::SM_2) {
                    told.resumed |= depth == 1 && tag.local() == "resumed";
                    told.enabled |= depth == 2 && tag.local() == "enabled";
                    let empty = is_empty(success, &tag.span);
                    edits.extend(tag.without("location", empty).map(|new| (tag.span, new)));
                }
                depth += 1;
            }
            Token::Close(_) => depth = depth.saturating_sub(1),
            Token::Text(_) => {}
        }
    }
    Ok((edited(success, edits), told))
}

fn is_empty(text: &[u8], tag: &Range<usize>) -> bool {
    text.get(tag.clone())
        .is_some_and(|tag| tag.ends_with(b"/>"))
}

/// A `<success/>` with our answers put in: `failed` as its last child, `enabled` as the last one of `<bound/>`.
///
/// # Errors
/// [`ScanError`] if it cannot be read.
pub fn answer(success: &[u8], failed: &str, enabled: &str) -> Result<Vec<u8>, ScanError> {
    let mut scanner = Scanner::new(success)?;
    let mut edits = Vec::new();
    let mut open: Vec<(bool, String, Range<usize>)> = Vec::new();
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
    Ok(edited(success, edits))
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

    /// S-43: what a server that cannot resume is not asked; the rest passes as it is.
    #[test]
    fn s43_what_passes_up() {
        let up = |text: &str| {
            let (bytes, resumes) = pass_up(text.as_bytes()).unwrap();
            (String::from_utf8(bytes).unwrap(), resumes)
        };
        assert_eq!(
            up(
                "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'><resume xmlns='urn:xmpp:sm:3' previd='x'><y/></resume>\
                <bind xmlns='urn:xmpp:bind:0'><enable max='5' resume='1' xmlns='urn:xmpp:sm:3' x=\"it's\"/><tag/></bind></authenticate>"
            ),
            (
                "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'>\
                <bind xmlns='urn:xmpp:bind:0'><enable max='5' xmlns='urn:xmpp:sm:3' x=\"it's\"/><tag/></bind></authenticate>"
                    .to_owned(),
                true
            )
        );
        let plain = "<authenticate xmlns='urn:xmpp:sasl:2'><resume xmlns='urn:other'/><bind xmlns='urn:xmpp:bind:0'>\
                     <enable xmlns='urn:xmpp:sm:3'></enable></bind></authenticate>";
        assert_eq!(up(plain), (plain.to_owned(), false));
    }

    /// S-44: no `location` inside `<success/>` either, in any form.
    #[test]
    fn s44_what_passes_down() {
        let down = |text: &str| {
            let (bytes, told) = pass_down(text.as_bytes()).unwrap();
            (
                String::from_utf8(bytes).unwrap(),
                (told.enabled, told.resumed),
            )
        };
        assert_eq!(
            down(
                "<success xmlns='urn:xmpp:sasl:2'><bound xmlns='urn:xmpp:bind:0'>\
                 <s:enabled id='a&amp;b' location='[::1]:1' max='60' xmlns:s='urn:xmpp:sm:3'></s:enabled></bound></success>"
            ),
            (
                "<success xmlns='urn:xmpp:sasl:2'><bound xmlns='urn:xmpp:bind:0'>\
                 <s:enabled id='a&amp;b' max='60' xmlns:s='urn:xmpp:sm:3'></s:enabled></bound></success>"
                    .to_owned(),
                (true, false)
            )
        );
        let resumed =
            "<success xmlns='urn:xmpp:sasl:2'><resumed xmlns='urn:xmpp:sm:3' h='1'/></success>";
        assert_eq!(down(resumed), (resumed.to_owned(), (false, true)));
        let bound = "<success xmlns='urn:xmpp:sasl:2'><bound xmlns='urn:xmpp:bind:0'/></success>";
        assert_eq!(down(bound), (bound.to_owned(), (false, false)));
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
