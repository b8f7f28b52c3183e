//! Settings as they come: a path, a value and where it stands, whether from file, environment or flag.

use std::path::Path;

use toml::de::{DeArray, DeTable, DeValue};
use zeroize::{Zeroize as _, Zeroizing};

use super::error::{ConfigError, Place};

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

impl Drop for Value {
    fn drop(&mut self) {
        if let Self::Text(text) = self {
            text.zeroize();
        }
    }
}

impl Value {
    fn of(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.clone().into_owned()),
            // What does not fit is above every limit, or below it.
            DeValue::Integer(number) => Self::Integer(
                i64::from_str_radix(number.as_str(), number.radix()).unwrap_or(
                    if number.as_str().starts_with('-') {
                        i64::MIN
                    } else {
                        i64::MAX
                    },
                ),
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
    pub(super) place: Place,
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
            // As TOML has it, near enough, with control characters escaped.
            format!("{part:?}")
        }
    };
    path.iter().map(part).collect::<Vec<_>>().join(".")
}

/// All settings of a TOML text, in order.
pub(super) fn parse_file(path: &Path, text: &str) -> Result<Vec<Setting>, ConfigError> {
    let table = DeTable::parse(text).map_err(|error| {
        // The library's own rendering shows the line, which may hold a password.
        ConfigError::Syntax {
            place: place(path, text, error.span().map_or(0, |span| span.start)),
            what: error.message().replace('\n', ", "),
        }
    })?;
    let mut settings = Vec::new();
    flatten(path, text, &mut Vec::new(), table.get_ref(), &mut settings);
    // The parser sorts by name; a person reads from the top.
    settings.sort_by_key(|setting: &Setting| match setting.place {
        Place::File { line, column, .. } => (line, column),
        Place::Environment(_) | Place::Flag(_) | Place::Default => (0, 0),
    });
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
        let inner = value.get_ref().as_table();
        match inner.filter(|inner| !inner.is_empty()) {
            Some(inner) => flatten(file, text, prefix, inner, out),
            None => out.push(Setting {
                path: prefix.clone(),
                value: Value::of(value.get_ref()),
                place: place(file, text, key.span().start),
            }),
        }
        prefix.pop();
    }
}

/// Line and column of a byte offset.
fn place(file: &Path, text: &str, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    Place::File {
        path: file.to_owned(),
        line: before.matches('\n').count() + 1,
        column: before.chars().rev().take_while(|c| *c != '\n').count() + 1,
    }
}

/// A value from the environment: TOML if it is that, else the string itself.
pub(super) fn parse_environment(text: &str) -> Value {
    let document = Zeroizing::new(format!("value = {text}"));
    match DeTable::parse(&document) {
        Ok(table) => match table.get_ref().get("value").map(|v| Value::of(v.get_ref())) {
            Some(Value::Other(_)) | None => Value::Text(text.to_owned()),
            Some(value) if table.get_ref().len() == 1 => value,
            Some(_) => Value::Text(text.to_owned()),
        },
        Err(_) => Value::Text(text.to_owned()),
    }
}
