//! A SOCKS5 proxy with or without user and password.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::TcpStream;

use super::{Log, ProxyOptions};
use crate::Service;

/// How the proxy misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocksTrick {
    /// Not at all.
    None,
    /// Every CONNECT gets this reply code.
    Reply(u8),
    /// The reply names the bound address by name, byte by byte, glued to what follows.
    OddReply,
}

/// A running SOCKS5 proxy.
#[derive(Debug)]
pub struct Socks5Proxy {
    service: Service,
    log: Arc<Log>,
}

impl Socks5Proxy {
    /// Starts on a free loopback port.
    pub async fn start(options: ProxyOptions, trick: SocksTrick) -> Self {
        let log = Arc::new(Log::default());
        let seen = Arc::clone(&log);
        let service = Service::start(move |stream| {
            let (options, seen) = (options.clone(), Arc::clone(&seen));
            async move {
                // A broken client is its own problem.
                let _ = serve(stream, options, trick, seen).await;
            }
        })
        .await;
        Self { service, log }
    }

    /// Its address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.service.addr()
    }

    /// `methods …` and `connect KIND HOST PORT` lines.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.log.lines().clone()
    }

    /// Cuts every connection.
    pub async fn cut(&self) {
        self.service.cut().await;
    }
}

async fn read_counted(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::from(client.read_u8().await?)];
    client.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn serve(
    mut client: TcpStream,
    options: ProxyOptions,
    trick: SocksTrick,
    log: Arc<Log>,
) -> std::io::Result<()> {
    let _version = client.read_u8().await?;
    let methods = read_counted(&mut client).await?;
    log.push(format!("methods {methods:?}"));
    let wanted = if options.credentials.is_some() { 2 } else { 0 };
    if !methods.contains(&wanted) {
        return client.write_all(&[5, 0xff]).await;
    }
    client.write_all(&[5, wanted]).await?;
    if let Some((user, password)) = &options.credentials {
        let _version = client.read_u8().await?;
        let given = (
            read_counted(&mut client).await?,
            read_counted(&mut client).await?,
        );
        if given != (user.as_bytes().to_vec(), password.as_bytes().to_vec()) {
            return client.write_all(&[1, 1]).await;
        }
        client.write_all(&[1, 0]).await?;
    }
    let mut head = [0; 4];
    client.read_exact(&mut head).await?;
    let (kind, host) = match head[3] {
        1 => {
            let mut ip = [0; 4];
            client.read_exact(&mut ip).await?;
            ("ipv4", IpAddr::from(ip).to_string())
        }
        4 => {
            let mut ip = [0; 16];
            client.read_exact(&mut ip).await?;
            ("ipv6", IpAddr::from(ip).to_string())
        }
        _ => (
            "name",
            String::from_utf8_lossy(&read_counted(&mut client).await?).into_owned(),
        ),
    };
    let port = client.read_u16().await?;
    log.push(format!("connect {kind} {host} {port}"));
    let reply = |code: u8| [5, code, 0, 1, 0, 0, 0, 0, 0, 0];
    if let SocksTrick::Reply(code) = trick {
        return client.write_all(&reply(code)).await;
    }
    let Some(address) = options.address(&host, port) else {
        return client.write_all(&reply(4)).await;
    };
    let Ok(mut origin) = TcpStream::connect(address).await else {
        return client.write_all(&reply(5)).await;
    };
    let _ = client.set_nodelay(true);
    let _ = origin.set_nodelay(true);
    if trick == SocksTrick::OddReply {
        for byte in b"\x05\x00\x00\x03\x09localhost\x00\x50" {
            client.write_all(&[*byte]).await?;
        }
    } else {
        client.write_all(&reply(0)).await?;
    }
    copy_bidirectional(&mut client, &mut origin).await.map(drop)
}
