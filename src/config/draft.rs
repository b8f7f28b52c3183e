//! The configuration while it is being put together: one place knows every key, its type and its range.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::error::ConfigError;
use super::value::{Setting, Source, Value, display_path};
use super::{Bosh, ChannelBinding, Config, LogFormat, Tls};

/// Every key outside `[domains]`, as written in errors and suggestions.
pub(super) const KEYS: &[&str] = &[
    "listen",
    "allow_remote_clients",
    "default_domain",
    "allowed_domains",
    "proxy.url",
    "proxy.username",
    "proxy.password",
    "proxy.password_file",
    "proxy.password_command",
    "proxy.no_proxy",
    "proxy.ca_file",
    "tls.ca_file",
    "tls.client_cert",
    "tls.client_key",
    "features.channel_binding",
    "bosh.wait",
    "bosh.hold",
    "bosh.ver",
    "bosh.max_body_bytes",
    "bosh.lang",
    "limits.max_streams",
    "limits.max_stanza_bytes",
    "limits.max_depth",
    "limits.max_attributes",
    "limits.max_response_bytes",
    "limits.buffer_bytes",
    "limits.header_timeout",
    "limits.setup_timeout",
    "log.level",
    "log.format",
];

/// Keys of a domain's table, besides those of its `proxy` table.
pub(super) const DOMAIN_KEYS: &[&str] = &[
    "url",
    "route",
    "allow_plain_http",
    "ca_file",
    "wait",
    "hold",
    "ver",
    "max_body_bytes",
    "lang",
];

/// `[proxy]` as written; secrets are fetched at the end.
#[derive(Clone, Default)]
pub(super) struct ProxyDraft {
    pub(super) url: Option<(String, String)>,
    pub(super) username: Option<String>,
    pub(super) password: Option<secrecy::SecretString>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) password_command: Option<String>,
    pub(super) no_proxy: Option<Vec<String>>,
    pub(super) ca_file: Option<PathBuf>,
}

/// `[domains."…"]` as written.
#[derive(Clone, Default)]
pub(super) struct DomainDraft {
    pub(super) url: Option<String>,
    pub(super) url_place: String,
    pub(super) allow_plain_http: bool,
    pub(super) route: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) wait: Option<Duration>,
    pub(super) hold: Option<u8>,
    pub(super) ver: Option<String>,
    pub(super) max_body_bytes: Option<usize>,
    pub(super) lang: Option<String>,
    pub(super) proxy: Option<ProxyDraft>,
    /// The name as written, for errors.
    pub(super) written: String,
}

/// Everything set so far, over the defaults.
pub(super) struct Draft {
    pub(super) config: Config,
    pub(super) proxy: ProxyDraft,
    pub(super) domains: BTreeMap<String, DomainDraft>,
}

impl Draft {
    pub(super) fn new() -> Self {
        Self {
            config: Config::default(),
            proxy: ProxyDraft::default(),
            domains: BTreeMap::new(),
        }
    }

