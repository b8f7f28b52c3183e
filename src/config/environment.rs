//! What the environment says: `XBOSH_…` settings and the usual proxy variables.

use std::ffi::OsString;

use super::draft::{Draft, KEYS, unknown};
use super::error::{ConfigError, Place};
use super::value::{Setting, Value, parse_environment};
use super::{Credentials, ProxyEnv, ProxyVariable};
use crate::connect::Upstream;

/// What the names of our own variables begin with.
const PREFIX: &str = "XBOSH_";
/// Variables that must not be skipped because they are no text: without a proxy that was meant, data goes direct.
const READ: [&str; 7] = [
    "HOME",
    "XDG_CONFIG_HOME",
    "CREDENTIALS_DIRECTORY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
];
/// Keys whose values are not a single string.
const TYPED: &[&str] = &[
    "listen",
    "allow_remote_clients",
    "allowed_domains",
    "proxy.no_proxy",
    "proxy.isolate",
    "proxy.preemptive",
    "discovery.host_meta",
    "discovery.dns_txt",
    "discovery.cache",
    "bosh.wait",
    "bosh.hold",
    "bosh.max_body_bytes",
    "limits.max_streams",
    "limits.session_rate",
    "limits.max_stanza_bytes",
    "limits.max_depth",
    "limits.max_attributes",
    "limits.max_response_bytes",
    "limits.buffer_bytes",
    "limits.header_timeout",
    "limits.setup_timeout",
    "tls.same_certificate",
    "stream_management.resume_window",
    "bosh.key_sequence",
];

/// The process environment as text.
///
/// # Errors
/// [`ConfigError::NotText`] for a variable that we read and that is not UTF-8. Others are left out.
pub fn environment(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut known = Vec::new();
    for (name, value) in variables {
        let Ok(name) = name.into_string() else {
            continue;
        };
        let ours = name.starts_with(PREFIX) || READ.contains(&name.to_uppercase().as_str());
        match value.into_string() {
            Ok(value) => known.push((name, value)),
            Err(_) if ours => return Err(ConfigError::NotText { name }),
            Err(_) => {}
        }
    }
    Ok(known)
}

/// A variable that is set and not empty.
pub(super) fn variable<'a>(environment: &'a [(String, String)], name: &str) -> Option<&'a str> {
    environment
        .iter()
        .find(|(known, value)| known == name && !value.is_empty())
        .map(|(_, value)| value.as_str())
}

/// Takes in every `XBOSH_…` variable; an unknown one is worth a warning.
pub(super) fn apply(
    draft: &mut Draft,
    environment: &[(String, String)],
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let ours = environment
        .iter()
        .filter_map(|(name, value)| Some((name, name.strip_prefix(PREFIX)?, value)));
    // A password given here replaces the file's, whichever of the three ways that one came.
    if ours
        .clone()
        .any(|(_, rest, _)| rest.starts_with("PROXY__PASSWORD"))
    {
        draft.proxy.clear_password();
    }
    for (name, rest, value) in ours {
        let setting = Setting {
            path: rest.split("__").map(str::to_lowercase).collect(),
            value: parse_environment(value),
            place: Place::Environment(name.clone()),
        };
        match KEYS.iter().find(|key| variable_part(key) == rest) {
            Some(key) => draft.apply(&as_text_where_wanted(setting, key, value))?,
            None if rest.starts_with("DOMAINS__") => warnings.push(format!(
                "ignored: {}: domains are set in the file only",
                setting.place
            )),
            None => warnings.push(format!("ignored: {}", unknown(&setting))),
        }
    }
    Ok(())
}

/// `proxy.url` is `PROXY__URL`.
fn variable_part(key: &str) -> String {
    key.to_uppercase().replace('.', "__")
}

/// A password of digits, or a user called `true`, is text all the same.
fn as_text_where_wanted(setting: Setting, key: &str, raw: &str) -> Setting {
    let list = key == "proxy.url" && matches!(setting.value, Value::List(_));
    if list || matches!(setting.value, Value::Text(_)) || TYPED.contains(&key) {
        return setting;
    }
    Setting {
        value: Value::Text(raw.to_owned()),
        ..setting
    }
}

/// The proxy variables in either case; lower case first, as curl does. Under CGI `HTTP_PROXY` is a request
/// header in disguise and not believed.
///
/// # Errors
/// [`ConfigError::ProxyVariable`] for one that could not be used: going direct instead is not what was meant (P-12).
pub(super) fn proxy_environment(
    environment: &[(String, String)],
    keys: Option<&Credentials>,
) -> Result<ProxyEnv, ConfigError> {
    let either = |[upper, lower]: [&'static str; 2]| {
        let believed = upper != "HTTP_PROXY" || variable(environment, "REQUEST_METHOD").is_none();
        let names = [lower, upper]
            .into_iter()
            .filter(|name| *name == lower || believed);
        let mut set = names.filter_map(|name| Some((name, variable(environment, name)?)));
        set.next()
    };
    let checked = |names| {
        let Some((name, value)) = either(names) else {
            return Ok(None);
        };
        match proxy_fault(value, keys) {
            None => Ok(Some(ProxyVariable {
                name,
                value: value.to_owned(),
            })),
            Some(what) => Err(ConfigError::ProxyVariable {
                name: name.to_owned(),
                what,
            }),
        }
    };
    Ok(ProxyEnv {
        https: checked(["HTTPS_PROXY", "https_proxy"])?,
        http: checked(["HTTP_PROXY", "http_proxy"])?,
        all: checked(["ALL_PROXY", "all_proxy"])?,
        no_proxy: either(["NO_PROXY", "no_proxy"]).map(|(_, value)| value.to_owned()),
    })
}

/// Why a proxy variable's value cannot be used; never the value.
fn proxy_fault(value: &str, keys: Option<&Credentials>) -> Option<String> {
    // curl's rule: without a scheme it is an HTTP proxy.
    let whole = if value.contains("://") {
        value.to_owned()
    } else {
        format!("http://{value}")
    };
    let Ok(url) = url::Url::parse(&whole) else {
        return Some("is no proxy URL".into());
    };
    if !super::proxy::SCHEMES.contains(&url.scheme()) {
        return Some(format!(
            "has scheme {}, not http, https, socks5 or socks5h",
            url.scheme()
        ));
    }
    let error = Upstream::new(&url, keys).err()?;
    let text = error.to_string();
    Some(format!("cannot be used: {text}"))
}
