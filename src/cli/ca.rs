//! `xbosh ca`: the local certificate authority of a domain.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use time::OffsetDateTime;

use super::{EXIT_CONFIG, EXIT_FAILURE, EXIT_USAGE, fail, print};
use crate::config::{self, Flags};
use crate::local_tls::system::{Change, SystemError, SystemStore};
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
    /// XMPP domain; else default_domain, else the only one configured, else the only one with an authority
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
        CaCommand::Trust {
            system,
            undo: false,
            ..
        } => return trust(&tls, &domain, *system),
        CaCommand::Trust {
            system, undo: true, ..
        } => return undo(&tls, &domain, *system),
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
    let system = match SystemStore::here().holds(&file, domain) {
        Some(true) => "yes",
        Some(false) => "no",
        None => "unknown",
    };
    Ok(format!(
        "domain:      {}\nsubject:     {}\nfile:        {}\nSHA-256:     {}\nvalid:       {} to {}\n\
         vouches for: {domain}, localhost, 127.0.0.1, ::1\ntrusted:     {trusted}\n\
         by system:   {system}\n",
        about.domain,
        about.subject,
        file.display(),
        about.fingerprint,
        day(about.begins),
        day(about.ends),
    ))
}

fn trust(tls: &LocalTls, domain: &str, with_system: bool) -> ExitCode {
    let store = SystemStore::here();
    if with_system && is_anothers_session() && !tls.has_authority(domain) {
        return fail(
            EXIT_FAILURE,
            &format!(
                "root has no authority for {domain}, yours is with you: run it without sudo, it prints what root has to do"
            ),
        );
    }
    let file = match tls.certificate_file(domain) {
        Ok(file) => file,
        Err(error) => return fail(EXIT_FAILURE, &error.to_string()),
    };
    let text = if with_system {
        match store.change(Change::Add, &file, domain) {
            Ok(done) => format!("{done}\nClients are offered TLS for {domain} from now on.\n"),
            Err(error @ SystemError::NotRoot { .. }) => {
                let then = format!("{error}\nthen, as yourself:\n  xbosh ca trust {domain}");
                return fail(EXIT_FAILURE, &then);
            }
            Err(error) => return fail(EXIT_FAILURE, &error.to_string()),
        }
    } else {
        trust::instructions(&store, &file, domain)
    };
    // Last: clients that upgrade whenever they can must not meet an authority that could not be made known.
    match tls.set_trusted(domain, true) {
        Ok(()) => print(&text),
        Err(error) => fail(EXIT_FAILURE, &error.to_string()),
    }
}

/// Works with a damaged authority, and with none.
fn undo(tls: &LocalTls, domain: &str, with_system: bool) -> ExitCode {
    if with_system && is_anothers_session() && !tls.has_authority(domain) {
        return undo_for_another(&tls.expected_file(domain), domain);
    }
    if let Err(error) = tls.set_trusted(domain, false) {
        return fail(EXIT_FAILURE, &error.to_string());
    }
    let mut text =
        format!("TLS is not offered for {domain} any more, unless local_tls.mode says so.\n");
    let store = SystemStore::here();
    let file = tls.expected_file(domain);
    if with_system {
        match store.change(Change::Remove, &file, domain) {
            Ok(done) => text.push_str(&format!("{done}\n")),
            Err(error) => return fail(EXIT_FAILURE, &error.to_string()),
        }
    } else if store.holds(&file, domain) == Some(true)
        && let Some(commands) = store.commands(Change::Remove, &file, domain)
    {
        text.push_str(&format!(
            "The system still trusts the authority. To end that:\n{commands}\n"
        ));
    }
    print(&text)
}

/// Root takes back what is the system's; whether clients are offered TLS is kept with the user, who is not asked here.
fn undo_for_another(file: &std::path::Path, domain: &str) -> ExitCode {
    match SystemStore::here().change(Change::Remove, file, domain) {
        Ok(done) => print(&format!(
            "{done}\nClients are still offered TLS for {domain} if they were. To end that, as yourself, without sudo:\n  xbosh ca trust --undo {domain}\n"
        )),
        Err(error) => fail(
            EXIT_FAILURE,
            &format!(
                "{error}\nRun xbosh ca trust --undo --system {domain} without sudo: it prints what root has to do"
            ),
        ),
    }
}

/// Whether root works for somebody else, whose home is not root's.
fn is_anothers_session() -> bool {
    rustix::process::geteuid().is_root()
        && std::env::var("SUDO_UID").is_ok_and(|uid| !uid.is_empty() && uid != "0")
}

fn day(time: SystemTime) -> String {
    OffsetDateTime::from(time).date().to_string()
}
