//! CONNECT through an HTTP proxy (RFC 9110 section 9.3.6).
//!
//! The reply's head is read here and not by an HTTP client: any 2xx opens the tunnel whatever lengths it
//! announces, and bytes behind the head belong to the tunnel (P-03).

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout_at};

use super::error::{ConnectError, plain};
use super::login::{Login, Round, speaks};
use super::prefixed::Prefixed;
use super::route::Upstream;
use super::words::{first_words, printable, schemes};

/// Largest head of a proxy's reply.
const MAX_HEAD: usize = 16 * 1024;
/// How much of an error page is read.
const MAX_PAGE: usize = 8 * 1024;
/// How long an error page is waited for.
const PAGE_PATIENCE: Duration = Duration::from_millis(500);

/// Asks the proxy at the other end of `stream` for a tunnel to `target` (host:port). `None`: it asked for
/// another login, and is to be asked again on a new connection, with the same `round`.
///
/// # Errors
/// E-30 to E-34.
pub(super) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    upstream: &Upstream,
    (login, round): (&Login, &mut Round),
    target: &str,
    limit: Duration,
) -> Result<Option<Prefixed<S>>, ConnectError> {
    let deadline = Instant::now() + limit;
    let proxy = upstream.authority();
    let (authorization, sent) = login.authorize("CONNECT", target, b"");
    round.sent = sent;
    let request = request(authorization.as_ref(), target);
    let lost = |error: io::Error| ConnectError::ProxyProtocol {
        proxy: proxy.clone(),
        set_by: upstream.set_by,
        kind: "an HTTP proxy",
        said: plain(&error),
    };
    let silent = |_| ConnectError::ProxySilent {
        proxy: proxy.clone(),
        set_by: upstream.set_by,
    };
    timeout_at(deadline, stream.write_all(&request))
        .await
        .map_err(silent)?
        .map_err(lost)?;
    timeout_at(deadline, stream.flush())
        .await
        .map_err(silent)?
        .map_err(lost)?;
    let mut buffer = BytesMut::with_capacity(1024);
    loop {
        match parse_head(&buffer) {
            Parsed::Head(head) if (100..200).contains(&head.status) => {
                // An interim reply: the real one follows.
                let _ = buffer.split_to(head.length);
                continue;
            }
            Parsed::Head(head) if (200..300).contains(&head.status) => {
                let _ = buffer.split_to(head.length);
                return Ok(Some(Prefixed::new(stream, buffer.freeze())));
            }
            Parsed::Head(head)
                if head.status == 407
                    && login.challenged(round, head.challenges.iter().map(Vec::as_slice)) =>
            {
                return Ok(None);
            }
            Parsed::Head(head) => {
                let mut page = buffer.split_off(head.length);
                if head.wants_page() {
                    read_page(&mut stream, &mut page, head.page).await;
                }
                return Err(refused(upstream, target, &head, &page));
            }
            Parsed::Partial if buffer.len() >= MAX_HEAD => {
                return Err(lost(io::Error::other("a reply without end")));
            }
            Parsed::Partial => {}
            Parsed::Garbage => return Err(not_http(upstream)),
        }
        let read = timeout_at(deadline, stream.read_buf(&mut buffer))
            .await
            .map_err(silent)?
            .map_err(lost)?;
        if read == 0 {
            return Err(lost(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

/// The CONNECT request: target and Host with the port always given (P-02), the login if there is one (P-05).
fn request(authorization: Option<&HeaderValue>, target: &str) -> zeroize::Zeroizing<Vec<u8>> {
    let mut out = zeroize::Zeroizing::new(Vec::with_capacity(512));
    out.extend_from_slice(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").as_bytes());
    if let Some(authorization) = authorization {
        out.extend_from_slice(b"Proxy-Authorization: ");
        out.extend_from_slice(authorization.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(
        concat!("User-Agent: xbosh/", env!("CARGO_PKG_VERSION"), "\r\n\r\n").as_bytes(),
    );
    out
}

#[derive(Debug)]
struct Head {
    length: usize,
    status: u16,
    /// Schemes of `Proxy-Authenticate` and `WWW-Authenticate`.
    offers: Vec<String>,
    /// What stands in `Proxy-Authenticate`.
    challenges: Vec<Vec<u8>>,
    squid: Option<String>,
    /// Length of the page, if it is known.
    page: Option<usize>,
}

impl Head {
    /// Whether the page can add to what the head says.
    fn wants_page(&self) -> bool {
        !matches!(self.status, 401 | 407) && self.squid.is_none()
    }
}

enum Parsed {
    Head(Head),
    Partial,
    Garbage,
}

fn parse_head(bytes: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => {
            let mut head = Head {
                length,
                status: response.code.unwrap_or(0),
                offers: Vec::new(),
                challenges: Vec::new(),
                squid: None,
                page: None,
            };
            let named = |header: &httparse::Header<'_>, names: &[&str]| {
                names.iter().any(|n| header.name.eq_ignore_ascii_case(n))
            };
            let challenges = ["proxy-authenticate", "www-authenticate"];
            let offers = response.headers.iter().filter(|h| named(h, &challenges));
            head.offers = schemes(offers.map(|header| header.value));
            for header in response.headers.iter() {
                let value = String::from_utf8_lossy(header.value);
                if named(header, &["x-squid-error"]) {
                    head.squid = Some(printable(&value));
                } else if named(header, &challenges[..1]) {
                    head.challenges.push(header.value.to_vec());
                } else if named(header, &["content-length"]) {
                    head.page = value.trim().parse().ok();
                }
            }
            Parsed::Head(head)
        }
        Ok(httparse::Status::Partial) => Parsed::Partial,
        Err(_) => Parsed::Garbage,
    }
}

/// Some of the error page, as far as it comes quickly.
async fn read_page<S: AsyncRead + Unpin>(
    stream: &mut S,
    page: &mut BytesMut,
    length: Option<usize>,
) {
    let until = Instant::now() + PAGE_PATIENCE;
    let enough = length.map_or(MAX_PAGE, |length| length.min(MAX_PAGE));
    while page.len() < enough {
        match timeout_at(until, stream.read_buf(page)).await {
            Ok(Ok(read)) if read > 0 => {}
            // The page only adds words to the error: whatever ends it, the error stands.
            Ok(Ok(_) | Err(_)) | Err(_) => break,
        }
    }
}

fn refused(upstream: &Upstream, target: &str, head: &Head, page: &[u8]) -> ConnectError {
    let proxy = upstream.authority();
    // tinyproxy answers wrong credentials with 401: before a tunnel exists only the proxy can have said it (P-06).
    if head.status == 407 || head.status == 401 {
        return auth_refused(upstream, head.status, &head.offers);
    }
    let target = target.to_owned();
    let words = match &head.squid {
        Some(squid) => squid.clone(),
        None => first_words(page),
    };
    let said = if words.is_empty() {
        head.status.to_string()
    } else {
        format!("{}: {words}", head.status)
    };
    match head.status {
        500..=599 => ConnectError::ProxyUpstream {
            proxy,
            target,
            said,
        },
        _ => ConnectError::ProxyRefused {
            proxy,
            target,
            said,
        },
    }
}

/// E-34: no HTTP came.
pub(crate) fn not_http(upstream: &Upstream) -> ConnectError {
    ConnectError::ProxyProtocol {
        proxy: upstream.authority(),
        set_by: upstream.set_by,
        kind: "an HTTP proxy",
        said: "its answer is not HTTP".to_owned(),
    }
}

/// E-31 with what the proxy offers.
pub(crate) fn auth_refused(upstream: &Upstream, status: u16, offers: &[String]) -> ConnectError {
    let mut said = status.to_string();
    if !offers.is_empty() {
        said.push_str(&format!(", offers {}", offers.join(", ")));
    }
    if !speaks(offers) {
        return ConnectError::ProxyScheme {
            proxy: upstream.authority(),
            offers: said,
        };
    }
    ConnectError::ProxyAuth {
        proxy: upstream.authority(),
        set_by: upstream.set_by,
        sent: upstream.credentials.is_some(),
        offers: said,
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;
    use tokio::io::duplex;

    use super::super::route::{ProxyKind, SetBy};
    use super::*;
    use crate::config::Credentials;

    fn upstream(with: bool) -> Upstream {
        let credentials = with.then(|| Credentials {
            username: "u".into(),
            password: SecretString::from("s3cret".to_owned()),
        });
        Upstream {
            kind: ProxyKind::Http,
            host: "proxy".into(),
            port: 3128,
            credentials,
            isolated: false,
            set_by: SetBy::Config,
        }
    }

    /// As by a connector that knows nothing of the proxy yet; no challenge here can be answered.
    async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        stream: S,
        upstream: &Upstream,
        target: &str,
        limit: Duration,
    ) -> Result<Prefixed<S>, ConnectError> {
        let (login, mut round) = (Login::new(upstream.credentials.clone()), Round::default());
        let asked = super::connect(stream, upstream, (&login, &mut round), target, limit);
        asked.await.map(|tunnel| tunnel.unwrap())
    }

    async fn ask(
        reply: &[u8],
        with: bool,
        target: &str,
    ) -> (String, Result<Vec<u8>, ConnectError>) {
        let (ours, mut theirs) = duplex(1 << 16);
        let upstream = upstream(with);
        let asking = connect(ours, &upstream, target, Duration::from_secs(5));
        let answering = async {
            let mut head = BytesMut::new();
            while !head.ends_with(b"\r\n\r\n") {
                theirs.read_buf(&mut head).await.unwrap();
            }
            for byte in reply {
                // The asking side hangs up once it has seen enough.
                if theirs.write_all(&[*byte]).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(theirs);
            String::from_utf8(head.to_vec()).unwrap()
        };
        let (result, head) = tokio::join!(asking, answering);
        let rest = match result {
            Ok(mut tunnel) => {
                let mut rest = Vec::new();
                tunnel.read_to_end(&mut rest).await.unwrap();
                Ok(rest)
            }
            Err(error) => Err(error),
        };
        (head, rest)
    }

    /// P-02, P-05, P-07: the request, byte for byte.
    #[tokio::test]
    async fn p02_connect_request() {
        let (head, result) = ask(b"HTTP/1.1 200 OK\r\n\r\n", true, "[::1]:443").await;
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            head,
            format!(
                "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\nProxy-Authorization: Basic dTpzM2NyZXQ=\r\nUser-Agent: xbosh/{version}\r\n\r\n"
            )
        );
        assert_eq!(result.unwrap(), b"");
    }

    /// P-03: any 2xx opens the tunnel, lengths are ignored, interim replies skipped, glued bytes kept.
    #[tokio::test]
    async fn p03_tunnel_replies() {
        for reply in [
            &b"HTTP/1.1 200 Connection established\r\n\r\n\x16\x03\x03"[..],
            b"HTTP/1.0 200 Connection established\r\nProxy-agent: x\r\n\r\n\x16\x03\x03",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n\x16\x03\x03",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 299 Fine\r\n\r\n\x16\x03\x03",
        ] {
            let (_, result) = ask(reply, false, "a:443").await;
            assert_eq!(result.unwrap(), b"\x16\x03\x03");
        }
    }

    /// P-04, P-06, E-31 to E-34: each refusal keeps what the proxy said, and no password.
    #[tokio::test]
    async fn p04_refusals() {
        for (reply, with, text) in [
            (
                "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 3\r\n\r\nabc",
                true,
                "the proxy proxy:3128 refused the user name or password (407, offers Basic): check proxy.username and proxy.password",
            ),
            (
                "HTTP/1.0 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\r\n",
                true,
                "the proxy proxy:3128 refused the user name or password (401, offers Basic): check proxy.username and proxy.password",
            ),
            (
                "HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n\r\n",
                false,
                "the proxy proxy:3128 wants a login that xbosh does not speak (407, offers Negotiate, NTLM): run cntlm or px on this machine and set proxy.url to its address, see docs/corporate-proxies.md",
            ),
            (
                "HTTP/1.1 403 Forbidden\r\n\r\n<html><head><title>Denied</title><style>b{}</style></head><body><h1>Not\nhere</h1></body></html>",
                true,
                "the proxy proxy:3128 does not allow a connection to cm:5281 (403: Denied Not here); many proxies allow only port 443",
            ),
            (
                "HTTP/1.1 403 Forbidden\r\n\r\n<!-- a --><SCRIPT>b</SCRIPT>\u{1b}[31mBlockiert f\u{fc}r Sie",
                true,
                "the proxy proxy:3128 does not allow a connection to cm:5281 (403: [31mBlockiert f\u{fc}r Sie); many proxies allow only port 443",
            ),
            (
                "HTTP/1.1 405 Method Not Allowed\r\n\r\n<h1>No CONNECT</h1>",
                true,
                "the proxy proxy:3128 does not allow a connection to cm:5281 (405: No CONNECT); a web server that is no proxy says so: check the address and the port of the proxy",
            ),
            (
                "HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM, Negotiate abc==, Fancy realm=\"a, Basic\", nonce=\"x\\\", Basic\"\r\n\r\n",
                true,
                "the proxy proxy:3128 wants a login that xbosh does not speak (407, offers NTLM, Negotiate, Fancy): run cntlm or px on this machine and set proxy.url to its address, see docs/corporate-proxies.md",
            ),
            (
                "HTTP/1.1 503 Service Unavailable\r\nX-Squid-Error: ERR_CONNECT_FAIL 111\r\n\r\n<html>",
                true,
                "the proxy proxy:3128 could not reach cm:5281 (503: ERR_CONNECT_FAIL 111); check the url of this domain, or try again later",
            ),
            (
                "SSH-2.0-OpenSSH_9.2\r\n",
                true,
                "what answers at proxy:3128 does not behave like an HTTP proxy (its answer is not HTTP); check the kind of proxy and the port in proxy.url",
            ),
            (
                "",
                true,
                "what answers at proxy:3128 does not behave like an HTTP proxy (connection closed); check the kind of proxy and the port in proxy.url",
            ),
        ] {
            let (_, result) = ask(reply.as_bytes(), with, "cm:5281").await;
            assert_eq!(result.unwrap_err().to_string(), text);
        }
    }

    /// P-04: a head without end is cut off.
    #[tokio::test]
    async fn p04_endless_head() {
        let mut reply = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
        reply.resize(20_000, b'x');
        let (ours, mut theirs) = duplex(1 << 16);
        let upstream = upstream(false);
        let (result, _) = tokio::join!(
            connect(ours, &upstream, "a:1", Duration::from_secs(5)),
            theirs.write_all(&reply)
        );
        assert!(
            result
                .unwrap_err()
                .to_string()
                .contains("a reply without end")
        );
    }

    /// P-04: nobody waits for a page that would add nothing, on a connection that stays open.
    #[tokio::test(start_paused = true)]
    async fn p04_no_wait_for_a_page() {
        for head in [
            "407 No\r\nProxy-Authenticate: Basic",
            "403 No\r\nX-Squid-Error: ERR_ACCESS_DENIED 0",
        ] {
            let (ours, mut theirs) = duplex(1 << 16);
            let reply = format!("HTTP/1.1 {head}\r\nContent-Length: 3000\r\n\r\n");
            theirs.write_all(reply.as_bytes()).await.unwrap();
            let begun = Instant::now();
            let result = connect(ours, &upstream(true), "a:1", Duration::from_secs(5)).await;
            assert!(result.is_err());
            assert_eq!(begun.elapsed(), Duration::ZERO);
        }
    }

    /// P-04: an error page is waited for no longer than it is, and no words are made of what never came.
    #[tokio::test(start_paused = true)]
    async fn p04_page_of_known_length() {
        let start = Instant::now();
        for (reply, waited) in [
            ("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", 0),
            ("HTTP/1.1 407 No\r\nContent-Length: 99\r\n\r\n", 0),
            ("HTTP/1.1 403 No\r\nContent-Length: 99\r\n\r\nno", 500),
        ] {
            let (ours, mut theirs) = duplex(1 << 16);
            theirs.write_all(reply.as_bytes()).await.unwrap();
            let before = start.elapsed();
            let refused = connect(ours, &upstream(true), "a:443", Duration::from_secs(5)).await;
            let error = refused.unwrap_err();
            assert_eq!((start.elapsed() - before).as_millis(), waited, "{error}");
            if reply.contains("403") {
                assert_eq!(
                    error.to_string(),
                    "the proxy proxy:3128 does not allow a connection to a:443 (403: no); ask whoever runs it to allow this"
                );
            }
        }
    }

    /// P-14: a proxy that says nothing.
    #[tokio::test(start_paused = true)]
    async fn p14_silent_proxy() {
        let (ours, _theirs) = duplex(1 << 16);
        let error = connect(ours, &upstream(false), "a:1", Duration::from_secs(15))
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the proxy proxy:3128 does not answer; check proxy.url"
        );
    }
}
