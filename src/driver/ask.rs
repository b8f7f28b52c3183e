//! The sockets on which the sidecar is asked how it is.

use std::io;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::listener::RunError;
use super::unix::{self, SocketFile};
use crate::config::Config;
use crate::status::{Board, serve_http, serve_socket};

/// Who answers, until dropped. Fields drop in order: the file goes while the socket is still open.
#[derive(Debug, Default)]
pub(super) struct Asked {
    _file: Option<SocketFile>,
    _tasks: JoinSet<()>,
}

impl Asked {
    /// A socket that is not there is no reason not to run: without it nobody can ask, and the log says why. An
    /// address that was asked for is.
    pub(super) async fn start(config: &Config, board: &Arc<Board>) -> Result<Self, RunError> {
        let mut asked = Self::default();
        match &config.status.socket {
            None => tracing::debug!("no status socket"),
            Some(path) => match unix::bind(path).await {
                Ok((file, listener)) => {
                    asked._file = Some(file);
                    asked
                        ._tasks
                        .spawn(serve_socket(listener, Arc::clone(board)));
                }
                Err(refused) if refused.source.kind() == io::ErrorKind::AddrInUse => {
                    tracing::warn!(
                        "no status socket: another xbosh answers at {}; set status.socket for one of them",
                        path.display()
                    );
                }
                Err(refused) => tracing::warn!(
                    "no status socket at {}: {}; set status.socket, or switch it off by \"\"",
                    path.display(),
                    crate::connect::error::plain(&refused.source)
                ),
            },
        }
        if let Some(address) = config.status.metrics {
            let listener = TcpListener::bind(address)
                .await
                .map_err(|source| RunError::Metrics { address, source })?;
            asked._tasks.spawn(serve_http(listener, Arc::clone(board)));
        }
        Ok(asked)
    }
}
