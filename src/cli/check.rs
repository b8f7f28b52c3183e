//! `xbosh check`.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Args;

use super::{Ask, EXIT_CHECK, EXIT_FAILURE, fail, print, wait_for};
use crate::check::{self, Report, Walk};
use crate::config::Loaded;

/// What is checked.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    ask: Ask,
    /// Try long polls and large requests too; takes a minute
    #[arg(long)]
    long: bool,
}

/// Runs `xbosh check`: 0 if a client could log in, 3 if some hop fails.
pub(super) fn run(args: CheckArgs) -> ExitCode {
    let (domain, loaded) = match args.ask.load() {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let Loaded {
        config,
        file,
        warnings,
        ..
    } = loaded;
    // Nothing runs: nothing to compare with.
    let running = config.status.socket.as_deref();
    let running = running.and_then(|socket| super::status::ask(socket).ok());
    let walk = Walk {
        running: running.and_then(|(_, report)| report.way),
        config,
        file,
        warnings,
        domain,
        long: args.long,
        web_port: args.ask.web_port,
    };
    let json = args.ask.json;
    let report = wait_for(check::check(walk, |hop| {
        if !json {
            // Nobody reads it: the exit code still tells.
            let _ = writeln!(io::stdout(), "{hop}");
        }
    }));
    let report = match report {
        Ok(report) => report,
        Err(code) => return code,
    };
    let printed = if json {
        match serde_json::to_string_pretty(&report) {
            Ok(text) => print(&format!("{text}\n")),
            Err(error) => return fail(EXIT_FAILURE, &format!("cannot write the report: {error}")),
        }
    } else {
        print(&closing(&report))
    };
    if report.ok {
        printed
    } else {
        ExitCode::from(EXIT_CHECK)
    }
}

/// The last lines: what to do.
fn closing(report: &Report) -> String {
    let mut text = String::from("\n");
    text.push_str(&match report.ok {
        true => format!("A client can log in to {} through xbosh.\n", report.domain),
        false => format!("A client cannot reach {} this way.\n", report.domain),
    });
    for advice in &report.advice {
        // The rest are sentences.
        if advice.starts_with('[') || advice.starts_with("allowed_domains") {
            text.push_str("\nIn ~/.config/xbosh/config.toml:\n");
        } else {
            text.push('\n');
        }
        for line in advice.lines() {
            text.push_str(&format!("    {line}\n"));
        }
    }
    text
}
