//! `xbosh status`.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{EXIT_CONFIG, EXIT_FAILURE, fail, print};
use crate::config::{self, Flags};
use crate::connect::error::plain;
use crate::status::{FORMAT, Report, Stream};

/// Time for an answer.
const LIMIT: Duration = Duration::from_secs(5);
/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// Largest answer.
const MAX_BYTES: u64 = 64 << 20;

/// Whom to ask, and how to tell.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// For scripts: one JSON object
    #[arg(long)]
    json: bool,
    /// Ask again each second, until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Socket of the sidecar; else status.socket of the configuration
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs `xbosh status`: 0 if a sidecar answered.
pub(super) fn run(args: StatusArgs) -> ExitCode {
    let socket = match socket(&args) {
        Ok(socket) => socket,
        Err(code) => return code,
    };
    loop {
        let (text, report) = match ask(&socket) {
            Ok(answer) => answer,
            Err(sentence) => return fail(EXIT_FAILURE, &sentence),
        };
        let shown = if args.json {
            format!("{text}\n")
        } else {
            table(&report)
        };
        // In place on a terminal, one after another elsewhere.
        let clear = args.watch && !args.json && io::stdout().is_terminal();
        let code = print(&format!(
            "{}{shown}",
            if clear { "\x1b[H\x1b[2J" } else { "" }
        ));
        if !args.watch || code != ExitCode::SUCCESS {
            return code;
        }
        std::thread::sleep(PAUSE);
    }
}

fn socket(args: &StatusArgs) -> Result<PathBuf, ExitCode> {
    if let Some(socket) = &args.socket {
        return Ok(socket.clone());
    }
    let flags = Flags {
        config: args.config.clone(),
        ..Flags::default()
    };
    let loaded = config::environment(std::env::vars_os())
        .and_then(|environment| config::load_public(&flags, &environment))
        .map_err(|error| fail(EXIT_CONFIG, &error.to_string()))?;
    loaded.config.status.socket.ok_or_else(|| {
        fail(
            EXIT_FAILURE,
            "there is no status socket: neither status.socket nor XDG_RUNTIME_DIR is set; name it by --socket",
        )
    })
}

/// The answer as it came, and as what it means.
pub(super) fn ask(socket: &Path) -> Result<(String, Report), String> {
    let shown = socket.display();
    let failed = |error: io::Error| {
        format!(
            "no xbosh answers at {shown} ({}); is it running, as the same user?",
            plain(&error)
        )
    };
    let mut stream = UnixStream::connect(socket).map_err(failed)?;
    let patience = stream
        .set_read_timeout(Some(LIMIT))
        .and_then(|()| stream.set_write_timeout(Some(LIMIT)));
    patience.map_err(failed)?;
    stream
        .write_all(b"GET /status HTTP/1.1\r\nHost: xbosh\r\nConnection: close\r\n\r\n")
        .map_err(failed)?;
    let mut answer = String::new();
    stream
        .take(MAX_BYTES)
        .read_to_string(&mut answer)
        .map_err(failed)?;
    let no_xbosh = || format!("what answers at {shown} is no xbosh of this kind");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(no_xbosh)?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(no_xbosh());
    }
    let report: Report = serde_json::from_str(body).map_err(|_| no_xbosh())?;
    if report.format != FORMAT {
        return Err(format!(
            "the running xbosh is version {}, whose answers this one does not know; start it again",
            report.version
        ));
    }
    Ok((body.to_owned(), report))
}

/// For people.
fn table(report: &Report) -> String {
    let mut out = format!(
        "xbosh {} has run for {}, listening on {}; {} clients so far, {} streams ended with an error\n",
        report.version,
        time(report.uptime),
        report.listening.join(", "),
        report.clients,
        report.failed
    );
    if let Some(way) = &report.way {
        // Writing into a String cannot fail.
        let _ = writeln!(out, "way out: {way}");
    }
    if report.streams.is_empty() {
        out.push_str("no client is connected\n");
        return out;
    }
    for stream in &report.streams {
        out.push('\n');
        one(&mut out, stream);
    }
    out
}

fn one(out: &mut String, stream: &Stream) {
    let tls = match (stream.tls, stream.direct_tls) {
        (true, true) => ", direct TLS",
        (true, false) => ", STARTTLS",
        (false, _) => "",
    };
    // Writing into a String cannot fail.
    let _ = writeln!(
        out,
        "{:>4}  {} {}, {} for {}{tls}",
        stream.id,
        stream.client,
        stream.domain.as_deref().unwrap_or("(no domain yet)"),
        stream.state,
        time(stream.age)
    );
    if let (Some(url), Some(way)) = (&stream.url, &stream.way) {
        let http = stream
            .http
            .iter()
            .map(|version| format!(", HTTP/{version}"));
        let http: String = http.collect();
        let _ = writeln!(out, "      to {url} ({way}){http}");
    }
    let _ = writeln!(
        out,
        "      stanzas {} up, {} down; bytes {} up, {} down; {} requests, {} repeated",
        stream.stanzas_up,
        stream.stanzas_down,
        size(stream.bytes_up),
        size(stream.bytes_down),
        stream.exchanges,
        stream.repeats
    );
    if let (Some(last), Some(p50), Some(p99)) = (
        stream.round_trip,
        stream.round_trip_p50,
        stream.round_trip_p99,
    ) {
        let _ = writeln!(
            out,
            "      round trip {last:.1} ms, median {p50:.1} ms, p99 {p99:.1} ms"
        );
    }
    if let Some(error) = &stream.last_error {
        let _ = writeln!(out, "      last error: {error}");
    }
}

fn time(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes}"),
        10_240..10_485_760 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Traffic;

    #[test]
    fn as_people_read_it() {
        let stream = Stream {
            id: 3,
            client: "127.0.0.1:40000".into(),
            age: 7_300,
            state: "online".into(),
            tls: true,
            direct_tls: false,
            domain: Some("example.org".into()),
            url: Some("https://example.org/http-bind".into()),
            way: Some("HTTP proxy 10.0.0.1:3128".into()),
            http: Some("1.1".into()),
            stanzas_up: 10,
            stanzas_down: 20,
            bytes_up: 1_000,
            bytes_down: 2_000_000,
            exchanges: 44,
            repeats: 1,
            round_trip: Some(12.34),
            round_trip_p50: Some(11.0),
            round_trip_p99: Some(99.9),
            last_error: Some("connection reset".into()),
        };
        let fresh = Stream {
            id: 4,
            client: "127.0.0.1:40001".into(),
            state: "connecting".into(),
            ..Stream::default()
        };
        let report = Report {
            format: FORMAT,
            version: "1.2.3".into(),
            uptime: 90_000,
            listening: vec!["127.0.0.1:5222".into()],
            clients: 4,
            failed: 0,
            way: Some("HTTP proxy proxy.example:3128, with user name and password".into()),
            total: Traffic::default(),
            streams: vec![stream, fresh],
        };
        insta::assert_snapshot!(table(&report));
    }
}
