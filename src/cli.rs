//! Command line definitions and exit codes.

mod ca;
mod check;
mod discover;
mod init;
mod packaging;
mod service;
mod status;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Flags, ListenAddress, Loaded};
use crate::local_tls::LocalTls;
use crate::stream::header::normalise_domain;
use crate::{driver, telemetry};

/// Failed at run time.
const EXIT_FAILURE: u8 = 1;
/// Wrong usage, as clap has it.
const EXIT_USAGE: u8 = 2;
/// `check` found a hop that fails.
const EXIT_CHECK: u8 = 3;
/// Configuration invalid, missing or unreadable (`EX_CONFIG` of sysexits).
const EXIT_CONFIG: u8 = 78;

/// Carries XMPP clients through HTTP and SOCKS5 proxies.
#[derive(Debug, Parser)]
#[command(name = "xbosh", version, about, long_about = None, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sidecar (the default)
    Run(RunArgs),
    /// TLS towards clients: the local certificate authority of a domain
    #[command(subcommand)]
    Ca(ca::CaCommand),
    /// Walk the whole way to a domain's server once, and say where it ends
    Check(check::CheckArgs),
    /// Print the addresses that a domain names for its connection manager
    Discover(discover::DiscoverArgs),
    /// Write a commented configuration file, once
    Init(init::InitArgs),
    /// Run it as a systemd user service
    #[command(subcommand)]
    Service(service::ServiceCommand),
    /// Ask the running sidecar how it and its streams are
    Status(status::StatusArgs),
    /// Print completions for a shell
    Completions(packaging::CompletionsArgs),
    /// Print the manual page, or write all of them
    Man(packaging::ManArgs),
}

#[derive(Clone, Debug, Default, Args)]
struct RunArgs {
    /// Configuration file; else ~/.config/xbosh/config.toml, else /etc/xbosh/config.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on, like 127.0.0.1:5222 or unix:/path; may be repeated, replaces the configured list
    #[arg(long, value_name = "ADDR")]
    listen: Vec<ListenAddress>,
    /// XMPP domain whose connection manager --url names
    #[arg(long, value_name = "DOMAIN", requires = "url")]
    domain: Option<String>,
    /// BOSH address of --domain, like https://example.org/http-bind
    #[arg(long, value_name = "URL", requires = "domain")]
    url: Option<String>,
    /// Upstream proxy: env, none, or a URL without a password
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Log level: error, warn, info, debug, trace, or a filter
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
}

/// Runs the program as the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let args = match cli.command {
        Some(Command::Ca(command)) => return ca::run(command),
        Some(Command::Check(args)) => return check::run(args),
        Some(Command::Discover(args)) => return discover::run(args),
        Some(Command::Init(args)) => return init::run(args),
        Some(Command::Service(command)) => return service::run(command),
        Some(Command::Status(args)) => return status::run(args),
        Some(Command::Completions(args)) => return packaging::completions(args),
        Some(Command::Man(args)) => return packaging::man(args),
        Some(Command::Run(args)) => merge(cli.run, args),
        None => cli.run,
    };
    if let Err(code) = refuse_passwords(&[("--proxy", &args.proxy), ("--url", &args.url)]) {
        return code;
    }
    let flags = Flags {
        config: args.config,
        listen: args.listen,
        domain: args.domain.zip(args.url),
        proxy: args.proxy,
        log: args.log,
    };
    // Before a password_command runs, which must not inherit them.
    let activated = match driver::Activated::take() {
        Ok(activated) => activated,
        Err(error) => return fail(EXIT_CONFIG, &error.to_string()),
    };
    let loaded = config::environment(std::env::vars_os()).and_then(|environment| {
        let authorities = LocalTls::usual_folder(&environment);
        Ok((config::load(&flags, &environment)?, authorities))
    });
    match loaded {
        Ok((loaded, authorities)) => run(loaded, activated, authorities, flags),
        Err(error) => fail(EXIT_CONFIG, &error.to_string()),
    }
}

/// Flags before and behind `run` mean the same; those behind it win.
fn merge(before: RunArgs, behind: RunArgs) -> RunArgs {
    RunArgs {
        config: behind.config.or(before.config),
        listen: if behind.listen.is_empty() {
            before.listen
        } else {
            behind.listen
        },
        domain: behind.domain.or(before.domain),
        url: behind.url.or(before.url),
        proxy: behind.proxy.or(before.proxy),
        log: behind.log.or(before.log),
    }
}

