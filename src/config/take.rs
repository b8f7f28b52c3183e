//! One setting's value, read as what its key wants.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use zeroize::Zeroizing;

use super::error::{ConfigError, Place};
use super::level::{self, BadLevel};
use super::value::{Setting, Value};
use super::{HttpVersion, ListenAddress, ListenAddressError};

/// Reads a setting's value as what its key wants.
pub(super) struct Take<'a>(pub(super) &'a Setting);

impl Take<'_> {
    pub(super) fn wrong(&self, what: &str) -> ConfigError {
        ConfigError::Value {
            place: self.0.place.clone(),
            key: self.0.key(),
            what: what.to_owned(),
        }
    }

    pub(super) fn no_table(&self) -> ConfigError {
        self.wrong(&format!("must be a table, as in [{}]", self.0.key()))
    }

    fn expected(&self, wanted: &str) -> ConfigError {
        self.wrong(&format!("must be {wanted}, not {}", self.0.value.kind()))
    }

    pub(super) fn text(&self) -> Result<String, ConfigError> {
        match &self.0.value {
            Value::Text(text) => Ok(text.clone()),
            Value::Integer(_) | Value::Bool(_) | Value::List(_) | Value::Other(_) => {
                Err(self.expected("a string"))
            }
        }
    }

    /// A string, or a list of strings, none of which may be shown.
    pub(super) fn texts(&self) -> Result<Vec<Zeroizing<String>>, ConfigError> {
        match &self.0.value {
            Value::List(_) => self.list(|text| Ok(Zeroizing::new(text.to_owned()))),
            Value::Text(text) => Ok(vec![Zeroizing::new(text.clone())]),
            Value::Integer(_) | Value::Bool(_) | Value::Other(_) => {
                Err(self.expected("a string or a list of strings"))
            }
        }
    }

    pub(super) fn file_name(&self) -> Result<PathBuf, ConfigError> {
        let text = self.text()?;
        if text.is_empty() {
            Err(self.wrong("must name a file"))
        } else {
            Ok(PathBuf::from(text))
        }
    }

    /// A path; in the file it is relative to the file's folder.
    pub(super) fn path(&self) -> Result<PathBuf, ConfigError> {
        let named = self.file_name()?;
        Ok(match &self.0.place {
            Place::File { path, .. } => path.parent().map_or(named.clone(), |dir| dir.join(&named)),
            Place::Environment(_) | Place::Flag(_) | Place::Default => named,
        })
    }

    /// As [`Self::path`]; `""` is none.
    pub(super) fn maybe_path(&self) -> Result<Option<PathBuf>, ConfigError> {
        if self.text()?.is_empty() {
            Ok(None)
        } else {
            self.path().map(Some)
        }
    }

    /// An address and port that only this machine reaches; `""` is none.
    pub(super) fn loopback(&self) -> Result<Option<std::net::SocketAddr>, ConfigError> {
        let text = self.text()?;
        if text.is_empty() {
            return Ok(None);
        }
        match text.parse::<std::net::SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Some(address)),
            Ok(_) => {
                Err(self.wrong("must be a loopback address: everybody who reaches it can ask"))
            }
            Err(_) => Err(self.wrong("must be an address and port like \"127.0.0.1:9522\"")),
        }
    }

    pub(super) fn bool(&self) -> Result<bool, ConfigError> {
        match self.0.value {
            Value::Bool(value) => Ok(value),
            Value::Text(_) | Value::Integer(_) | Value::List(_) | Value::Other(_) => {
                Err(self.expected("true or false"))
            }
        }
    }

    fn integer(&self, low: u64, high: u64, unit: &str) -> Result<u64, ConfigError> {
        match self.0.value {
            Value::Integer(number) => u64::try_from(number)
                .ok()
                .filter(|number| (low..=high).contains(number))
                .ok_or_else(|| self.wrong(&format!("must be from {low} to {high}{unit}"))),
            Value::Text(_) | Value::Bool(_) | Value::List(_) | Value::Other(_) => {
                Err(self.expected("an integer"))
            }
        }
    }

    pub(super) fn number(&self, low: usize, high: usize) -> Result<usize, ConfigError> {
        let number = self.integer(low as u64, high as u64, "")?;
        usize::try_from(number).map_err(|_| self.wrong("is too large"))
    }

    pub(super) fn seconds(&self, low: u64, high: u64) -> Result<Duration, ConfigError> {
        self.integer(low, high, " s").map(Duration::from_secs)
    }

    pub(super) fn hold(&self) -> Result<u8, ConfigError> {
        self.integer(1, 10, "")
            .map(|hold| u8::try_from(hold).unwrap_or(1))
    }

    pub(super) fn ver(&self) -> Result<String, ConfigError> {
        let text = self.text()?;
        match crate::bosh::params::Version::parse(&text) {
            Some(_) => Ok(text),
            None => Err(self.wrong("must be two integers joined by a dot, like \"1.6\"")),
        }
    }

    pub(super) fn http_version(&self) -> Result<HttpVersion, ConfigError> {
        match self.text()?.as_str() {
            "auto" => Ok(HttpVersion::Auto),
            "1.1" => Ok(HttpVersion::Http11),
            _ => Err(self.wrong("must be \"auto\" or \"1.1\"")),
        }
    }

    pub(super) fn lang(&self) -> Result<String, ConfigError> {
        let text = self.text()?;
        let plain = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if plain {
            Ok(text)
        } else {
            Err(self.wrong("must be a language tag like \"en\" or \"de-CH\""))
        }
    }

    pub(super) fn route(&self) -> Result<String, ConfigError> {
        let text = self.text()?;
        let target = text
            .strip_prefix("xmpp:")
            .and_then(|rest| rest.rsplit_once(':'));
        match target {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(text),
            Some(_) | None => Err(self.wrong("must look like \"xmpp:host:5222\"")),
        }
    }

    pub(super) fn level(&self) -> Result<String, ConfigError> {
        let text = self.text()?;
        match level::filter(&text) {
            Ok(_) => {}
            Err(BadLevel::Unknown) => {
                return Err(self.wrong(
                    "must be error, warn, info, debug or trace, or a filter like \"info,xbosh=debug\"",
                ));
            }
            Err(BadLevel::Span) => {
                return Err(self.wrong(
                    "must not name spans or fields in brackets; a filter looks like \"info,xbosh=debug\"",
                ));
            }
        }
        Ok(text)
    }

    /// Hosts, suffixes, addresses and CIDR blocks.
    pub(super) fn exceptions(&self) -> Result<Vec<String>, ConfigError> {
        self.list(|text| {
            let usable = match text.split_once('/') {
                Some((address, bits)) => address.parse().is_ok_and(|address: IpAddr| {
                    let most = if address.is_ipv4() { 32 } else { 128 };
                    bits.parse().is_ok_and(|bits: u8| bits <= most)
                }),
                None => !text.is_empty() && !text.contains([',', ' ']),
            };
            if usable {
                Ok(text.to_owned())
            } else {
                Err(self.wrong(&format!(
                    "has {text:?}, which is no host, domain suffix, address or block like \"10.0.0.0/8\""
                )))
            }
        })
    }

    pub(super) fn list<T>(
        &self,
        read: impl Fn(&str) -> Result<T, ConfigError>,
    ) -> Result<Vec<T>, ConfigError> {
        let items = match &self.0.value {
            Value::List(items) => items.as_slice(),
            // One item needs no brackets in the environment or on the command line.
            Value::Text(_) if !matches!(self.0.place, Place::File { .. }) => {
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
                other @ (Value::Integer(_) | Value::Bool(_) | Value::List(_) | Value::Other(_)) => {
                    Err(self.wrong(&format!("must hold strings only, not {}", other.kind())))
                }
            })
            .collect()
    }

    pub(super) fn address(&self, text: &str) -> Result<ListenAddress, ConfigError> {
        text.parse()
            .map_err(|error: ListenAddressError| self.wrong(&format!("has {text:?}, {error}")))
    }

    pub(super) fn domain(&self, text: &str) -> Result<String, ConfigError> {
        let domain = crate::stream::header::normalise_domain(text);
        domain.ok_or_else(|| self.wrong(&format!("has {text:?}, which is no domain name")))
    }
}
