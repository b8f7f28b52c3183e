//! When one connection may serve several sessions (P-11): same way out, same trust, a certificate for all of them.

use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use secrecy::ExposeSecret as _;
use url::Url;

use super::route::{self, Route, Upstream};
use super::{Arc, CertificateName, Connector};

/// In this order of preference (RFC 9113 section 3.2).
const OFFER: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What was agreed on with the manager for a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, which is also what is spoken without TLS.
    Http1,
    /// HTTP/2, with what the manager's certificate has proven.
    Http2(Proven),
}

/// Whose name a certificate was found to bear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// What it was judged by.
    rule: CertificateName,
    /// It is valid for the URL's host.
    host: bool,
}

impl Proven {
    /// Whether this certificate would have been accepted by that rule as well.
    #[must_use]
    pub fn suits(&self, rule: &CertificateName) -> bool {
        match rule {
            CertificateName::Host | CertificateName::HostOrDomain(_) if self.host => true,
            CertificateName::Host
            | CertificateName::HostOrDomain(_)
            | CertificateName::Domain(_) => self.rule == *rule,
        }
    }
}

impl Connector {
    /// The same way out, where managers are offered HTTP/2 beside HTTP/1.1 (B-07). Proxies are not.
    #[must_use]
    pub fn offering_http2(mut self) -> Self {
        if let Ok(tls) = &mut Arc::make_mut(&mut self.shared).tls {
            Arc::make_mut(tls).alpn_protocols = OFFER.map(<[u8]>::to_vec).to_vec();
        }
        self
    }

    /// Whose name the manager's certificate must bear.
    pub(crate) fn rule(&self) -> &CertificateName {
        &self.shared.rule
    }

    /// Whether sessions of both may share connections to `target`, as far as the way there is concerned:
    /// proxies, credentials, roots and client certificate are equal, and nobody asked for isolation (P-11, P-20).
    pub(crate) fn goes_the_way_of(&self, other: &Self, target: &Url) -> bool {
        let isolated = self.shared.proxy.isolate || other.shared.proxy.isolate;
        // Files are read once: another reading may have found other roots.
        let trusts = Arc::ptr_eq(&self.shared.read, &other.shared.read);
        let routes = |connector: &Self| route::routes(&connector.shared.proxy, target);
        trusts
            && !isolated
            && match (routes(self), routes(other)) {
                (Ok(ours), Ok(theirs)) => {
                    ours.len() == theirs.len() && ours.iter().zip(&theirs).all(|(a, b)| same(a, b))
                }
                _ => false,
            }
    }

    /// What the manager's certificate proves, which has been accepted already.
    pub(super) fn proven(&self, host: &str, shown: &[CertificateDer<'_>]) -> Proven {
        let rule = self.shared.rule.clone();
        let host = rule == CertificateName::Host || self.is_for_host(host, shown);
        Proven { rule, host }
    }

    fn is_for_host(&self, host: &str, shown: &[CertificateDer<'_>]) -> bool {
        let (Some(judge), Some((end_entity, intermediates)), Ok(name)) = (
            &self.shared.judge,
            shown.split_first(),
            ServerName::try_from(host),
        ) else {
            return false;
        };
        judge
            .verify_server_cert(end_entity, intermediates, &name, &[], UnixTime::now())
            .is_ok()
    }
}

fn same(one: &Route, other: &Route) -> bool {
    match (one, other) {
        (Route::Direct, Route::Direct) => true,
        (Route::Via(one), Route::Via(other)) => {
            (one.kind, &one.host, one.port) == (other.kind, &other.host, other.port)
                && login(one) == login(other)
        }
        (Route::Direct, Route::Via(_)) | (Route::Via(_), Route::Direct) => false,
    }
}

fn login(upstream: &Upstream) -> Option<(&str, &str)> {
    let credentials = upstream.credentials.as_ref()?;
    Some((&credentials.username, credentials.password.expose_secret()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Proxy, Tls};
    use crate::connect::tests::authority::Authority;
    use crate::http::tests::{direct, via};

    fn target() -> Url {
        Url::parse("https://cm.example/b").unwrap()
    }

    /// P-11: equal ways are one way, whatever name the certificate must have; any difference makes two.
    #[test]
    fn p11_what_makes_a_way_another() {
        let ours = Authority::new();
        let at = |port: u16| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let base = Connector::new(&via("http", at(1)), &ours.tls()).unwrap();
        let like = |proxy: &Proxy| base.like(proxy, &ours.tls()).unwrap();
        let shares = |one: &Connector, other: &Connector| {
            let there = one.goes_the_way_of(other, &target());
            assert_eq!(there, other.goes_the_way_of(one, &target()));
            there
        };
        let domain = |name: &str| CertificateName::HostOrDomain(name.into());
        assert!(shares(
            &base.named(domain("a.example")).offering_http2(),
            &like(&via("http", at(1))).named(domain("b.example"))
        ));
        let mut password = via("http", at(1));
        if let Some(credentials) = &mut password.credentials {
            credentials.password = "other".to_owned().into();
        }
        let mut user = via("http", at(1));
        if let Some(credentials) = &mut user.credentials {
            credentials.username = "other".into();
        }
        let anonymous = Proxy {
            credentials: None,
            ..via("http", at(1))
        };
        for (what, proxy) in [
            ("port", via("http", at(2))),
            ("kind", via("socks5", at(1))),
            ("none", direct()),
            ("password", password),
            ("user", user),
            ("no user", anonymous),
        ] {
            assert!(!shares(&base, &like(&proxy)), "{what}");
        }
        let reread = Connector::new(&via("http", at(1)), &ours.tls()).unwrap();
        assert!(!shares(&base, &reread), "the files may differ now");
        let other = Connector::new(&via("http", at(1)), &Tls::default()).unwrap();
        assert!(!shares(&base, &other), "other roots");
    }

    /// P-11, P-20: never under isolation, whatever it comes to.
    #[test]
    fn p20_isolation_shares_nothing() {
        let isolating = |scheme: &str| Proxy {
            isolate: true,
            credentials: None,
            ..via(scheme, ([127, 0, 0, 1], 1).into())
        };
        for scheme in ["socks5", "http"] {
            let connector = Connector::new(&isolating(scheme), &Tls::default()).unwrap();
            assert!(!connector.goes_the_way_of(&connector, &target()));
            assert!(!connector.goes_the_way_of(&connector.isolated(), &target()));
        }
    }

    /// P-11, D-08: a certificate for the host serves all that may be content with that; another only its own.
    #[test]
    fn p11_what_a_certificate_proves() {
        let domain = |name: &str| CertificateName::HostOrDomain(name.into());
        let strict = |name: &str| CertificateName::Domain(name.into());
        let proven = |rule: CertificateName, host| Proven { rule, host };
        let for_host = proven(domain("a.example"), true);
        assert!(for_host.suits(&domain("a.example")));
        assert!(for_host.suits(&domain("b.example")));
        assert!(for_host.suits(&CertificateName::Host));
        assert!(!for_host.suits(&strict("a.example")));
        let for_domain = proven(domain("a.example"), false);
        assert!(for_domain.suits(&domain("a.example")));
        assert!(!for_domain.suits(&domain("b.example")));
        assert!(!for_domain.suits(&CertificateName::Host));
        let forged = proven(strict("a.example"), false);
        assert!(forged.suits(&strict("a.example")));
        assert!(!forged.suits(&strict("b.example")));
        assert!(!forged.suits(&domain("a.example")));
    }
}