    /// Takes in one setting.
    pub(super) fn apply(&mut self, setting: &Setting) -> Result<(), ConfigError> {
        let take = Take(setting);
        let path: Vec<&str> = setting.path.iter().map(String::as_str).collect();
        let config = &mut self.config;
        let limits = &mut config.limits;
        match path[..] {
            ["listen"] => config.listen = take.list(|text| take.address(text))?,
            ["allow_remote_clients"] => config.allow_remote_clients = take.bool()?,
            ["default_domain"] => config.default_domain = Some(take.domain(&take.text()?)?),
            ["allowed_domains"] => {
                config.allowed_domains = Some(take.list(|text| take.domain(text))?)
            }
            ["proxy", key] => return apply_proxy(&mut self.proxy, key, &take),
            ["tls", "ca_file"] => config.tls.ca_file = Some(take.path()?),
            ["tls", "client_cert"] => config.tls.client_cert = Some(take.path()?),
            ["tls", "client_key"] => config.tls.client_key = Some(take.path()?),
            ["features", "channel_binding"] => {
                config.features.channel_binding = match take.text()?.as_str() {
                    "filter" => ChannelBinding::Filter,
                    "pass" => ChannelBinding::Pass,
                    _ => return Err(take.wrong("must be \"filter\" or \"pass\"")),
                }
            }
            ["bosh", key] => {
                let bosh = &mut config.bosh;
                match key {
                    "wait" => bosh.wait = take.seconds(WAIT.0, WAIT.1)?,
                    "hold" => bosh.hold = take.hold()?,
                    "ver" => bosh.ver = take.ver()?,
                    "max_body_bytes" => bosh.max_body_bytes = take.number(BODY.0, BODY.1)?,
                    "lang" => bosh.lang = take.lang()?,
                    _ => return Err(self.unknown(setting)),
                }
            }
            ["limits", "max_streams"] => limits.max_streams = take.number(1, 1_000_000)?,
            ["limits", "max_stanza_bytes"] => {
                limits.max_stanza_bytes = take.number(10_000, 1 << 30)?
            }
            ["limits", "max_depth"] => limits.max_depth = take.number(8, 10_000)?,
            ["limits", "max_attributes"] => limits.max_attributes = take.number(8, 10_000)?,
            ["limits", "max_response_bytes"] => {
                limits.max_response_bytes = take.number(10_000, 1 << 30)?
            }
            ["limits", "buffer_bytes"] => limits.buffer_bytes = take.number(10_000, 1 << 30)?,
            ["limits", "header_timeout"] => limits.header_timeout = take.seconds(1, 3600)?,
            ["limits", "setup_timeout"] => limits.setup_timeout = take.seconds(5, 3600)?,
            ["log", "level"] => config.log.level = take.level()?,
            ["log", "format"] => {
                config.log.format = match take.text()?.as_str() {
                    "auto" => LogFormat::Auto,
                    "json" => LogFormat::Json,
                    _ => return Err(take.wrong("must be \"auto\" or \"json\"")),
                }
            }
            ["domains", name] => {
                if matches!(setting.value, Value::Other("a table")) {
                    self.domain(name, &take)?;
                } else {
                    return Err(take.no_table());
                }
            }
            ["domains", name, key] => return apply_domain(self.domain(name, &take)?, key, &take),
            ["domains", name, "proxy", key] => {
                let domain = self.domain(name, &take)?;
                return apply_proxy(domain.proxy.get_or_insert_default(), key, &take);
            }
            ["proxy" | "tls" | "features" | "bosh" | "limits" | "log" | "domains"]
                if matches!(setting.value, Value::Other("a table")) => {}
            ["proxy" | "tls" | "features" | "bosh" | "limits" | "log" | "domains"] => {
                return Err(take.no_table());
            }
            _ => return Err(self.unknown(setting)),
        }
        Ok(())
    }

    fn domain(&mut self, name: &str, take: &Take<'_>) -> Result<&mut DomainDraft, ConfigError> {
        let wrong = |what: String| ConfigError::Value {
            place: take.0.source.to_string(),
            key: display_path(&["domains".to_owned(), name.to_owned()]),
            what,
        };
        let known = crate::stream::header::normalise_domain(name)
            .ok_or_else(|| wrong("is no domain name".into()))?;
        let draft = self.domains.entry(known).or_default();
        if draft.written.is_empty() {
            name.clone_into(&mut draft.written);
        } else if draft.written != name && matches!(take.0.source, Source::File { .. }) {
            return Err(wrong(format!(
                "is the same domain as \"{}\"; keep one of the two",
                draft.written
            )));
        }
        Ok(draft)
    }

    fn unknown(&self, setting: &Setting) -> ConfigError {
        unknown(setting)
    }
}

const WAIT: (u64, u64) = (1, 3600);
const BODY: (usize, usize) = (1024, 16 << 20);

fn apply_proxy(proxy: &mut ProxyDraft, key: &str, take: &Take<'_>) -> Result<(), ConfigError> {
    match key {
        "url" => proxy.url = Some((take.text()?, take.0.source.to_string())),
        "username" => proxy.username = Some(take.text()?),
        "password" => proxy.password = Some(take.text()?.into()),
        "password_file" => proxy.password_file = Some(take.path()?),
        "password_command" => proxy.password_command = Some(take.text()?),
        "no_proxy" => proxy.no_proxy = Some(take.list(|text| Ok(text.to_owned()))?),
        "ca_file" => proxy.ca_file = Some(take.path()?),
        _ => return Err(unknown(take.0)),
    }
    Ok(())
}

