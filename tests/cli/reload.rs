//! SIGHUP: the configuration is read again.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;

use rustix::process::Signal;

use super::{Home, PATIENCE, Running, SOON};

/// What a client of this domain is told.
fn told(address: SocketAddr, domain: &str) -> String {
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let header = format!(
        "<stream:stream to='{domain}' version='1.0' xmlns='jabber:client' \
         xmlns:stream='http://etherx.jabber.org/streams'>"
    );
    client.write_all(header.as_bytes()).unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    text
}

/// The next message to systemd.
pub(super) fn message(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 1024];
    let count = socket.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

/// A good one counts for clients from then on; a bad one is refused with its line, and changes nothing; what needs a
/// restart is named. systemd is told of each.
#[test]
fn the_configuration_is_read_again() {
    let home = Home::new();
    let file = home.write("c.toml", "allowed_domains = [\"a.example\"]\n");
    let path = home.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = home.command(&["--listen", "127.0.0.1:0", "--config", "c.toml"]);
    command.env("NOTIFY_SOCKET", &path);
    let running = Running::start(command);
    let address = running.address();
    assert!(message(&systemd).contains("READY=1"));
    let reload = || {
        running.signal(Signal::HUP);
        let begun = message(&systemd);
        assert!(
            begun.contains("RELOADING=1") && begun.contains("MONOTONIC_USEC="),
            "{begun}"
        );
        assert!(message(&systemd).contains("READY=1"));
    };
    let refused = "is not set up for this domain";
    assert!(told(address, "b.example").contains(refused));

    std::fs::write(&file, "allowed_domains = [\"b.example\"]\n").unwrap();
    reload();
    assert!(told(address, "b.example").contains("no BOSH address is known"));
    assert!(told(address, "a.example").contains(refused));

    std::fs::write(&file, "\nallowed_domain = []\n").unwrap();
    reload();
    assert!(told(address, "a.example").contains(refused));

    std::fs::write(&file, "[limits]\nmax_streams = 7\n").unwrap();
    reload();
    assert!(told(address, "a.example").contains("no BOSH address is known"));

    running.signal(Signal::TERM);
    let (code, log) = running.end(SOON);
    assert_eq!(code, Some(0), "{log}");
    assert!(
        log.contains("the new configuration is not used, the old one stays: c.toml:2:1: unknown key allowed_domain"),
        "{log}"
    );
    assert!(log.contains("limits.max_streams need a restart"), "{log}");
}
