//! A door for the fuzz target `config`: no file is read and no command is run, whatever the text says.

use std::path::Path;

use super::draft::Draft;
use super::environment;
use super::error::ConfigError;
use super::finish::finish;
use super::load::Loaded;
use super::value::parse_file;

/// Loads `text` as the content of `path`, then `environment`; `None` if a password would have to be fetched from
/// a file or a command.
///
/// # Errors
/// As [`super::load()`].
pub fn load_text(
    path: &Path,
    text: &str,
    environment: &[(String, String)],
) -> Option<Result<Loaded, ConfigError>> {
    let mut draft = Draft::new();
    let mut warnings = Vec::new();
    if let Err(error) = settle(&mut draft, path, text, environment, &mut warnings) {
        return Some(Err(error));
    }
    let mut proxies = std::iter::once(&draft.proxy)
        .chain(draft.domains.values().filter_map(|d| d.proxy.as_ref()));
    if proxies.any(|proxy| proxy.password_file.is_some() || proxy.password_command.is_some()) {
        return None;
    }
    Some(
        finish(&draft, environment, &mut warnings).map(|config| Loaded {
            config,
            file: None,
            warnings,
            no_runtime_folder: false,
        }),
    )
}

fn settle(
    draft: &mut Draft,
    path: &Path,
    text: &str,
    environment: &[(String, String)],
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    for setting in parse_file(path, text)? {
        draft.apply(&setting)?;
    }
    environment::apply(draft, environment, warnings)
}
