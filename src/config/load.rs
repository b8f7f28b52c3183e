//! Defaults, file, environment, flags: put together in that order and checked.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use url::{Host, ParseError, Position, Url};

use super::draft::{Draft, ProxyDraft};
use super::error::ConfigError;
use super::value::{Setting, Source, Value, parse_environment, parse_file};
use super::{Config, Credentials, Domain, Proxy, ProxyEnv, ProxySource, secret};
use crate::connect::{ProxyKind, check_credentials};

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

fn finish_proxy(
    draft: &ProxyDraft,
    inherited: &Proxy,
    table: &str,
    environment: &[(String, String)],
    warnings: &mut Vec<String>,
) -> Result<Proxy, ConfigError> {
    let (source, userinfo) = match &draft.url {
        Some((text, place)) => read_source(text, place, table, environment)?,
        None => (inherit_source(inherited, environment), None),
    };
    // Another proxy has credentials of its own.
    let inherited_credentials = inherited
        .credentials
        .clone()
        .filter(|_| source == inherited.source);
    let own = own_credentials(draft, table, environment, warnings)?;
    let credentials = own.or(userinfo).or(inherited_credentials);
    if let (ProxySource::Url(url), Some(credentials)) = (&source, &credentials) {
        let kind = if url.scheme().starts_with("socks") {
            ProxyKind::Socks5
        } else {
            ProxyKind::Http
        };
        check_credentials(kind, credentials)
            .map_err(|e| ConfigError::Conflict(e.to_string().replacen("proxy", table, 1)))?;
    }
    Ok(Proxy {
        source,
        credentials,
        no_proxy: draft
            .no_proxy
            .clone()
            .unwrap_or_else(|| inherited.no_proxy.clone()),
        ca_file: draft.ca_file.clone().or_else(|| inherited.ca_file.clone()),
    })
}

fn inherit_source(inherited: &Proxy, environment: &[(String, String)]) -> ProxySource {
    match &inherited.source {
        ProxySource::Env(_) => ProxySource::Env(proxy_environment(environment)),
        ProxySource::None | ProxySource::Url(_) => inherited.source.clone(),
    }
}

/// `proxy.url`: `env`, `none`, or a URL whose userinfo moves to the credentials.
fn read_source(
    text: &str,
    place: &str,
    table: &str,
    environment: &[(String, String)],
) -> Result<(ProxySource, Option<Credentials>), ConfigError> {
    let wrong = |what: &str| ConfigError::Value {
        place: place.to_owned(),
        key: format!("{table}.url"),
        what: what.to_owned(),
    };
    match text {
        "env" => return Ok((ProxySource::Env(proxy_environment(environment)), None)),
        "none" => return Ok((ProxySource::None, None)),
        _ => {}
    }
    const FORMS: &str =
        "must be \"env\", \"none\", or a URL with http://, https://, socks5:// or socks5h://";
    let hint = if text.contains('@') {
        format!(
            "; a password with special characters belongs into {table}.password, or percent-encoded into the URL"
        )
    } else {
        String::new()
    };
    // The parser's own words could show a piece of a password.
    let mut url = Url::parse(text).map_err(|_| wrong(&format!("{FORMS}{hint}")))?;
    if !matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h") {
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
        decoded
            .map(|text| text.into_owned())
            .map_err(|_| wrong("has a user name or password that is not UTF-8"))
    };
    let credentials = if url.username().is_empty() && url.password().is_none() {
        None
    } else {
        Some(Credentials {
            username: decode(url.username())?,
            password: SecretString::from(decode(url.password().unwrap_or_default())?),
        })
    };
    // Cannot fail for a URL with a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Ok((ProxySource::Url(url), credentials))
}

fn own_credentials(
    draft: &ProxyDraft,
    table: &str,
    environment: &[(String, String)],
    warnings: &mut Vec<String>,
) -> Result<Option<Credentials>, ConfigError> {
    let given = [
        draft.password.is_some(),
        draft.password_file.is_some(),
        draft.password_command.is_some(),
    ];
    let count = given.into_iter().filter(|given| *given).count();
    let username = match (&draft.username, count) {
        (None, 0) => return Ok(None),
        (None, _) => {
            return Err(ConfigError::Conflict(format!(
                "{table} has a password and no username"
            )));
        }
        (Some(_), 0) => {
            return Err(ConfigError::Conflict(format!(
                "{table} has a username and no password; set password, password_file or password_command"
            )));
        }
        (Some(username), 1) => username.clone(),
        (Some(_), _) => {
            return Err(ConfigError::Conflict(format!(
                "{table} has more than one of password, password_file and password_command; keep one"
            )));
        }
    };
    let password = if let Some(password) = &draft.password {
        password.clone()
    } else if let Some(path) = &draft.password_file {
        if path.components().count() > 1 && secret::is_exposed(path) {
            warnings.push(format!(
                "{} can be read by others: chmod 600 {}",
                path.display(),
                path.display()
            ));
        }
        let credentials = secret::credentials_directory(environment);
        secret::from_file(
            &format!("{table}.password_file"),
            path,
            credentials.as_deref(),
        )?
    } else if let Some(command) = &draft.password_command {
        secret::from_command(
            &format!("{table}.password_command"),
            command,
            secret::COMMAND_LIMIT,
        )?
    } else {
        return Ok(None);
    };
    Ok(Some(Credentials { username, password }))
}

/// The proxy variables in either case; lower case first, as curl does. Under CGI `HTTP_PROXY` is a request
/// header in disguise and not believed.
fn proxy_environment(environment: &[(String, String)]) -> ProxyEnv {
    let get = |name: &str| {
        environment
            .iter()
            .find(|(n, v)| n == name && !v.is_empty())
            .map(|(_, v)| v.clone())
    };
    let either = |name: &str| get(&name.to_lowercase()).or_else(|| get(name));
    let cgi = get("REQUEST_METHOD").is_some();
    ProxyEnv {
        https: either("HTTPS_PROXY"),
        http: if cgi {
            get("http_proxy")
        } else {
            either("HTTP_PROXY")
        },
        all: either("ALL_PROXY"),
        no_proxy: either("NO_PROXY"),
    }
}

/// Whether a proxy URL given as an argument holds a password, which every user of the machine could read.
#[must_use]
pub fn has_password(url: &str) -> bool {
    match Url::parse(url) {
        // A slash or hash in a password ends the host too early; then the `@` stands behind it.
        Ok(parsed) if parsed.has_host() && !parsed[Position::BeforePath..].contains('@') => {
            parsed.password().is_some()
        }
        Ok(_) | Err(_) => url.contains('@'),
    }
}
