//! Readiness, status and watchdog messages to systemd. Without systemd every call does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// The sidecar accepts clients.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// The configuration is read again; [`ready`] tells that it is done.
pub fn reloading() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let microseconds = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
    notify(&[
        NotifyState::Reloading,
        NotifyState::Custom(&format!("MONOTONIC_USEC={microseconds}")),
    ]);
}

/// The sidecar is stopping.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    notify(&[NotifyState::Status(text)]);
}

/// The event loop is alive.
pub fn watchdog() {
    notify(&[NotifyState::Watchdog]);
}

/// How often [`watchdog`] is to be called: half of what systemd asks for. `None` if it does not watch.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled()
        .map(|limit| limit / 2)
        .filter(|interval| !interval.is_zero())
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("systemd was not told: {error}");
    }
}
