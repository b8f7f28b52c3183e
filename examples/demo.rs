//! The whole chain in one process, on loopback, with nothing installed: an XMPP server with a BOSH connection
//! manager over TLS, an HTTP proxy that demands a password, xbosh in front, and a client.
//!
//! `cargo run --release --example demo` proves that a message goes round, then stays up for a real client.
//! With `-- --once` it ends after the proof.

use std::io::Write as _;
use std::time::Duration;

use secrecy::SecretString;
use tokio::time::Instant;
use url::Url;
use xbosh::config::{Config, Credentials, Domain, Proxy, ProxySource, Tls};
use xbosh::driver::Sidecar;
use xbosh_testkit::client::{Account, Client, Mechanism};
use xbosh_testkit::cm::{Cm, Profile};
use xbosh_testkit::proxy::{HttpProxy, HttpTrick, ProxyOptions};
use xbosh_testkit::tls::Authority;
use xbosh_testkit::xmpp::Server;

type Failure = Box<dyn std::error::Error>;

const DOMAIN: &str = "localhost";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let once = std::env::args().any(|argument| argument == "--once");

    let began = Instant::now();
    let server = Server::new(DOMAIN);
    server.add_user("demo", "demo");
    let authority = Authority::new();
    let cm = Cm::start(
        &server,
        Profile::strict(),
        Some(authority.acceptor(&[DOMAIN])),
    )
    .await;
    hop(
        "XMPP server with BOSH",
        &format!("{} (users: demo, echo)", cm.url(DOMAIN)),
        began,
    )?;

    let began = Instant::now();
    let mut options = ProxyOptions::with_credentials("proxyuser", "proxypass");
    options.names.insert(DOMAIN.into(), [127, 0, 0, 1].into());
    let proxy = HttpProxy::start(options, HttpTrick::None).await;
    hop(
        "HTTP proxy with password",
        &format!("http://{}", proxy.addr()),
        began,
    )?;

    let began = Instant::now();
    let folder = tempfile::tempdir()?;
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, authority.pem())?;
    let sidecar = start_sidecar(&cm, &proxy, ca_file).await?;
    let address = *sidecar.addrs().first().ok_or("xbosh listens nowhere")?;
    hop("xbosh", &format!("{address}"), began)?;

    let began = Instant::now();
    let mut client = Client::connect(address, DOMAIN).await?;
    let features = client.open().await?;
    hop(
        "client: stream opened",
        &format!(
            "CONNECT, TLS, BOSH session; {} bytes of features",
            features.bytes().len()
        ),
        began,
    )?;
    drop(client);

    let began = Instant::now();
    let account = Account::new("demo", DOMAIN, "demo");
    let mut client = Client::login(address, &account, Mechanism::Scram).await?;
    hop(
        "client: logged in",
        &format!("SCRAM-SHA-1, bound as {}", client.jid()),
        began,
    )?;

    let began = Instant::now();
    let text = "hello through a proxy, <&> and all";
    client.message(&format!("echo@{DOMAIN}"), text).await?;
    let answer = client.wait_for(|stanza| stanza.name() == "message").await?;
    let came_back = answer.child_text("body");
    if came_back.as_deref() != Some(text) {
        return Err(format!("echo sent back {came_back:?}").into());
    }
    hop("client: message to echo", "came back unchanged", began)?;
    client.logout().await?;

    let tunnels = proxy
        .heads()
        .iter()
        .filter(|head| head.starts_with("CONNECT "))
        .count();
    let wrong = cm.violations();
    if tunnels == 0 || !wrong.is_empty() {
        return Err(format!(
            "{tunnels} tunnels through the proxy; against the protocol: {wrong:?}"
        )
        .into());
    }
    say(&format!(
        "All of it went through {tunnels} tunnels of the proxy, and by the protocol."
    ))?;

    if !once {
        say(&format!(
            "\nNow try a real client (Ctrl-C ends this):\n  host {}, port {}, account demo@{DOMAIN}, password demo, no TLS to this host\n  \
             write to echo@{DOMAIN}",
            address.ip(),
            address.port()
        ))?;
        tokio::signal::ctrl_c().await?;
    }
    sidecar.stop().await;
    Ok(())
}

async fn start_sidecar(
    cm: &Cm,
    proxy: &HttpProxy,
    ca_file: std::path::PathBuf,
) -> Result<Sidecar, Failure> {
    let mut config = Config::default();
    // Port 5222 is what people know; another one if it is taken.
    let wanted = std::net::SocketAddr::from(([127, 0, 0, 1], 5222));
    let free = std::net::TcpListener::bind(wanted).is_ok();
    config.listen = vec![if free {
        wanted.into()
    } else {
        ([127, 0, 0, 1], 0).into()
    }];
    let way_out = Proxy {
        source: ProxySource::Url(Url::parse(&format!("http://{}", proxy.addr()))?),
        credentials: Some(Credentials {
            username: "proxyuser".into(),
            password: SecretString::from("proxypass".to_owned()),
        }),
        no_proxy: Vec::new(),
        ca_file: None,
        isolate: false,
        preemptive: true,
    };
    let domain = Domain {
        url: Some(Url::parse(&cm.url(DOMAIN))?),
        route: None,
        tls: Tls {
            ca_file: Some(ca_file),
            ..Tls::default()
        },
        bosh: config.bosh.clone(),
        proxy: way_out,
    };
    config.domains.insert(DOMAIN.into(), domain);
    Ok(Sidecar::start(config).await?)
}

fn hop(name: &str, what: &str, began: Instant) -> std::io::Result<()> {
    let took = began.elapsed();
    say(&format!("{name:<26} {:>9}  {what}", format_time(took)))
}

fn format_time(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn say(line: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{line}")
}
