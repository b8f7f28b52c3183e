//! The numbers of all streams, kept by those who make them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{FORMAT, Report, Stream, Traffic};

/// Round trips that are remembered of one stream.
const SAMPLES: usize = 64;
/// Characters of an error.
const MAX_ERROR: usize = 300;

/// Everybody who is there.
#[derive(Debug)]
pub(crate) struct Board {
    started: Instant,
    listening: Vec<String>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    streams: BTreeMap<u64, Arc<Mutex<Facts>>>,
    clients: u64,
    failed: u64,
    way: String,
    /// Of streams that are over.
    past: Traffic,
}

/// What is known of one stream.
#[derive(Debug)]
pub(crate) struct Facts {
    since: Instant,
    /// As it is told, but for its age and round trips.
    pub(crate) stream: Stream,
    /// In microseconds; the oldest is overwritten.
    samples: Vec<u32>,
    next: usize,
}

impl Facts {
    /// How long the manager took to answer.
    pub(crate) fn note_round_trip(&mut self, time: Duration) {
        let sample = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        self.stream.round_trip = Some(milliseconds(sample));
        if self.samples.len() < SAMPLES {
            self.samples.push(sample);
        } else if let Some(oldest) = self.samples.get_mut(self.next) {
            *oldest = sample;
        }
        self.next = (self.next + 1) % SAMPLES;
    }

    /// What went wrong.
    pub(crate) fn note_error(&mut self, text: &str) {
        self.stream.last_error = Some(text.chars().take(MAX_ERROR).collect());
    }

    fn tell(&self, now: Instant) -> Stream {
        let mut sorted = self.samples.clone();
        sorted.sort_unstable();
        let at = |share: usize| {
            let last = sorted.len().checked_sub(1)?;
            sorted.get((last * share).div_ceil(100)).copied()
        };
        Stream {
            age: now.saturating_duration_since(self.since).as_secs(),
            round_trip_p50: at(50).map(milliseconds),
            round_trip_p99: at(99).map(milliseconds),
            ..self.stream.clone()
        }
    }
}

fn milliseconds(microseconds: u32) -> f64 {
    f64::from(microseconds) / 1000.0
}

/// One stream's place on the board, while it lasts.
#[derive(Debug)]
pub(crate) struct Seat {
    board: Arc<Board>,
    id: u64,
    facts: Arc<Mutex<Facts>>,
}

impl Seat {
    /// To read or change what is known.
    pub(crate) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream ended with an error.
    pub(crate) fn failed(&self) {
        self.board.lock().failed += 1;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut inner = self.board.lock();
        inner.streams.remove(&self.id);
        let facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        inner.past.add(&facts.stream);
    }
}

impl Board {
    pub(crate) fn new(listening: Vec<String>, now: Instant) -> Self {
        Self {
            started: now,
            listening,
            inner: Mutex::default(),
        }
    }

    /// Clients that come from now on go out this way.
    pub(crate) fn goes(&self, way: String) {
        self.lock().way = way;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client has come.
    pub(crate) fn seat(self: &Arc<Self>, client: String, now: Instant) -> Seat {
        let mut inner = self.lock();
        inner.clients += 1;
        let id = inner.clients;
        let facts = Arc::new(Mutex::new(Facts {
            since: now,
            stream: Stream {
                id,
                client,
                state: "connecting".into(),
                ..Stream::default()
            },
            samples: Vec::new(),
            next: 0,
        }));
        inner.streams.insert(id, Arc::clone(&facts));
        Seat {
            board: Arc::clone(self),
            id,
            facts,
        }
    }

    /// All of it, as of now.
    pub(crate) fn report(&self, now: Instant) -> Report {
        let inner = self.lock();
        let streams: Vec<Stream> = inner
            .streams
            .values()
            .map(|facts| {
                let facts = facts.lock().unwrap_or_else(PoisonError::into_inner);
                facts.tell(now)
            })
            .collect();
        let mut total = inner.past;
        streams.iter().for_each(|stream| total.add(stream));
        Report {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            uptime: now.saturating_duration_since(self.started).as_secs(),
            listening: self.listening.clone(),
            clients: inner.clients,
            failed: inner.failed,
            way: Some(inner.way.clone()),
            total,
            streams,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A seat is there as long as its stream; round trips are the last ones only.
    #[test]
    fn seats_and_round_trips() {
        let start = crate::driver::clock::now();
        let board = Arc::new(Board::new(vec!["127.0.0.1:5222".into()], start));
        let seat = board.seat("127.0.0.1:1".into(), start);
        for n in 1..=100 {
            seat.facts().note_round_trip(Duration::from_millis(n));
        }
        let report = board.report(start + Duration::from_secs(5));
        assert_eq!((report.uptime, report.clients, report.failed), (5, 1, 0));
        let stream = &report.streams[0];
        assert_eq!((stream.id, stream.age), (1, 5));
        assert_eq!(stream.round_trip, Some(100.0));
        // Of 37 to 100.
        assert_eq!(stream.round_trip_p50, Some(69.0));
        assert_eq!(stream.round_trip_p99, Some(100.0));
        seat.facts().stream.stanzas_up = 3;
        board
            .seat("127.0.0.1:2".into(), start)
            .facts()
            .stream
            .bytes_down = 7;
        let whole = Traffic {
            stanzas_up: 3,
            bytes_down: 7,
            ..Traffic::default()
        };
        assert_eq!(board.report(start).total, whole, "one is over, one is not");
        seat.failed();
        drop(seat);
        let report = board.report(start);
        assert_eq!((report.streams.len(), report.failed), (0, 1));
        assert_eq!(report.total, whole, "nothing is lost, or counted twice");
    }
}
