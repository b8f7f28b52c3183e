//! A configuration file in a folder of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use xbosh::config::{Config, ConfigError, Flags, Loaded, load};

/// Variables as the process has them.
pub(crate) type Environment<'a> = &'a [(&'a str, &'a str)];

/// A folder with a `config.toml`.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    /// Writes the file, readable by its owner alone.
    pub(crate) fn new(text: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("config.toml", text, 0o600);
        folder
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    pub(crate) fn load(&self, environment: Environment<'_>) -> Result<Loaded, ConfigError> {
        self.load_with(environment, Flags::default())
    }

    pub(crate) fn load_with(
        &self,
        environment: Environment<'_>,
        flags: Flags,
    ) -> Result<Loaded, ConfigError> {
        let flags = Flags {
            config: Some(self.path().join("config.toml")),
            ..flags
        };
        load(&flags, &owned(environment))
    }

    /// The error's sentence, with the folder's name taken out.
    pub(crate) fn mistake(&self, environment: Environment<'_>) -> String {
        self.shown(self.load(environment).map(drop).unwrap_err())
    }

    pub(crate) fn shown(&self, text: impl ToString) -> String {
        text.to_string()
            .replace(&format!("{}/", self.path().display()), "")
    }
}

pub(crate) fn owned(environment: Environment<'_>) -> Vec<(String, String)> {
    environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// What a file alone makes.
pub(crate) fn config(text: &str) -> Config {
    Folder::new(text).load(&[]).unwrap().config
}

/// The sentence for a file alone.
pub(crate) fn mistake(text: &str) -> String {
    Folder::new(text).mistake(&[])
}

/// The sentence for these flags.
pub(crate) fn flag_mistake(text: &str, flags: Flags) -> String {
    let folder = Folder::new(text);
    let error = folder.load_with(&[], flags).unwrap_err();
    folder.shown(&error)
}