/// The configuration as the flags and the environment of the start have it, and as its file is now.
fn reread(flags: &Flags) -> Result<config::Config, String> {
    let loaded = config::environment(std::env::vars_os())
        .and_then(|environment| config::load(flags, &environment))
        .map_err(|error| error.to_string())?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    telemetry::change(&loaded.config.log);
    Ok(loaded.config)
}

fn run(
    loaded: Loaded,
    activated: driver::Activated,
    authorities: Option<PathBuf>,
    flags: Flags,
) -> ExitCode {
    let Loaded {
        config,
        file,
        warnings,
        no_runtime_folder,
    } = loaded;
    telemetry::start(&config.log);
    match &file {
        Some(path) => tracing::debug!(file = %path.display(), "configuration read"),
        None => tracing::debug!("no configuration file; defaults"),
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    if no_runtime_folder {
        tracing::info!(
            "no status socket: XDG_RUNTIME_DIR names no folder for it; set status.socket if you want `xbosh status`"
        );
    }
    // One thread: the work is waiting, and thousands of idle streams then cost no stacks and no migration.
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(EXIT_FAILURE, &format!("cannot start: {error}")),
    };
    let again: driver::Reread = std::sync::Arc::new(move || reread(&flags));
    match runtime.block_on(driver::run(config, activated, authorities, again)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = if error.is_configuration() {
                EXIT_CONFIG
            } else {
                EXIT_FAILURE
            };
            fail(code, &error.to_string())
        }
    }
}

/// A question about a domain: what such commands share.
#[derive(Debug, Args)]
struct Ask {
    /// XMPP domain, like example.org
    domain: String,
    /// Configuration file; else ~/.config/xbosh/config.toml, else /etc/xbosh/config.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// BOSH address, instead of the configured or discovered one
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Upstream proxy: env, none, or a URL without a password
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// For scripts: one JSON object
    #[arg(long)]
    json: bool,
    /// Log level: error, warn, info, debug, trace, or a filter
    #[arg(long, value_name = "LEVEL", default_value = "error")]
    log: String,
    /// Port of the domain's web server, for tests
    #[arg(long, value_name = "PORT", default_value_t = 443, hide = true)]
    web_port: u16,
}

impl Ask {
    /// The domain as a lower-case A-label name, and the configuration that `xbosh run` would have.
    fn load(&self) -> Result<(String, Loaded), ExitCode> {
        refuse_passwords(&[("--proxy", &self.proxy), ("--url", &self.url)])?;
        let domain = normalise_domain(&self.domain)
            .ok_or_else(|| fail(EXIT_USAGE, &format!("{:?} is no domain name", self.domain)))?;
        let flags = Flags {
            config: self.config.clone(),
            domain: self.url.clone().map(|url| (domain.clone(), url)),
            proxy: self.proxy.clone(),
            log: Some(self.log.clone()),
            ..Flags::default()
        };
        let loaded = config::environment(std::env::vars_os())
            .and_then(|environment| config::load(&flags, &environment))
            .map_err(|error| fail(EXIT_CONFIG, &error.to_string()))?;
        telemetry::start(&loaded.config.log);
        Ok((domain, loaded))
    }
}

/// Passwords in arguments are for everybody to see.
fn refuse_passwords(flags: &[(&str, &Option<String>)]) -> Result<(), ExitCode> {
    for (flag, url) in flags {
        if url.as_deref().is_some_and(config::has_password) {
            let sentence = format!(
                "{flag} holds a password, which every user of this machine can read; put it into the configuration file \
                 (proxy.password), a file (proxy.password_file) or the environment (XBOSH_PROXY__PASSWORD)"
            );
            return Err(fail(EXIT_USAGE, &sentence));
        }
    }
    Ok(())
}

/// Waits for one piece of work.
fn wait_for<T>(work: impl Future<Output = T>) -> Result<T, ExitCode> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map(|runtime| runtime.block_on(work))
        .map_err(|error| fail(EXIT_FAILURE, &format!("cannot start: {error}")))
}

/// All of it on stdout; fails if nobody can read it.
fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(EXIT_FAILURE),
    }
}

/// One sentence on stderr.
fn fail(code: u8, sentence: &str) -> ExitCode {
    // With nobody left to read it, the exit code still tells.
    let _ = writeln!(io::stderr(), "xbosh: {sentence}");
    ExitCode::from(code)
}

/// The command line definition, for completions and manual pages.
#[must_use]
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}
