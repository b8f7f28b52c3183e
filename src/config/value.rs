//! Settings as they come: a path, a value and where it stands, whether from file, environment or flag.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::error::ConfigError;

/// Where a setting stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    File {
        path: PathBuf,
        line: usize,
        column: usize,
    },
    Environment(String),
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// A value without its place. Never printed: it may be a password.
#[derive(Clone)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Bool(bool),
    List(Vec<Self>),
    /// A type that no key takes.
    Other(&'static str),
}

impl Value {
    fn of(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.clone().into_owned()),
            // What does not fit is out of every key's range, too.
            DeValue::Integer(number) => Self::Integer(
                i64::from_str_radix(number.as_str(), number.radix()).unwrap_or(i64::MAX),
            ),
            DeValue::Boolean(value) => Self::Bool(*value),
            DeValue::Array(values) => Self::List(list(values)),
            DeValue::Float(_) => Self::Other("a number with a fraction"),
            DeValue::Datetime(_) => Self::Other("a date"),
            DeValue::Table(_) => Self::Other("a table"),
        }
    }

    /// What it is, for "expected …, found …".
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Bool(_) => "true or false",
            Self::List(_) => "a list",
            Self::Other(kind) => kind,
        }
    }
}

fn list(values: &DeArray<'_>) -> Vec<Value> {
    values
        .iter()
        .map(|value| Value::of(value.get_ref()))
        .collect()
}

/// One setting.
#[derive(Clone)]
pub(super) struct Setting {
    pub(super) path: Vec<String>,
    pub(super) value: Value,
    pub(super) source: Source,
}

impl Setting {
    /// The key as it is written in error texts: `proxy.url`, `domains."example.org".url`.
    pub(super) fn key(&self) -> String {
        display_path(&self.path)
    }
}

pub(super) fn display_path(path: &[String]) -> String {
    let part = |part: &String| {
        let bare = !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        if bare {
            part.clone()
        } else {
            format!("{part:?}")
        }
    };
    path.iter().map(part).collect::<Vec<_>>().join(".")
}

/// All settings of a TOML text, in order.
pub(super) fn parse_file(path: &Path, text: &str) -> Result<Vec<Setting>, ConfigError> {
    let table = DeTable::parse(text).map_err(|error| {
        // The library's own rendering shows the line, which may hold a password.
        let at = position(text, error.span().map_or(0, |span| span.start));
        ConfigError::Syntax {
            path: path.to_owned(),
            line: at.0,
            column: at.1,
            what: error.message().to_owned(),
        }
    })?;
    let mut settings = Vec::new();
    flatten(path, text, &mut Vec::new(), table.get_ref(), &mut settings);
    Ok(settings)
}

fn flatten(
    file: &Path,
    text: &str,
    prefix: &mut Vec<String>,
    table: &DeTable<'_>,
    out: &mut Vec<Setting>,
) {
    for (key, value) in table.iter() {
        prefix.push(key.get_ref().clone().into_owned());
        match value.get_ref() {
            DeValue::Table(inner) if !inner.is_empty() => flatten(file, text, prefix, inner, out),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => out.push(Setting {
                path: prefix.clone(),
                value: Value::of(value.get_ref()),
                source: place(file, text, key),
            }),
        }
        prefix.pop();
    }
}

fn place<T>(file: &Path, text: &str, spanned: &Spanned<T>) -> Source {
    let (line, column) = position(text, spanned.span().start);
    Source::File {
        path: file.to_owned(),
        line,
        column,
    }
}

/// Line and column, both from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    (line, column)
}

/// A value from the environment: TOML if it is that, else the string itself.
pub(super) fn parse_environment(text: &str) -> Value {
    let document = format!("value = {text}");
    match DeTable::parse(&document) {
        Ok(table) => match table.get_ref().get("value").map(|v| Value::of(v.get_ref())) {
            Some(Value::Other(_)) | None => Value::Text(text.to_owned()),
            Some(value) if table.get_ref().len() == 1 => value,
            Some(_) => Value::Text(text.to_owned()),
        },
        Err(_) => Value::Text(text.to_owned()),
    }
}
