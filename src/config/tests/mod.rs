//! What is loaded from which file, environment and flags, and every sentence about what is wrong with them.

mod domain;
mod environment;
mod file;
mod proxy;
mod secrets;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use secrecy::ExposeSecret as _;
use tempfile::TempDir;

use super::{Config, Credentials, Flags, Loaded, load};

/// A folder with a `config.toml` that only its owner can read.
struct Files(TempDir);

impl Files {
    fn new(text: &str) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write("config.toml", text);
        files
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
        self.chmod(name, 0o600);
    }

    fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn flags(&self) -> Flags {
        Flags {
            config: Some(self.path().join("config.toml")),
            ..Flags::default()
        }
    }

    fn load_with(&self, environment: &[(&str, &str)]) -> Result<Loaded, String> {
        load(&self.flags(), &pairs(environment)).map_err(|error| self.shorten(&error.to_string()))
    }

    /// Without the folder's name, which differs in each run.
    fn shorten(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.path().display()), "")
    }
}

fn pairs(environment: &[(&str, &str)]) -> Vec<(String, String)> {
    environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// The configuration that a file's text gives.
fn config(text: &str) -> Config {
    Files::new(text).load_with(&[]).unwrap().config
}

/// What is wrong with a file's text.
fn error(text: &str) -> String {
    match Files::new(text).load_with(&[]) {
        Err(error) => error,
        Ok(_) => format!("accepted: {text}"),
    }
}

/// The same for many texts, a line each.
fn errors(texts: &[&str]) -> String {
    texts
        .iter()
        .map(|text| error(text))
        .collect::<Vec<_>>()
        .join("\n")
}

/// User name and password in the clear.
fn shown(credentials: Option<&Credentials>) -> Option<(&str, &str)> {
    credentials.map(|it| (it.username.as_str(), it.password.expose_secret()))
}
