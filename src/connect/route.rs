//! Which way a URL is reached: direct, through an HTTP proxy, or through SOCKS5.

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret as _, SecretString};
use url::{Host, Url};

use super::error::ConnectError;
use crate::config::{Credentials, Proxy, ProxyEnv, ProxySource, ProxyVariable};

/// A way out.
#[derive(Clone, Debug)]
pub enum Route {
    /// Straight to the destination.
    Direct,
    /// Through a proxy.
    Via(Upstream),
}

/// A proxy to go through.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// What it speaks.
    pub kind: ProxyKind,
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User and password for it.
    pub credentials: Option<Credentials>,
    /// The credentials were made up, so that it keeps this session apart from others (P-20).
    pub isolated: bool,
    /// Where its address stands.
    pub set_by: SetBy,
}

/// Where a proxy was set, which is where a mistake is corrected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetBy {
    /// `proxy.url`.
    #[default]
    Config,
    /// A variable of the environment.
    Variable {
        /// Its name.
        name: &'static str,
        /// `proxy.username` and its password stand beside it, and beat what is in it.
        keys: bool,
    },
}

impl SetBy {
    /// What names the proxy.
    #[must_use]
    pub const fn url(self) -> &'static str {
        match self {
            Self::Config => "proxy.url",
            Self::Variable { name, .. } => name,
        }
    }

    /// What to do about a login that failed, or was never `sent`.
    #[must_use]
    pub fn login(self, sent: bool) -> String {
        match self {
            Self::Config | Self::Variable { keys: true, .. } => {
                "check proxy.username and proxy.password".into()
            }
            Self::Variable { name, .. } if sent => {
                format!("check the user name and password in {name}")
            }
            Self::Variable { name, .. } => {
                format!("put them into {name}, or set proxy.username and proxy.password")
            }
        }
    }
}

/// What a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// HTTP, reached in the clear.
    Http,
    /// HTTP, reached over TLS (P-13).
    Https,
    /// SOCKS5; the proxy resolves names.
    Socks5,
}

impl std::fmt::Display for ProxyKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http => "HTTP proxy",
            Self::Https => "HTTP proxy over TLS",
            Self::Socks5 => "SOCKS5 proxy",
        })
    }
}

impl Upstream {
    /// Reads a proxy URL; `keys` beat its userinfo.
    ///
    /// # Errors
    /// [`ConnectError::Setting`] for a scheme, host or credentials that cannot be used. The text never holds
    /// the password.
    pub fn new(url: &Url, keys: Option<&Credentials>) -> Result<Self, ConnectError> {
        let (kind, default_port) = match url.scheme() {
            "http" => (ProxyKind::Http, 80),
            "https" => (ProxyKind::Https, 443),
            "socks5" | "socks5h" => (ProxyKind::Socks5, 1080),
            other => {
                return Err(setting(format!(
                    "proxy.url: {other}:// is not supported; use http, https, socks5 or socks5h"
                )));
            }
        };
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| setting("proxy.url names no host".into()))?;
        let credentials = keys.cloned().or_else(|| from_userinfo(url));
        if let Some(credentials) = &credentials {
            check_credentials(kind, credentials)?;
        }
        Ok(Self {
            kind,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port().unwrap_or(default_port),
            credentials,
            isolated: false,
            set_by: SetBy::Config,
        })
    }

    /// host:port, with brackets around an IPv6 address.
    #[must_use]
    pub fn authority(&self) -> String {
        authority(&self.host, self.port)
    }
}

/// Whether these credentials can be sent at all: no colon in the user name for Basic (RFC 7617), 1 to 255
/// bytes each for SOCKS5 (P-16).
///
/// # Errors
/// [`ConnectError::Setting`] saying what is wrong.
pub fn check_credentials(kind: ProxyKind, credentials: &Credentials) -> Result<(), ConnectError> {
    let password = credentials.password.expose_secret();
    match kind {
        ProxyKind::Http | ProxyKind::Https if credentials.username.contains(':') => Err(setting(
            "proxy.username holds a colon, which HTTP Basic authentication cannot carry".into(),
        )),
        ProxyKind::Socks5 if !(1..=255).contains(&credentials.username.len()) => Err(setting(
            "proxy.username must have 1 to 255 bytes for a SOCKS5 proxy".into(),
        )),
        ProxyKind::Socks5 if !(1..=255).contains(&password.len()) => Err(setting(
            "proxy.password must have 1 to 255 bytes for a SOCKS5 proxy".into(),
        )),
        ProxyKind::Http | ProxyKind::Https | ProxyKind::Socks5 => Ok(()),
    }
}

fn setting(text: String) -> ConnectError {
    ConnectError::Setting(text)
}

