//! A SOCKS5 proxy with or without user and password (RFC 1928, RFC 1929), and the ways it misbehaves.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::TcpStream;

use super::{Log, ProxyOptions};
use crate::Service;

/// Where a proxy falls silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocksStage {
    /// It never chooses a method.
    Method,
    /// It never judges the credentials.
    Credentials,
    /// It never answers the request.
    Request,
    /// The tunnel leads nowhere.
    Tunnel,
}

/// How the proxy misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocksTrick {
    /// Not at all.
    None,
    /// Every CONNECT gets this reply code.
    Reply(u8),
    /// The reply names the bound address by name, byte by byte, glued to what follows.
    OddReply,
    /// The reply names an IPv6 address.
    Ipv6Reply,
    /// Bytes of the tunnel stand right behind the reply.
    Glued(&'static [u8]),
    /// This version in every answer.
    Version(u8),
    /// This method is chosen, offered or not; 0xff is none.
    Method(u8),
    /// This status for credentials, right or wrong.
    CredentialStatus(u8),
    /// Nothing more from here on.
    Stalls(SocksStage),
    /// The connection closes where it would have stalled.
    Closes(SocksStage),
    /// Bytes that are no SOCKS.
    Garbage(&'static [u8]),
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
        let proxy = Proxy {
            options,
            trick,
            log: Arc::clone(&log),
        };
        let service = Service::start(move |stream| {
            let proxy = proxy.clone();
            async move {
                // A broken client is its own problem.
                let _ = proxy.serve(stream).await;
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

    /// `methods …`, `user …`, `password …` (where any is taken) and `connect KIND HOST PORT` lines; KIND is `name`, `ipv4` or `ipv6`.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.log.lines().clone()
    }

    /// Cuts every connection.
    pub async fn cut(&self) {
        self.service.cut().await;
    }
}

#[derive(Clone)]
struct Proxy {
    options: ProxyOptions,
    trick: SocksTrick,
    log: Arc<Log>,
}

impl Proxy {
    async fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        if client.read_u8().await? != 5 {
            self.log.push("not version 5");
            return Ok(());
        }
        let methods = read_counted(&mut client).await?;
        self.log.push(format!("methods {methods:?}"));
        if let SocksTrick::Garbage(bytes) = self.trick {
            return client.write_all(bytes).await;
        }
        self.stage(SocksStage::Method).await?;
        let wanted = if self.options.credentials.is_some() {
            2
        } else {
            0
        };
        let chosen = match self.trick {
            SocksTrick::Method(method) => method,
            _ if methods.contains(&wanted) => wanted,
            _ => 0xff,
        };
        client.write_all(&[self.version(), chosen]).await?;
        match chosen {
            0 => {}
            2 => {
                if !self.authenticate(&mut client).await? {
                    return Ok(());
                }
            }
            _ => return Ok(()),
        }
        let (kind, host, port) = read_request(&mut client).await?;
        self.log.push(format!("connect {kind} {host} {port}"));
        self.stage(SocksStage::Request).await?;
        self.connect(client, &host, port).await
    }

    async fn authenticate(&self, client: &mut TcpStream) -> io::Result<bool> {
        let version = client.read_u8().await?;
        let given = (read_counted(client).await?, read_counted(client).await?);
        self.log.push(format!(
            "user {} (version {version})",
            String::from_utf8_lossy(&given.0)
        ));
        if self.options.credentials.is_none() {
            // Anyone is welcome, and what they made up is no secret.
            let password = String::from_utf8_lossy(&given.1);
            self.log.push(format!("password {password}"));
        }
        self.stage(SocksStage::Credentials).await?;
        let right = self
            .options
            .credentials
            .as_ref()
            .is_none_or(|(user, password)| {
                given == (user.as_bytes().to_vec(), password.as_bytes().to_vec())
            });
        let status = match self.trick {
            SocksTrick::CredentialStatus(status) => status,
            _ => u8::from(!right),
        };
        client.write_all(&[1, status]).await?;
        Ok(status == 0)
    }

    async fn connect(&self, mut client: TcpStream, host: &str, port: u16) -> io::Result<()> {
        let reply = |code: u8| [self.version(), code, 0, 1, 0, 0, 0, 0, 0, 0];
        if let SocksTrick::Reply(code) = self.trick {
            return client.write_all(&reply(code)).await;
        }
        let Some(address) = self.options.address(host, port) else {
            return client.write_all(&reply(4)).await;
        };
        let Ok(mut origin) = TcpStream::connect(address).await else {
            return client.write_all(&reply(5)).await;
        };
        let _ = origin.set_nodelay(true);
        match self.trick {
            SocksTrick::OddReply => {
                for byte in b"\x05\x00\x00\x03\x09localhost\x00\x50" {
                    client.write_all(&[*byte]).await?;
                }
            }
            SocksTrick::Ipv6Reply => {
                client
                    .write_all(&[[5, 0, 0, 4].as_slice(), &[0; 18]].concat())
                    .await?;
            }
            SocksTrick::Glued(bytes) => {
                client
                    .write_all(&[reply(0).as_slice(), bytes].concat())
                    .await?
            }
            _ => client.write_all(&reply(0)).await?,
        }
        self.stage(SocksStage::Tunnel).await?;
        copy_bidirectional(&mut client, &mut origin).await.map(drop)
    }

    const fn version(&self) -> u8 {
        match self.trick {
            SocksTrick::Version(version) => version,
            _ => 5,
        }
    }

    async fn stage(&self, stage: SocksStage) -> io::Result<()> {
        match self.trick {
            SocksTrick::Stalls(at) if at == stage => std::future::pending().await,
            SocksTrick::Closes(at) if at == stage => Err(io::ErrorKind::ConnectionAborted.into()),
            _ => Ok(()),
        }
    }
}

async fn read_counted(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::from(client.read_u8().await?)];
    client.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn read_request(client: &mut TcpStream) -> io::Result<(&'static str, String, u16)> {
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
        3 => (
            "name",
            String::from_utf8_lossy(&read_counted(client).await?).into_owned(),
        ),
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    Ok((kind, host, client.read_u16().await?))
}
