//! SOCKS5 (RFC 1928, RFC 1929); the proxy resolves names.
//!
//! The protocol is tokio-socks'; a small tap keeps the proxy's replies, because its errors drop the codes.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use secrecy::ExposeSecret as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_socks::TargetAddr;
use tokio_socks::tcp::Socks5Stream;

use super::error::{ConnectError, plain};
use super::route::{Upstream, authority};

/// Asks the proxy at the other end of `stream` for a connection to `host`:`port`. Names go to the proxy as
/// they are (P-17): nothing is resolved here.
///
/// # Errors
/// E-30 to E-34.
pub(super) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    upstream: &Upstream,
    host: &str,
    port: u16,
    limit: Duration,
) -> Result<S, ConnectError> {
    if host.len() > 255 {
        let text = format!(
            "the host name of a connection manager's url has {} bytes, and SOCKS5 can carry 255",
            host.len()
        );
        return Err(ConnectError::Setting(text));
    }
    let target = match host.parse::<IpAddr>() {
        Ok(ip) => TargetAddr::Ip((ip, port).into()),
        Err(_) => TargetAddr::Domain(host.into(), port),
    };
    let mut tap = Tap {
        stream,
        seen: Vec::with_capacity(16),
    };
    let result = {
        let tapped = &mut tap;
        let asking = async {
            match &upstream.credentials {
                Some(credentials) => {
                    let password = credentials.password.expose_secret();
                    Socks5Stream::connect_with_password_and_socket(
                        tapped,
                        target,
                        &credentials.username,
                        password,
                    )
                    .await
                }
                None => Socks5Stream::connect_with_socket(tapped, target).await,
            }
        };
        tokio::time::timeout(limit, asking)
            .await
            .map(|result| result.map(drop))
    };
    let proxy = upstream.authority();
    match result {
        Ok(Ok(())) => {
            let unasked = upstream.credentials.is_some() && tap.seen.get(1) == Some(&0);
            if unasked && upstream.isolated {
                return Err(ConnectError::ProxyProtocol {
                    proxy,
                    set_by: upstream.set_by,
                    kind: "a SOCKS5 proxy that keeps sessions apart, which proxy.isolate asks for",
                    said: "it takes no user name".into(),
                });
            }
            if unasked {
                tracing::debug!(%proxy, "the proxy did not ask for the configured user name and password");
            }
            Ok(tap.stream)
        }
        Ok(Err(error)) => Err(explain(upstream, &authority(host, port), &error, &tap.seen)),
        Err(_) => Err(ConnectError::ProxySilent {
            proxy,
            set_by: upstream.set_by,
        }),
    }
}

/// What the replies mean (P-15, P-16, P-19): the method, the status of the login, the reply code.
fn explain(
    upstream: &Upstream,
    target: &str,
    error: &tokio_socks::Error,
    seen: &[u8],
) -> ConnectError {
    let proxy = upstream.authority();
    let target = target.to_owned();
    let sent = upstream.credentials.is_some();
    let protocol = |said: String| ConnectError::ProxyProtocol {
        proxy: proxy.clone(),
        set_by: upstream.set_by,
        kind: "a SOCKS5 proxy",
        said,
    };
    let (method, rest) = match seen {
        [5, method, rest @ ..] => (*method, rest),
        [5] | [] => return protocol(closed(error)),
        [version, ..] => return protocol(format!("its answer begins with byte {version}")),
    };
    let reply = match (method, rest) {
        (0xff, _) => {
            return ConnectError::ProxyAuth {
                proxy,
                set_by: upstream.set_by,
                sent,
                offers: "no login method in common".into(),
            };
        }
        (2, [1, 0, reply @ ..]) => reply,
        (2, [1, status, ..]) => {
            return ConnectError::ProxyAuth {
                proxy,
                set_by: upstream.set_by,
                sent,
                offers: format!("SOCKS5 status {status}"),
            };
        }
        (0, reply) => reply,
        (2, _) => return protocol(closed(error)),
        (method, _) => return protocol(format!("it chose login method {method}")),
    };
    let code = match reply {
        [5, code @ 0xf0..=0xf7, ..] => return onion(proxy, target, *code),
        [5, code, ..] => *code,
        [version, _, ..] => return protocol(format!("its reply begins with byte {version}")),
        _ => return protocol(closed(error)),
    };
    let name = match code {
        0 => return protocol(closed(error)),
        1 => "general failure",
        2 => {
            return ConnectError::ProxyRefused {
                proxy,
                target,
                said: "SOCKS5 reply 2, not allowed by its rules".into(),
            };
        }
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "TTL expired",
        7 => return protocol("SOCKS5 reply 7, command not supported".into()),
        8 => return protocol("SOCKS5 reply 8, address type not supported".into()),
        code => return protocol(format!("SOCKS5 reply {code}")),
    };
    ConnectError::ProxyUpstream {
        proxy,
        target,
        said: format!("SOCKS5 reply {code}, {name}"),
    }
}

