//! What a proxy says, made fit for an error message: short, printable, without markup.

/// Most characters of a proxy's own words in an error.
const MAX_WORDS: usize = 200;
/// Most schemes named in an error.
const MAX_SCHEMES: usize = 8;

/// The schemes that challenges offer, each once (RFC 9110 section 11.6.1). One header may hold several.
pub(crate) fn schemes<'a>(challenges: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for challenge in challenges {
        for part in outside_quotes(&printable(&String::from_utf8_lossy(challenge))) {
            // `scheme`, `scheme token68`, `scheme name=value` or just `name=value`.
            let word = part.split_whitespace().next().unwrap_or_default();
            let known = found.iter().any(|scheme| scheme.eq_ignore_ascii_case(word));
            if !word.is_empty() && !word.contains('=') && !known && found.len() < MAX_SCHEMES {
                found.push(word.to_owned());
            }
        }
    }
    found
}

/// One header's challenges, apart.
pub(super) fn each_challenge(header: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for part in outside_quotes(header) {
        let word = part.split_whitespace().next().unwrap_or_default();
        let goes_on = word.is_empty() || word.contains('=');
        if let Some(last) = found.last_mut().filter(|_| goes_on) {
            last.push(',');
            last.push_str(part);
        } else if found.len() < MAX_SCHEMES {
            found.push(part.trim_start().to_owned());
        } else {
            break;
        }
    }
    found
}

/// Splits at the commas that are not within quotes.
fn outside_quotes(text: &str) -> Vec<&str> {
    let mut quoted = false;
    let mut escaped = false;
    text.split(|c: char| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        c == ',' && !quoted
    })
    .collect()
}

/// Without control characters, at most [`MAX_WORDS`] characters.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(MAX_WORDS)
        .collect()
}

/// What a browser does not show, with its ends.
const UNSEEN: [(&str, &str); 3] = [
    ("<style", "</style>"),
    ("<script", "</script>"),
    ("<!--", "-->"),
];

/// The first words of a page, without its tags and what only a browser reads.
pub(super) fn first_words(page: &[u8]) -> String {
    let text = String::from_utf8_lossy(page);
    let mut out = String::new();
    let mut rest: &str = &text;
    while !rest.is_empty() {
        let unseen = UNSEEN.iter().find(|(open, _)| starts_with(rest, open));
        if let Some((_, close)) = unseen {
            rest = find(rest, close).map_or("", |end| &rest[end + close.len()..]);
            continue;
        }
        if let Some(tag) = rest.strip_prefix('<') {
            rest = tag.find('>').map_or("", |end| &tag[end + 1..]);
            out.push(' ');
            continue;
        }
        let end = rest.find('<').unwrap_or(rest.len());
        out.push_str(&rest[..end]);
        rest = &rest[end..];
    }
    let words: Vec<&str> = out.split_whitespace().collect();
    printable(&words.join(" "))
}

fn starts_with(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Position of an ASCII word in any case.
fn find(text: &str, word: &str) -> Option<usize> {
    text.char_indices()
        .map(|(at, _)| at)
        .find(|&at| starts_with(&text[at..], word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(challenges: &[&str]) -> String {
        schemes(challenges.iter().map(|c| c.as_bytes())).join(" ")
    }

    /// P-06: schemes in one header or several, each once, whatever their parameters.
    #[test]
    fn p06_schemes() {
        for (challenges, schemes) in [
            (&["Basic realm=\"x\""][..], "Basic"),
            (&["NTLM", "Negotiate", "ntlm"], "NTLM Negotiate"),
            (
                &["Digest realm=\"a, Basic\", nonce=\"\\\", NTLM\", qop=auth, Basic realm=x"],
                "Digest Basic",
            ),
            (&["Negotiate YII=, NTLM"], "Negotiate NTLM"),
            (&["", ",, "], ""),
        ] {
            assert_eq!(offered(challenges), schemes, "{challenges:?}");
        }
        let many: Vec<String> = (0..50).map(|n| format!("S{n}")).collect();
        assert_eq!(offered(&[&many.join(",")]).split(' ').count(), MAX_SCHEMES);
    }

    /// P-04: markup, scripts, comments and control characters go; what is cut anywhere does no harm.
    #[test]
    fn p04_first_words() {
        let page = "<!DOCTYPE html><!-- a < b --><HTML><Style>x{}</STYLE>\x1b[1mZugriff\r\n  f\u{fc}r Sie<br>gesperrt\
            <script>if (a < b) {}</script> \u{1f6ab}</HTML>";
        assert_eq!(
            first_words(page.as_bytes()),
            "[1mZugriff f\u{fc}r Sie gesperrt \u{1f6ab}"
        );
        for end in 0..page.len() {
            assert!(first_words(&page.as_bytes()[..end]).len() < page.len());
        }
        assert_eq!(first_words("x".repeat(9000).as_bytes()).len(), MAX_WORDS);
        assert_eq!(first_words(b"<!-- only"), "");
    }
}
