//! `xbosh init`.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::{EXIT_CONFIG, EXIT_FAILURE, EXIT_USAGE, fail, print, refuse_passwords, wait_for};
use crate::config::{self, Config, Flags, ProxySource};
use crate::connect::Connector;
use crate::discover::Discovery;
use crate::stream::header::normalise_domain;

/// The annotated default.
const ANNOTATED: &str = include_str!("../../config.toml");
/// What it says of the way out.
const PROXY_LINE: &str = "\nurl = \"env\"\n";

/// What is known already; the rest is found out or asked.
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// Ask nothing: defaults for what is not said here
    #[arg(long)]
    yes: bool,
    /// XMPP domain of your account
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
    /// BOSH address of that domain
    #[arg(long, value_name = "URL", requires = "domain")]
    url: Option<String>,
    /// Upstream proxy: env, none, or a URL without a password
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// The file to write; else ~/.config/xbosh/config.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs `xbosh init`. A file that is there is never touched.
pub(super) fn run(args: InitArgs) -> ExitCode {
    match write(args) {
        Ok(text) => print(&text),
        Err(code) => code,
    }
}

fn write(args: InitArgs) -> Result<String, ExitCode> {
    refuse_passwords(&[("--proxy", &args.proxy), ("--url", &args.url)])?;
    let environment = config::environment(std::env::vars_os())
        .map_err(|error| fail(EXIT_CONFIG, &error.to_string()))?;
    let path = match args.config {
        Some(path) => path,
        None => config::user_folder(&environment)
            .map(|folder| folder.join("xbosh/config.toml"))
            .ok_or_else(|| fail(EXIT_FAILURE, "HOME is not set: name the file by --config"))?,
    };
    if fs::symlink_metadata(&path).is_ok() {
        let sentence = format!("{} is there already and stays as it is", path.display());
        return Err(fail(EXIT_FAILURE, &sentence));
    }
    let asking = !args.yes && io::stdin().is_terminal();
    let domain = match args.domain {
        Some(domain) => Some(domain),
        None if asking => ask("XMPP domain of your account, like example.org (empty: any)"),
        None => None,
    };
    let domain = domain
        .map(|written| {
            normalise_domain(&written)
                .ok_or_else(|| fail(EXIT_USAGE, &format!("{written:?} is no domain name")))
        })
        .transpose()?;
    let named = config::load_public(&Flags::default(), &environment).map(|loaded| loaded.config);
    let has_way = matches!(&named, Ok(config) if goes_by_proxy(config));
    let proxy = match args.proxy {
        Some(proxy) => Some(proxy),
        None if asking && !has_way => ask(
            "Proxy, like http://proxy.example:3128 (empty: what the environment says, else none)",
        ),
        None => None,
    };
    let url = match (args.url, &domain) {
        (Some(url), _) => Some(url),
        (None, Some(domain)) if asking => find(domain, proxy.as_deref(), &environment)?,
        (None, _) => None,
    };
    let text = compose(domain.as_deref(), url.as_deref(), proxy.as_deref());
    create(&path, &text).map_err(|error| {
        let sentence = format!("cannot write {}: {error}", path.display());
        fail(EXIT_FAILURE, &sentence)
    })?;
    let flags = Flags {
        config: Some(path.clone()),
        ..Flags::default()
    };
    if let Err(error) = config::load_public(&flags, &environment) {
        // What was said is wrong: nothing is left of it.
        let _ = fs::remove_file(&path);
        return Err(fail(EXIT_CONFIG, &error.to_string()));
    }
    let next = match &domain {
        Some(domain) => format!("xbosh check {domain}"),
        None => "xbosh check DOMAIN".to_owned(),
    };
    Ok(format!(
        "wrote {}; {next} says whether it works\n",
        path.display()
    ))
}

fn goes_by_proxy(config: &Config) -> bool {
    match &config.proxy.source {
        ProxySource::Env(env) => [&env.https, &env.http, &env.all]
            .iter()
            .any(|v| v.is_some()),
        ProxySource::None => false,
        ProxySource::Url(_) | ProxySource::List(_) => true,
    }
}

/// Asks the domain's web server, and the user only if that says nothing.
fn find(
    domain: &str,
    proxy: Option<&str>,
    environment: &[(String, String)],
) -> Result<Option<String>, ExitCode> {
    let flags = Flags {
        proxy: proxy.map(str::to_owned),
        ..Flags::default()
    };
    let found = config::load(&flags, environment)
        .map_err(|error| error.to_string())
        .and_then(|loaded| {
            let settings = loaded.config.domain(domain);
            Connector::new(&settings.proxy, &settings.tls).map_err(|error| error.to_string())
        });
    let answer = match found {
        Ok(connector) => {
            let discovery = Discovery::new(false);
            let now = crate::driver::clock::now();
            wait_for(discovery.find(&connector, domain, now))?.map_err(|error| error.to_string())
        }
        Err(error) => Err(error),
    };
    match answer {
        Ok(found) => {
            let urls: Vec<&str> = found.urls.iter().map(url::Url::as_str).collect();
            tell(&format!(
                "{domain} says where BOSH is spoken: {}",
                urls.join(", ")
            ));
            Ok(None)
        }
        Err(error) => {
            tell(&error);
            Ok(ask(&format!("BOSH address of {domain} (empty: later)")))
        }
    }
}

/// The annotated default with these in their places.
fn compose(domain: Option<&str>, url: Option<&str>, proxy: Option<&str>) -> String {
    let mut text = ANNOTATED.to_owned();
    if let Some(proxy) = proxy {
        let line = format!("\nurl = {}\n", toml::Value::from(proxy));
        text = text.replacen(PROXY_LINE, &line, 1);
    }
    if let Some(domain) = domain {
        let name = toml::Value::from(domain);
        text = text.replacen(
            "\n# default_domain = \"example.org\"\n",
            &format!("\ndefault_domain = {name}\n"),
            1,
        );
        if let Some(url) = url {
            text.push_str(&format!(
                "\n[domains.{name}]\nurl = {}\n",
                toml::Value::from(url)
            ));
        }
    }
    text
}

/// For its owner alone: passwords may come to stand in it.
pub(super) fn create(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())
}

/// One line from the user; `None` if it is empty.
pub(super) fn ask(question: &str) -> Option<String> {
    tell(&format!("{question}:"));
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).ok()?;
    let line = line.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

fn tell(text: &str) {
    // Nobody reads it: no reason to stop.
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each place is found in the annotated file, which is otherwise kept.
    #[test]
    fn the_answers_come_to_their_places() {
        let text = compose(
            Some("example.org"),
            Some("https://example.org/b"),
            Some("none"),
        );
        let value: toml::Table = toml::from_str(&text).unwrap();
        assert_eq!(value["default_domain"].as_str(), Some("example.org"));
        assert_eq!(value["proxy"]["url"].as_str(), Some("none"));
        assert_eq!(
            value["domains"]["example.org"]["url"].as_str(),
            Some("https://example.org/b")
        );
        assert!(text.contains("# Largest stanza, either way"));
        assert_eq!(compose(None, None, None), ANNOTATED);
    }
}
