//! Tells connections that the machine slept or that its network changed (T-32). Nothing wakes up unless the
//! kernel has something to say.

#[cfg(target_os = "linux")]
mod network;
#[cfg(target_os = "linux")]
mod sleep;
#[cfg(test)]
mod tests;

use std::time::Duration;
#[cfg(target_os = "linux")]
use std::{io, os::fd::OwnedFd};

#[cfg(target_os = "linux")]
use tokio::io::{Interest, unix::AsyncFd};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Why a connection may be dead without having noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The machine was suspended for so long. Monotonic clocks stood still meanwhile.
    Slept(Duration),
    /// Addresses or routes came or went.
    Network,
}

/// All that happened since the start. Only grows, so that whoever looks late still sees that it did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Happened {
    slept: Duration,
    network: u64,
}

impl Happened {
    /// Goes on towards `now` by one change: first the sleep, which says more.
    fn catch_up(&mut self, now: Self) -> Option<Change> {
        let slept = now.slept.saturating_sub(self.slept);
        if !slept.is_zero() {
            self.slept = now.slept;
            return Some(Change::Slept(slept));
        }
        (self.network != now.network).then(|| {
            self.network = now.network;
            Change::Network
        })
    }
}

/// Listens to the kernel as long as it lives. Elsewhere than on Linux it hears nothing.
#[derive(Debug)]
pub(super) struct Watch {
    happened: watch::Sender<Happened>,
    _tasks: JoinSet<()>,
}

impl Watch {
    /// Must be called within a tokio runtime. What cannot be listened to is said in the log, and left out.
    pub(super) fn start() -> Self {
        let happened = watch::Sender::default();
        let mut tasks = JoinSet::new();
        spawn(&happened, &mut tasks);
        Self {
            happened,
            _tasks: tasks,
        }
    }

    /// What the kernel would have said.
    #[cfg(test)]
    pub(super) fn pretend(&self, change: Change) {
        self.happened.send_modify(|happened| match change {
            Change::Slept(slept) => happened.slept += slept,
            Change::Network => happened.network += 1,
        });
    }

    /// What happens from now on.
    pub(super) fn changes(&self) -> Changes {
        let mut happened = self.happened.subscribe();
        let seen = *happened.borrow_and_update();
        Changes { happened, seen }
    }
}

#[cfg(target_os = "linux")]
fn spawn(happened: &watch::Sender<Happened>, tasks: &mut JoinSet<()>) {
    let told = happened.clone();
    tasks.spawn(async move {
        let Err(error) = sleep::watch(&told).await;
        tracing::debug!("not told when the machine sleeps: {error}");
    });
    let told = happened.clone();
    tasks.spawn(async move {
        let Err(error) = network::watch(&told).await;
        tracing::debug!("not told when the network changes: {error}");
    });
}

/// Lets the runtime wait until there is something to read.
#[cfg(target_os = "linux")]
#[expect(
    deprecated,
    reason = "what replaces it is unsafe, for types that may close the file behind its back; an `OwnedFd` does not"
)]
fn registered(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

#[cfg(not(target_os = "linux"))]
fn spawn(_: &watch::Sender<Happened>, _: &mut JoinSet<()>) {}

/// The changes that one connection has not seen yet. Those of a kind that come before it looks are one.
#[derive(Clone, Debug)]
pub(super) struct Changes {
    happened: watch::Receiver<Happened>,
    seen: Happened,
}

impl Changes {
    /// Waits for the next one; forever, if the watch is gone. Can be dropped and called again without a loss.
    pub(super) async fn next(&mut self) -> Change {
        loop {
            let now = *self.happened.borrow_and_update();
            if let Some(change) = self.seen.catch_up(now) {
                return change;
            }
            if self.happened.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}
