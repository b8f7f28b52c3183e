//! The fake proxies, by raw TCP.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use xbosh_testkit::Service;
use xbosh_testkit::cm::Profile;
use xbosh_testkit::proxy::{
    Blackhole, HttpProxy, HttpTrick, ProxyOptions, Socks5Proxy, SocksStage, SocksTrick,
};

use crate::bosh::{HTTPBIND, creation, manager};

const HIDDEN: &str = "cm.hidden.invalid";
const BASIC: &str = "Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n";

fn options(password: bool) -> ProxyOptions {
    let mut options = if password {
        ProxyOptions::with_credentials("user", "secret")
    } else {
        ProxyOptions::default()
    };
    options
        .names
        .insert(HIDDEN.to_owned(), [127, 0, 0, 1].into());
    options
}

/// Sends, and reads until this text has come, or the connection ends.
async fn talk(stream: &mut TcpStream, send: impl AsRef<[u8]>, until: &str) -> String {
    // What cannot be written was refused already.
    let _ = stream.write_all(send.as_ref()).await;
    let mut got = Vec::new();
    while until.is_empty() || !String::from_utf8_lossy(&got).contains(until) {
        match stream.read_buf(&mut got).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    String::from_utf8_lossy(&got).into_owned()
}

async fn upper() -> Service {
    Service::start(|mut stream| async move {
        let mut bytes = [0; 1024];
        while let Ok(count @ 1..) = stream.read(&mut bytes).await {
            if stream
                .write_all(&bytes[..count].to_ascii_uppercase())
                .await
                .is_err()
            {
                return;
            }
        }
    })
    .await
}

fn connect(port: u16, more: &str) -> String {
    format!("CONNECT {HIDDEN}:{port} HTTP/1.1\r\nHost: {HIDDEN}:{port}\r\n{more}\r\n")
}

async fn http(trick: HttpTrick, password: bool) -> (HttpProxy, TcpStream) {
    let proxy = HttpProxy::start(options(password), trick).await;
    let stream = TcpStream::connect(proxy.addr()).await.unwrap();
    (proxy, stream)
}

#[tokio::test]
async fn connect_with_password() {
    let origin = upper().await;
    let (proxy, mut stream) = http(HttpTrick::None, true).await;
    let port = origin.addr().port();
    let refused = talk(&mut stream, connect(port, ""), "</html>").await;
    assert!(
        refused.starts_with("HTTP/1.1 407 ") && refused.contains("Proxy-Authenticate: Basic"),
        "{refused}"
    );
    let accepted = talk(&mut stream, connect(port, BASIC), "\r\n\r\n").await;
    assert!(
        accepted.starts_with("HTTP/1.1 200 "),
        "kept after 407: {accepted}"
    );
    assert_eq!(talk(&mut stream, "hello", "HELLO").await, "HELLO");
    assert_eq!(proxy.heads().len(), 2);
}

#[tokio::test]
async fn absolute_form() {
    let (_server, cm) = manager(Profile::strict()).await;
    let body = creation(1000);
    let post = format!(
        "POST http://{HIDDEN}:{}/http-bind HTTP/1.1\r\nHost: {HIDDEN}\r\n{BASIC}Content-Type: text/xml; charset=utf-8\r\n\
         Content-Length: {}\r\n\r\n{body}",
        cm.addr().port(),
        body.len()
    );
    for (trick, status, kept) in [
        (HttpTrick::None, "HTTP/1.1 200 OK", true),
        (HttpTrick::CloseAfterAnswer, "HTTP/1.1 200 OK", false),
        (HttpTrick::Http10, "HTTP/1.0 200 OK", false),
        (HttpTrick::Duplicates, "HTTP/1.1 200 OK", true),
        (
            HttpTrick::EveryNth(1, "503 Service Unavailable"),
            "HTTP/1.1 503 ",
            true,
        ),
    ] {
        let before = cm.posts().len();
        let duplicates = trick == HttpTrick::Duplicates;
        let (_proxy, mut stream) = http(trick, true).await;
        let reply = talk(&mut stream, &post, if kept { "</" } else { "" }).await;
        assert!(reply.starts_with(status), "{reply}");
        if duplicates {
            crate::bosh::until(|| cm.posts().len() == before + 2).await;
        }
    }
    assert!(
        cm.posts()
            .iter()
            .all(|p| p.header("proxy-authorization").is_none() && p.header("via").is_some())
    );
    assert!(cm.posts()[0].body.contains(HTTPBIND));
}

#[tokio::test]
async fn refusals_and_stalls() {
    let origin = upper().await;
    let port = origin.addr().port();
    for (trick, until, expected) in [
        (HttpTrick::OnlyPort(443), "</html>", "HTTP/1.1 403 "),
        (HttpTrick::Refuses401, "", "HTTP/1.0 401 "),
        (
            HttpTrick::Challenges("Proxy-Authenticate: NTLM\r\n".to_owned()),
            "</html>",
            "NTLM",
        ),
        (HttpTrick::portal(), "", "<form"),
        (HttpTrick::Answer("garbage".to_owned()), "", "garbage"),
        (HttpTrick::Resets, "", ""),
        (HttpTrick::StallsInReply(9), "HTTP/1.1 ", "HTTP/1.1 "),
        (
            HttpTrick::glued(b"early"),
            "early",
            "Content-Length: 42\r\n\r\nearly",
        ),
        (HttpTrick::Http10, "\r\n\r\n", "HTTP/1.0 200 "),
    ] {
        let password = matches!(trick, HttpTrick::Refuses401 | HttpTrick::Challenges(_));
        let told = format!("{trick:?}");
        let (_proxy, mut stream) = http(trick, password).await;
        let reply = talk(&mut stream, connect(port, ""), until).await;
        assert!(reply.contains(expected), "{told}: {reply}");
        assert_eq!(reply.is_empty(), expected.is_empty(), "{told}: {reply}");
    }
    let (_proxy, mut stream) = http(HttpTrick::ResetsTunnel(3), false).await;
    talk(&mut stream, connect(port, ""), "\r\n\r\n").await;
    assert_eq!(talk(&mut stream, "abcdef", "").await, "ABC");
}

async fn greet(addr: SocketAddr, methods: &[u8]) -> (TcpStream, Vec<u8>) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let mut hello = vec![5, u8::try_from(methods.len()).unwrap()];
    hello.extend_from_slice(methods);
    stream.write_all(&hello).await.unwrap();
    let mut answer = vec![0; 2];
    let count = stream.read(&mut answer).await.unwrap_or(0);
    answer.truncate(count);
    (stream, answer)
}

