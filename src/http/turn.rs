//! The order in which requests go out again that broke off together, with the connection they shared (T-37).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::lock;

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
        loop {
            let changed = self.shared.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            if lock(&self.shared.broken).first() == Some(&number) {
                return turn;
            }
            changed.await;
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
        drop(turn);
        drop(second);
        assert!(is_ready(third.as_mut()).await.is_some());
    }
}
