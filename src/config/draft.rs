//! The configuration while it is being put together: one place knows every key, its type and its range.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::error::{ConfigError, Place};
use super::proxy::has_password;
use super::take::Take;
use super::value::{Setting, Value, display_path};
use super::{
    Bosh, ChannelBinding, Config, HttpVersion, LocalTlsMode, LogFormat, PlainWithoutTls,
    StreamManagementMode, Tls,
};
use crate::stream::header::normalise_domain;

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
    "proxy.isolate",
    "proxy.preemptive",
    "tls.ca_file",
    "tls.client_cert",
    "tls.client_key",
    "tls.same_certificate",
    "features.channel_binding",
    "features.plain_without_tls",
    "local_tls.mode",
    "discovery.host_meta",
    "discovery.dns_txt",
    "discovery.cache",
    "stream_management.mode",
    "stream_management.resume_window",
    "bosh.wait",
    "bosh.hold",
    "bosh.ver",
    "bosh.max_body_bytes",
    "bosh.lang",
    "bosh.key_sequence",
    "bosh.http_version",
    "limits.max_streams",
    "limits.session_rate",
    "limits.max_stanza_bytes",
    "limits.max_depth",
    "limits.max_attributes",
    "limits.max_response_bytes",
    "limits.buffer_bytes",
    "limits.header_timeout",
    "limits.setup_timeout",
    "log.level",
    "log.format",
    "status.socket",
    "status.metrics",
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
    "key_sequence",
    "http_version",
];

/// `[proxy]` as written; secrets are fetched at the end.
#[derive(Clone, Default)]
pub(super) struct ProxyDraft {
    /// One or several; may hold userinfo.
    pub(super) url: Option<Vec<Zeroizing<String>>>,
    pub(super) username: Option<String>,
    pub(super) password: Option<secrecy::SecretString>,
    pub(super) password_file: Option<PasswordFile>,
    pub(super) password_command: Option<String>,
    pub(super) no_proxy: Option<Vec<String>>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) isolate: Option<bool>,
    pub(super) preemptive: Option<bool>,
}

impl ProxyDraft {
    /// Forgets who we are to the proxy.
    fn forget_credentials(&mut self) {
        self.username = None;
        self.clear_password();
    }

    /// Forgets where a password comes from.
    pub(super) fn clear_password(&mut self) {
        self.password = None;
        self.password_file = None;
        self.password_command = None;
    }
}

/// `password_file`.
#[derive(Clone)]
pub(super) struct PasswordFile {
    /// The name of a systemd credential, if it can be one.
    pub(super) credential: Option<PathBuf>,
    /// The file otherwise.
    pub(super) path: PathBuf,
}

impl PasswordFile {
    /// The file, and whether it is a credential in systemd's directory.
    pub(super) fn find(&self, credentials_directory: Option<&str>) -> (PathBuf, bool) {
        let credential = credentials_directory
            .zip(self.credential.as_ref())
            .map(|(directory, name)| Path::new(directory).join(name))
            .filter(|path| path.exists());
        match credential {
            Some(path) => (path, true),
            None => (self.path.clone(), false),
        }
    }
}

/// `[domains."…"]` as written.
#[derive(Clone, Default)]
pub(super) struct DomainDraft {
    pub(super) url: Option<String>,
    pub(super) allow_plain_http: bool,
    pub(super) route: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) wait: Option<Duration>,
    pub(super) hold: Option<u8>,
    pub(super) ver: Option<String>,
    pub(super) max_body_bytes: Option<usize>,
    pub(super) lang: Option<String>,
    pub(super) key_sequence: Option<bool>,
    pub(super) http_version: Option<HttpVersion>,
    pub(super) proxy: Option<ProxyDraft>,
    /// The name as the file has it.
    pub(super) written: Option<String>,
}

/// Everything set so far, over the defaults.
pub(super) struct Draft {
    pub(super) config: Config,
    pub(super) proxy: ProxyDraft,
    pub(super) domains: BTreeMap<String, DomainDraft>,
    /// `status.socket`; the inner option is "".
    pub(super) status_socket: Option<Option<PathBuf>>,
    places: BTreeMap<String, Place>,
}

impl Draft {
    pub(super) fn new() -> Self {
        Self {
            status_socket: None,
            config: Config::default(),
            proxy: ProxyDraft::default(),
            domains: BTreeMap::new(),
            places: BTreeMap::new(),
        }
    }

    /// Forgets who we are to every proxy.
    pub(super) fn forget_credentials(&mut self) {
        self.proxy.forget_credentials();
        for proxy in self.domains.values_mut().filter_map(|d| d.proxy.as_mut()) {
            proxy.forget_credentials();
        }
    }

