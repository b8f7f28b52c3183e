//! `xbosh ca`: the local certificate authority of a domain.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use time::OffsetDateTime;

use super::{EXIT_CONFIG, EXIT_FAILURE, EXIT_USAGE, fail};
use crate::config::{self, Flags};
use crate::local_tls::{LocalTls, LocalTlsError, trust};
use crate::stream::header::normalise_domain;

/// What is asked about a local certificate authority.
#[derive(Debug, Subcommand)]
pub(super) enum CaCommand {
    /// Print the authority's file; it is made if there is none yet
    Path(Which),
    /// Print the authority's name, fingerprint and dates
    Show(Which),
    /// Tell how clients and the system learn to trust it, and offer TLS to clients from now on
    Trust {
        #[command(flatten)]
        which: Which,
        /// Add it to the system's certificates (as root)
        #[arg(long)]
        system: bool,
        /// Take it back
        #[arg(long)]
        undo: bool,
    },
}

/// Whose authority.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// XMPP domain; else default_domain, else the only one configured
    domain: Option<String>,
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs `xbosh ca …`.
pub(super) fn run(command: CaCommand) -> ExitCode {
    let which = match &command {
        CaCommand::Path(which) | CaCommand::Show(which) | CaCommand::Trust { which, .. } => which,
    };
    let (tls, domain) = match open(which) {
        Ok(opened) => opened,
        Err(code) => return code,
    };
    let done = match &command {
        CaCommand::Path(_) => path(&tls, &domain),
        CaCommand::Show(_) => show(&tls, &domain),
        CaCommand::Trust { system, undo, .. } => {
            return trust(&tls, &domain, *system, *undo);
        }
    };
    match done {
        Ok(text) => print(&text),
        Err(error) => fail(EXIT_FAILURE, &error.to_string()),
    }
}

fn open(which: &Which) -> Result<(LocalTls, String), ExitCode> {
    let flags = Flags {
        config: which.config.clone(),
        ..Flags::default()
    };
    let environment = config::environment(std::env::vars_os())
        .map_err(|error| fail(EXIT_CONFIG, &error.to_string()))?;
    // Secrets are of no use here, and their absence no reason to stop.
    let loaded = config::load_public(&flags, &environment)
        .map_err(|error| fail(EXIT_CONFIG, &error.to_string()))?;
    let folder = LocalTls::usual_folder(&environment)
        .ok_or_else(|| fail(EXIT_FAILURE, &LocalTlsError::NoFolder.to_string()))?;
    let tls = LocalTls::new(&loaded.config, folder);
    let domain = match &which.domain {
        Some(written) => normalise_domain(written)
            .ok_or_else(|| fail(EXIT_USAGE, &format!("{written:?} is no domain name")))?,
        None => tls.domain_for(None).map_err(|_| {
            fail(
                EXIT_USAGE,
                "which domain? Name one, as in \"xbosh ca path example.org\", or set default_domain",
            )
        })?,
    };
    Ok((tls, domain))
}

fn path(tls: &LocalTls, domain: &str) -> Result<String, LocalTlsError> {
    let file = tls.certificate_file(domain)?;
    Ok(format!("{}\n", file.display()))
}

fn show(tls: &LocalTls, domain: &str) -> Result<String, LocalTlsError> {
    let file = tls.certificate_file(domain)?;
    let about = tls.describe(domain)?;
    let trusted = if about.trusted {
        "yes"
    } else {
        "not yet: run xbosh ca trust"
    };
    Ok(format!(
        "domain:      {}\nsubject:     {}\nfile:        {}\nSHA-256:     {}\nvalid:       {} to {}\n\
         vouches for: {domain}, localhost, 127.0.0.1, ::1\ntrusted:     {trusted}\n",
        about.domain,
        about.subject,
        file.display(),
        about.fingerprint,
        day(about.begins),
        day(about.ends),
    ))
}

fn trust(tls: &LocalTls, domain: &str, system: bool, undo: bool) -> ExitCode {
    let file = match tls.certificate_file(domain) {
        Ok(file) => file,
        Err(error) => return fail(EXIT_FAILURE, &error.to_string()),
    };
    if let Err(error) = tls.set_trusted(domain, !undo) {
        return fail(EXIT_FAILURE, &error.to_string());
    }
    let mut text = String::new();
    if system {
        match trust::system(&file, domain, undo) {
            Ok(place) if undo => text.push_str(&format!("removed {}\n", place.display())),
            Ok(place) => text.push_str(&format!("added {}\n", place.display())),
            Err(error) => return fail(EXIT_FAILURE, &error.to_string()),
        }
    } else if !undo {
        text.push_str(&trust::instructions(&file, domain));
    }
    if undo {
        text.push_str(&format!(
            "TLS is not offered for {domain} any more, unless local_tls.mode says so.\n"
        ));
    }
    print(&text)
}

fn print(text: &str) -> ExitCode {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(EXIT_FAILURE),
    }
}

fn day(time: SystemTime) -> String {
    OffsetDateTime::from(time).date().to_string()
}
