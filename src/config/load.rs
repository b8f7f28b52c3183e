//! Defaults, file, environment, flags: put together in that order and checked.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use url::{Host, ParseError, Url};

use super::draft::{Draft, ProxyDraft};
use super::error::ConfigError;
use super::proxy::finish_proxy;
use super::value::{Setting, Source, Value, parse_environment, parse_file};
use super::{Config, Domain, Proxy, secret};

/// What the command line sets.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--listen`, replacing the list if there is any.
    pub listen: Vec<SocketAddr>,
    /// `--domain` and `--url`.
    pub domain: Option<(String, String)>,
    /// `--proxy`. Holds no password: the command line has refused one.
    pub proxy: Option<String>,
    /// `--log`.
    pub log: Option<String>,
}

/// A configuration and what is worth a warning.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The file it came from, if there was one.
    pub file: Option<PathBuf>,
    /// Sentences for the log.
    pub warnings: Vec<String>,
}

/// Loads the configuration. `environment` is the process environment, given as an argument so that this
/// depends on nothing else but files.
///
/// # Errors
/// [`ConfigError`], the first one found.
pub fn load(flags: &Flags, environment: &[(String, String)]) -> Result<Loaded, ConfigError> {
    let mut draft = Draft::new();
    let mut warnings = Vec::new();
    let file = find_file(flags, environment);
    if let Some((path, required)) = &file {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                for setting in parse_file(path, &text)? {
                    draft.apply(&setting)?;
                }
                if holds_secret(&draft) && secret::is_exposed(path) {
                    return Err(ConfigError::Exposed { path: path.clone() });
                }
            }
            Err(error) if !required && error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(ConfigError::Unreadable {
                    path: path.clone(),
                    source,
                });
            }
        }
    }
    for (name, value) in environment {
        let Some(rest) = name.strip_prefix("XBOSH_") else {
            continue;
        };
        let path: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
        let setting = Setting {
            path,
            value: parse_environment(value),
            source: Source::Environment(name.clone()),
        };
        let known = super::draft::KEYS.contains(&setting.path.join(".").as_str());
        if known {
            draft.apply(&as_text_where_wanted(setting, value))?;
        } else {
            warnings.push(format!("ignored: {}", super::draft::unknown(&setting)));
        }
    }
    apply_flags(&mut draft, flags)?;
    let config = finish(draft, environment, &mut warnings)?;
    let file = file.map(|(path, _)| path).filter(|path| path.exists());
    Ok(Loaded {
        config,
        file,
        warnings,
    })
}

/// A password of digits, or a user called `true`, is text all the same.
fn as_text_where_wanted(setting: Setting, raw: &str) -> Setting {
    const TEXT: [&str; 10] = [
        "proxy.username",
        "proxy.password",
        "proxy.password_file",
        "proxy.password_command",
        "proxy.ca_file",
        "tls.ca_file",
        "tls.client_cert",
        "tls.client_key",
        "bosh.ver",
        "bosh.lang",
    ];
    let quoted = matches!(setting.value, Value::Text(_));
    if !quoted && TEXT.contains(&setting.path.join(".").as_str()) {
        return Setting {
            value: Value::Text(raw.to_owned()),
            ..setting
        };
    }
    setting
}

/// The process environment as text. What xbosh reads must be that: a proxy setting that is skipped would
/// mean going around the proxy.
///
/// # Errors
/// [`ConfigError::Conflict`] naming the variable.
pub fn environment(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, ConfigError> {
    const PROXY: [&str; 4] = ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"];
    let mut out = Vec::new();
    for (name, value) in variables {
        let Ok(name) = name.into_string() else {
            continue;
        };
        match value.into_string() {
            Ok(value) => out.push((name, value)),
            Err(_) if name.starts_with("XBOSH_") || PROXY.contains(&&*name.to_uppercase()) => {
                return Err(ConfigError::Conflict(format!(
                    "environment variable {name}: must be UTF-8"
                )));
            }
            Err(_) => {}
        }
    }
    Ok(out)
}

/// The file to read, and whether it must exist.
fn find_file(flags: &Flags, environment: &[(String, String)]) -> Option<(PathBuf, bool)> {
    if let Some(path) = &flags.config {
        return Some((path.clone(), true));
    }
    let variable = |name: &str| {
        environment
            .iter()
            .find(|(n, v)| n == name && !v.is_empty())
            .map(|(_, v)| PathBuf::from(v))
    };
    let user = variable("XDG_CONFIG_HOME")
        // As the XDG base directory specification has it.
        .filter(|path| path.is_absolute())
        .or_else(|| variable("HOME").map(|home| home.join(".config")));
    let candidates = user
        .map(|dir| dir.join("xbosh/config.toml"))
        .into_iter()
        .chain([PathBuf::from("/etc/xbosh/config.toml")]);
    candidates
        .map(|path| (path, false))
        .find(|(path, _)| path.exists())
}

fn holds_secret(draft: &Draft) -> bool {
    let in_url = |proxy: &ProxyDraft| {
        proxy
            .url
            .as_ref()
            .and_then(|(url, _)| Url::parse(url).ok())
            .is_some_and(|url| url.password().is_some())
    };
    let exposed = |proxy: &ProxyDraft| proxy.password.is_some() || in_url(proxy);
    exposed(&draft.proxy)
        || draft
            .domains
            .values()
            .any(|domain| domain.proxy.as_ref().is_some_and(exposed))
}

fn apply_flags(draft: &mut Draft, flags: &Flags) -> Result<(), ConfigError> {
    let set = |flag: &'static str, path: &[&str], value: &str| Setting {
        path: path.iter().map(|part| (*part).to_owned()).collect(),
        value: Value::Text(value.to_owned()),
        source: Source::Flag(flag),
    };
    if !flags.listen.is_empty() {
        draft.config.listen.clone_from(&flags.listen);
    }
    if let Some(proxy) = &flags.proxy {
        draft.apply(&set("--proxy", &["proxy", "url"], proxy))?;
    }
    if let Some(level) = &flags.log {
        draft.apply(&set("--log", &["log", "level"], level))?;
    }
    if let Some((domain, url)) = &flags.domain {
        draft.apply(&Setting {
            value: Value::Other("a table"),
            ..set("--domain", &["domains", domain], "")
        })?;
        draft.apply(&set("--url", &["domains", domain, "url"], url))?;
    }
    Ok(())
}