    /// Takes in one setting.
    pub(super) fn apply(&mut self, setting: &Setting) -> Result<(), ConfigError> {
        self.set(setting)?;
        let mut path = setting.path.clone();
        if let [domains, name, ..] = &mut path[..]
            && domains == "domains"
        {
            *name = normalise_domain(name).unwrap_or_default();
        }
        self.places
            .insert(display_path(&path), setting.place.clone());
        Ok(())
    }

    /// Whether a key differs from its default by somebody's wish.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    /// Where a key was set last.
    pub(super) fn place(&self, key: &str) -> Place {
        self.places.get(key).cloned().unwrap_or(Place::Default)
    }

    /// An error about the first of these keys that was set. Defaults fit together, so one was.
    pub(super) fn conflict(&self, keys: &[&str], what: String) -> ConfigError {
        let set = keys.iter().find(|key| self.is_set(key)).or(keys.first());
        let key = set.copied().unwrap_or_default();
        ConfigError::Value {
            place: self.place(key),
            key: key.to_owned(),
            what,
        }
    }

    /// Whether a password stands in the settings themselves.
    pub(super) fn holds_secret(&self) -> bool {
        let domains = self.domains.values();
        std::iter::once(&self.proxy)
            .chain(domains.filter_map(|domain| domain.proxy.as_ref()))
            .any(|proxy| {
                let in_url = proxy.url.iter().flatten().any(|url| has_password(url));
                in_url || proxy.password.is_some()
            })
    }

    fn set(&mut self, setting: &Setting) -> Result<(), ConfigError> {
        let take = Take(setting);
        let path: Vec<&str> = setting.path.iter().map(String::as_str).collect();
        let config = &mut self.config;
        let limits = &mut config.limits;
        match path[..] {
            ["listen"] => config.listen = take.list(|text| take.address(text))?,
            ["allow_remote_clients"] => config.allow_remote_clients = take.bool()?,
            ["default_domain"] => config.default_domain = Some(take.domain(&take.text()?)?),
            ["allowed_domains"] => {
                let allowed = take.list(|text| take.domain(text))?;
                if allowed.is_empty() {
                    return Err(take.wrong("must not be empty; leave it out to allow any domain"));
                }
                config.allowed_domains = Some(allowed);
            }
            ["proxy", key] => return apply_proxy(&mut self.proxy, key, &take),
            ["tls", "ca_file"] => config.tls.ca_file = Some(take.path()?),
            ["tls", "client_cert"] => config.tls.client_cert = Some(take.path()?),
            ["tls", "client_key"] => config.tls.client_key = Some(take.path()?),
            ["tls", "same_certificate"] => config.tls.same_certificate = take.bool()?,
            ["local_tls", "mode"] => {
                config.local_tls = match take.text()?.as_str() {
                    "auto" => LocalTlsMode::Auto,
                    "optional" => LocalTlsMode::Optional,
                    "required" => LocalTlsMode::Required,
                    "off" => LocalTlsMode::Off,
                    _ => {
                        return Err(
                            take.wrong("must be \"auto\", \"optional\", \"required\" or \"off\"")
                        );
                    }
                }
            }
            ["discovery", "host_meta"] => config.discovery.host_meta = take.bool()?,
            ["discovery", "dns_txt"] => {
                config.discovery.dns_txt = take.bool()?;
                if config.discovery.dns_txt && !cfg!(feature = "dns") {
                    return Err(take.wrong("needs an xbosh that was built with the feature dns"));
                }
            }
            ["discovery", "cache"] => config.discovery.cache = take.bool()?,
            ["stream_management", "mode"] => {
                config.stream_management.mode = match take.text()?.as_str() {
                    "local" => StreamManagementMode::Local,
                    "pass" => StreamManagementMode::Pass,
                    "off" => StreamManagementMode::Off,
                    _ => return Err(take.wrong("must be \"local\", \"pass\" or \"off\"")),
                }
            }
            ["stream_management", "resume_window"] => {
                config.stream_management.resume_window = take.seconds(0, 3600)?;
            }
            ["features", "channel_binding"] => {
                config.features.channel_binding = match take.text()?.as_str() {
                    "filter" => ChannelBinding::Filter,
                    "pass" => ChannelBinding::Pass,
                    _ => return Err(take.wrong("must be \"filter\" or \"pass\"")),
                }
            }
            ["features", "plain_without_tls"] => {
                config.features.plain_without_tls = match take.text()?.as_str() {
                    "offer" => PlainWithoutTls::Offer,
                    "hide" => PlainWithoutTls::Hide,
                    _ => return Err(take.wrong("must be \"offer\" or \"hide\"")),
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
                    "key_sequence" => bosh.key_sequence = take.bool()?,
                    "http_version" => bosh.http_version = take.http_version()?,
                    _ => return Err(unknown(setting)),
                }
            }
            ["limits", "max_streams"] => limits.max_streams = take.number(1, 1_000_000)?,
            ["limits", "session_rate"] => limits.session_rate = take.number(1, 1_000_000)?,
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
            ["status", "socket"] => self.status_socket = Some(take.maybe_path()?),
            ["status", "metrics"] => config.status.metrics = take.loopback()?,
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
            [
                "proxy" | "tls" | "local_tls" | "features" | "discovery" | "stream_management"
                | "bosh" | "limits" | "log" | "status" | "domains",
            ] => {
                if !matches!(setting.value, Value::Other("a table")) {
                    return Err(take.no_table());
                }
            }
            _ => return Err(unknown(setting)),
        }
        Ok(())
    }

