//! What xbosh is to reach, and whether this run shows it.

use super::idle::Many;
use super::long::Long;
use super::results::{Metric, Results, Target};
use super::stage::Path;

/// One goal.
#[derive(Clone, Debug)]
pub struct Goal {
    /// What is measured.
    pub figure: String,
    /// At most or at least what.
    pub limit: String,
    /// What was measured, with its quartiles where there are rounds.
    pub measured: String,
    /// Whether it is met; `None` if it was not measured.
    pub met: Option<bool>,
    /// The section of `profile.md` that says where it goes; empty for what has none.
    pub section: &'static str,
}

/// The figures of the program itself.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Milliseconds until it accepts clients, of each start.
    pub starts_ms: Vec<f64>,
    /// MiB without symbols.
    pub stripped_mib: Option<f64>,
    /// Very many sessions in one process.
    pub many: Option<Many>,
    /// One stream that carried much.
    pub long: Option<Long>,
}

#[derive(Clone, Copy)]
enum Limit {
    Most(f64),
    Least(f64),
}

use Limit::{Least, Most};

/// xbosh over the floor on the same way, in the same round.
const RATIOS: &[(Metric, Path, Limit)] = &[
    (Metric::Ping, Path::Http, Most(1.25)),
    (Metric::Ping, Path::Https, Most(1.25)),
    (Metric::Ping, Path::HttpsConnect, Most(1.35)),
    (Metric::PingP99, Path::Http, Most(1.3)),
    (Metric::PingP99, Path::Https, Most(1.3)),
    (Metric::PingP99, Path::HttpsConnect, Most(1.3)),
    (Metric::Out, Path::Http, Least(0.95)),
    (Metric::Out, Path::Https, Least(1.2)),
    (Metric::Out, Path::HttpsConnect, Least(0.95)),
    (Metric::In, Path::Http, Least(0.95)),
    (Metric::In, Path::Https, Least(0.95)),
    (Metric::In, Path::HttpsConnect, Least(0.95)),
    (Metric::Echo, Path::Http, Least(0.95)),
    (Metric::Echo, Path::Https, Least(0.95)),
    (Metric::Echo, Path::HttpsConnect, Least(0.95)),
    (Metric::Login, Path::Http, Most(1.6)),
    (Metric::CpuIdle, Path::Http, Most(1.4)),
    (Metric::CpuIdle, Path::Https, Most(1.4)),
];

/// xbosh alone.
const ABSOLUTE: &[(Metric, Path, Limit)] = &[
    (Metric::Login, Path::Https, Most(6.0)),
    (Metric::Login, Path::HttpsConnect, Most(10.0)),
    (Metric::CpuPing, Path::Http, Most(90.0)),
    (Metric::CpuPing, Path::Https, Most(90.0)),
    (Metric::CpuOut, Path::Https, Most(3.0)),
    (Metric::CpuIn, Path::Https, Most(3.0)),
    (Metric::Memory100, Path::Http, Most(32.0)),
    (Metric::Memory1000, Path::Http, Most(32.0)),
    (Metric::Memory100, Path::Https, Most(48.0)),
    (Metric::Memory1000, Path::Https, Most(48.0)),
    (Metric::Resident100, Path::Http, Most(10.0)),
    (Metric::Resident100, Path::Https, Most(10.0)),
    (Metric::CpuIdle, Path::Http, Most(2.0)),
    (Metric::CpuIdle, Path::Https, Most(2.0)),
    (Metric::Switches, Path::Http, Most(0.0)),
    (Metric::Switches, Path::Https, Most(0.0)),
];

/// Where the profile of a figure stands.
const fn section(metric: Metric) -> &'static str {
    match metric {
        Metric::FirstLogin | Metric::Login => "a-login",
        Metric::Ping | Metric::PingP99 | Metric::CpuPing => "a-ping",
        Metric::Out | Metric::In | Metric::Echo | Metric::CpuOut | Metric::CpuIn => "many-messages",
        Metric::Memory100 | Metric::Memory1000 | Metric::Resident100 => "memory",
        Metric::CpuIdle | Metric::Switches => "rest",
    }
}