fn finish(
    draft: Draft,
    environment: &[(String, String)],
    warnings: &mut Vec<String>,
) -> Result<Config, ConfigError> {
    let Draft {
        mut config,
        proxy,
        domains,
    } = draft;
    check_listen(&config, warnings)?;
    if config.limits.max_response_bytes < config.limits.max_stanza_bytes {
        return Err(ConfigError::Conflict(
            "limits.max_response_bytes must not be below limits.max_stanza_bytes".into(),
        ));
    }
    if config.tls.client_cert.is_some() != config.tls.client_key.is_some() {
        return Err(ConfigError::Conflict(
            "tls.client_cert and tls.client_key need each other".into(),
        ));
    }
    if let (Some(domain), Some(allowed)) = (&config.default_domain, &config.allowed_domains)
        && !allowed.contains(domain)
    {
        return Err(ConfigError::Conflict(format!(
            "default_domain is {domain}, which allowed_domains does not hold"
        )));
    }
    config.proxy = finish_proxy(&proxy, &Proxy::default(), "proxy", environment, warnings)?;
    config.domains = domains
        .into_iter()
        .map(|(name, domain)| {
            let proxy = match &domain.proxy {
                Some(own) => finish_proxy(
                    own,
                    &config.proxy,
                    &format!("domains.\"{name}\".proxy"),
                    environment,
                    warnings,
                )?,
                None => config.proxy.clone(),
            };
            let url = domain
                .url
                .as_deref()
                .map(|url| check_url(&name, url, &domain.url_place, domain.allow_plain_http))
                .transpose()?;
            let (tls, bosh) = (config.tls.with(&domain), config.bosh.with(&domain));
            Ok((
                name,
                Domain {
                    url,
                    route: domain.route,
                    tls,
                    bosh,
                    proxy,
                },
            ))
        })
        .collect::<Result<BTreeMap<_, _>, ConfigError>>()?;
    Ok(config)
}

fn check_listen(config: &Config, warnings: &mut Vec<String>) -> Result<(), ConfigError> {
    if config.listen.is_empty() {
        return Err(ConfigError::Conflict(
            "listen is empty: nothing to do".into(),
        ));
    }
    for address in config
        .listen
        .iter()
        .filter(|address| !address.ip().is_loopback())
    {
        if !config.allow_remote_clients {
            return Err(ConfigError::Conflict(format!(
                "listen has {address}, which other machines can reach, and the way from a client to xbosh is not encrypted; \
                 set allow_remote_clients = true if that is what you want"
            )));
        }
        warnings.push(format!(
            "clients on other machines can reach {address}; their passwords travel in the clear"
        ));
    }
    Ok(())
}

/// B-70: https, or http where it cannot be overheard or is asked for.
fn check_url(domain: &str, text: &str, place: &str, allow_plain: bool) -> Result<Url, ConfigError> {
    let wrong = |what: String| ConfigError::Value {
        place: place.to_owned(),
        key: format!("domains.\"{domain}\".url"),
        what,
    };
    let form = || wrong("must be a URL like https://example.org/http-bind".into());
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(ParseError::RelativeUrlWithoutBase) => return Err(form()),
        Err(error) => return Err(wrong(format!("is no URL: {error}"))),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("must not hold a user name or password".into()));
    }
    let private = match url.host() {
        Some(Host::Domain(name)) => {
            name == "localhost" || name.ends_with(".localhost") || name.ends_with(".onion")
        }
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => return Err(form()),
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if private || allow_plain => Ok(url),
        "http" => Err(wrong(
            "is http, so everybody on the way could read the password; use https, or set allow_plain_http = true beside it".into(),
        )),
        other => Err(wrong(format!("has scheme {other}; use https"))),
    }
}
