//! The replies of HTTP and SOCKS5 proxies on the way to a tunnel.
//!
//! Input: a byte of options, then everything that the proxy ever says. The clock is paused: waiting takes no time.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::runtime::Runtime;
use xbosh::bosh::FailureKind;
use xbosh::config::Credentials;
use xbosh::connect::fuzzing::tunnel;
use xbosh::connect::{ConnectError, ProxyKind, Upstream};

const SOCKS: u8 = 1;
const CREDENTIALS: u8 = 2;
/// The proxy keeps the connection open and says no more.
const SILENT: u8 = 4;
/// The connection breaks instead of ending.
const BREAKS: u8 = 8;

const PASSWORD: &str = "k7Qw-zX3v+Tm9";
/// The same in `Proxy-Authorization`.
const BASIC: &str = "dTprN1F3LXpYM3YrVG05";
const LIMIT: Duration = Duration::from_secs(15);

thread_local! {
    static RUNTIME: RefCell<Option<Runtime>> = const { RefCell::new(None) };
}

pub fn run(data: &[u8]) {
    let [options, replies @ ..] = data else {
        return;
    };
    let whole = ask(*options, replies, usize::MAX);
    for size in [1, 2 + usize::from(options >> 4)] {
        let again = ask(*options, replies, size);
        let same = match (&again, &whole) {
            // The words may be those of a page, of which more or less has come along with the head.
            (Err((a, _)), Err((b, _))) => a == b,
            (a, b) => a == b,
        };
        assert!(same, "in pieces of {size}: {again:?}, not {whole:?}");
    }
    if options & SOCKS == 0 {
        check_http(&whole, replies, options & SILENT != 0);
    } else {
        check_socks(&whole, replies, options & CREDENTIALS != 0);
    }
    if let Err((_, text)) = &whole {
        check_words(text, replies);
    }
}

/// The bytes of the tunnel, or which row of the failure table and in which words.
type Outcome = Result<Vec<u8>, (FailureKind, String)>;

fn ask(options: u8, replies: &[u8], size: usize) -> Outcome {
    let socks = options & SOCKS != 0;
    let credentials = (options & CREDENTIALS != 0).then(|| Credentials {
        username: "u".into(),
        password: SecretString::from(PASSWORD),
    });
    let upstream = Upstream {
        kind: if socks {
            ProxyKind::Socks5
        } else {
            ProxyKind::Http
        },
        host: "proxy".into(),
        port: 3128,
        credentials,
        isolated: false,
        set_by: xbosh::connect::SetBy::Config,
    };
    let script = Script {
        rest: replies,
        size,
        end: match options & (SILENT | BREAKS) {
            0 => End::Close,
            BREAKS => End::Break,
            _ => End::Silence,
        },
    };
    RUNTIME.with_borrow_mut(|runtime| {
        let runtime = runtime.get_or_insert_with(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .expect("a runtime without I/O")
        });
        runtime.block_on(async {
            let began = tokio::time::Instant::now();
            let result = tunnel(script, &upstream, "cm.example", 443, LIMIT).await;
            assert!(began.elapsed() <= LIMIT + Duration::from_secs(1), "P-14");
            match result {
                Ok(mut stream) => {
                    let mut rest = Vec::new();
                    let reading = stream.read_to_end(&mut rest);
                    // It ends, breaks, or is silent; what came before counts.
                    let _ = tokio::time::timeout(LIMIT, reading).await;
                    Ok(rest)
                }
                Err(error) => Err(explain(&error)),
            }
        })
    })
}

fn explain(error: &ConnectError) -> (FailureKind, String) {
    assert!(!format!("{error:?}").contains(PASSWORD));
    (error.kind(), error.to_string())
}

/// HTTP: a tunnel begins right behind the first final reply, and only if that is a 2xx.
fn check_http(outcome: &Outcome, replies: &[u8], silent: bool) {
    match outcome {
        Ok(rest) => {
            assert!(replies.ends_with(rest), "the tunnel's bytes are changed");
            let head = &replies[..replies.len() - rest.len()];
            assert!(head.ends_with(b"\n\r\n") || head.ends_with(b"\n\n"));
            assert!(
                head.len() <= 17 * 1024 || informational(head),
                "a head of {} bytes",
                head.len()
            );
            assert_eq!(last_status(head).map(|status| status / 100), Some(2));
        }
        Err((FailureKind::ProxyAuth, text)) => {
            assert!(text.contains("407") || text.contains("401"), "{text}");
        }
        Err((FailureKind::ProxyUpstream, text)) => {
            assert!(matches!(said_status(text), Some(500..600)), "{text}");
        }
        Err((FailureKind::ProxyRefused, text)) => {
            assert!(matches!(said_status(text), Some(0..500 | 600..)), "{text}");
        }
        Err((FailureKind::ProxyUnreachable, _)) => assert!(silent),
        Err((FailureKind::ProxyProtocol, _)) => {}
        Err((kind, text)) => panic!("{kind:?}: {text}"),
    }
}

