//! The order of requests that broke off together, with the connection they shared, and of those behind (T-37).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use super::lock;

/// Pause behind a request that has just gone out again: streams of one connection may go on by connections of
/// their own behind the server that ends it.
const GAP: Duration = Duration::from_millis(20);

/// The requests of one session, numbered in the order in which they first went out.
#[derive(Clone, Default)]
pub(super) struct Turns {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    next: AtomicU64,
    /// Those that are to go out again and are not written yet.
    broken: Mutex<BTreeSet<u64>>,
    changed: Notify,
}

impl Turns {
    /// A number for one more request.
    pub(super) fn number(&self) -> u64 {
        self.shared.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits until every older request that broke off is written again, or given up.
    pub(super) async fn wait(&self, number: u64) -> Turn {
        lock(&self.shared.broken).insert(number);
        let turn = Turn {
            shared: Arc::clone(&self.shared),
            number,
        };
        // Whoever broke off by the same event is awake by now, and gets to say so.
        tokio::task::yield_now().await;
        self.follow(number).await;
        turn
    }

    /// Waits for them before a request goes out for the first time. Mostly there are none.
    pub(super) async fn follow(&self, number: u64) {
        let mut waited = false;
        loop {
            let changed = self.shared.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            let older = lock(&self.shared.broken).range(..number).next().is_some();
            if !older {
                break;
            }
            waited = true;
            changed.await;
        }
        if waited {
            sleep(GAP).await;
        }
    }
}

/// The others wait until this is dropped.
pub(super) struct Turn {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.shared.broken).remove(&self.number);
        self.shared.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    use super::*;

    async fn is_ready<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    /// T-37: the older one goes first, even if it hears of the end later; one that is given up holds up nobody.
    #[tokio::test]
    async fn t37_the_older_one_goes_first() {
        let turns = Turns::default();
        let (one, two, three) = (turns.number(), turns.number(), turns.number());
        let mut third = pin!(turns.wait(three));
        assert!(is_ready(third.as_mut()).await.is_none());
        let mut first = Box::pin(turns.wait(one));
        assert!(is_ready(first.as_mut()).await.is_none());
        let mut second = Box::pin(turns.wait(two));
        assert!(is_ready(second.as_mut()).await.is_none());
        assert!(is_ready(third.as_mut()).await.is_none());
        let turn = is_ready(first.as_mut()).await;
        assert!(turn.is_some());
        assert!(is_ready(second.as_mut()).await.is_none());
        let new = turns.number();
        let mut fourth = Box::pin(turns.follow(new));
        assert!(is_ready(fourth.as_mut()).await.is_none());
        drop(turn);
        drop(second);
        let turn = third.await;
        assert!(is_ready(fourth.as_mut()).await.is_none());
        drop(turn);
        fourth.await;
        assert!(is_ready(pin!(turns.follow(new))).await.is_some());
    }
}
