//! Who we are to an HTTP proxy: Basic (RFC 7617) at once, Digest (RFC 7616) once the proxy asks for it (P-06).
//!
//! The arithmetic is http-auth's. One [`Login`] is shared by all connections of a domain, so that a nonce once
//! learnt serves them all, counted up with each use.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use http::HeaderValue;
use http_auth::digest::Algorithm;
use http_auth::{DigestClient, PasswordParams};
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use super::words::{each_challenge, schemes};
use crate::config::Credentials;

/// Most answers to challenges for one request: one that asks for Digest, and one whose nonce is already stale.
const MAX_ANSWERS: u8 = 2;
/// Longest challenge that is looked at, in bytes.
const MAX_CHALLENGE: usize = 8 * 1024;

/// User and password for one proxy, and what it was seen to want.
pub struct Login {
    credentials: Option<Credentials>,
    /// Whether user and password may be sent as they are: at once, or once the proxy has asked for that.
    basic: AtomicBool,
    /// The challenge in use, if the proxy wants Digest.
    digest: Mutex<Option<DigestClient>>,
    /// What the proxy was seen to offer.
    offers: Mutex<Vec<String>>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("credentials", &self.credentials.is_some())
            .finish_non_exhaustive()
    }
}

/// What one request said about us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Nothing.
    Nothing,
    /// User and password as they are.
    Basic,
    /// An answer to the challenge with this nonce.
    Digest(String),
}

/// One request's login so far: what was sent last, and how many challenges were answered.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    pub(crate) sent: Sent,
    pub(crate) answers: u8,
}

impl Default for Round {
    fn default() -> Self {
        Self {
            sent: Sent::Nothing,
            answers: 0,
        }
    }
}

impl Login {
    /// For a proxy nothing is known of yet.
    #[must_use]
    pub fn new(credentials: Option<Credentials>) -> Self {
        Self {
            credentials,
            basic: AtomicBool::new(true),
            digest: Mutex::default(),
            offers: Mutex::default(),
        }
    }

    /// The same, with nothing sent before the proxy asks.
    #[must_use]
    pub fn waiting(self) -> Self {
        self.basic.store(false, Ordering::Relaxed);
        self
    }

    /// Whether these are its credentials.
    pub(super) fn is_for(&self, credentials: Option<&Credentials>) -> bool {
        match (&self.credentials, credentials) {
            (Some(ours), Some(theirs)) => {
                ours.username == theirs.username
                    && ours.password.expose_secret() == theirs.password.expose_secret()
            }
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// `Proxy-Authorization` of the next request, marked sensitive, and what it says. `target` is the request
    /// target as it is sent.
    pub(crate) fn authorize(
        &self,
        method: &str,
        target: &str,
        body: &[u8],
    ) -> (Option<HeaderValue>, Sent) {
        let Some(credentials) = &self.credentials else {
            return (None, Sent::Nothing);
        };
        let mut digest = self.lock();
        let (value, sent) = match &mut *digest {
            Some(client) => match answer(client, credentials, method, target, body) {
                Some(value) => (HeaderValue::from_str(&value).ok(), {
                    Sent::Digest(client.nonce().to_owned())
                }),
                None => (None, Sent::Nothing),
            },
            None if self.basic.load(Ordering::Relaxed) => (basic(credentials), Sent::Basic),
            None => (None, Sent::Nothing),
        };
        let value = value.map(|mut value| {
            value.set_sensitive(true);
            value
        });
        (value, sent)
    }

    /// The proxy answered 407 with these challenges. Whether to ask once more, by what was learnt; `round`
    /// counts. A refusal of what the proxy itself offered is final (P-06).
    pub(crate) fn challenged<'a>(
        &self,
        round: &mut Round,
        challenges: impl Iterator<Item = &'a [u8]>,
    ) -> bool {
        if self.credentials.is_none() {
            return false;
        }
        let challenges: Vec<&[u8]> = challenges.collect();
        *self.offers.lock().unwrap_or_else(PoisonError::into_inner) =
            schemes(challenges.iter().copied());
        let Offer { basic, digest } = Offer::read(challenges.into_iter());
        let again = match (&round.sent, &digest) {
            // Whoever refuses user and password as such, and would take them again, means them.
            (Sent::Basic, _) if basic => false,
            (Sent::Basic, digest) => digest.is_some(),
            (Sent::Digest(used), Some(next)) => {
                // A nonce that was learnt earlier may be forgotten by now, which not every proxy calls stale.
                next.stale() || (round.answers == 0 && next.nonce() != used)
            }
            // The proxy was changed.
            (Sent::Digest(_), None) => basic && round.answers == 0,
            (Sent::Nothing, digest) => basic || digest.is_some(),
        };
        // Where Digest is offered too, it is taken.
        if basic && digest.is_none() {
            self.basic.store(true, Ordering::Relaxed);
        }
        *self.lock() = digest;
        let again = again && round.answers < MAX_ANSWERS;
        round.answers += u8::from(again);
        again
    }

    /// The logins that the proxy offers, and the one that is used; `None` until it has asked for one.
    pub(crate) fn learnt(&self) -> Option<(Vec<String>, &'static str)> {
        let offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
        let used = match &*self.lock() {
            Some(_) => "Digest",
            None => "Basic",
        };
        (!offers.is_empty()).then(|| (offers.clone(), used))
    }

    fn lock(&self) -> MutexGuard<'_, Option<DigestClient>> {
        self.digest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// RFC 7617.
fn basic(credentials: &Credentials) -> Option<HeaderValue> {
    let plain = Zeroizing::new(format!(
        "{}:{}",
        credentials.username,
        credentials.password.expose_secret()
    ));
    let encoded = Zeroizing::new(format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(plain.as_bytes())
    ));
    HeaderValue::from_str(&encoded).ok()
}

/// RFC 7616; without the body's hash unless the proxy insists.
fn answer(
    client: &mut DigestClient,
    credentials: &Credentials,
    method: &str,
    target: &str,
    body: &[u8],
) -> Option<String> {
    let mut asked = PasswordParams {
        username: &credentials.username,
        password: credentials.password.expose_secret(),
        uri: target,
        method,
        body: None,
    };
    client
        .respond(&asked)
        .or_else(|_| {
            asked.body = Some(body);
            client.respond(&asked)
        })
        .ok()
}

/// What a proxy offers, of what we speak.
struct Offer {
    basic: bool,
    /// The strongest.
    digest: Option<DigestClient>,
}

impl Offer {
    fn read<'a>(challenges: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut offer = Self {
            basic: false,
            digest: None,
        };
        for challenge in challenges.filter(|challenge| challenge.len() <= MAX_CHALLENGE) {
            let text = String::from_utf8_lossy(challenge);
            for one in each_challenge(&text) {
                let basic = schemes(std::iter::once(one.as_bytes()));
                offer.basic |= basic.iter().any(|name| name.eq_ignore_ascii_case("basic"));
                // Other schemes, and what cannot be read, are not ours to answer.
                let Ok(read) = http_auth::parse_challenges(&one) else {
                    continue;
                };
                let digests = read.iter().flat_map(DigestClient::try_from);
                for client in digests {
                    let known = offer.digest.as_ref();
                    if known.is_none_or(|known| strength(&client) > strength(known)) {
                        offer.digest = Some(client);
                    }
                }
            }
        }
        offer
    }
}