/// User and password that stand in a URL.
#[must_use]
pub fn from_userinfo(url: &Url) -> Option<Credentials> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    Some(Credentials {
        username: decode(url.username()),
        password: SecretString::from(decode(url.password().unwrap_or_default())),
    })
}

/// The ways to `target` in the order in which they are tried, at least one (P-12, P-13). Nothing is special
/// about loopback.
///
/// # Errors
/// [`ConnectError::Setting`] if a proxy's address cannot be used.
pub fn routes(proxy: &Proxy, target: &Url) -> Result<Vec<Route>, ConnectError> {
    let mut set_by = SetBy::Config;
    let (chosen, then_direct, no_proxy) = match &proxy.source {
        ProxySource::None => (Vec::new(), true, None),
        ProxySource::Url(url) => (vec![url.clone()], false, None),
        ProxySource::List(list) => (list.urls.clone(), list.then_direct, None),
        ProxySource::Env(env) => {
            let mut chosen = Vec::new();
            if let Some((name, url)) = from_env(env, target)? {
                let keys = proxy.credentials.is_some();
                set_by = SetBy::Variable { name, keys };
                chosen.push(url);
            }
            let none = chosen.is_empty();
            (chosen, none, env.no_proxy.as_deref())
        }
    };
    let exceptions: Vec<&str> = proxy
        .no_proxy
        .iter()
        .map(String::as_str)
        .chain(no_proxy)
        .collect();
    if is_exception(&exceptions.join(","), target) {
        return Ok(vec![Route::Direct]);
    }
    let mut routes = Vec::with_capacity(chosen.len() + 1);
    for url in &chosen {
        let mut upstream = Upstream::new(url, proxy.credentials.as_ref())?;
        upstream.set_by = set_by;
        routes.push(Route::Via(upstream));
    }
    if then_direct {
        routes.push(Route::Direct);
    }
    Ok(routes)
}

/// The variable for the target's scheme, `ALL_PROXY` last.
fn from_env(env: &ProxyEnv, target: &Url) -> Result<Option<(&'static str, Url)>, ConnectError> {
    let own = if target.scheme() == "https" {
        &env.https
    } else {
        &env.http
    };
    let set = [own, &env.all].into_iter().flatten();
    let Some(ProxyVariable { name, value }) = set.into_iter().find(|set| !set.value.is_empty())
    else {
        return Ok(None);
    };
    // curl's rule: without a scheme it is an HTTP proxy.
    let with_scheme = if value.contains("://") {
        value.to_owned()
    } else {
        format!("http://{value}")
    };
    // The value may hold a password: the error names the variable only.
    match Url::parse(&with_scheme) {
        Ok(url) => Ok(Some((name, url))),
        Err(error) => Err(setting(format!(
            "the environment variable {name} is no proxy URL: {error}"
        ))),
    }
}

/// Hosts with or without a port, suffixes, addresses and CIDR blocks, or `*`; a comma or a blank between them.
fn is_exception(list: &str, target: &Url) -> bool {
    let Ok(uri) = target.as_str().parse::<Uri>() else {
        return false;
    };
    let entries = list.split(|c: char| c == ',' || c.is_whitespace());
    let entries: Vec<String> = entries
        .filter_map(|entry| exception(entry, target))
        .collect();
    // To the matcher it means every name, but no address.
    if entries.iter().any(|entry| entry == "*") {
        return true;
    }
    !entries.is_empty()
        && Matcher::builder()
            .all("http://proxy.invalid")
            .no(entries.join(","))
            .build()
            .intercept(&uri)
            .is_none()
}

/// One of them as the matcher knows it; `None` if it is empty or for another port.
fn exception(entry: &str, target: &Url) -> Option<String> {
    let entry = entry.to_lowercase();
    // `*.corp.example` and `.corp.example` mean the same.
    let (dot, entry) = match entry.strip_prefix("*.").or_else(|| entry.strip_prefix('.')) {
        Some(rest) => (".", rest),
        None => ("", entry.as_str()),
    };
    let (host, port) = match entry
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match entry.split_once(':') {
            // A second colon makes it an IPv6 address.
            Some((host, port)) if !port.contains(':') => (host, Some(port)),
            Some(_) | None => (entry, None),
        },
    };
    if let Some(port) = port
        && port.parse().ok() != target.port_or_known_default()
    {
        return None;
    }
    let host = host.trim_end_matches('.');
    if host.is_empty() {
        return None;
    }
    let ascii = match host.is_ascii() {
        true => None,
        false => Host::parse(host).ok().map(|host| host.to_string()),
    };
    Some(format!("{dot}{}", ascii.as_deref().unwrap_or(host)))
}

