//! `xbosh status`, and what it asks.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};

use rustix::process::Signal;
use xbosh_testkit::client::{Account, Client, Mechanism};
use xbosh_testkit::cm::{Cm, Profile};
use xbosh_testkit::xmpp::Server;

use super::reload::message;
use super::{Home, PATIENCE, Running, SOON};

/// The running one is asked through the runtime folder: its streams with what they did; nothing of users or secrets;
/// the file is for this user alone and goes with the program.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_shown() {
    let server = Server::new("localhost");
    server.add_user("juliet", "s3cret");
    let cm = Cm::start(&server, Profile::prosody(), None).await;
    let home = Home::new();
    let url = cm.url("127.0.0.1") + "?token=hidden";
    let runtime = home.path().to_owned();
    let mut command = home.command(&[
        "--listen",
        "127.0.0.1:0",
        "--domain",
        "localhost",
        "--url",
        &url,
    ]);
    command.env("XDG_RUNTIME_DIR", &runtime);
    let running = Running::start(command);
    let address = running.address();
    let ask = |arguments: &[&str]| {
        let mut command = home.command(&[&["status"][..], arguments].concat());
        let output = command.env("XDG_RUNTIME_DIR", &runtime).output().unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, out, _) = ask(&[]);
    assert_eq!(code, 0);
    assert!(out.contains("no client is connected"), "{out}");

    let account = Account::new("juliet", "localhost", "s3cret");
    let mut client = Client::login(address, &account, Mechanism::Plain)
        .await
        .unwrap();
    for _ in 0..5 {
        client.ping().await.unwrap();
    }
    let (code, out, _) = ask(&["--json"]);
    assert_eq!(code, 0);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&report["format"], &report["clients"]),
        (&1.into(), &1.into())
    );
    let stream = &report["streams"][0];
    assert_eq!(stream["state"], "online", "{out}");
    assert_eq!(stream["domain"], "localhost");
    assert_eq!(stream["way"], "direct");
    assert_eq!(stream["http"], "1.1");
    // The bind and the pings.
    assert_eq!(
        (&stream["stanzas_up"], &stream["stanzas_down"]),
        (&6.into(), &6.into()),
        "{out}"
    );
    assert!(stream["round_trip_p50"].as_f64().unwrap() > 0.0, "{out}");
    for secret in ["s3cret", "juliet", "hidden", "token"] {
        assert!(!out.contains(secret), "{secret} in {out}");
    }
    let (_, out, _) = ask(&[]);
    assert!(out.contains("localhost, online for "), "{out}");

    let socket = runtime.join("xbosh.sock");
    assert_eq!(
        fs::metadata(&socket).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let metrics = get(UnixStream::connect(&socket).unwrap(), "/metrics");
    assert!(
        metrics.contains("xbosh_streams{domain=\"localhost\",state=\"online\"} 1\n"),
        "{metrics}"
    );

    client.logout().await.unwrap();
    running.signal(Signal::TERM);
    assert_eq!(running.end(SOON).0, Some(0));
    assert!(!socket.exists());
    let (code, _, said) = ask(&[]);
    assert_eq!(code, 1);
    assert!(
        said.contains("no xbosh answers at") && said.contains("is it running"),
        "{said}"
    );
}