/// All goals.
#[must_use]
pub fn goals(results: &Results, program: &Program) -> Vec<Goal> {
    let mut goals = Vec::new();
    for &(metric, path, limit) in RATIOS {
        let spread = results.ratio(path, metric);
        let name = format!("{} over {path}, to the floor", metric.title());
        goals.push(goal(name, limit, " × floor", spread, 2, section(metric)));
    }
    for &(metric, path, limit) in ABSOLUTE {
        let spread = results.spread(path, Target::Xbosh, metric);
        let name = format!("{} over {path}", metric.title());
        goals.push(goal(
            name,
            limit,
            "",
            spread,
            metric.digits(),
            section(metric),
        ));
    }
    let starts = super::stats::Spread::of(&program.starts_ms);
    let name = "ready to accept after the start, ms".to_owned();
    goals.push(goal(name, Most(20.0), "", starts, 1, ""));
    let size = program.stripped_mib;
    let size = size.and_then(|mib| super::stats::Spread::of(&[mib]));
    goals.push(goal(
        "stripped binary, MiB".to_owned(),
        Most(8.0),
        "",
        size,
        1,
        "",
    ));
    goals.extend(of_program(program));
    goals
}

/// Sessions that one process is to hold.
pub const SESSIONS: usize = 5000;
/// Bytes of stanzas that one stream is to carry.
pub const BYTES: usize = 100_000_000;
/// What the process may grow by meanwhile: what malloc keeps comes and goes.
const GROWN_KIB: f64 = 1024.0;

fn of_program(program: &Program) -> [Goal; 3] {
    let none = || "not measured".to_owned();
    let (many, long) = (program.many, program.long);
    [
        Goal {
            figure: "idle sessions in one process".to_owned(),
            limit: format!("≥ {SESSIONS}"),
            measured: many.map_or_else(none, |many| {
                let (mib, ms) = (many.resident_mib, many.cpu_ms);
                format!("{}: {mib:.0} MiB, {ms:.1} ms/s", many.sessions)
            }),
            met: many.map(|many| many.sessions >= SESSIONS),
            section: "memory",
        },
        Goal {
            figure: "growth while one stream carries 100 MB, KiB".to_owned(),
            limit: format!("≤ {GROWN_KIB}"),
            measured: long.map_or_else(none, |long| {
                format!("{:.0} at {:.0} MiB", long.grown_kib, long.resident_mib)
            }),
            met: long.map(|long| long.bytes >= BYTES && long.grown_kib <= GROWN_KIB),
            section: "memory",
        },
        Goal {
            figure: "CPU per message at the end of these, to the beginning".to_owned(),
            limit: "≤ 1.1".to_owned(),
            measured: long.map_or_else(none, |long| format!("{:.2}", long.cpu_ratio)),
            met: long.map(|long| long.cpu_ratio <= 1.1),
            section: "many-messages",
        },
    ]
}

fn goal(
    figure: String,
    limit: Limit,
    unit: &str,
    spread: Option<super::stats::Spread>,
    digits: usize,
    section: &'static str,
) -> Goal {
    let (sign, value) = match limit {
        Most(value) => ('≤', value),
        Least(value) => ('≥', value),
    };
    let met = spread.map(|spread| match limit {
        Most(value) => spread.median <= value,
        Least(value) => spread.median >= value,
    });
    let measured = spread.map_or_else(
        || "not measured".to_owned(),
        |s| {
            let (low, median, high) = (s.low, s.median, s.high);
            if low == high {
                format!("{median:.digits$}")
            } else {
                format!("{median:.digits$} ({low:.digits$}–{high:.digits$})")
            }
        },
    );
    Goal {
        figure,
        limit: format!("{sign} {value}{unit}"),
        measured,
        met,
        section,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_by_the_median() {
        let mut results = Results::default();
        for (ours, theirs) in [(120.0, 100.0), (150.0, 100.0), (110.0, 100.0)] {
            results.push(Path::Http, Target::Xbosh, Metric::Ping, ours);
            results.push(Path::Http, Target::Floor, Metric::Ping, theirs);
            results.push(Path::Http, Target::Xbosh, Metric::Out, 90.0);
            results.push(Path::Http, Target::Floor, Metric::Out, theirs);
        }
        let goals = goals(&results, &Program::default());
        let find = |name: &str| {
            let goal = goals.iter().find(|goal| goal.figure.starts_with(name));
            goal.expect("a goal").clone()
        };
        let ping = find("ping µs over http,");
        assert_eq!(
            (ping.met, ping.measured.as_str()),
            (Some(true), "1.20 (1.15–1.35)")
        );
        assert_eq!(find("out /s over http,").met, Some(false));
        assert_eq!(find("login ms over http,").met, None);
    }
}
