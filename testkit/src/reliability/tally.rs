//! What was sent, what came, and what that means.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::proxy::Counts;

/// Which way a message goes, as the client behind xbosh sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Up,
    Down,
}

/// What became of the messages of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Messages sent, both ways together; so are all the counts.
    pub sent: usize,
    /// Messages that arrived, each counted once.
    pub delivered: usize,
    /// Messages that never arrived.
    pub lost: usize,
    /// Arrivals of messages that had arrived already.
    pub doubled: usize,
    /// Messages that arrived behind a later one.
    pub out_of_order: usize,
    /// Messages that came back to the client as not confirmed; they may have arrived all the same.
    pub returned: usize,
    /// Streams that ended by themselves, and how.
    pub closed: Vec<String>,
    /// Requests and faults.
    pub counts: Counts,
    /// From the sending of a message to its arrival, in the middle of all messages.
    pub median_delay: Duration,
    /// The longest such time.
    pub longest_delay: Duration,
    /// The wrong ones by number, and messages that nobody sent.
    pub details: Vec<String>,
    /// What the proxy and xbosh logged, if anything went wrong.
    pub log: String,
}

impl Outcome {
    /// Everything arrived once and in order, nothing came back, and no stream was closed.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let wrong =
            self.lost + self.doubled + self.out_of_order + self.returned + self.closed.len();
        wrong == 0 && self.details.is_empty()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sent,
            delivered,
            lost,
            doubled,
            out_of_order,
            ..
        } = self;
        write!(
            f,
            "{delivered} of {sent} delivered, {lost} lost, {doubled} doubled, {out_of_order} out of order; \
             {} faults on {} requests; delay {:.1?}, at most {:.1?}",
            self.counts.faults, self.counts.requests, self.median_delay, self.longest_delay
        )?;
        if self.returned > 0 {
            write!(f, "; {} returned as not confirmed", self.returned)?;
        }
        for closed in &self.closed {
            write!(f, "; closed: {closed}")?;
        }
        for detail in self.details.iter().take(5) {
            let text: String = detail.chars().take(200).collect();
            write!(f, "; {text}")?;
        }
        if self.details.len() > 5 {
            write!(f, "; and {} more", self.details.len() - 5)?;
        }
        Ok(())
    }
}

/// The running count.
#[derive(Debug)]
pub(super) struct Tally {
    state: Mutex<State>,
    /// Something arrived or ended.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    up: Way,
    down: Way,
    closed: Vec<String>,
    strangers: Vec<String>,
}

#[derive(Debug)]
struct Way {
    sent: Vec<Option<Instant>>,
    seen: Vec<bool>,
    missing: usize,
    arrivals: Vec<(usize, Instant)>,
}

impl Way {
    fn new(messages: usize) -> Self {
        Self {
            sent: vec![None; messages],
            seen: vec![false; messages],
            missing: messages,
            arrivals: Vec::with_capacity(messages),
        }
    }
}

impl State {
    fn way(&mut self, direction: Direction) -> &mut Way {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }
}

impl Tally {
    pub(super) fn new(messages: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                up: Way::new(messages),
                down: Way::new(messages),
                closed: Vec::new(),
                strangers: Vec::new(),
            }),
            changed: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This number is about to be sent.
    pub(super) fn sent(&self, direction: Direction, number: usize) {
        if let Some(at) = self.state().way(direction).sent.get_mut(number) {
            *at = Some(Instant::now());
        }
    }

    /// This number has arrived.
    pub(super) fn received(&self, direction: Direction, number: usize) {
        let mut state = self.state();
        let way = state.way(direction);
        way.arrivals.push((number, Instant::now()));
        if let Some(seen) = way.seen.get_mut(number)
            && !std::mem::replace(seen, true)
        {
            way.missing -= 1;
        }
        drop(state);
        self.changed.notify_one();
    }

    /// A message that is none of ours.
    pub(super) fn stranger(&self, text: &str) {
        self.state().strangers.push(text.to_owned());
    }

    /// The receiving stream of this direction has ended too early.
    pub(super) fn ended(&self, direction: Direction, why: &str) {
        let who = match direction {
            Direction::Up => "the peer's",
            Direction::Down => "the client's",
        };
        self.state().closed.push(format!("{who} stream: {why}"));
        self.changed.notify_one();
    }

    /// Waits until all has arrived, a stream has ended, or nothing has come for so long.
    pub(super) async fn settle(&self, patience: Duration) {
        loop {
            {
                let state = self.state();
                if state.up.missing + state.down.missing == 0 || !state.closed.is_empty() {
                    return;
                }
            }
            if timeout(patience, self.changed.notified()).await.is_err() {
                return;
            }
        }
    }

    pub(super) fn outcome(&self, counts: Counts) -> Outcome {
        let state = self.state();
        let mut outcome = Outcome {
            counts,
            closed: state.closed.clone(),
            returned: state.strangers.iter().filter(|s| is_returned(s)).count(),
            details: state
                .strangers
                .iter()
                .filter(|s| !is_returned(s))
                .map(|text| format!("nobody sent {text}"))
                .collect(),
            ..Outcome::default()
        };
        let mut delays = Vec::new();
        for (name, way) in [("up", &state.up), ("down", &state.down)] {
            judge(name, way, &mut outcome, &mut delays);
        }
        delays.sort_unstable();
        outcome.median_delay = delays.get(delays.len() / 2).copied().unwrap_or_default();
        outcome.longest_delay = delays.last().copied().unwrap_or_default();
        outcome
    }
}