/// What check finds holds for what runs only if both go out the same way: where not, that is told, passwords apart; the
/// same goes for what was read again.
#[tokio::test(flavor = "multi_thread")]
async fn another_way_out_than_that_of_the_service() {
    let server = Server::new("localhost");
    let cm = Cm::start(&server, Profile::prosody(), None).await;
    let proxy = xbosh_testkit::proxy::HttpProxy::start(
        xbosh_testkit::proxy::ProxyOptions::with_credentials("juliet", "s3cret"),
        xbosh_testkit::proxy::HttpTrick::None,
    )
    .await;
    let home = Home::new();
    let file = home.write("service.toml", "");
    let notify = home.path().join("notify");
    let systemd = UnixDatagram::bind(&notify).unwrap();
    systemd.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = home.command(&["--listen", "127.0.0.1:0", "--config", "service.toml"]);
    command.env("XDG_RUNTIME_DIR", home.path());
    command.env("NOTIFY_SOCKET", &notify);
    let running = Running::start(command);
    running.address();
    assert!(message(&systemd).contains("READY=1"));
    let url = cm.url("127.0.0.1");
    let shell = format!("http://juliet:s3cret@{}", proxy.addr());
    let check = |shell: &str| {
        let mut command = home.command(&["check", "localhost", "--url", &url]);
        command.env("XDG_RUNTIME_DIR", home.path());
        command.env("ALL_PROXY", shell);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let other = "the xbosh that runs here goes out another way";
    let out = check("");
    assert!(!out.contains(other), "{out}");
    let out = check(&shell);
    assert!(
        out.contains(&format!("{other} (direct, no proxy)")),
        "{out}"
    );
    assert!(!out.contains("s3cret"), "{out}");

    let table = format!(
        "[proxy]\nurl = \"http://{}\"\nusername = \"juliet\"\npassword = \"s3cret\"\n",
        proxy.addr()
    );
    fs::write(&file, table).unwrap();
    let socket = home.path().join("xbosh.sock");
    let status = || get(UnixStream::connect(&socket).unwrap(), "/status");
    running.signal(Signal::HUP);
    let way = format!(
        "\"way\":\"HTTP proxy {}, with user name and password\"",
        proxy.addr()
    );
    assert!(message(&systemd).contains("RELOADING=1"));
    assert!(message(&systemd).contains("READY=1"));
    assert!(status().contains(&way), "{}", status());
    assert!(!status().contains("s3cret"));
    let out = check(&shell);
    assert!(!out.contains(other), "{out}");
    let out = check("");
    assert!(out.contains(other) && !out.contains("juliet"), "{out}");
    running.signal(Signal::TERM);
    assert_eq!(running.end(SOON).0, Some(0));
}

fn get(mut stream: impl std::io::Read + std::io::Write, path: &str) -> String {
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// On TCP there are sums only, and only where this machine alone reaches them.
#[test]
fn metrics_on_tcp() {
    let home = Home::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let mut command = home.command(&["--listen", "127.0.0.1:0"]);
    command.env("XBOSH_STATUS__METRICS", &port);
    let running = Running::start(command);
    running.address();
    let connect = || {
        let stream = TcpStream::connect(&port).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    assert!(get(connect(), "/metrics").contains("xbosh_clients_total 0\n"));
    assert!(get(connect(), "/status").starts_with("HTTP/1.1 404 "));

    let mut command = home.command(&["--listen", "127.0.0.1:0"]);
    command.env("XBOSH_STATUS__METRICS", "0.0.0.0:9522");
    let refused = command.output().unwrap();
    assert_eq!(refused.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("loopback"));
}

/// `--watch` asks again until there is nobody to ask: tables one after another, or one object a line.
#[test]
fn watching() {
    let home = Home::new();
    let start = |arguments: &[&str]| {
        let mut command = home.command(arguments);
        command.env("XDG_RUNTIME_DIR", home.path());
        Running::start(command)
    };
    let running = start(&["--listen", "127.0.0.1:0"]);
    let address = running.address().to_string();
    let watches = [
        start(&["status", "--watch"]),
        start(&["status", "--watch", "--json"]),
    ];
    for _ in 0..2 {
        let line = watches[0].line();
        assert!(
            line.contains(&format!("listening on {address}; 0 clients so far")),
            "{line}"
        );
        assert_eq!(watches[0].line(), "way out: direct, no proxy");
        assert_eq!(watches[0].line(), "no client is connected");
        let report: serde_json::Value = serde_json::from_str(&watches[1].line()).unwrap();
        assert_eq!(report["listening"][0], address.as_str());
    }
    running.signal(Signal::TERM);
    assert_eq!(running.end(SOON).0, Some(0));
    for watch in watches {
        let (code, said) = watch.end(PATIENCE);
        assert_eq!(code, Some(1));
        assert!(said.contains("no xbosh answers at"), "{said}");
    }
}

/// A second one runs without the socket, and says so; one that is left behind is replaced.
#[test]
fn one_socket_for_two() {
    let home = Home::new();
    let start = || {
        let mut command = home.command(&["--listen", "127.0.0.1:0"]);
        command.env("XDG_RUNTIME_DIR", home.path());
        let running = Running::start(command);
        running.address();
        running
    };
    let socket = home.path().join("xbosh.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let first = start();
    assert!(get(UnixStream::connect(&socket).unwrap(), "/status").contains("\"format\":1"));
    let second = start();
    second.signal(Signal::TERM);
    let (code, log) = second.end(SOON);
    assert_eq!(code, Some(0));
    assert!(log.contains("another xbosh answers at"), "{log}");
    assert!(get(UnixStream::connect(&socket).unwrap(), "/status").contains("\"format\":1"));
    first.signal(Signal::TERM);
    assert_eq!(first.end(SOON).0, Some(0));
}
