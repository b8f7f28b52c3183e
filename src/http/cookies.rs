//! Cookies of one session: load balancers tie a session to a node by them (B-09).

use std::time::SystemTime;

use cookie::{Cookie, Expiration};
use http::HeaderValue;
use http::header::{HeaderMap, SET_COOKIE};
use zeroize::Zeroizing;

/// Most cookies kept.
const MAX_COOKIES: usize = 32;
/// Longest name and value together, in bytes.
const MAX_COOKIE_BYTES: usize = 4096;
/// All names and values together, in bytes: servers refuse larger heads.
const MAX_JAR_BYTES: usize = 8192;

/// All cookies belong to the one URL of the session, so name and value are all that matters.
#[derive(Default)]
pub(super) struct Jar {
    cookies: Vec<(String, Zeroizing<String>)>,
    /// What the cookies make up, marked sensitive.
    header: Option<HeaderValue>,
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
            let size = cookie.name().len() + cookie.value().len();
            let held: usize = self.cookies.iter().map(|(n, v)| n.len() + v.len()).sum();
            let fits = size <= MAX_COOKIE_BYTES && held + size <= MAX_JAR_BYTES;
            if fits && !is_removed(&cookie) && self.cookies.len() < MAX_COOKIES {
                self.cookies.push((
                    cookie.name().to_owned(),
                    Zeroizing::new(cookie.value().to_owned()),
                ));
            }
        }
        self.header = self.build();
    }

    /// The `Cookie` header; `None` without cookies.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        self.header.clone()
    }

    fn build(&self) -> Option<HeaderValue> {
        let mut text = Zeroizing::new(String::new());
        for (name, value) in &self.cookies {
            let between = if text.is_empty() { "" } else { "; " };
            text.push_str(&[between, name, "=", value].concat());
        }
        if text.is_empty() {
            return None;
        }
        let mut header = HeaderValue::from_str(&text).ok()?;
        header.set_sensitive(true);
        Some(header)
    }
}

/// `Max-Age=0`, or an `Expires` in the past (RFC 6265 section 5.2).
fn is_removed(cookie: &Cookie<'_>) -> bool {
    let expired = match cookie.expires() {
        Some(Expiration::DateTime(at)) => SystemTime::from(at) <= SystemTime::now(),
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
        let mut jar = Jar::default();
        for n in 0..5 {
            learn(
                &mut jar,
                format!("long{n}={}", "v".repeat(MAX_COOKIE_BYTES - 5)).leak(),
            );
        }
        learn(
            &mut jar,
            format!("more={}", "v".repeat(MAX_COOKIE_BYTES)).leak(),
        );
        assert_eq!(jar.cookies.len(), MAX_JAR_BYTES / MAX_COOKIE_BYTES);
        learn(&mut jar, "long0=; Expires=Wed, 01 Jan 2020 00:00:00 GMT");
        assert!(jar.header().unwrap().is_sensitive());
        assert_eq!(jar.cookies.len(), 1);
    }
}
