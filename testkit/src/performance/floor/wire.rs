//! One kept-alive connection to a connection manager, and the least HTTP that it takes.

use std::io;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Buf as _, Bytes, BytesMut};
use http::Uri;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The way to a connection manager.
#[derive(Clone)]
pub(crate) struct Route {
    host: String,
    port: u16,
    /// What the request line asks for.
    target: String,
    tls: Option<TlsConnector>,
    proxy: Option<Proxy>,
}

#[derive(Clone)]
struct Proxy {
    socks: bool,
    address: String,
    /// Of Basic; empty for none.
    credentials: String,
}

impl Route {
    /// `proxy` is `http://user:password@host:port` or `socks5://host:port`.
    ///
    /// # Errors
    /// An address that is none.
    pub(crate) fn new(
        url: &str,
        proxy: Option<&str>,
        tls: Option<Arc<rustls::ClientConfig>>,
    ) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
        let secure = uri.scheme_str() == Some("https");
        let host = uri.host().ok_or("no host in the URL")?.to_owned();
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let tls = match (secure, tls) {
            (true, Some(config)) => Some(TlsConnector::from(config)),
            (true, None) => return Err("https takes a CA".to_owned()),
            (false, _) => None,
        };
        let proxy = proxy.map(Proxy::new).transpose()?;
        let absolute = !secure && proxy.as_ref().is_some_and(|proxy| !proxy.socks);
        let target = if absolute { url } else { uri.path() };
        Ok(Self {
            target: target.to_owned(),
            host,
            port,
            tls,
            proxy,
        })
    }

    /// What stands before the length in every request.
    pub(super) fn head(&self) -> String {
        let Self {
            host, port, target, ..
        } = self;
        let login = match &self.proxy {
            Some(proxy) if target.starts_with("http:") => proxy.login(),
            _ => String::new(),
        };
        format!(
            "POST {target} HTTP/1.1\r\nHost: {host}:{port}\r\n{login}Content-Type: text/xml; charset=utf-8\r\n\
             Content-Length: "
        )
    }

    async fn tcp(&self) -> io::Result<TcpStream> {
        let Some(proxy) = &self.proxy else {
            return dial(&format!("{}:{}", self.host, self.port)).await;
        };
        let mut stream = dial(&proxy.address).await?;
        if proxy.socks {
            self.ask_socks(&mut stream).await?;
        } else if self.tls.is_some() {
            self.ask_connect(&mut stream, proxy).await?;
        }
        Ok(stream)
    }

    async fn ask_connect(&self, stream: &mut TcpStream, proxy: &Proxy) -> io::Result<()> {
        let (host, port) = (&self.host, self.port);
        let login = proxy.login();
        let request =
            format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{login}\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        // The server behind it speaks only when spoken to.
        while !answer.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        match answer.get(8..12) {
            Some(b" 200") => Ok(()),
            _ => Err(other(&answer)),
        }
    }

    async fn ask_socks(&self, stream: &mut TcpStream) -> io::Result<()> {
        stream.write_all(&[5, 1, 0]).await?;
        let mut method = [0; 2];
        stream.read_exact(&mut method).await?;
        if method != [5, 0] {
            return Err(other(&method));
        }
        let length = u8::try_from(self.host.len()).map_err(io::Error::other)?;
        let mut request = vec![5, 1, 0, 3, length];
        request.extend_from_slice(self.host.as_bytes());
        request.extend_from_slice(&self.port.to_be_bytes());
        stream.write_all(&request).await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        let rest = match answer {
            [5, 0, _, 1] => 4 + 2,
            [5, 0, _, 4] => 16 + 2,
            _ => return Err(other(&answer)),
        };
        stream.read_exact(&mut vec![0; rest]).await?;
        Ok(())
    }
}

impl Proxy {
    fn new(url: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
        let authority = uri.authority().ok_or("no host in the proxy's URL")?;
        let (credentials, address) = authority
            .as_str()
            .rsplit_once('@')
            .unwrap_or(("", authority.as_str()));
        Ok(Self {
            socks: uri.scheme_str() == Some("socks5"),
            address: address.to_owned(),
            credentials: credentials.to_owned(),
        })
    }

    fn login(&self) -> String {
        if self.credentials.is_empty() {
            return String::new();
        }
        let credentials = BASE64.encode(&self.credentials);
        format!("Proxy-Authorization: Basic {credentials}\r\n")
    }
}

async fn dial(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn other(answer: &[u8]) -> io::Error {
    io::Error::other(String::from_utf8_lossy(answer).into_owned())
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl Io for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Io for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// A connection with at most one request in flight. Every wait may be given up and taken up again.
pub(super) struct Connection {
    io: Box<dyn Io>,
    /// What is not written yet.
    out: BytesMut,
    buffer: BytesMut,
    /// The request in flight.
    pub(super) rid: Option<u64>,
    /// TLS without a proxy, and nothing has come yet.
    first: bool,
}

impl Connection {
    pub(super) async fn open(route: &Route) -> io::Result<Self> {
        let tcp = route.tcp().await?;
        let io: Box<dyn Io> = match &route.tls {
            Some(tls) => {
                let name = ServerName::try_from(route.host.clone()).map_err(io::Error::other)?;
                Box::new(tls.connect(name, tcp).await?)
            }
            None => Box::new(tcp),
        };
        Ok(Self {
            io,
            out: BytesMut::new(),
            buffer: BytesMut::new(),
            rid: None,
            first: route.tls.is_some() && route.proxy.is_none(),
        })
    }

    /// Takes a request; [`Self::flush`] writes it.
    pub(super) fn request(&mut self, rid: u64, head: &str, body: &[&[u8]]) {
        let length: usize = body.iter().map(|part| part.len()).sum();
        self.rid = Some(rid);
        let length_text = format!("{length}\r\n\r\n");
        self.out.reserve(head.len() + length_text.len() + length);
        self.out.extend_from_slice(head.as_bytes());
        self.out.extend_from_slice(length_text.as_bytes());
        for part in body {
            self.out.extend_from_slice(part);
        }
    }

    pub(super) async fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        while self.out.has_remaining() {
            self.io.write_buf(&mut self.out).await?;
        }
        self.io.flush().await?;
        self.out = BytesMut::new();
        if self.first {
            // A server with Nagle's algorithm on waits for our ACK of its session tickets.
            self.io.tcp().set_quickack(true)?;
        }
        Ok(())
    }

    /// The answer to the request in flight.
    pub(super) async fn answer(&mut self) -> io::Result<(u64, Bytes)> {
        loop {
            if let Some(body) = self.take_answer()?
                && let Some(rid) = self.rid.take()
            {
                return Ok((rid, body));
            }
            self.buffer.reserve(4096);
            if self.io.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.first = false;
        }
    }

    fn take_answer(&mut self) -> io::Result<Option<Bytes>> {
        let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = &self.buffer[..end];
        if head.get(8..12) != Some(b" 200") {
            return Err(other(head));
        }
        let length = std::str::from_utf8(head)
            .map_err(io::Error::other)?
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse::<usize>().ok())
            .ok_or_else(|| other(head))?;
        let total = end + 4 + length;
        if self.buffer.len() < total {
            self.buffer.reserve(total - self.buffer.len());
            return Ok(None);
        }
        let mut answer = self.buffer.split_to(total);
        answer.advance(end + 4);
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        Ok(Some(answer.freeze()))
    }
}