/// The status that the error gives.
fn said_status(text: &str) -> Option<u16> {
    let (_, said) = text.split_once("cm.example:443 (")?;
    let end = said.find(|c: char| !c.is_ascii_digit())?;
    said[..end].parse().ok()
}

fn informational(head: &[u8]) -> bool {
    head.starts_with(b"HTTP/1.1 1") || head.starts_with(b"HTTP/1.0 1")
}

/// The status of the last of these heads.
fn last_status(heads: &[u8]) -> Option<u16> {
    let at = (0..heads.len())
        .rev()
        .find(|at| heads[*at..].starts_with(b"HTTP/1.") && (*at == 0 || heads[at - 1] == b'\n'))?;
    let digits = heads[at..].get(9..12)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// What RFC 1928 and RFC 1929 make of the proxy's bytes.
enum Socks<'a> {
    Open(&'a [u8]),
    Refused(FailureKind),
    /// Cut off, or not the protocol.
    Other,
}

fn read_socks(replies: &[u8], credentials: bool) -> Socks<'_> {
    let rest = match replies {
        [5, 0xff, ..] => return Socks::Refused(FailureKind::ProxyAuth),
        [5, 0, rest @ ..] => rest,
        [5, 2, 1, 0, rest @ ..] if credentials => rest,
        [5, 2, 1, _, ..] if credentials => return Socks::Refused(FailureKind::ProxyAuth),
        _ => return Socks::Other,
    };
    let (address, rest) = match rest {
        [5, 0, 0, 1, rest @ ..] => (4, rest),
        [5, 0, 0, 3, length, rest @ ..] => {
            let name = rest.get(..usize::from(*length));
            if name.is_some_and(|name| std::str::from_utf8(name).is_err()) {
                // tokio-socks wants it to be UTF-8, although nobody asks for that name.
                return Socks::Other;
            }
            (usize::from(*length), rest)
        }
        [5, 0, 0, 4, rest @ ..] => (16, rest),
        // Four bytes are read before the code is looked at.
        [5, 2, _, _, ..] => return Socks::Refused(FailureKind::ProxyRefused),
        [5, 1 | 3..=6, _, _, ..] => return Socks::Refused(FailureKind::ProxyUpstream),
        _ => return Socks::Other,
    };
    rest.get(address + 2..).map_or(Socks::Other, Socks::Open)
}

fn check_socks(outcome: &Outcome, replies: &[u8], credentials: bool) {
    match (outcome, read_socks(replies, credentials)) {
        (Ok(rest), Socks::Open(expected)) => assert_eq!(rest, expected),
        (Err((kind, text)), Socks::Refused(expected)) => assert_eq!(*kind, expected, "{text}"),
        (Err((kind, text)), Socks::Other) => {
            // A reply code counts as soon as it is there.
            let partial = matches!(kind, FailureKind::ProxyRefused | FailureKind::ProxyUpstream);
            assert!(
                partial
                    || matches!(
                        kind,
                        FailureKind::ProxyProtocol | FailureKind::ProxyUnreachable
                    ),
                "{kind:?}: {text}"
            );
        }
        (Ok(_), _) => panic!("a tunnel without the proxy's leave: {replies:x?}"),
        (Err((kind, text)), Socks::Open(_)) => panic!("refused: {kind:?} {text}: {replies:x?}"),
    }
}

/// An error is one short line and holds no secret of ours.
fn check_words(text: &str, replies: &[u8]) {
    assert!(text.chars().count() < 2500, "{text}");
    assert!(!text.chars().any(char::is_control), "{text:?}");
    for secret in [PASSWORD, BASIC] {
        // What the proxy said itself may be shown, put together from pieces as well.
        let mut said = replies.iter();
        let told = secret.bytes().all(|byte| said.any(|b| *b == byte));
        assert!(told || !text.contains(secret), "{text}");
    }
}

enum End {
    Close,
    Break,
    Silence,
}

/// A stream that takes everything and says its lines, `size` bytes at a time.
struct Script<'a> {
    rest: &'a [u8],
    size: usize,
    end: End,
}

impl AsyncRead for Script<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = self.rest.len().min(self.size).min(buf.remaining());
        let (now, later) = self.rest.split_at(count);
        self.rest = later;
        match self.end {
            _ if count > 0 => {
                buf.put_slice(now);
                Poll::Ready(Ok(()))
            }
            End::Close => Poll::Ready(Ok(())),
            End::Break => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            // A timer of the reader ends it.
            End::Silence => Poll::Pending,
        }
    }
}

impl AsyncWrite for Script<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
