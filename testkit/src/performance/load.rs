//! What a session is put through. The receiver of every message checks it.

use std::time::Duration;

use memchr::memmem;
use tokio::time::{Instant, timeout_at};

use super::link::Link;
use super::message::{self, Receiver};

/// Pings one after the other; microseconds of each.
pub(super) async fn ping(link: &mut Link, domain: &str, count: usize) -> Result<Vec<f64>, String> {
    let mut took = Vec::with_capacity(count);
    for number in 0..count {
        let id = format!("p{number}");
        let began = Instant::now();
        link.queue(&format!(
            "<iq xmlns='jabber:client' type='get' id='{id}' to='{domain}'><ping xmlns='urn:xmpp:ping'/></iq>"
        ));
        link.flush().await?;
        loop {
            let element = link.next().await?;
            if !element.starts_with(b"<iq") || memmem::find(&element, id.as_bytes()).is_none() {
                continue;
            }
            if memmem::find(&element, b"result").is_none() {
                return Err(String::from_utf8_lossy(&element).into_owned());
            }
            break;
        }
        took.push(began.elapsed().as_secs_f64() * 1e6);
    }
    Ok(took)
}

/// Writes many messages at once.
pub(super) async fn send(link: &mut Link, to: &str, count: usize) -> Result<(), String> {
    let mut text = String::new();
    for number in 0..count {
        text.clear();
        message::write(to, number, &mut text);
        link.queue(&text);
    }
    link.flush().await
}

/// Takes so many messages.
pub(super) async fn receive(link: &mut Link, count: usize) -> Result<(), String> {
    let mut receiver = Receiver::default();
    while receiver.count() < count {
        receiver.take(&link.next().await?)?;
    }
    Ok(())
}

/// Messages to somebody who sends each back, so many of them on the way at a time.
pub(super) async fn echo(
    link: &mut Link,
    to: &str,
    count: usize,
    in_flight: usize,
) -> Result<(), String> {
    let mut receiver = Receiver::default();
    let mut sent = 0;
    let mut text = String::new();
    while receiver.count() < count {
        while sent < count && sent - receiver.count() < in_flight {
            text.clear();
            message::write(to, sent, &mut text);
            link.queue(&text);
            sent += 1;
        }
        receiver.take(&link.next().await?)?;
    }
    Ok(())
}

/// Sends each message back to where it came from, and checks it.
pub(super) async fn send_back(link: &mut Link, to: &str, count: usize) -> Result<(), String> {
    let mut receiver = Receiver::default();
    let mut text = String::new();
    while receiver.count() < count {
        let number = receiver.count();
        if receiver.take(&link.next().await?)? {
            text.clear();
            message::write(to, number, &mut text);
            link.queue(&text);
        }
    }
    link.flush().await
}

/// How fast messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// What a person calls it.
    pub name: &'static str,
    /// Messages at once.
    pub burst: usize,
    /// Time from one burst to the next.
    pub every: Duration,
    /// How many bursts.
    pub bursts: usize,
}

impl Pace {
    /// Messages in all.
    #[must_use]
    pub const fn messages(&self) -> usize {
        self.burst * self.bursts
    }
}

/// Writes timed messages.
pub(super) async fn paced(link: &mut Link, to: &str, pace: Pace) -> Result<(), String> {
    let mut at = Instant::now();
    let mut text = String::new();
    for burst in 0..pace.bursts {
        for place in 0..pace.burst {
            text.clear();
            message::write_timed(to, burst * pace.burst + place, &mut text);
            link.queue(&text);
        }
        link.flush().await?;
        at += pace.every;
        // Until then what comes is of no interest, but the session goes on.
        while let Ok(element) = timeout_at(at, link.next()).await {
            element?;
        }
    }
    Ok(())
}

/// Takes timed messages; microseconds of each.
pub(super) async fn delays(link: &mut Link, count: usize) -> Result<Vec<f64>, String> {
    let mut delays = Vec::with_capacity(count);
    while delays.len() < count {
        let element = link.next().await?;
        delays.extend(message::read_timed(&element, delays.len())?);
    }
    Ok(delays)
}