/// xbosh's own answer to what the manager never confirmed.
fn is_returned(stanza: &str) -> bool {
    stanza.contains("type='error'") && stanza.contains("delivery not confirmed")
}

fn judge(name: &str, way: &Way, outcome: &mut Outcome, delays: &mut Vec<Duration>) {
    let mut seen = vec![false; way.seen.len()];
    let mut newest = None;
    let (mut doubled, mut late) = (Vec::new(), Vec::new());
    for &(number, at) in &way.arrivals {
        let (Some(seen), Some(Some(sent))) = (seen.get_mut(number), way.sent.get(number)) else {
            outcome.details.push(format!("nobody sent {number} {name}"));
            continue;
        };
        if std::mem::replace(seen, true) {
            doubled.push(number);
            continue;
        }
        if newest > Some(number) {
            late.push(number);
        }
        newest = newest.max(Some(number));
        delays.push(at.saturating_duration_since(*sent));
    }
    let sent = way.sent.iter().flatten().count();
    let lost: Vec<usize> = (0..sent).filter(|&number| !seen[number]).collect();
    outcome.sent += sent;
    outcome.delivered += sent - lost.len();
    outcome.lost += lost.len();
    outcome.doubled += doubled.len();
    outcome.out_of_order += late.len();
    for (what, numbers) in [("lost", lost), ("doubled", doubled), ("out of order", late)] {
        if !numbers.is_empty() {
            outcome.details.push(format!("{what} {name}: {numbers:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(sent: usize, up: &[usize], down: &[usize]) -> Outcome {
        let tally = Tally::new(sent);
        for number in 0..sent {
            tally.sent(Direction::Up, number);
            tally.sent(Direction::Down, number);
        }
        up.iter().for_each(|&n| tally.received(Direction::Up, n));
        down.iter()
            .for_each(|&n| tally.received(Direction::Down, n));
        tally.outcome(Counts::default())
    }

    #[test]
    fn sound_is_once_and_in_order() {
        let sound = outcome(3, &[0, 1, 2], &[0, 1, 2]);
        assert!(sound.is_sound(), "{sound}");
        assert_eq!((sound.sent, sound.delivered), (6, 6));
    }

    #[test]
    fn lost_doubled_and_late_are_told_apart() {
        let wrong = outcome(4, &[0, 2, 1, 1], &[0, 1, 2, 3, 9]);
        assert!(!wrong.is_sound());
        let counts = (
            wrong.delivered,
            wrong.lost,
            wrong.doubled,
            wrong.out_of_order,
        );
        assert_eq!(counts, (7, 1, 1, 1));
        assert_eq!(
            wrong.details,
            [
                "lost up: [3]",
                "doubled up: [1]",
                "out of order up: [1]",
                "nobody sent 9 down"
            ]
        );
    }

    #[tokio::test]
    async fn closed_streams_and_strangers_are_no_sound_outcome() {
        let tally = Tally::new(1);
        tally.ended(Direction::Down, "stream error");
        tally.settle(Duration::from_secs(3600)).await;
        assert!(!tally.outcome(Counts::default()).is_sound());
        let tally = Tally::new(0);
        tally.stranger("<message type='error'/>");
        assert!(!tally.outcome(Counts::default()).is_sound());
    }
}