/// What Tor says of an onion service (its proposal 304, P-21).
fn onion(proxy: String, target: String, code: u8) -> ConnectError {
    let words = match code {
        0xf0 => "the onion service's descriptor was not found: it is down, or its address is wrong",
        0xf1 => "the onion service's descriptor is invalid",
        0xf2 => "the onion service could not be introduced to: it seems to be down",
        0xf3 => "no meeting point with the onion service could be reached",
        0xf4 => "the onion service wants a client key, which Tor's configuration does not hold",
        0xf5 => "the onion service refuses the client key that Tor's configuration holds",
        0xf6 => "the onion address is invalid",
        _ => "the onion service could not be introduced to in time",
    };
    ConnectError::ProxyUpstream {
        proxy,
        target,
        said: format!("SOCKS5 reply {code:02X}, {words}"),
    }
}

fn closed(error: &tokio_socks::Error) -> String {
    if let tokio_socks::Error::Io(error) = error {
        plain(error)
    } else {
        error.to_string()
    }
}

/// Keeps what is read.
struct Tap<S> {
    stream: S,
    seen: Vec<u8>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let result = Pin::new(&mut this.stream).poll_read(cx, buf);
        this.seen.extend_from_slice(&buf.filled()[before..]);
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::super::route::{ProxyKind, SetBy};
    use super::*;
    use crate::bosh::FailureKind;
    use crate::config::Credentials;

    /// Plays a proxy: each reply is written byte by byte once something was read. Returns what it read.
    async fn ask(
        with: bool,
        host: &str,
        replies: &[&[u8]],
    ) -> (Vec<Vec<u8>>, Result<Vec<u8>, ConnectError>) {
        let (ours, mut theirs) = duplex(4096);
        let credentials = with.then(|| Credentials {
            username: "user".into(),
            password: SecretString::from("s3cret".to_owned()),
        });
        let upstream = Upstream {
            kind: ProxyKind::Socks5,
            host: "proxy".into(),
            port: 1080,
            credentials,
            isolated: false,
            set_by: SetBy::Config,
        };
        let asking = connect(ours, &upstream, host, 443, Duration::from_secs(5));
        let answering = async {
            let mut seen = Vec::new();
            for reply in replies {
                let mut buffer = vec![0; 600];
                let count = theirs.read(&mut buffer).await.unwrap();
                buffer.truncate(count);
                seen.push(buffer);
                for byte in *reply {
                    // The asking side hangs up once it has seen enough.
                    if theirs.write_all(&[*byte]).await.is_err() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
            drop(theirs);
            seen
        };
        let (result, seen) = tokio::join!(asking, answering);
        match result {
            Ok(mut stream) => {
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).await.unwrap();
                (seen, Ok(rest))
            }
            Err(error) => (seen, Err(error)),
        }
    }

    /// P-15, P-17, P-18: no login offered without credentials; the name goes to the proxy; the reply's bound
    /// address may be a name; what follows it is the tunnel's.
    #[tokio::test]
    async fn p17_names_are_resolved_by_the_proxy() {
        let (seen, rest) = ask(
            false,
            "xn--bcher-kva.example",
            &[&[5, 0], b"\x05\x00\x00\x03\x02ab\x00\x50tunnel"],
        )
        .await;
        assert_eq!(seen[0], [5, 1, 0]);
        assert_eq!(
            seen[1],
            b"\x05\x01\x00\x03\x15xn--bcher-kva.example\x01\xbb"
        );
        assert_eq!(rest.unwrap(), b"tunnel");
    }

    /// P-15, P-16: with credentials both methods are offered and the login is RFC 1929's.
    #[tokio::test]
    async fn p16_user_and_password() {
        let ok = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50";
        let (seen, rest) = ask(true, "::1", &[&[5, 2], &[1, 0], ok]).await;
        assert_eq!(seen[0], [5, 2, 0, 2]);
        assert_eq!(seen[1], b"\x01\x04user\x06s3cret");
        assert_eq!(seen[2][..5], [5, 1, 0, 4, 0]);
        assert!(rest.is_ok());
        // The proxy may also let us in without.
        let (seen, rest) = ask(true, "127.0.0.1", &[&[5, 0], ok]).await;
        assert_eq!(seen[1], b"\x05\x01\x00\x01\x7f\x00\x00\x01\x01\xbb");
        assert!(rest.is_ok());
    }

    /// P-17: a name that SOCKS5 cannot carry is not even begun with.
    #[tokio::test]
    async fn p17_long_name() {
        let longest = "a".repeat(255);
        let (seen, rest) = ask(false, &longest, &[&[5, 0], &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]]).await;
        assert_eq!(seen[1].len(), 4 + 1 + 255 + 2);
        assert!(rest.is_ok());
        let (_, rest) = ask(false, &"a".repeat(256), &[&[]]).await;
        assert_eq!(rest.unwrap_err().kind(), FailureKind::Internal);
    }

