//! What xbosh's tests, benches and demo share: an embedded XMPP server with a BOSH connection manager whose
//! faults are scripted, fake proxies, a raw XMPP client, launchers for real servers and proxies, and the trials of
//! xbosh between them.
//!
//! Nothing here depends on xbosh: it is the other side.

pub mod client;
pub mod cm;
pub mod crowd;
pub mod front;
pub mod matrix;
pub mod performance;
pub mod proxy;
pub mod real;
pub mod reliability;
pub mod tls;
pub mod web;
pub mod xmpp;

mod http1;

/// A listener on a free loopback port that serves each connection in a task; all end when it is dropped.
#[derive(Debug)]
pub struct Service {
    addr: std::net::SocketAddr,
    tasks: std::sync::Arc<tokio::sync::Mutex<tokio::task::JoinSet<()>>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Service {
    /// Listens and serves.
    ///
    /// # Panics
    /// If loopback has no free port.
    pub async fn start<F, Fut>(serve: F) -> Self
    where
        F: Fn(tokio::net::TcpStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self::start_at(([127, 0, 0, 1], 0).into(), serve)
            .await
            .expect("a free loopback port")
    }

    /// As [`Self::start`], at this address.
    ///
    /// # Errors
    /// What the system says of the address.
    ///
    /// # Panics
    /// If the system does not say where it listens.
    pub async fn start_at<F, Fut>(at: std::net::SocketAddr, serve: F) -> std::io::Result<Self>
    where
        F: Fn(tokio::net::TcpStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = tokio::net::TcpListener::bind(at).await?;
        let addr = listener
            .local_addr()
            .expect("a bound listener has an address");
        let tasks = std::sync::Arc::new(tokio::sync::Mutex::new(tokio::task::JoinSet::new()));
        let spawned = std::sync::Arc::clone(&tasks);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A lost nodelay costs latency only.
                let _ = stream.set_nodelay(true);
                let mut tasks = spawned.lock().await;
                while tasks.try_join_next().is_some() {}
                tasks.spawn(serve(stream));
            }
        });
        Ok(Self {
            addr,
            tasks,
            accepting,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> std::net::SocketAddr {
        self.addr
    }

    /// Cuts every connection; new ones are still served.
    pub async fn cut(&self) {
        self.tasks.lock().await.abort_all();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.accepting.abort();
        // Dropping the set with the last owner aborts every connection.
    }
}
