//! `[proxy]`, here and in domains: where the proxy is, and who we are to it.

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use secrecy::{ExposeSecret as _, SecretString};
use url::{Position, Url};
use zeroize::Zeroizing;

use super::draft::{Draft, ProxyDraft};
use super::environment::{proxy_environment, variable};
use super::error::{ConfigError, quoted};
use super::{Credentials, Proxy, ProxyList, ProxySource, secret};
use crate::connect::{ProxyKind, check_credentials, from_userinfo};

/// Schemes of proxies.
pub(super) const SCHEMES: [&str; 4] = ["http", "https", "socks5", "socks5h"];
const FORMS: &str =
    "must be \"env\", \"none\", or a URL with http://, https://, socks5:// or socks5h://";

/// A user name and a password, one of which may be missing.
type Parts = (Option<String>, Option<SecretString>);

/// Finishes the proxy tables of one configuration.
pub(super) struct Finish<'a> {
    pub(super) draft: &'a Draft,
    pub(super) environment: &'a [(String, String)],
    pub(super) warnings: &'a mut Vec<String>,
}

impl Finish<'_> {
    /// `proxy` over `inherited`. `table` is its name in the file.
    ///
    /// What it leaves out is inherited, except that user and password go with the URL: a table with another
    /// URL, or with any of the credential keys, inherits neither.
    pub(super) fn proxy(
        &mut self,
        proxy: &ProxyDraft,
        inherited: &Proxy,
        table: &str,
    ) -> Result<Proxy, ConfigError> {
        let (mut source, (url_user, url_password)) = match &proxy.url {
            Some(texts) => self.sources(texts, table)?,
            None => (inherited.source.clone(), (None, None)),
        };
        let given = self.given(proxy, table)?;
        let username = proxy.username.clone().or(url_user);
        if username.is_none() && given {
            let what = "needs a user name: set username beside it";
            return Err(self.wrong(table, &PASSWORDS, what.into()));
        }
        let password = self.password(proxy, table)?.or(url_password);
        let credentials = match (username, password) {
            (Some(username), Some(password)) => Some(Credentials { username, password }),
            // As in other programs: a user in the URL and no password is one with an empty password.
            (Some(username), None) if proxy.username.is_none() => Some(Credentials {
                username,
                password: SecretString::default(),
            }),
            (Some(_), None) => {
                let what =
                    "needs a password: set password, password_file or password_command beside it";
                return Err(self.wrong(table, &["username"], what.into()));
            }
            (None, Some(password)) => Some(Credentials {
                username: String::new(),
                password,
            }),
            (None, None) if source == inherited.source => inherited.credentials.clone(),
            (None, None) => None,
        };
        match &mut source {
            ProxySource::Env(variables) => {
                *variables = proxy_environment(self.environment, credentials.as_ref())?;
            }
            ProxySource::Url(url) => {
                if let Some(credentials) = &credentials {
                    self.check(url, credentials, table)?;
                }
            }
            ProxySource::List(list) => {
                for url in &list.urls {
                    let own = from_userinfo(url);
                    if let Some(credentials) = credentials.as_ref().or(own.as_ref()) {
                        self.check(url, credentials, table)?;
                    }
                }
            }
            ProxySource::None => {}
        }
        let isolate = proxy.isolate.unwrap_or(inherited.isolate);
        if isolate
            && let ProxySource::Url(url) = &source
            && !url.scheme().starts_with("socks")
        {
            let what = "works with a SOCKS5 proxy alone, such as Tor: set url to a socks5h:// one";
            return Err(self.wrong(table, &["isolate"], what.into()));
        }
        Ok(Proxy {
            isolate,
            preemptive: proxy.preemptive.unwrap_or(inherited.preemptive),
            source,
            credentials,
            no_proxy: proxy
                .no_proxy
                .clone()
                .unwrap_or_else(|| inherited.no_proxy.clone()),
            ca_file: proxy.ca_file.clone().or_else(|| inherited.ca_file.clone()),
        })
    }

    fn wrong(&self, table: &str, keys: &[&str], what: String) -> ConfigError {
        let keys: Vec<String> = keys.iter().map(|key| format!("{table}.{key}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        self.draft.conflict(&keys, what)
    }

    /// `url` with one value or several.
    fn sources(
        &self,
        texts: &[Zeroizing<String>],
        table: &str,
    ) -> Result<(ProxySource, Parts), ConfigError> {
        let wrong = |what: &str| Err(self.wrong(table, &["url"], what.to_owned()));
        if let [text] = texts {
            return self.source(text, table);
        }
        let mut list = ProxyList {
            urls: Vec::new(),
            then_direct: false,
        };
        for text in texts {
            if list.then_direct {
                return wrong("may have \"none\", for no proxy, as its last item only");
            }
            match self.source(text, table)? {
                (ProxySource::Url(mut url), (username, password)) => {
                    // Each keeps its own; both calls succeed for a URL with a host.
                    let _ = url.set_username(&encoded(&username.unwrap_or_default()));
                    let password = password.as_ref().map(|p| encoded(p.expose_secret()));
                    let _ = url.set_password(password.as_deref().map(String::as_str));
                    list.urls.push(url);
                }
                (ProxySource::None, _) => list.then_direct = true,
                (ProxySource::Env(_) | ProxySource::List(_), _) => {
                    return wrong("may have \"env\" alone, not in a list");
                }
            }
        }
        if list.urls.is_empty() {
            return wrong("must name a proxy, or be \"env\" or \"none\"");
        }
        Ok((ProxySource::List(list), (None, None)))
    }

    /// `url`: `env`, `none`, or a URL whose userinfo is taken out.
    fn source(&self, text: &str, table: &str) -> Result<(ProxySource, Parts), ConfigError> {
        let wrong = |what: &str| self.wrong(table, &["url"], what.to_owned());
        match text {
            "env" => return Ok((ProxySource::Env(Default::default()), (None, None))),
            "none" => return Ok((ProxySource::None, (None, None))),
            _ => {}
        }
        // The parser's own words could show a piece of a password.
        let hint = if text.contains('@') {
            format!(
                "; a password with special characters belongs into {table}.password, or percent-encoded into the URL"
            )
        } else {
            String::new()
        };
        let mut url = Url::parse(text).map_err(|_| wrong(&format!("{FORMS}{hint}")))?;
        if !SCHEMES.contains(&url.scheme()) {
            return Err(wrong(FORMS));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(wrong("names no host"));
        }
        if !matches!(&url[Position::BeforePath..], "" | "/") {
            return Err(wrong(&format!("must end with the host and port{hint}")));
        }
        let decode = |text: &str| {
            let decoded = percent_decode_str(text).decode_utf8();
            decoded.map(std::borrow::Cow::into_owned).map_err(|_| {
                wrong(&format!(
                    "has a user name or password that is not UTF-8{hint}"
                ))
            })
        };
        let username = match url.username() {
            "" => None,
            written => Some(decode(written)?),
        };
        let password = url.password().map(decode).transpose()?;
        // Cannot fail for a URL with a host.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        Ok((
            ProxySource::Url(url),
            (username, password.map(SecretString::from)),
        ))
    }

    /// Whether one of the three password keys is set, and not two.
    fn given(&self, proxy: &ProxyDraft, table: &str) -> Result<bool, ConfigError> {
        let given = [
            proxy.password.is_some(),
            proxy.password_file.is_some(),
            proxy.password_command.is_some(),
        ];
        let mut set = PASSWORDS.iter().zip(given).filter(|(_, given)| *given);
        let first = set.next();
        if let (Some((first, _)), Some((second, _))) = (first, set.next()) {
            let what = format!("stands beside {table}.{first}; keep one of the two");
            return Err(self.wrong(table, &[second], what));
        }
        Ok(first.is_some())
    }

    /// The password from the key that is set.
    fn password(
        &mut self,
        proxy: &ProxyDraft,
        table: &str,
    ) -> Result<Option<SecretString>, ConfigError> {
        if let Some(password) = &proxy.password {
            return Ok(Some(password.clone()));
        }
        if let Some(file) = &proxy.password_file {
            let directory = variable(self.environment, "CREDENTIALS_DIRECTORY");
            let (path, credential) = file.find(directory);
            let (password, exposed) = secret::from_file(&path)
                .map_err(|what| self.wrong(table, &["password_file"], what))?;
            // systemd guards the directory of its credentials.
            if exposed && !credential {
                let shown = path.display();
                self.warnings.push(format!(
                    "others can read the password in {shown}: chmod 600 {}",
                    quoted(&path)
                ));
            }
            return Ok(Some(password));
        }
        if let Some(command) = &proxy.password_command {
            return secret::from_command(command, secret::COMMAND_LIMIT)
                .map(Some)
                .map_err(|what| self.wrong(table, &["password_command"], what));
        }
        Ok(None)
    }

    /// P-05, P-16: credentials that this proxy's protocol can carry.
    fn check(&self, url: &Url, credentials: &Credentials, table: &str) -> Result<(), ConfigError> {
        let kind = match url.scheme() {
            "http" => ProxyKind::Http,
            "https" => ProxyKind::Https,
            _ => ProxyKind::Socks5,
        };
        check_credentials(kind, credentials).map_err(|error| {
            let text = error.to_string();
            let (own, what): (&[&str], _) = match text.strip_prefix("proxy.password ") {
                Some(what) => (&PASSWORDS, what),
                None => (
                    &["username"],
                    text.strip_prefix("proxy.username ").unwrap_or(&text),
                ),
            };
            if own
                .iter()
                .any(|key| self.draft.is_set(&format!("{table}.{key}")))
            {
                self.wrong(table, own, what.to_owned())
            } else {
                self.wrong(table, &["url"], format!("cannot be used: {text}"))
            }
        })
    }
}

/// Percent-encoded for userinfo, whatever it holds.
fn encoded(text: &str) -> Zeroizing<String> {
    Zeroizing::new(utf8_percent_encode(text, NON_ALPHANUMERIC).to_string())
}

const PASSWORDS: [&str; 3] = ["password", "password_file", "password_command"];

/// Whether the text of a URL holds a password, also where a slash or hash in it ends the host too early.
#[must_use]
pub fn has_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    match Url::parse(url) {
        Ok(parsed) if parsed.has_host() => {
            let path = &parsed[Position::BeforePath..];
            parsed.password().is_some() || (path.contains('@') && rest.contains(':'))
        }
        Ok(_) | Err(_) => rest
            .rsplit_once('@')
            .is_some_and(|(user, _)| user.contains(':')),
    }
}