    /// P-21: Tor's own codes for onion services (proposal 304), each in words; the name goes to the proxy.
    #[tokio::test]
    async fn p21_onion_errors() {
        let host = format!("{}.onion", "a".repeat(56));
        for (code, words) in [
            (
                0xf0,
                "reply F0, the onion service's descriptor was not found",
            ),
            (0xf1, "reply F1, the onion service's descriptor is invalid"),
            (
                0xf2,
                "reply F2, the onion service could not be introduced to: it seems",
            ),
            (0xf3, "reply F3, no meeting point"),
            (0xf4, "reply F4, the onion service wants a client key"),
            (0xf5, "reply F5, the onion service refuses the client key"),
            (0xf6, "reply F6, the onion address is invalid"),
            (
                0xf7,
                "reply F7, the onion service could not be introduced to in time",
            ),
        ] {
            let reply = [5, code, 0, 1, 0, 0, 0, 0, 0, 0];
            let (seen, result) = ask(false, &host, &[&[5, 0], &reply]).await;
            assert_eq!(seen[1][3..5], [3, 62]);
            let error = result.unwrap_err();
            assert_eq!(error.kind(), FailureKind::ProxyUpstream);
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    /// P-15, P-20: a proxy that would mix sessions which are to be kept apart is refused.
    #[tokio::test]
    async fn p20_no_isolation_no_connection() {
        let (ours, mut theirs) = duplex(4096);
        theirs
            .write_all(b"\x05\x00\x05\x00\x00\x01\0\0\0\0\0\0")
            .await
            .unwrap();
        let upstream = Upstream {
            kind: ProxyKind::Socks5,
            host: "proxy".into(),
            port: 1080,
            credentials: Some(Credentials {
                username: "<torS0X>0".into(),
                password: SecretString::from("s3cret".to_owned()),
            }),
            isolated: true,
            set_by: SetBy::Config,
        };
        let error = connect(ours, &upstream, "cm", 443, Duration::from_secs(5)).await;
        assert_eq!(
            error.err().unwrap().to_string(),
            "what answers at proxy:1080 does not behave like a SOCKS5 proxy that keeps sessions apart, which proxy.isolate asks for (it takes no user name); check the kind of proxy and the port in proxy.url"
        );
    }

    /// P-14: a proxy that stops in the middle.
    #[tokio::test(start_paused = true)]
    async fn p14_silent_proxy() {
        let (ours, mut theirs) = duplex(4096);
        theirs.write_all(&[5, 0, 5, 0]).await.unwrap();
        let upstream = Upstream {
            kind: ProxyKind::Socks5,
            host: "proxy".into(),
            port: 1080,
            credentials: None,
            isolated: false,
            set_by: SetBy::Config,
        };
        let error = connect(ours, &upstream, "cm", 443, Duration::from_secs(15)).await;
        assert_eq!(error.err().unwrap().kind(), FailureKind::ProxyUnreachable);
    }

    /// P-15, P-16, P-19: every refusal has its row, and keeps the code.
    #[tokio::test]
    async fn p19_refusals() {
        use FailureKind::{ProxyAuth, ProxyProtocol, ProxyRefused, ProxyUpstream};
        let cases: [(&[&[u8]], bool, FailureKind, &str); 8] = [
            (&[&[5, 0xff]], true, ProxyAuth, "no login method in common"),
            (&[&[5, 2], &[1, 1]], true, ProxyAuth, "SOCKS5 status 1"),
            (&[&[5, 2], &[1, 2]], true, ProxyAuth, "SOCKS5 status 2"),
            (&[&[5, 2]], false, ProxyProtocol, ""),
            (&[&[4, 0]], false, ProxyProtocol, "begins with byte 4"),
            (
                b"HTTP/1.1 400 Bad\r\n"
                    .chunks(99)
                    .collect::<Vec<_>>()
                    .leak(),
                false,
                ProxyProtocol,
                "begins with byte 72",
            ),
            (&[&[5, 1]], false, ProxyProtocol, "login method 1"),
            (&[&[5]], false, ProxyProtocol, "connection closed"),
        ];
        for (replies, with, kind, words) in cases {
            let (_, result) = ask(with, "cm", replies).await;
            let error = result.unwrap_err();
            assert_eq!(error.kind(), kind, "{replies:?}: {error}");
            assert!(error.to_string().contains(words), "{replies:?}: {error}");
            assert!(!error.to_string().contains("s3cret"));
        }
        for (code, kind) in [
            (1, ProxyUpstream),
            (2, ProxyRefused),
            (3, ProxyUpstream),
            (4, ProxyUpstream),
            (5, ProxyUpstream),
            (6, ProxyUpstream),
            (7, ProxyProtocol),
            (8, ProxyProtocol),
            (9, ProxyProtocol),
            (0xef, ProxyProtocol),
            (0xf8, ProxyProtocol),
        ] {
            let reply = [5, code, 0, 1, 0, 0, 0, 0, 0, 0];
            let (_, result) = ask(false, "cm", &[&[5, 0], &reply]).await;
            let error = result.unwrap_err();
            assert_eq!(error.kind(), kind, "{code}: {error}");
            assert!(
                error.to_string().contains(&format!("SOCKS5 reply {code}")),
                "{error}"
            );
        }
    }
}
