//! A door for the fuzz target `proxy_replies`: both proxy protocols over any stream.

use std::time::Duration;

use super::{ConnectError, Io, Login, ProxyKind, Round, Upstream, authority, http_proxy, socks5};

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
            let login = Login::new(upstream.credentials.clone());
            let mut round = Round::default();
            let who = (&login, &mut round);
            match http_proxy::connect(stream, upstream, who, &target, limit).await? {
                Some(stream) => Ok(Box::new(stream)),
                None => Err(http_proxy::auth_refused(upstream, 407, &[])),
            }
        }
    }
}
