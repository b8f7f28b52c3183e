//! Cookies of one session: load balancers tie a session to a node by them (B-09).

use cookie::{Cookie, Expiration};
use http::HeaderValue;
use http::header::{HeaderMap, SET_COOKIE};
use zeroize::Zeroizing;

/// Most cookies kept.
const MAX_COOKIES: usize = 32;
/// Longest name and value together, in bytes.
const MAX_COOKIE_BYTES: usize = 4096;

/// All cookies belong to the one URL of the session, so name and value are all that matters.
#[derive(Default)]
pub(super) struct Jar {
    cookies: Vec<(String, Zeroizing<String>)>,
}

impl Jar {
    /// Takes in what a reply sets or removes.
    pub(super) fn learn(&mut self, headers: &HeaderMap) {
        for header in headers.get_all(SET_COOKIE) {
            let Some(cookie) = header
                .to_str()
                .ok()
                .and_then(|text| Cookie::parse(text).ok())
            else {
                continue;
            };
            self.cookies.retain(|(name, _)| name != cookie.name());
            let fits = cookie.name().len() + cookie.value().len() <= MAX_COOKIE_BYTES;
            if fits && !is_removed(&cookie) && self.cookies.len() < MAX_COOKIES {
                self.cookies.push((
                    cookie.name().to_owned(),
                    Zeroizing::new(cookie.value().to_owned()),
                ));
            }
        }
    }

    /// The `Cookie` header, marked sensitive; `None` without cookies.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        if self.cookies.is_empty() {
            return None;
        }
        let pairs: Vec<_> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={}", value.as_str()))
            .collect();
        let mut header = HeaderValue::from_str(&pairs.join("; ")).ok()?;
        header.set_sensitive(true);
        Some(header)
    }
}

/// `Max-Age=0`, or an `Expires` in the past as servers write it to remove a cookie.
fn is_removed(cookie: &Cookie<'_>) -> bool {
    let expired = match cookie.expires() {
        Some(Expiration::DateTime(at)) => at.unix_timestamp() <= 24 * 3600,
        Some(Expiration::Session) | None => false,
    };
    cookie.max_age().is_some_and(|age| age.whole_seconds() <= 0)
        || cookie.max_age().is_none() && expired
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learn(jar: &mut Jar, value: &'static str) {
        let mut headers = HeaderMap::new();
        headers.insert(SET_COOKIE, HeaderValue::from_static(value));
        jar.learn(&headers);
    }

    /// B-09: set, replaced, removed, bounded.
    #[test]
    fn b09_cookies() {
        let mut jar = Jar::default();
        assert_eq!(jar.header(), None);
        learn(&mut jar, "node=a; Path=/; HttpOnly; Secure");
        learn(&mut jar, "x=1; Max-Age=100");
        assert_eq!(jar.header().unwrap(), "node=a; x=1");
        learn(&mut jar, "node=b");
        assert_eq!(jar.header().unwrap(), "x=1; node=b");
        learn(&mut jar, "x=; Max-Age=0");
        learn(&mut jar, "node=; Expires=Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(jar.header(), None);
        learn(&mut jar, "nonsense");
        for n in 0..100 {
            learn(&mut jar, format!("c{n}=1").leak());
        }
        assert_eq!(jar.cookies.len(), MAX_COOKIES);
    }
}