/// RFC 7616 section 3.7: the strongest that we understand.
fn strength(client: &DigestClient) -> u8 {
    match client.algorithm() {
        Algorithm::Sha512Trunc256 => 2,
        Algorithm::Sha256 => 1,
        _ => 0,
    }
}

/// Whether one of these offers is spoken here.
pub(super) fn speaks(offers: &[String]) -> bool {
    let spoken = ["basic", "digest"];
    let known = |offer: &String| spoken.iter().any(|name| offer.eq_ignore_ascii_case(name));
    offers.is_empty() || offers.iter().any(known)
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    const NONCE: &str = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";

    fn login() -> Login {
        Login::new(Some(Credentials {
            username: "Mufasa".into(),
            password: SecretString::from("Circle of Life".to_owned()),
        }))
    }

    fn digest(nonce: &str, more: &str) -> String {
        format!("Digest realm=\"r\", qop=\"auth\", nonce=\"{nonce}\"{more}")
    }

    /// What the proxy says to a request that said `sent`; whether it is asked again.
    fn told(login: &Login, round: &mut Round, challenges: &[&str]) -> bool {
        round.sent = login.authorize("POST", "http://cm/", b"").1;
        login.challenged(round, challenges.iter().map(|c| c.as_bytes()))
    }

    fn field(value: &HeaderValue, name: &str) -> String {
        let text = value.to_str().unwrap();
        let (_, rest) = text.split_once(&format!("{name}=")).unwrap();
        rest.split(',').next().unwrap().trim_matches('"').to_owned()
    }

    /// RFC 7616 section 3.9.1: the challenge of its example, in one header and in two; the stronger one is
    /// answered, with the example's answer.
    #[test]
    fn p06_rfc7616_vectors() {
        let challenge = |algorithm: &str| {
            format!(
                "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm={algorithm}, \
                 nonce=\"{NONCE}\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            )
        };
        let (sha, md5) = (challenge("SHA-256"), challenge("MD5"));
        let both = format!("Negotiate YII=, {md5}, NTLM, {sha}, Basic realm=\"x\"");
        let stronger = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1";
        for (challenges, response) in [
            (vec![md5.as_str()], "8ca523f5e9506fed4657c9700eebdbec"),
            (vec![sha.as_str(), md5.as_str()], stronger),
            (vec![md5.as_str(), sha.as_str()], stronger),
            (vec![both.as_str()], stronger),
        ] {
            let offer = Offer::read(challenges.iter().map(|c| c.as_bytes()));
            assert_eq!(offer.basic, challenges[0] == both);
            let asked = PasswordParams {
                username: "Mufasa",
                password: "Circle of Life",
                uri: "/dir/index.html",
                method: "GET",
                body: None,
            };
            let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
            let mut client = offer.digest.unwrap();
            let value = client.respond_with_testing_cnonce(&asked, cnonce).unwrap();
            assert_eq!(field(&value.parse().unwrap(), "response"), response);
        }
    }

    /// P-06: Basic at once; Digest when that alone is offered, its nonce used again with a growing count and
    /// a new client nonce each time.
    #[test]
    fn p06_digest_once_asked_for() {
        let login = login();
        let mut round = Round::default();
        assert_eq!(login.authorize("POST", "http://cm/", b"").1, Sent::Basic);
        assert!(told(&login, &mut round, &["NTLM", &digest("a", "")]));
        let (first, sent) = login.authorize("CONNECT", "cm:443", b"");
        let (first, second) = (first.unwrap(), login.authorize("CONNECT", "cm:443", b"").0);
        let second = second.unwrap();
        assert!(first.is_sensitive() && sent == Sent::Digest("a".into()));
        assert_eq!(field(&first, "uri"), "cm:443");
        assert_eq!(
            (field(&first, "nc"), field(&second, "nc")),
            ("00000001".into(), "00000002".into())
        );
        assert_ne!(field(&first, "cnonce"), field(&second, "cnonce"));
        assert!(!format!("{login:?} {round:?} {first:?}").contains("Circle"));
    }

    /// P-06: what was refused is final: a password, also by Digest; what is stale is not, within bounds.
    #[test]
    fn p06_no_loop() {
        // Basic refused by who offers Basic.
        let (subject, mut round) = (login(), Round::default());
        assert!(!told(
            &subject,
            &mut round,
            &["Basic realm=\"x\"", &digest("a", "")]
        ));
        // Digest refused with a nonce that was new.
        let (subject, mut round) = (login(), Round::default());
        assert!(told(&subject, &mut round, &[&digest("a", "")]));
        assert!(!told(&subject, &mut round, &[&digest("b", "")]));
        // A nonce of earlier: stale or forgotten, said or not.
        for more in ["", ", stale=true", ", stale=TRUE"] {
            let (subject, mut round) = (login(), Round::default());
            assert!(told(&subject, &mut round, &[&digest("a", "")]));
            let mut round = Round::default();
            assert!(told(&subject, &mut round, &[&digest("b", more)]));
            assert!(!told(&subject, &mut round, &[&digest("c", "")]), "{more}");
        }
        // A proxy that calls everything stale.
        let (subject, mut round) = (login(), Round::default());
        let asked = (0..9).filter(|n| {
            told(
                &subject,
                &mut round,
                &[&digest(&n.to_string(), ", stale=true")],
            )
        });
        assert_eq!(asked.count(), 2);
        // One that was changed to Basic.
        let mut round = Round::default();
        assert!(told(&subject, &mut round, &["Basic realm=\"x\""]));
        assert_eq!(subject.authorize("POST", "http://cm/", b"").1, Sent::Basic);
        assert!(!told(&subject, &mut round, &["Basic realm=\"x\""]));
        // Nothing to say, nothing we speak.
        let mut round = Round::default();
        assert!(!told(&Login::new(None), &mut round, &[&digest("a", "")]));
        assert!(!told(&login(), &mut round, &["NTLM", "Negotiate"]));
    }

    /// P-06: challenges that cannot be used are no offer, and do no harm to others beside them.
    #[test]
    fn p06_bad_challenges() {
        let long = digest(&"n".repeat(MAX_CHALLENGE), "");
        for (challenge, basic) in [
            ("", false),
            (",, ,", false),
            ("Digest", false),
            ("Digest realm=\"x\"", false),
            ("Digest realm=\"x\", nonce=\"", false),
            (
                "Digest realm=\"x\", nonce=\"n\", algorithm=SHA-3, Basic realm=x",
                true,
            ),
            (
                "Digest realm=\"x\", nonce=\"n\", qop=\"magic\", basic",
                true,
            ),
            ("Digest nonce==, realm, Basic", true),
            (&long, false),
        ] {
            let offer = Offer::read(std::iter::once(challenge.as_bytes()));
            assert_eq!(
                (offer.basic, offer.digest.is_some()),
                (basic, false),
                "{challenge}"
            );
        }
        // RFC 2069's form, and the one that wants the body in it.
        for (challenge, words) in [
            ("Digest realm=\"x\", nonce=\"n\"", "response"),
            ("digest realm=x, nonce=n, qop=auth-int", "qop=auth-int"),
        ] {
            let (login, mut round) = (login(), Round::default());
            assert!(told(&login, &mut round, &[challenge]));
            let value = login.authorize("POST", "http://cm/", b"body").0.unwrap();
            assert!(value.to_str().unwrap().contains(words), "{value:?}");
        }
    }
}
