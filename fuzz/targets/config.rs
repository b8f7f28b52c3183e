//! `xbosh::config`: any text is a configuration or one sentence about what is wrong, and no password is ever shown.
//!
//! Input: the text of the file; behind a NUL byte, which TOML does not have, lines of `NAME=value` for the environment.

use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};
use xbosh::config::fuzzing::load_text;

/// Stands in seeds and in the dictionary; a password, wherever it is.
const CANARY: &str = "zebra7Qx";

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Some(output) = load(text) else { return };
    assert!(!output.is_empty());
    let file = text.split('\0').next().unwrap_or_default();
    let secrets = match DeTable::parse(file) {
        Ok(table) => secrets(table.get_ref(), text),
        Err(_) => {
            // B-73: a syntax error shows nothing of the file.
            assert!(!output.contains(CANARY), "{output}");
            assert!(output.starts_with("error: f.toml:"), "{output}");
            Vec::new()
        }
    };
    for secret in secrets.into_iter().chain(environment_secrets(text)) {
        check(text, &output, secret);
    }
}

/// All that the program could show of what came of `text`.
fn load(text: &str) -> Option<String> {
    let (file, environment) = text.split_once('\0').unwrap_or((text, ""));
    let environment: Vec<(String, String)> = environment
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Some(match load_text(Path::new("f.toml"), file, &environment)? {
        Ok(loaded) => {
            let config = &loaded.config;
            assert!(!config.listen.is_empty());
            assert!(config.limits.max_stanza_bytes <= config.limits.buffer_bytes);
            for domain in config.domains.keys() {
                assert_eq!(*domain, domain.to_lowercase());
            }
            format!("{loaded:?} {}", loaded.warnings.join("\n"))
        }
        Err(error) => {
            let sentence = error.to_string();
            assert!(!sentence.contains('\n'), "{sentence:?}");
            format!("error: {sentence} {error:?}")
        }
    })
}

/// Where passwords stand in a file that is TOML.
fn secrets(table: &DeTable<'_>, text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    if let Some(proxy) = inner(table, "proxy") {
        proxy_secrets(proxy, text, &mut found);
    }
    let domains = inner(table, "domains").into_iter().flat_map(DeTable::iter);
    for domain in domains.filter_map(|(_, domain)| domain.get_ref().as_table()) {
        // Its own url is the address of a manager and must hold no password; if its host has one, that is a secret too.
        if let Some(url) = domain.get("url").filter(|url| url.get_ref().is_str()) {
            found.extend(userinfo(host(unquoted(url.span(), text), text), text));
        }
        if let Some(proxy) = inner(domain, "proxy") {
            proxy_secrets(proxy, text, &mut found);
        }
    }
    found
}

fn inner<'t, 'i>(table: &'t DeTable<'i>, name: &str) -> Option<&'t DeTable<'i>> {
    table.get(name)?.get_ref().as_table()
}

fn proxy_secrets(table: &DeTable<'_>, text: &str, found: &mut Vec<Range<usize>>) {
    for (key, value) in table {
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("password", DeValue::String(_)) => found.push(unquoted(value.span(), text)),
            ("url", DeValue::String(_)) => {
                found.extend(userinfo(unquoted(value.span(), text), text));
            }
            _ => {}
        }
    }
}

/// Without the quotes around it.
fn unquoted(span: Range<usize>, text: &str) -> Range<usize> {
    let written = &text[span.clone()];
    let inside = written.trim_matches(['"', '\'']);
    let start = span.start + (written.len() - written.trim_start_matches(['"', '\'']).len());
    start..(start + inside.len()).min(span.end).max(start)
}

/// A URL up to the end of its host.
fn host(url: Range<usize>, text: &str) -> Range<usize> {
    let written = &text[url.clone()];
    let scheme = written.find(':').map_or(0, |at| at + 1);
    let slashes = written[scheme..].find(|c| !matches!(c, '/' | '\\'));
    let start = scheme + slashes.unwrap_or(0);
    let end = written[start..].find(['/', '\\', '?', '#']);
    url.start..end.map_or(url.end, |end| url.start + start + end)
}

/// The password in a URL: between the first colon behind the scheme and the last `@`.
fn userinfo(url: Range<usize>, text: &str) -> Option<Range<usize>> {
    let written = &text[url.clone()];
    // Two slashes behind the scheme are usual; the URL standard does with any number.
    let scheme = written.find(':').filter(|at| {
        let name = written[..*at].trim().to_ascii_lowercase();
        matches!(&*name, "http" | "https" | "socks5" | "socks5h")
    });
    let behind = match (scheme, written.find("://")) {
        (Some(at), _) => at + 1,
        (None, Some(at)) => at + 3,
        (None, None) => 0,
    };
    let at = written.rfind('@').filter(|at| *at > behind)?;
    let colon = behind + written[behind..at].find(':')?;
    Some(url.start + colon + 1..url.start + at)
}

/// Passwords in the environment part.
fn environment_secrets(text: &str) -> Vec<Range<usize>> {
    let Some(start) = text.find('\0') else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut at = start + 1;
    for line in text[at..].split_inclusive('\n') {
        let content = line.trim_end_matches(['\r', '\n']);
        if let Some((name, value)) = content.split_once('=') {
            let span = at + name.len() + 1..at + content.len();
            if name == "XBOSH_PROXY__PASSWORD" && !value.is_empty() {
                found.push(span);
            } else if ["http_proxy", "https_proxy", "all_proxy", "xbosh_proxy__url"]
                .contains(&name.to_lowercase().as_str())
            {
                found.extend(userinfo(span, text));
            }
        }
        at += line.len();
    }
    found
}

/// The password must not be in the output because of where it stands: with another in its place it is not there.
fn check(text: &str, output: &str, span: Range<usize>) {
    let secret = &text[span.clone()];
    let elsewhere = [&text[..span.start], &text[span.end..]]
        .iter()
        .any(|rest| rest.contains(secret));
    if secret.len() < 4 || elsewhere || !output.contains(secret) {
        return;
    }
    let other: String = secret.chars().map(turn).collect();
    let changed = [&text[..span.start], &other, &text[span.end..]].concat();
    let Some(without) = load(&changed) else {
        return;
    };
    assert!(
        without.contains(secret) || !without.contains(&other),
        "{secret} is shown: {output}"
    );
}

/// Another character of the same kind.
fn turn(c: char) -> char {
    match c {
        'a'..='y' | 'A'..='Y' | '0'..='8' => char::from(c as u8 + 1),
        'z' => 'a',
        'Z' => 'A',
        '9' => '0',
        other => other,
    }
}