fn apply_domain(domain: &mut DomainDraft, key: &str, take: &Take<'_>) -> Result<(), ConfigError> {
    match key {
        "url" => {
            domain.url = Some(take.text()?);
            domain.url_place = take.0.source.to_string();
        }
        "route" => domain.route = Some(take.route()?),
        "allow_plain_http" => domain.allow_plain_http = take.bool()?,
        "ca_file" => domain.ca_file = Some(take.path()?),
        "wait" => domain.wait = Some(take.seconds(WAIT.0, WAIT.1)?),
        "hold" => domain.hold = Some(take.hold()?),
        "ver" => domain.ver = Some(take.ver()?),
        "max_body_bytes" => domain.max_body_bytes = Some(take.number(BODY.0, BODY.1)?),
        "lang" => domain.lang = Some(take.lang()?),
        "proxy" if matches!(take.0.value, Value::Other("a table")) => {
            domain.proxy.get_or_insert_default();
        }
        "proxy" => return Err(take.no_table()),
        _ => return Err(unknown(take.0)),
    }
    Ok(())
}

/// An unknown key and the known one that looks most like it.
pub(super) fn unknown(setting: &Setting) -> ConfigError {
    let proxy = KEYS.iter().filter(|key| key.starts_with("proxy."));
    let (table, written, known): (_, _, Vec<&str>) = match &setting.path[..] {
        [domains, name, rest @ ..] if matches!(domains.as_str(), "domains" | "domain") => (
            format!("{}.", display_path(&["domains".into(), name.clone()])),
            rest.join("."),
            DOMAIN_KEYS.iter().chain(proxy).copied().collect(),
        ),
        path => (String::new(), path.join("."), KEYS.to_vec()),
    };
    let best = known
        .into_iter()
        .map(|key| (likeness(key, &written), key))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let nearest = best
        .filter(|(score, _)| *score > 0.8)
        .map(|(_, key)| format!("{table}{key}"));
    ConfigError::UnknownKey {
        place: setting.source.to_string(),
        key: setting.key(),
        nearest,
    }
}

/// How much a known key looks like a written one, up to 1. A key in the wrong table is as likely as a typo,
/// and the right table says nothing about the key.
fn likeness(known: &str, written: &str) -> f64 {
    let split = |key: &str| {
        let (table, last) = key.rsplit_once('.').unwrap_or(("", key));
        (table.to_owned(), last.to_owned())
    };
    let alike = |a: &str, b: &str| {
        let slip = strsim::osa_distance(a, b) <= 1;
        strsim::jaro_winkler(a, b).max(if slip { 0.9 } else { 0.0 })
    };
    let ((table, last), (written_table, written_last)) = (split(known), split(written));
    if table == written_table {
        alike(&last, &written_last)
    } else if written_table.is_empty() {
        alike(known, written).max(0.95 * alike(&last, &written_last))
    } else {
        0.95 * alike(&last, &written_last)
    }
}

fn is_level(text: &str) -> bool {
    let level = text
        .trim()
        .parse::<tracing_subscriber::filter::LevelFilter>();
    !text.trim().is_empty() && level.is_ok()
}

/// Reads a setting's value as what its key wants.
pub(super) struct Take<'a>(pub(super) &'a Setting);

