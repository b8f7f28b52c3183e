//! `docs/performance.md` and its plots.

use std::fmt::Write as _;
use std::fs;
use std::path::Path as FilePath;

use super::goals::{Goal, Program, goals};
use super::machine::Machine;
use super::report::{markdown, medians, ratios};
use super::results::{Metric, Results, Target};
use super::stage::Path;
use super::stats::{Spread, at};
use super::svg::{self, Panel, Series};

/// Colours of [`TARGETS`].
const SERIES: [Series<'static>; 3] = [
    Series {
        name: "direct TCP",
        colour: "#b9a36a",
    },
    Series {
        name: "floor",
        colour: "#9aa5b1",
    },
    Series {
        name: "xbosh",
        colour: "#2266aa",
    },
];
const TARGETS: [Target; 3] = [Target::Direct, Target::Floor, Target::Xbosh];

/// Each plot of bars: file, title, unit, figure.
const PLOTS: [(&str, &str, &str, Metric); 12] = [
    ("login", "Login", "ms", Metric::Login),
    ("ping", "Round trip of a ping, median", "µs", Metric::Ping),
    (
        "ping-p99",
        "Round trip of a ping, 99th percentile",
        "µs",
        Metric::PingP99,
    ),
    (
        "out",
        "Bulk, client to server",
        "messages per second",
        Metric::Out,
    ),
    (
        "in",
        "Bulk, server to client",
        "messages per second",
        Metric::In,
    ),
    (
        "echo",
        "Echo, 32 messages in flight",
        "messages per second",
        Metric::Echo,
    ),
    ("cpu-ping", "Processor time per ping", "µs", Metric::CpuPing),
    (
        "cpu-out",
        "Processor time per bulk message out",
        "µs",
        Metric::CpuOut,
    ),
    (
        "cpu-in",
        "Processor time per bulk message in",
        "µs",
        Metric::CpuIn,
    ),
    (
        "memory-100",
        "Memory per idle session, at 100",
        "KiB",
        Metric::Memory100,
    ),
    (
        "memory-1000",
        "Memory per idle session, at 1,000",
        "KiB",
        Metric::Memory1000,
    ),
    (
        "cpu-idle",
        "Processor time of 1,000 idle sessions",
        "ms per second",
        Metric::CpuIdle,
    ),
];

/// Everything that was measured.
#[derive(Debug)]
pub struct Document<'a> {
    /// The command that measured it.
    pub command: &'a str,
    /// Where.
    pub machine: &'a Machine,
    /// The program itself.
    pub program: &'a Program,
    /// Servers by name; the first is plotted and judged.
    pub servers: &'a [(&'static str, Results)],
}

impl Document<'_> {
    /// The goals, judged by the first server.
    #[must_use]
    pub fn goals(&self) -> Vec<Goal> {
        match self.servers.first() {
            Some((_, results)) => goals(results, self.program),
            None => Vec::new(),
        }
    }

    /// Writes `performance.md` and the folder `performance` in `docs`.
    ///
    /// # Errors
    /// File errors.
    pub fn write(&self, docs: &FilePath) -> Result<(), String> {
        let folder = docs.join("performance");
        let said = |path: &FilePath, error: std::io::Error| format!("{}: {error}", path.display());
        fs::create_dir_all(&folder).map_err(|error| said(&folder, error))?;
        let mut plots = Vec::new();
        if let Some((name, results)) = self.servers.first() {
            for (file, title, unit, metric) in PLOTS {
                let groups = groups(results, metric);
                if !groups.is_empty() {
                    plots.push((
                        file,
                        title.to_owned(),
                        svg::bars(&format!("{title} ({name})"), unit, &SERIES, &groups),
                    ));
                }
            }
            for (file, path) in [("delay-http", Path::Http), ("delay-https", Path::Https)] {
                let title = format!("Delay of messages to the server over {path}");
                if let Some(plot) = delays(results, path, &format!("{title} ({name})")) {
                    plots.push((file, title, plot));
                }
            }
        }
        for (file, _, plot) in &plots {
            let path = folder.join(format!("{file}.svg"));
            fs::write(&path, plot).map_err(|error| said(&path, error))?;
        }
        let path = docs.join("performance.md");
        fs::write(&path, self.text(&plots)).map_err(|error| said(&path, error))
    }

    fn text(&self, plots: &[(&str, String, String)]) -> String {
        let mut out = format!(
            "# Performance\n\nWritten by `{}`.\n\n{}\n{INTRODUCTION}\n## Goals\n\n",
            self.command,
            self.machine.markdown()
        );
        out.push_str("| figure | goal | measured | |\n|---|---:|---:|---|\n");
        for goal in self.goals() {
            let Goal {
                figure,
                limit,
                measured,
                met,
                section,
            } = goal;
            let met = match met {
                Some(true) => "met".to_owned(),
                Some(false) if section.is_empty() => "**not met**".to_owned(),
                Some(false) => format!("**not met**, [why](profile.md#{section})"),
                None => "–".to_owned(),
            };
            // Writing to a string does not fail.
            let _ = writeln!(out, "| {figure} | {limit} | {measured} | {met} |");
        }
        for (name, results) in self.servers {
            let _ = writeln!(out, "\n## {name}\n\nMedians of the rounds:\n");
            out.push_str(&markdown(&medians(results, &Metric::LOAD)));
            out.push_str(
                "\nxbosh to the floor on the same way, paired by round; median (quartiles):\n\n",
            );
            out.push_str(&markdown(&ratios(results, &Metric::LOAD)));
            if results
                .series
                .keys()
                .any(|key| key.metric == Metric::CpuIdle)
            {
                out.push_str("\nSessions at rest:\n\n");
                out.push_str(&markdown(&medians(results, &Metric::IDLE)));
            }
            if !results.delays.is_empty() {
                out.push_str("\nDelay of messages to the server, in µs more than the median over direct TCP under the same load:\n\n");
                out.push_str(&markdown(&added(results)));
            }
        }
        if !plots.is_empty() {
            out.push_str("\n## Plots\n");
        }
        for (file, title, _) in plots {
            let _ = writeln!(out, "\n![{title}](performance/{file}.svg)");
        }
        out
    }
}