fn request(port: u16) -> Vec<u8> {
    let mut request = vec![5, 1, 0, 3, u8::try_from(HIDDEN.len()).unwrap()];
    request.extend_from_slice(HIDDEN.as_bytes());
    request.extend_from_slice(&port.to_be_bytes());
    request
}

async fn bytes(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn socks_with_password() {
    let origin = upper().await;
    let proxy = Socks5Proxy::start(options(true), SocksTrick::None).await;
    assert_eq!(greet(proxy.addr(), &[0]).await.1, [5, 0xff]);
    let (mut stream, chosen) = greet(proxy.addr(), &[0, 2]).await;
    assert_eq!(chosen, [5, 2]);
    stream.write_all(b"\x01\x04user\x06secret").await.unwrap();
    assert_eq!(bytes(&mut stream, 2).await, [1, 0]);
    stream
        .write_all(&request(origin.addr().port()))
        .await
        .unwrap();
    assert_eq!(bytes(&mut stream, 10).await[..2], [5, 0]);
    stream.write_all(b"hi").await.unwrap();
    assert_eq!(bytes(&mut stream, 2).await, b"HI");
    let log = proxy.log();
    assert!(
        log[1].contains("methods [0, 2]") && log[2].contains("user user"),
        "{log:?}"
    );
    assert_eq!(
        log[3],
        format!("connect name {HIDDEN} {}", origin.addr().port())
    );
}

#[tokio::test]
async fn socks_tricks() {
    let origin = upper().await;
    let port = origin.addr().port();
    for (trick, expected) in [
        (SocksTrick::Reply(7), vec![5, 7]),
        (SocksTrick::OddReply, vec![5, 0, 0, 3, 9, b'l']),
        (SocksTrick::Ipv6Reply, vec![5, 0, 0, 4]),
        (
            SocksTrick::Glued(b"x"),
            vec![5, 0, 0, 1, 0, 0, 0, 0, 0, 0, b'x'],
        ),
    ] {
        let proxy = Socks5Proxy::start(options(false), trick).await;
        let (mut stream, chosen) = greet(proxy.addr(), &[0]).await;
        assert_eq!(chosen, [5, 0]);
        stream.write_all(&request(port)).await.unwrap();
        assert_eq!(
            bytes(&mut stream, expected.len()).await,
            expected,
            "{trick:?}"
        );
    }
    for (trick, expected) in [
        (SocksTrick::Version(4), vec![4, 0]),
        (SocksTrick::Method(0xff), vec![5, 0xff]),
        (SocksTrick::Method(2), vec![5, 2]),
        (SocksTrick::Garbage(b"HTTP"), b"HT".to_vec()),
        (SocksTrick::Closes(SocksStage::Method), vec![]),
    ] {
        let proxy = Socks5Proxy::start(options(false), trick).await;
        assert_eq!(greet(proxy.addr(), &[0]).await.1, expected, "{trick:?}");
    }
    let proxy = Socks5Proxy::start(options(true), SocksTrick::CredentialStatus(9)).await;
    let (mut stream, _) = greet(proxy.addr(), &[2]).await;
    stream.write_all(b"\x01\x04user\x06secret").await.unwrap();
    assert_eq!(bytes(&mut stream, 2).await, [1, 9]);
}

/// What stands still says nothing; dropping it ends the connections.
#[tokio::test]
async fn blackholes_and_drops() {
    let hole = Blackhole::start().await;
    let mut stream = TcpStream::connect(hole.addr()).await.unwrap();
    stream.write_all(b"anyone?").await.unwrap();
    crate::bosh::until(|| hole.accepted() == 1).await;
    drop(hole);
    assert_eq!(talk(&mut stream, "", "").await, "");

    let proxy = Socks5Proxy::start(options(false), SocksTrick::Stalls(SocksStage::Request)).await;
    let (mut stream, _) = greet(proxy.addr(), &[0]).await;
    stream.write_all(&request(1)).await.unwrap();
    crate::bosh::until(|| proxy.log().len() == 2).await;
    drop(proxy);
    assert_eq!(talk(&mut stream, "", "").await, "");
}