    fn domain(&mut self, name: &str, take: &Take<'_>) -> Result<&mut DomainDraft, ConfigError> {
        let wrong = |what: String| ConfigError::Value {
            place: take.0.place.clone(),
            key: display_path(&["domains".to_owned(), name.to_owned()]),
            what,
        };
        let known = normalise_domain(name).ok_or_else(|| wrong("is no domain name".into()))?;
        let draft = self.domains.entry(known).or_default();
        if let Place::File { .. } = take.0.place {
            let written = draft.written.get_or_insert_with(|| name.to_owned());
            if written != name {
                let what = format!("is the same domain as {written:?}; keep one of the two");
                return Err(wrong(what));
            }
        }
        Ok(draft)
    }
}

const WAIT: (u64, u64) = (1, 3600);
const BODY: (usize, usize) = (1024, 16 << 20);

fn apply_proxy(proxy: &mut ProxyDraft, key: &str, take: &Take<'_>) -> Result<(), ConfigError> {
    match key {
        "url" => proxy.url = Some(take.texts()?),
        "isolate" => proxy.isolate = Some(take.bool()?),
        "preemptive" => proxy.preemptive = Some(take.bool()?),
        "username" => proxy.username = Some(take.text()?),
        "password" => proxy.password = Some(take.text()?.into()),
        "password_file" => {
            let written = take.file_name()?;
            proxy.password_file = Some(PasswordFile {
                path: take.path()?,
                credential: (written.components().count() == 1 && !written.is_absolute())
                    .then_some(written),
            });
        }
        "password_command" => proxy.password_command = Some(take.text()?),
        "no_proxy" => proxy.no_proxy = Some(take.exceptions()?),
        "ca_file" => proxy.ca_file = Some(take.path()?),
        _ => return Err(unknown(take.0)),
    }
    Ok(())
}

fn apply_domain(domain: &mut DomainDraft, key: &str, take: &Take<'_>) -> Result<(), ConfigError> {
    match key {
        "url" => domain.url = Some(take.text()?),
        "route" => domain.route = Some(take.route()?),
        "allow_plain_http" => domain.allow_plain_http = take.bool()?,
        "ca_file" => domain.ca_file = Some(take.path()?),
        "wait" => domain.wait = Some(take.seconds(WAIT.0, WAIT.1)?),
        "hold" => domain.hold = Some(take.hold()?),
        "ver" => domain.ver = Some(take.ver()?),
        "max_body_bytes" => domain.max_body_bytes = Some(take.number(BODY.0, BODY.1)?),
        "lang" => domain.lang = Some(take.lang()?),
        "key_sequence" => domain.key_sequence = Some(take.bool()?),
        "http_version" => domain.http_version = Some(take.http_version()?),
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
        place: setting.place.clone(),
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

impl Bosh {
    /// With what a domain's table sets.
    pub(super) fn with(&self, domain: &DomainDraft) -> Self {
        Self {
            wait: domain.wait.unwrap_or(self.wait),
            hold: domain.hold.unwrap_or(self.hold),
            ver: domain.ver.clone().unwrap_or_else(|| self.ver.clone()),
            max_body_bytes: domain.max_body_bytes.unwrap_or(self.max_body_bytes),
            lang: domain.lang.clone().unwrap_or_else(|| self.lang.clone()),
            key_sequence: domain.key_sequence.unwrap_or(self.key_sequence),
            http_version: domain.http_version.unwrap_or(self.http_version),
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