const INTRODUCTION: &str = "\
Absolute figures belong to the machine and the hour; the ratios of one run say something. *Direct TCP* is the load program \
at the server's own port. The *floor* is the same program speaking BOSH by hand over two kept-alive connections, without \
validation, repeats or a local stream, with bodies of up to 64 KiB; its processor time is that of the whole program, load \
included, while xbosh's is that of the sidecar alone. All take turns in every round, in front of a server started for that round. \
Every receiver checks that each message came once, in order and unchanged. Bulk messages are written as fast as they are \
taken. Memory per session is what a process grew by from its first idle session to its last, divided; idle processor time is \
taken over one whole `wait` of 55 s, in which every session polls once; with `--settle` each has done so once before, and \
xbosh has closed the second connections of their logins.
";

fn groups(results: &Results, metric: Metric) -> Vec<(String, Vec<Option<Spread>>)> {
    let paths = std::iter::once(Path::Tcp).chain(Path::BOSH);
    let group = |path: Path| {
        let spreads: Vec<_> = TARGETS
            .iter()
            .map(|&target| results.spread(path, target, metric))
            .collect();
        let any = spreads.iter().any(Option::is_some);
        any.then(|| (path.to_string(), spreads))
    };
    paths.filter_map(group).collect()
}

fn delays(results: &Results, path: Path, title: &str) -> Option<String> {
    let mut panels: Vec<Panel<'_>> = Vec::new();
    for delays in &results.delays {
        let fits = delays.path == path || delays.target == Target::Direct;
        let place = TARGETS.iter().position(|t| *t == delays.target);
        let Some(series) = place.and_then(|place| SERIES.get(place)).filter(|_| fits) else {
            continue;
        };
        let line = (*series, delays.micros.as_slice());
        match panels
            .iter_mut()
            .find(|(name, _)| *name == delays.pace.name)
        {
            Some((_, lines)) => lines.push(line),
            None => panels.push((delays.pace.name, vec![line])),
        }
    }
    let measured = results.delays.iter().any(|d| d.path == path);
    measured.then(|| svg::histograms(title, "from writing to arrival at the peer", &panels))
}

fn added(results: &Results) -> Vec<Vec<String>> {
    let head = ["way", "target", "load", "median", "90 %", "99 %", "longest"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for delays in &results.delays {
        let base = results
            .delays
            .iter()
            .find(|d| d.target == Target::Direct && d.pace == delays.pace)
            .and_then(|d| Spread::of(&d.micros));
        let Some(base) = base else { continue };
        let mut sorted = delays.micros.clone();
        sorted.sort_by(f64::total_cmp);
        let mut row = vec![
            delays.path.to_string(),
            delays.target.to_string(),
            delays.pace.name.to_owned(),
        ];
        row.extend([0.5, 0.9, 0.99, 1.0].map(|share| {
            let value = at(&sorted, share).unwrap_or(f64::NAN);
            format!("{:.0}", value - base.median)
        }));
        rows.push(row);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_tables_and_plots() {
        let mut results = Results::default();
        for round in 1..4 {
            for target in [Target::Floor, Target::Xbosh] {
                results.push(Path::Http, target, Metric::Ping, 200.0 + f64::from(round));
            }
        }
        let pace = crate::performance::Pace {
            name: "one at a time",
            burst: 1,
            every: std::time::Duration::from_millis(1),
            bursts: 3,
        };
        for (path, target) in [(Path::Tcp, Target::Direct), (Path::Http, Target::Xbosh)] {
            results.push_delays(path, target, pace, vec![100.0, 110.0, 120.0]);
        }
        let document = Document {
            command: "command",
            machine: &Machine::of(&[]),
            program: &Program::default(),
            servers: &[("server", results)],
        };
        let folder = tempfile::tempdir().expect("a folder");
        document.write(folder.path()).expect("written");
        let text = fs::read_to_string(folder.path().join("performance.md")).expect("text");
        for wanted in [
            "| http | xbosh |",
            "1.00 (1.00–1.00)",
            "| ping µs over http, to the floor | ≤ 1.25 × floor | 1.00 | met |",
            "(performance/ping.svg)",
            "(performance/delay-http.svg)",
        ] {
            assert!(text.contains(wanted), "{wanted} is not in {text}");
        }
        assert!(folder.path().join("performance/ping.svg").exists());
    }
}
