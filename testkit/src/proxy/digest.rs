//! Digest authentication (RFC 7616) as a proxy sees it: challenges, nonces that wear out, and answers checked by
//! arithmetic of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use md5::Md5;
use sha2::{Digest as _, Sha256};

/// A proxy's Digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestRules {
    /// `MD5` or `SHA-256`; several challenge in this order.
    pub algorithms: Vec<&'static str>,
    /// How often a nonce may be used.
    pub uses: u32,
    /// A nonce that is worn out or unknown is called stale.
    pub says_stale: bool,
    /// Basic is offered, and taken, too.
    pub basic_too: bool,
}

impl Default for DigestRules {
    fn default() -> Self {
        Self {
            algorithms: vec!["MD5"],
            uses: u32::MAX,
            says_stale: true,
            basic_too: false,
        }
    }
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Good,
    Stale,
    Bad,
}

/// The nonces that are out, with their last `nc`.
#[derive(Clone, Debug, Default)]
pub(super) struct Nonces(Arc<Mutex<HashMap<String, u32>>>);

const REALM: &str = "fake \"realm\", here";
const QUOTED: &str = "fake \\\"realm\\\", here";

impl Nonces {
    /// Header lines that challenge.
    pub(super) fn challenge(&self, rules: &DigestRules, stale: bool) -> String {
        let mut lines = String::new();
        for algorithm in &rules.algorithms {
            let nonce = format!(
                "{:016x}",
                getrandom::u64().expect("the system gives random bytes")
            );
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(nonce.clone(), 0);
            let stale = if stale && rules.says_stale {
                ", stale=true"
            } else {
                ""
            };
            lines.push_str(&format!(
                "Proxy-Authenticate: Digest realm=\"{QUOTED}\", qop=\"auth\", algorithm={algorithm}, nonce=\"{nonce}\", opaque=\"o\"{stale}\r\n"
            ));
        }
        if rules.basic_too {
            lines.push_str("Proxy-Authenticate: Basic realm=\"fake\"\r\n");
        }
        lines
    }

    /// Checks the value of `Proxy-Authorization`, which came with this method and request target.
    pub(super) fn check(
        &self,
        rules: &DigestRules,
        value: &str,
        (method, target): (&str, &str),
        (user, password): (&str, &str),
    ) -> Verdict {
        let Some(fields) = value.strip_prefix("Digest ").map(fields) else {
            return Verdict::Bad;
        };
        let field = |name: &str| fields.get(name).map_or("", String::as_str);
        let algorithm = field("algorithm");
        let known = rules.algorithms.first() == Some(&algorithm);
        let expected = response(
            algorithm,
            &[&[user, REALM, password], &[method, target]],
            &[field("nonce"), field("nc"), field("cnonce"), "auth"],
        );
        let right = known
            && field("username") == user
            && field("realm") == REALM
            && field("uri") == target
            && field("opaque") == "o"
            && field("qop") == "auth"
            && !field("cnonce").is_empty()
            && field("response") == expected;
        if !right {
            return Verdict::Bad;
        }
        let count = u32::from_str_radix(field("nc"), 16).unwrap_or(0);
        let mut nonces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match nonces.get_mut(field("nonce")) {
            // As squid does: a count that does not grow wears the nonce out.
            Some(last) if *last < count && count <= rules.uses => {
                *last = count;
                Verdict::Good
            }
            Some(_) | None => Verdict::Stale,
        }
    }

    /// The proxy was started anew.
    pub(super) fn forget(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

/// RFC 7616 section 3.4.1 for qop=auth.
fn response(algorithm: &str, [a1, a2]: &[&[&str]; 2], middle: &[&str]) -> String {
    let hash = |text: String| match algorithm {
        "SHA-256" => hex(&Sha256::digest(text)),
        _ => hex(&Md5::digest(text)),
    };
    let (a1, a2) = (hash(a1.join(":")), hash(a2.join(":")));
    hash(format!("{a1}:{}:{a2}", middle.join(":")))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `name=value` and `name="value"`, by name.
fn fields(text: &str) -> HashMap<String, String> {
    let mut all = HashMap::new();
    let mut rest = text;
    while let Some((name, value)) = rest.split_once('=') {
        let name = name.trim_matches([',', ' ']).to_owned();
        let mut written = String::new();
        let mut end = value.len();
        let mut characters = value.char_indices();
        if value.starts_with('"') {
            characters.next();
            while let Some((at, character)) = characters.next() {
                match character {
                    '\\' => written.extend(characters.next().map(|(_, next)| next)),
                    '"' => {
                        end = at + 1;
                        break;
                    }
                    other => written.push(other),
                }
            }
        } else {
            end = value.find(',').unwrap_or(value.len());
            written.push_str(&value[..end]);
        }
        rest = &value[end..];
        all.insert(name, written);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7616 section 3.9.1.
    #[test]
    fn rfc7616_vectors() {
        for (algorithm, expected) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            (
                "SHA-256",
                "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
            ),
        ] {
            let found = response(
                algorithm,
                &[
                    &["Mufasa", "http-auth@example.org", "Circle of Life"],
                    &["GET", "/dir/index.html"],
                ],
                &[
                    "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
                    "00000001",
                    "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
                    "auth",
                ],
            );
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn quoted_fields() {
        let all = fields("a=\"x, \\\"y\\\"\", b=1,c=\"\"");
        assert_eq!(all["a"], "x, \"y\"");
        assert_eq!((all["b"].as_str(), all["c"].as_str()), ("1", ""));
    }
}
