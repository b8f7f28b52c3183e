//! What HTTP/2 is good for: 100 sessions of one xbosh behind nginx, in front of Prosody, over HTTP/1.1 and over
//! HTTP/2, in turn. Writes a table in Markdown to standard output.
//!
//! `cargo run --release --example http2`, which takes some minutes.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the table is for the person who waits for it"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use xbosh_testkit::crowd::{Crowd, Figures, measure};
use xbosh_testkit::real::Prosody;

const SESSIONS: usize = 100;
const PINGS: usize = 30;
const ROUNDS: usize = 3;
/// Prosody's own cost grows with archives, which would show as delays of ours.
const LIGHT: &str = r#"default_archive_policy = false; gc = { mode = "generational" }"#;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let xbosh = build()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        let mut pair = Vec::new();
        for http_version in ["1.1", "auto"] {
            // A server that remembers nothing of the round before.
            let server = Prosody::start_with(LIGHT)?;
            let crowd = Crowd {
                http_version,
                sessions: SESSIONS,
                pings: PINGS,
            };
            let figures = runtime.block_on(measure(&xbosh, &server, crowd, "crowd"))?;
            eprintln!("round {round}, http_version {http_version}: {figures:?}");
            pair.push(figures);
        }
        rounds.push(pair);
    }
    print!("{}", table(&rounds));
    Ok(())
}

type Figure = fn(&Figures) -> f64;

fn table(rounds: &[Vec<Figures>]) -> String {
    let mut text =
        "| | HTTP/1.1 | HTTP/2 | HTTP/2 to HTTP/1.1 |\n|---|---:|---:|---:|\n".to_owned();
    let rows: [(&str, Figure); 7] = [
        ("connections to nginx, all sessions idle", |f| f.connections),
        ("memory of xbosh, KiB a session", |f| f.kib_per_session),
        ("login, ms, 8 at once", |f| f.login_ms),
        ("lone ping, median, µs", |f| f.ping_us),
        ("lone ping, 99th percentile, µs", |f| f.ping_p99_us),
        ("ping while all 100 ping, median, µs", |f| {
            f.crowded_ping_us
        }),
        ("CPU of xbosh a lone ping, µs", |f| f.cpu_us),
    ];
    for (name, figure) in rows {
        let of = |index: usize| median(rounds.iter().map(|pair| figure(&pair[index])));
        let ratio = median(
            rounds
                .iter()
                .map(|pair| figure(&pair[1]) / figure(&pair[0])),
        );
        text.push_str(&format!(
            "| {name} | {:.1} | {:.1} | {ratio:.2} |\n",
            of(0),
            of(1)
        ));
    }
    text
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Builds xbosh as this example was built, and says where it is.
fn build() -> Result<PathBuf, String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--locked", "--quiet", "--bin", "xbosh"]);
    cargo.arg("--manifest-path");
    cargo.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let done = cargo.status().map_err(|error| error.to_string())?;
    if !done.success() {
        return Err("xbosh does not build".to_owned());
    }
    let example = std::env::current_exe().map_err(|error| error.to_string())?;
    let profile = example.parent().and_then(Path::parent);
    profile
        .map(|folder| folder.join("xbosh"))
        .filter(|path| path.exists())
        .ok_or_else(|| "no xbosh beside this example".to_owned())
}
