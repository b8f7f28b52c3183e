//! Several proxies: the order in which they are tried.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::error::ConnectError;
use super::route::Route;

/// How long a proxy that did not answer comes behind the others, so that not every connection waits for it.
const SILENT_FOR: Duration = Duration::from_secs(60);

/// The proxies that did not answer lately, by host:port, and when. No more than the settings name.
#[derive(Debug, Default)]
pub(super) struct Silent(Mutex<Vec<(String, Instant)>>);

impl Silent {
    /// This one does not answer.
    pub(super) fn note(&self, proxy: &str) {
        let mut silent = self.lock();
        silent.retain(|(name, _)| name != proxy);
        silent.push((proxy.to_owned(), Instant::now()));
    }

    /// This one does.
    pub(super) fn forget(&self, proxy: &str) {
        self.lock().retain(|(name, _)| name != proxy);
    }

    /// Those that did not answer lately come last, in their order.
    pub(super) fn put_last(&self, routes: &mut [Route]) {
        if routes.len() < 2 {
            return;
        }
        let mut silent = self.lock();
        silent.retain(|(_, since)| since.elapsed() < SILENT_FOR);
        routes.sort_by_key(|route| match route {
            Route::Direct => false,
            Route::Via(upstream) => {
                let proxy = upstream.authority();
                silent.iter().any(|(name, _)| *name == proxy)
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(String, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One error of all, E-30 each.
pub(super) fn none_answers(mut failed: Vec<ConnectError>) -> ConnectError {
    let words = |error: &ConnectError| match error {
        ConnectError::ProxyUnreachable { proxy, source, .. } => {
            format!("{proxy}: {}", super::error::plain(source))
        }
        ConnectError::ProxySilent { proxy, .. } => format!("{proxy}: no answer in time"),
        other => other.to_string(),
    };
    let tried = failed.iter().map(words).collect::<Vec<_>>().join("; ");
    match failed.pop() {
        Some(only) if failed.is_empty() => only,
        Some(_) | None => ConnectError::NoProxyAnswers { tried },
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::super::route::Upstream;
    use super::*;

    fn ports(silent: &Silent) -> Vec<u16> {
        let via = |port: u16| {
            let url = Url::parse(&format!("http://p:{port}")).unwrap();
            Route::Via(Upstream::new(&url, None).unwrap())
        };
        let mut routes = vec![via(1), via(2), via(3), Route::Direct];
        silent.put_last(&mut routes);
        let port = |route: &Route| match route {
            Route::Via(upstream) => upstream.port,
            Route::Direct => 0,
        };
        routes.iter().map(port).collect()
    }

    /// P-12: who did not answer comes last for a minute, or until it answers.
    #[tokio::test(start_paused = true)]
    async fn p12_silent_ones_come_last() {
        let silent = Silent::default();
        assert_eq!(ports(&silent), [1, 2, 3, 0]);
        silent.note("p:1");
        silent.note("p:1");
        assert_eq!(ports(&silent), [2, 3, 0, 1]);
        tokio::time::advance(SILENT_FOR / 2).await;
        silent.note("p:3");
        assert_eq!(ports(&silent), [2, 0, 1, 3]);
        silent.forget("p:1");
        assert_eq!(ports(&silent), [1, 2, 0, 3]);
        tokio::time::advance(SILENT_FOR).await;
        assert_eq!(ports(&silent), [1, 2, 3, 0]);
    }
}
