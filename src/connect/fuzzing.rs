//! A door for the fuzz target `proxy_replies`: both proxy protocols over any stream.

use std::time::Duration;

use super::{ConnectError, Io, ProxyKind, Upstream, authority, http_proxy, socks5};

/// Asks the proxy at the other end of `stream` for a tunnel to `host`:`port`.
///
/// # Errors
/// As [`super::Connector::connect`].
pub async fn tunnel<'a>(
    stream: impl Io + 'a,
    upstream: &Upstream,
    host: &str,
    port: u16,
    limit: Duration,
) -> Result<Box<dyn Io + 'a>, ConnectError> {
    match upstream.kind {
        ProxyKind::Socks5 => {
            let stream = socks5::connect(stream, upstream, host, port, limit).await?;
            Ok(Box::new(stream))
        }
        ProxyKind::Http | ProxyKind::Https => {
            let target = authority(host, port);
            let stream = http_proxy::connect(stream, upstream, &target, limit).await?;
            Ok(Box::new(stream))
        }
    }
}
