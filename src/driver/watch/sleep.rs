//! Notices that the machine was suspended.
//!
//! The kernel cancels a timer on the wall clock when that clock is set, and also when the machine resumes.
//! Only a sleep moves the clock that counts it (`CLOCK_BOOTTIME`) away from the one that does not.

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::sync::watch;

use super::{Happened, registered};

/// Shorter sleeps break nothing.
const NAP: Duration = Duration::from_secs(1);

/// The clocks read in a row, since we may be interrupted between two of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// The clock that stops during sleep.
    pub(super) before: Duration,
    /// The clock that goes on.
    pub(super) boot: Duration,
    /// The first one again.
    pub(super) after: Duration,
}

impl Reading {
    fn now() -> Self {
        let read = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
        Self {
            before: read(ClockId::Monotonic),
            boot: read(ClockId::Boottime),
            after: read(ClockId::Monotonic),
        }
    }

    /// All sleep since boot lies between these.
    fn slept(self) -> (Duration, Duration) {
        (
            self.boot.saturating_sub(self.after),
            self.boot.saturating_sub(self.before),
        )
    }
}

/// Decides from readings whether there was a sleep between two of them.
#[derive(Debug)]
pub(super) struct Sleeper {
    /// Most that all sleep so far can be.
    known: Duration,
}

impl Sleeper {
    pub(super) fn new(first: Reading) -> Self {
        Self {
            known: first.slept().1,
        }
    }

    /// How long the machine slept since the last sleep that was told, if it certainly was more than a second.
    pub(super) fn observe(&mut self, reading: Reading) -> Option<Duration> {
        let (least, most) = reading.slept();
        let slept = least.saturating_sub(self.known);
        if slept > NAP {
            self.known = most;
            return Some(slept);
        }
        // A first reading that was interrupted is made good by a better one.
        self.known = self.known.min(most);
        None
    }
}

/// Runs until the timer cannot be used.
pub(super) async fn watch(told: &watch::Sender<Happened>) -> io::Result<Infallible> {
    // The clocks first: a sleep just behind must be seen as one.
    let sleeper = Sleeper::new(Reading::now());
    follow(timer()?, sleeper, Reading::now, told).await
}

/// Reads the clocks whenever `signal` fires.
pub(super) async fn follow(
    signal: OwnedFd,
    mut sleeper: Sleeper,
    mut read: impl FnMut() -> Reading,
    told: &watch::Sender<Happened>,
) -> io::Result<Infallible> {
    let signal = registered(signal)?;
    loop {
        let mut ready = signal.readable().await?;
        match ready.try_io(|fd| has_fired(fd.get_ref())) {
            Ok(fired) => fired?,
            Err(_would_block) => continue,
        }
        if let Some(slept) = sleeper.observe(read()) {
            tracing::debug!("the machine slept for {slept:.0?}");
            told.send_modify(|happened| happened.slept += slept);
        }
    }
}

/// A timer that never ends, but is cancelled when the machine resumes. It stays armed.
pub(super) fn timer() -> io::Result<OwnedFd> {
    let timer = timerfd_create(
        TimerfdClockId::Realtime,
        TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
    )?;
    let never = Itimerspec {
        it_interval: Timespec::default(),
        it_value: Timespec {
            tv_sec: i64::MAX,
            tv_nsec: 0,
        },
    };
    timerfd_settime(
        &timer,
        TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET,
        &never,
    )?;
    Ok(timer)
}

/// Takes the event; `WouldBlock` if there is none.
pub(super) fn has_fired(signal: &OwnedFd) -> io::Result<()> {
    match rustix::io::retry_on_intr(|| rustix::io::read(signal, &mut [0; 8])) {
        Ok(_) | Err(rustix::io::Errno::CANCELED) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
