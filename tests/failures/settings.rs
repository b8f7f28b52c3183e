//! What is wrong on this machine: the configuration, its files, the addresses.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use insta::assert_snapshot;
use xbosh_testkit::cm::{Cm, Profile};
use xbosh_testkit::proxy::{HttpProxy, HttpTrick, ProxyOptions};
use xbosh_testkit::xmpp::Server;

use crate::support::{Case, DOMAIN, as_nobody, left_out};

/// An address is known, and nobody is asked for it.
const NO_ADDRESS: &str = "[discovery]\nhost_meta = false\n";

#[tokio::test(flavor = "multi_thread")]
async fn configuration() {
    let mut all = String::new();
    for (name, config) in [
        (
            "typo in a key",
            "[proxy]\nurll = \"http://proxy.example:3128\"\n",
        ),
        (
            "typo in a table",
            "[proxi]\nurl = \"http://proxy.example:3128\"\n",
        ),
        ("not TOML", "[proxy]\nurl = http://proxy.example:3128\n"),
        (
            "proxy.url with a wrong scheme",
            "[proxy]\nurl = \"ftp://proxy.example:3128\"\n",
        ),
        (
            "proxy.url without a scheme",
            "[proxy]\nurl = \"proxy.example:3128\"\n",
        ),
        (
            "url with a wrong scheme",
            "[domains.\"example.org\"]\nurl = \"wss://example.org/ws\"\n",
        ),
        (
            "url of http",
            "[domains.\"example.org\"]\nurl = \"http://example.org/http-bind\"\n",
        ),
        (
            "password with / in the URL",
            "[proxy]\nurl = \"http://juliet:pa/ss@proxy.example:3128\"\n",
        ),
        (
            "password with # in the URL",
            "[proxy]\nurl = \"http://juliet:pa#ss@proxy.example:3128\"\n",
        ),
        (
            "password with %ff in the URL",
            "[proxy]\nurl = \"http://juliet:pa%ffss@proxy.example:3128\"\n",
        ),
        (
            "a roots file that is not there",
            "[tls]\nca_file = \"missing.pem\"\n[domains.\"example.org\"]\nurl = \"https://example.org/\"\n",
        ),
        (
            "a password file that is not there",
            "[proxy]\nurl = \"http://proxy.example:3128\"\nusername = \"juliet\"\npassword_file = \"missing\"\n",
        ),
    ] {
        all.push_str(&Case::new(config).told(name).await);
    }
    assert_snapshot!(all);
}

/// A password with `@` or `%` written into the URL as it is, and by its own key: the proxy gets what was meant.
#[tokio::test(flavor = "multi_thread")]
async fn odd_passwords_are_understood() {
    let cm = Cm::start(&Server::new(DOMAIN), Profile::strict(), None).await;
    for password in ["p@ss@", "100%", "50%25", "a:b"] {
        let options = ProxyOptions::with_credentials("juliet", password);
        let proxy = HttpProxy::start(options, HttpTrick::None).await;
        let domain = format!(
            "[domains.\"example.org\"]\nurl = \"{}\"\n",
            cm.url("127.0.0.1")
        );
        let key = format!(
            "[proxy]\nurl = \"http://{}\"\nusername = \"juliet\"\npassword = \"{password}\"\n{domain}",
            proxy.addr()
        );
        let told = Case::new(&key).run().await;
        assert!(told.contains("can log in"), "{told}");
        if password != "50%25" {
            let url = format!(
                "[proxy]\nurl = \"http://juliet:{password}@{}\"\n{domain}",
                proxy.addr()
            );
            let told = Case::new(&url).run().await;
            assert!(told.contains("can log in"), "{password}: {told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files() {
    let mut all = String::new();
    let secret = "[proxy]\nurl = \"http://proxy.example:3128\"\nusername = \"juliet\"\n";
    let exposed = Case::new("");
    exposed.write(
        "config.toml",
        &format!("{secret}password = \"hunter2\"\n"),
        0o644,
    );
    all.push_str(
        &exposed
            .told("a configuration with a password that others can read")
            .await,
    );

    let exposed = Case::new(&format!(
        "{secret}password_file = \"password\"\n{NO_ADDRESS}"
    ));
    exposed.write("password", "hunter2\n", 0o644);
    all.push_str(&exposed.told("a password file that others can read").await);
    assert_snapshot!(all);

    let Some(nobody) = as_nobody() else {
        return left_out("files that cannot be read (only root can become somebody else)");
    };
    let mut all = String::new();
    let own = Case::new("").by(&nobody);
    all.push_str(&own.told("a configuration of somebody else").await);
    let own = Case::new("").by(&nobody);
    own.write(
        "config.toml",
        &format!("{secret}password_file = \"password\"\n"),
        0o644,
    );
    own.write("password", "hunter2\n", 0o600);
    all.push_str(&own.told("a password file of somebody else").await);
    assert_snapshot!("files_of_somebody_else", all);
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses() {
    let mut all = String::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let case = Case::new("").listening(&address.to_string());
    let case = case.named(address, "127.0.0.1:5222");
    all.push_str(&case.told_by_run("port in use").await);

    let case = Case::new("").listening("0.0.0.0:0");
    all.push_str(&case.told_by_run("an address for everybody").await);

    let case = Case::new("").listening("192.0.2.1:5222");
    case.write("config.toml", "allow_remote_clients = true\n", 0o600);
    all.push_str(&case.told_by_run("an address of another machine").await);

    let case = Case::new("").listening("unix:/nowhere/xbosh.socket");
    all.push_str(
        &case
            .told_by_run("a socket in a folder that is not there")
            .await,
    );
    assert_snapshot!(all);

    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let closed = first.is_ok_and(|first| first.trim().parse::<u16>().is_ok_and(|first| first > 1));
    match as_nobody().filter(|_| closed) {
        Some(nobody) => {
            let case = Case::new("").by(&nobody).listening("127.0.0.1:1");
            case.write("config.toml", "", 0o644);
            let told = case.told_by_run("a port for root").await;
            assert_snapshot!("addresses_for_root", told);
        }
        None => left_out("a privileged port (it takes root to become somebody else)"),
    }
}

/// The status socket: none of these is a reason not to run.
#[tokio::test(flavor = "multi_thread")]
async fn status_sockets() {
    let mut all = String::new();
    let case = Case::new(NO_ADDRESS)
        .with_notes()
        .with("XDG_RUNTIME_DIR", "");
    all.push_str(&case.told_by_run("no runtime folder").await);
    // Switched off is no news.
    let case = Case::new(&format!("{NO_ADDRESS}[status]\nsocket = \"\"\n"));
    let case = case.with_notes().with("XDG_RUNTIME_DIR", "");
    all.push_str(&case.told_by_run("no status socket wanted").await);

    let case = Case::new(NO_ADDRESS).with_notes();
    let other = UnixListener::bind(case.path().join("xbosh.sock")).unwrap();
    all.push_str(&case.told_by_run("two instances").await);
    drop(other);
    assert!(case.path().join("xbosh.sock").exists());
    all.push_str(
        &case
            .told_by_run("a socket that a killed xbosh left behind")
            .await,
    );

    let case = Case::new(NO_ADDRESS)
        .with_notes()
        .with("XDG_RUNTIME_DIR", "/nowhere");
    all.push_str(&case.told_by_run("a runtime folder that is not there").await);
    assert_snapshot!(all);
}
