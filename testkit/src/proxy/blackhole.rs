//! A port that accepts and never says a word.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncReadExt as _;

use crate::Service;

/// A running blackhole.
#[derive(Debug)]
pub struct Blackhole {
    service: Service,
    accepted: Arc<AtomicUsize>,
}

impl Blackhole {
    /// Starts on a free loopback port.
    pub async fn start() -> Self {
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let service = Service::start(move |mut stream| {
            count.fetch_add(1, Ordering::Relaxed);
            async move {
                let mut sink = [0; 4096];
                while matches!(stream.read(&mut sink).await, Ok(1..)) {}
            }
        })
        .await;
        Self { service, accepted }
    }

    /// Its address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.service.addr()
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}
