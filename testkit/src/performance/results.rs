//! What was measured, round by round.

use std::collections::BTreeMap;
use std::fmt;

use super::Pace;
use super::stage::Path;
use super::stats::{Spread, ratios};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The server's own TCP port.
    Direct,
    /// BOSH by hand.
    Floor,
    /// The sidecar.
    Xbosh,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct TCP",
            Self::Floor => "floor",
            Self::Xbosh => "xbosh",
        })
    }
}

/// A figure of one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Milliseconds from nothing to a bound resource, of the first login of a process.
    FirstLogin,
    /// Milliseconds from nothing to a bound resource.
    Login,
    /// Microseconds, the median.
    Ping,
    /// Microseconds, which one ping in a hundred exceeds.
    PingP99,
    /// Messages a second.
    Out,
    /// Messages a second.
    In,
    /// Messages a second, there and back.
    Echo,
    /// Microseconds of processor time for each ping.
    CpuPing,
    /// Microseconds of processor time for each message.
    CpuOut,
    /// Microseconds of processor time for each message.
    CpuIn,
    /// KiB for each idle session, at a hundred.
    Memory100,
    /// KiB for each idle session, at a thousand (or as many as there were).
    Memory1000,
    /// MiB of the whole process with a hundred idle sessions.
    Resident100,
    /// Milliseconds of processor time a second, with a thousand idle sessions.
    CpuIdle,
    /// Context switches a second with one idle session.
    Switches,
}

impl Metric {
    /// Those of a round under load.
    pub const LOAD: [Self; 10] = [
        Self::FirstLogin,
        Self::Login,
        Self::Ping,
        Self::PingP99,
        Self::Out,
        Self::In,
        Self::Echo,
        Self::CpuPing,
        Self::CpuOut,
        Self::CpuIn,
    ];
    /// Those of sessions at rest.
    pub const IDLE: [Self; 5] = [
        Self::Memory100,
        Self::Memory1000,
        Self::Resident100,
        Self::CpuIdle,
        Self::Switches,
    ];

    /// The head of a column.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::FirstLogin => "first login ms",
            Self::Login => "login ms",
            Self::Ping => "ping µs",
            Self::PingP99 => "ping p99 µs",
            Self::Out => "out /s",
            Self::In => "in /s",
            Self::Echo => "echo /s",
            Self::CpuPing => "CPU µs per ping",
            Self::CpuOut => "CPU µs per message out",
            Self::CpuIn => "CPU µs per message in",
            Self::Memory100 => "KiB per session (100)",
            Self::Memory1000 => "KiB per session (1000)",
            Self::Resident100 => "MiB with 100",
            Self::CpuIdle => "CPU ms/s with 1000",
            Self::Switches => "switches/s with 1",
        }
    }

    /// Digits behind the point.
    #[must_use]
    pub const fn digits(self) -> usize {
        match self {
            Self::FirstLogin
            | Self::Login
            | Self::CpuOut
            | Self::CpuIn
            | Self::CpuIdle
            | Self::Switches => 2,
            Self::CpuPing | Self::Memory100 | Self::Memory1000 | Self::Resident100 => 1,
            Self::Ping | Self::PingP99 | Self::Out | Self::In | Self::Echo => 0,
        }
    }
}

/// Which series of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The way to the server.
    pub path: Path,
    /// What is measured.
    pub target: Target,
    /// The figure.
    pub metric: Metric,
}

/// Delays of messages on their way out, under one load.
#[derive(Clone, Debug)]
pub struct Delays {
    /// The way to the server.
    pub path: Path,
    /// What is measured.
    pub target: Target,
    /// The load.
    pub pace: Pace,
    /// Microseconds from writing to arrival at the peer.
    pub micros: Vec<f64>,
}

/// All figures of one server.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// The figures of each series, in the order of the rounds.
    pub series: BTreeMap<Key, Vec<f64>>,
    /// One for each way, target and load.
    pub delays: Vec<Delays>,
}

impl Results {
    /// One more round's figure.
    pub fn push(&mut self, path: Path, target: Target, metric: Metric, value: f64) {
        let key = Key {
            path,
            target,
            metric,
        };
        self.series.entry(key).or_default().push(value);
    }

    /// More delays under this load.
    pub fn push_delays(&mut self, path: Path, target: Target, pace: Pace, micros: Vec<f64>) {
        let found = self
            .delays
            .iter_mut()
            .find(|d| (d.path, d.target, d.pace) == (path, target, pace));
        match found {
            Some(delays) => delays.micros.extend(micros),
            None => self.delays.push(Delays {
                path,
                target,
                pace,
                micros,
            }),
        }
    }

    /// Figures of a series; empty if it was not measured.
    #[must_use]
    pub fn values(&self, path: Path, target: Target, metric: Metric) -> &[f64] {
        let key = Key {
            path,
            target,
            metric,
        };
        self.series.get(&key).map_or(&[], Vec::as_slice)
    }

    /// The spread over the rounds.
    #[must_use]
    pub fn spread(&self, path: Path, target: Target, metric: Metric) -> Option<Spread> {
        Spread::of(self.values(path, target, metric))
    }

    /// xbosh over the floor on the same way, paired by round.
    #[must_use]
    pub fn ratio(&self, path: Path, metric: Metric) -> Option<Spread> {
        let ours = self.values(path, Target::Xbosh, metric);
        let theirs = self.values(path, Target::Floor, metric);
        let ratios = ratios(ours, theirs);
        // Nothing over nothing is no ratio.
        ratios.iter().all(|r| r.is_finite()).then_some(())?;
        Spread::of(&ratios)
    }

    /// Ways and targets that were measured, in the order of a table.
    #[must_use]
    pub fn rows(&self) -> Vec<(Path, Target)> {
        let mut rows: Vec<_> = self.series.keys().map(|k| (k.path, k.target)).collect();
        rows.dedup();
        rows.sort_unstable();
        rows.dedup();
        rows
    }
}
