//! Where a client connects.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::io::AsyncWrite;
use tokio::net::{TcpStream, UnixStream};

use super::stream::{Reader, Writer};
use super::tls::ClientTls;

/// An address or a Unix socket's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
    /// TLS over TCP.
    Tls(SocketAddr, ClientTls),
}

impl From<SocketAddr> for Place {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl From<&Path> for Place {
    fn from(path: &Path) -> Self {
        Self::Unix(path.to_owned())
    }
}

impl Place {
    /// The bare connection, before any TLS; what comes back is not read.
    pub(super) async fn bare(&self) -> io::Result<Box<dyn AsyncWrite + Send + Unpin>> {
        Ok(match self {
            Self::Tcp(address) | Self::Tls(address, _) => {
                Box::new(TcpStream::connect(address).await?)
            }
            Self::Unix(path) => Box::new(UnixStream::connect(path).await?),
        })
    }

    pub(super) async fn connect(&self) -> io::Result<(Reader, Writer)> {
        Ok(match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let (read, write) = stream.into_split();
                (Reader::new(Box::new(read)), Writer::new(Box::new(write)))
            }
            Self::Tls(address, tls) => {
                let (read, write) = tokio::io::split(tls.connect(*address).await?);
                (Reader::new(Box::new(read)), Writer::new(Box::new(write)))
            }
            Self::Unix(path) => {
                let (read, write) = UnixStream::connect(path).await?.into_split();
                (Reader::new(Box::new(read)), Writer::new(Box::new(write)))
            }
        })
    }
}