/// host:port, with brackets around an IPv6 address.
#[must_use]
pub fn authority(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::login::Login;
    use super::*;
    use crate::config::ProxyList;

    fn proxy(source: ProxySource) -> Proxy {
        Proxy {
            source,
            credentials: None,
            no_proxy: vec![],
            ca_file: None,
            isolate: false,
            preemptive: true,
        }
    }

    fn variable(name: &'static str, value: &str) -> Option<ProxyVariable> {
        let value = value.to_owned();
        Some(ProxyVariable { name, value })
    }

    fn way(proxy: &Proxy, url: &str) -> String {
        let routes = routes(proxy, &Url::parse(url).unwrap()).unwrap();
        let words = routes.iter().map(|route| match route {
            Route::Direct => "direct".into(),
            Route::Via(upstream) => format!("{:?} {}", upstream.kind, upstream.authority()),
        });
        words.collect::<Vec<_>>().join(", ")
    }

    /// P-13: the environment by scheme, ALL_PROXY last, NO_PROXY with suffixes and CIDR blocks.
    #[test]
    fn p13_environment() {
        let mut proxy = proxy(ProxySource::Env(ProxyEnv {
            https: variable("HTTPS_PROXY", "proxy:3128"),
            http: None,
            all: variable("all_proxy", "socks5h://[::1]:9050"),
            no_proxy: Some("example.org, 10.0.0.0/8".into()),
        }));
        assert_eq!(way(&proxy, "https://cm.example/b"), "Http proxy:3128");
        assert_eq!(way(&proxy, "http://cm.example/b"), "Socks5 [::1]:9050");
        assert_eq!(way(&proxy, "https://a.example.org/b"), "direct");
        assert_eq!(way(&proxy, "https://10.1.2.3/b"), "direct");
        assert_eq!(way(&proxy, "https://127.0.0.1/b"), "Http proxy:3128");
        proxy.no_proxy = vec!["cm.example".into()];
        assert_eq!(way(&proxy, "https://cm.example/b"), "direct");
    }

    /// P-13: what people write in NO_PROXY, and what each of it means; what matches nothing changes nothing.
    #[test]
    fn p13_no_proxy() {
        for (list, direct, not) in [
            ("*", &["https://a/", "https://[::1]/"][..], &[][..]),
            (
                "corp.example",
                &["https://corp.example/", "https://a.corp.example/"],
                &["https://acorp.example/"],
            ),
            (
                ".corp.example",
                &["https://a.corp.example/", "https://corp.example/"],
                &["https://acorp.example/"],
            ),
            (
                "*.corp.example",
                &["https://a.b.corp.example/"],
                &["https://acorp.example/"],
            ),
            (
                "CORP.Example.",
                &["https://a.corp.example/"],
                &["https://corp.example.org/"],
            ),
            (
                "corp.example:5281",
                &["https://corp.example:5281/"],
                &["https://corp.example/"],
            ),
            (
                "*.corp.example:443",
                &["https://a.corp.example/"],
                &["https://a.corp.example:5281/", "http://a.corp.example/"],
            ),
            (
                "10.1.2.3:80",
                &["http://10.1.2.3/"],
                &["https://10.1.2.3/", "http://10.1.2.4/"],
            ),
            ("fd00::/8", &["https://[fd12::1]/"], &["https://[fe80::1]/"]),
            (
                "::1, 192.168.0.0/16",
                &["https://[::1]/", "https://192.168.7.7/"],
                &["https://[::2]/", "https://192.169.0.1/"],
            ),
            (
                "[::1]",
                &["https://[::1]/", "https://[::1]:8443/"],
                &["https://[::2]/"],
            ),
            ("[::1]:8443", &["https://[::1]:8443/"], &["https://[::1]/"]),
            (
                "a.example b.example",
                &["https://a.example/", "https://b.example/"],
                &["https://c.example/"],
            ),
            (
                "bücher.example",
                &[
                    "https://xn--bcher-kva.example/",
                    "https://a.bücher.example/",
                ],
                &[],
            ),
            (" , .,*.,:443,[]", &[], &["https://a/", "https://[::1]/"]),
            ("", &[], &["https://a/"]),
        ] {
            let proxy = proxy(ProxySource::Env(ProxyEnv {
                https: variable("HTTPS_PROXY", "proxy:3128"),
                http: variable("HTTP_PROXY", "proxy:3128"),
                all: None,
                no_proxy: Some(list.into()),
            }));
            for url in direct {
                assert_eq!(way(&proxy, url), "direct", "{list} {url}");
            }
            for url in not {
                assert_eq!(way(&proxy, url), "Http proxy:3128", "{list} {url}");
            }
        }
    }

    /// P-13: an explicit proxy beats the environment; its own exceptions still count, NO_PROXY does not.
    #[test]
    fn p13_explicit_proxy() {
        let mut proxy = proxy(ProxySource::Url(Url::parse("https://p.example").unwrap()));
        assert_eq!(way(&proxy, "https://cm.example/b"), "Https p.example:443");
        proxy.no_proxy = vec!["*".into()];
        assert_eq!(way(&proxy, "https://cm.example/b"), "direct");
        proxy.source = ProxySource::None;
        assert_eq!(way(&proxy, "https://cm.example/b"), "direct");
    }

    /// P-12: several proxies in their order, the direct way only where it was asked for; exceptions are
    /// exceptions from all.
    #[test]
    fn p12_list() {
        let list = |then_direct| ProxyList {
            urls: ["http://a:s3cret@p:3128", "socks5://[::1]"]
                .map(|url| Url::parse(url).unwrap())
                .to_vec(),
            then_direct,
        };
        let mut proxy = proxy(ProxySource::List(list(false)));
        assert_eq!(
            way(&proxy, "https://cm/b"),
            "Http p:3128, Socks5 [::1]:1080"
        );
        proxy.source = ProxySource::List(list(true));
        assert_eq!(
            way(&proxy, "https://cm/b"),
            "Http p:3128, Socks5 [::1]:1080, direct"
        );
        assert!(!format!("{proxy:?}").contains("s3cret"));
        proxy.no_proxy = vec!["cm".into()];
        assert_eq!(way(&proxy, "https://cm/b"), "direct");
    }

    /// P-05: userinfo is percent-decoded, keys beat it, the header is what RFC 7617 says.
    #[test]
    fn p05_credentials() {
        let url = Url::parse("http://Aladdin:open%20sesame@p:8080").unwrap();
        let upstream = Upstream::new(&url, None).unwrap();
        let header = |upstream: &Upstream| {
            let login = Login::new(upstream.credentials.clone());
            login.authorize("POST", "/", b"").0.unwrap()
        };
        assert_eq!(header(&upstream), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(header(&upstream).is_sensitive());
        let keys = Credentials {
            username: "ü".into(),
            password: SecretString::from("p:w".to_owned()),
        };
        let upstream = Upstream::new(&url, Some(&keys)).unwrap();
        assert_eq!(header(&upstream), "Basic w7w6cDp3");
        assert!(!format!("{upstream:?}").contains("p:w"));
    }

    /// P-16, RFC 7617: credentials that cannot be sent are refused before anything is.
    #[test]
    fn p16_impossible_credentials() {
        let with = |username: &str, password: &str| Credentials {
            username: username.into(),
            password: SecretString::from(password.to_owned()),
        };
        assert!(check_credentials(ProxyKind::Http, &with("a:b", "x")).is_err());
        assert!(check_credentials(ProxyKind::Socks5, &with("a:b", "x")).is_ok());
        assert!(check_credentials(ProxyKind::Socks5, &with(&"u".repeat(256), "x")).is_err());
        assert!(check_credentials(ProxyKind::Socks5, &with("u", "")).is_err());
        assert!(check_credentials(ProxyKind::Socks5, &with("u", &"p".repeat(255))).is_ok());
    }

    /// What a sentence names is what was set: the key, or the variable that was used, in the case it was written.
    #[test]
    fn e30_where_a_proxy_was_set() {
        let mut proxy = proxy(ProxySource::Env(ProxyEnv {
            https: variable("https_proxy", "p:3128"),
            all: variable("ALL_PROXY", "p:3128"),
            ..ProxyEnv::default()
        }));
        let set_by = |proxy: &Proxy, url: &str| {
            let routes = routes(proxy, &Url::parse(url).unwrap()).unwrap();
            let [Route::Via(upstream)] = &routes[..] else {
                panic!("{routes:?}");
            };
            (upstream.set_by.url(), upstream.set_by.login(true))
        };
        let keys = "check proxy.username and proxy.password".to_owned();
        let inside = |name: &str| format!("check the user name and password in {name}");
        assert_eq!(
            set_by(&proxy, "https://a/"),
            ("https_proxy", inside("https_proxy"))
        );
        assert_eq!(
            set_by(&proxy, "http://a/"),
            ("ALL_PROXY", inside("ALL_PROXY"))
        );
        proxy.credentials = Some(Credentials {
            username: "u".into(),
            password: SecretString::from("p".to_owned()),
        });
        assert_eq!(set_by(&proxy, "http://a/"), ("ALL_PROXY", keys.clone()));
        proxy.source = ProxySource::Url(Url::parse("http://p").unwrap());
        assert_eq!(set_by(&proxy, "http://a/"), ("proxy.url", keys));
    }

    /// B-73: a broken variable is named without its value.
    #[test]
    fn b73_broken_environment_shows_no_password() {
        let proxy = proxy(ProxySource::Env(ProxyEnv {
            https: variable("HTTPS_PROXY", "http://u:s3cret@:x"),
            ..ProxyEnv::default()
        }));
        let error = routes(&proxy, &Url::parse("https://a/").unwrap())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("HTTPS_PROXY") && !error.contains("s3cret"),
            "{error}"
        );
    }
}