impl Take<'_> {
    pub(super) fn wrong(&self, what: &str) -> ConfigError {
        ConfigError::Value {
            place: self.0.source.to_string(),
            key: self.0.key(),
            what: what.to_owned(),
        }
    }

    fn no_table(&self) -> ConfigError {
        self.wrong(&format!("must be a table, as in [{}]", self.0.key()))
    }

    fn expected(&self, wanted: &str) -> ConfigError {
        self.wrong(&format!("must be {wanted}, not {}", self.0.value.kind()))
    }

    fn text(&self) -> Result<String, ConfigError> {
        match &self.0.value {
            Value::Text(text) => Ok(text.clone()),
            Value::Integer(_) | Value::Bool(_) | Value::List(_) | Value::Other(_) => {
                Err(self.expected("a string"))
            }
        }
    }

    fn path(&self) -> Result<PathBuf, ConfigError> {
        let text = self.text()?;
        if text.is_empty() {
            Err(self.wrong("must name a file"))
        } else {
            Ok(PathBuf::from(text))
        }
    }

    fn bool(&self) -> Result<bool, ConfigError> {
        match self.0.value {
            Value::Bool(value) => Ok(value),
            Value::Text(_) | Value::Integer(_) | Value::List(_) | Value::Other(_) => {
                Err(self.expected("true or false"))
            }
        }
    }

    fn integer(&self, low: u64, high: u64) -> Result<u64, ConfigError> {
        match self.0.value {
            Value::Integer(number) => u64::try_from(number)
                .ok()
                .filter(|number| (low..=high).contains(number))
                .ok_or_else(|| self.wrong(&format!("must be from {low} to {high}"))),
            Value::Text(_) | Value::Bool(_) | Value::List(_) | Value::Other(_) => {
                Err(self.expected("an integer"))
            }
        }
    }

    fn number(&self, low: usize, high: usize) -> Result<usize, ConfigError> {
        let number = self.integer(low as u64, high as u64)?;
        usize::try_from(number).map_err(|_| self.wrong("is too large"))
    }

    fn seconds(&self, low: u64, high: u64) -> Result<Duration, ConfigError> {
        self.integer(low, high).map(Duration::from_secs)
    }

    fn hold(&self) -> Result<u8, ConfigError> {
        self.integer(1, 10)
            .map(|hold| u8::try_from(hold).unwrap_or(1))
    }

    fn ver(&self) -> Result<String, ConfigError> {
        let text = self.text()?;
        match crate::bosh::params::Version::parse(&text) {
            Some(_) => Ok(text),
            None => Err(self.wrong("must be two integers joined by a dot, like \"1.6\"")),
        }
    }

    fn lang(&self) -> Result<String, ConfigError> {
        let text = self.text()?;
        let plain = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if plain {
            Ok(text)
        } else {
            Err(self.wrong("must be a language tag like \"en\" or \"de-CH\""))
        }
    }

    fn route(&self) -> Result<String, ConfigError> {
        let text = self.text()?;
        let target = text
            .strip_prefix("xmpp:")
            .and_then(|rest| rest.rsplit_once(':'));
        match target {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(text),
            Some(_) | None => Err(self.wrong("must look like \"xmpp:host:5222\"")),
        }
    }

    fn level(&self) -> Result<String, ConfigError> {
        let text = self.text()?;
        // The parser takes a misspelt level for the name of a module.
        let known = |part: &str| match part.rsplit_once('=') {
            Some((_, level)) => is_level(level),
            None => part.contains([':', '[']) || is_level(part),
        };
        match tracing_subscriber::EnvFilter::try_new(&text) {
            Ok(_) if text.split(',').all(known) => Ok(text),
            Ok(_) | Err(_) => Err(self.wrong(
                "must be error, warn, info, debug or trace, or a filter like \"info,xbosh=debug\"",
            )),
        }
    }

    fn list<T>(
        &self,
        read: impl Fn(&str) -> Result<T, ConfigError>,
    ) -> Result<Vec<T>, ConfigError> {
        let items = match &self.0.value {
            Value::List(items) => items.as_slice(),
            // One item needs no brackets in the environment or on the command line.
            Value::Text(_) if !matches!(self.0.source, Source::File { .. }) => {
                std::slice::from_ref(&self.0.value)
            }
            Value::Text(_) | Value::Integer(_) | Value::Bool(_) | Value::Other(_) => {
                return Err(self.expected("a list of strings"));
            }
        };
        items
            .iter()
            .map(|item| match item {
                Value::Text(text) => read(text),
                Value::Integer(_) | Value::Bool(_) | Value::List(_) | Value::Other(_) => {
                    Err(self.wrong(&format!("must hold strings only, not {}", item.kind())))
                }
            })
            .collect()
    }

    fn address(&self, text: &str) -> Result<std::net::SocketAddr, ConfigError> {
        text.parse().map_err(|_| {
            self.wrong(&format!(
                "has \"{text}\", which is no address and port like \"127.0.0.1:5222\""
            ))
        })
    }

    fn domain(&self, text: &str) -> Result<String, ConfigError> {
        let domain = crate::stream::header::normalise_domain(text);
        domain.ok_or_else(|| self.wrong(&format!("has \"{text}\", which is no domain name")))
    }
}

impl Bosh {
    /// With what a domain's table sets.
    pub(super) fn with(&self, domain: &DomainDraft) -> Self {
        Self {
            wait: domain.wait.unwrap_or(self.wait),
            hold: domain.hold.unwrap_or(self.hold),
            ver: domain.ver.clone().unwrap_or_else(|| self.ver.clone()),
            max_body_bytes: domain.max_body_bytes.unwrap_or(self.max_body_bytes),
            lang: domain.lang.clone().unwrap_or_else(|| self.lang.clone()),
        }
    }
}

impl Tls {
    /// With what a domain's table sets.
    pub(super) fn with(&self, domain: &DomainDraft) -> Self {
        Self {
            ca_file: domain.ca_file.clone().or_else(|| self.ca_file.clone()),
            ..self.clone()
        }
    }
}
