//! `[proxy]`: where its address and its credentials come from, and what a domain inherits of it.

use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use url::{Position, Url};

use super::draft::ProxyDraft;
use super::error::ConfigError;
use super::{Credentials, Proxy, ProxyEnv, ProxySource, secret};
use crate::connect::{ProxyKind, check_credentials};

pub(super) fn finish_proxy(
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
