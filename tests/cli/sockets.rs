//! Unix sockets, and sockets that systemd passes.

use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;

use super::*;

/// A client whose domain has no connection manager, so that it is told to go at once.
fn answered(mut client: impl Read + Write) {
    let header = "<stream:stream to='unknown.example' version='1.0' xmlns='jabber:client' \
                  xmlns:stream='http://etherx.jabber.org/streams'>";
    client.write_all(header.as_bytes()).unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert!(text.contains("no BOSH address is known"), "{text}");
}

fn answered_at(path: &Path) {
    let client = UnixStream::connect(path).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    answered(client);
}

fn stop(running: &Running) -> String {
    running.signal(Signal::TERM);
    let (code, log) = running.end(SOON);
    assert_eq!(code, Some(0), "{log}");
    log
}

#[test]
fn a_unix_socket_by_every_way_of_saying_so() {
    let home = Home::new();
    let path = home.path().join("xbosh");
    let address = format!("unix:{}", path.display());
    let file = home.write("config.toml", &format!("listen = ['{address}']\n"));
    let file = file.display().to_string();
    let mut by_variable = home.command(&[]);
    by_variable.env("XBOSH_LISTEN", &address);
    for command in [
        home.command(&["--listen", &address]),
        home.command(&["--config", &file]),
        by_variable,
    ] {
        let running = Running::start(command);
        assert_eq!(running.line(), format!("listening on {address}"));
        answered_at(&path);
        let log = stop(&running);
        let uid = fs::metadata(home.path()).unwrap().uid();
        assert!(log.contains(&format!("{address} (uid {uid})")), "{log}");
        assert!(!path.exists());
    }
}

/// The umask neither opens the socket to others nor closes it to its user.
#[test]
fn the_umask_does_not_count() {
    for umask in ["0000", "0777"] {
        let home = Home::new();
        let path = home.path().join("xbosh");
        let script = format!(
            "umask {umask}; exec \"$0\" --listen unix:{}",
            path.display()
        );
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(script)
            .arg(env!("CARGO_BIN_EXE_xbosh"));
        command
            .env_clear()
            .env("HOME", home.path())
            .env("XBOSH_DISCOVERY__HOST_META", "false");
        let running = Running::start(command);
        running.line();
        let mode = fs::symlink_metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o600);
        answered_at(&path);
    }
}

#[test]
fn two_on_one_path() {
    let home = Home::new();
    let path = home.path().join("xbosh");
    let address = format!("unix:{}", path.display());
    let first = Running::start(home.command(&["--listen", &address]));
    first.line();
    let (code, sentence) = home.fails(&["--listen", &address]);
    assert_eq!(code, 1);
    insta::assert_snapshot!(sentence, @"xbosh: cannot listen on unix:xbosh: another program uses this address, perhaps a second xbosh; stop it or set another `listen`");
    answered_at(&path);
    // Killed, it leaves its file behind, which the next one replaces.
    first.signal(Signal::KILL);
    first.end(SOON);
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
    let second = Running::start(home.command(&["--listen", &address]));
    second.line();
    answered_at(&path);
    // Somebody else's file of that name stays.
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    stop(&second);
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn paths_that_cannot_be_used() {
    let home = Home::new();
    home.write("file", "precious");
    let folder = home.path().display().to_string();
    let long = "x".repeat(108);
    let mut text = String::new();
    for (code, listen) in [
        (1, format!("unix:{folder}/file")),
        (1, format!("unix:{folder}/missing/xbosh")),
        (1, format!("unix:{folder}/file/xbosh")),
        (78, "unix:xbosh".into()),
        (78, "unix:/run/".into()),
        (78, format!("unix:/{long}")),
    ] {
        let config = home.write("config.toml", &format!("listen = ['{listen}']\n"));
        let (actual, sentence) = home.fails(&["--config", &config.display().to_string()]);
        assert_eq!(actual, code, "{sentence}");
        text.push_str(&sentence.replace(&long, "xxx"));
    }
    let file = fs::read_to_string(home.path().join("file")).unwrap();
    assert_eq!(file, "precious");
    insta::assert_snapshot!(text, @r#"
    xbosh: cannot listen on unix:file: there is something that is no socket, which xbosh does not delete; move it away or set another `listen`
    xbosh: cannot listen on unix:missing/xbosh: its folder does not exist; create it or set another `listen`
    xbosh: cannot listen on unix:file/xbosh: what should be its folder is a file; set another `listen`
    xbosh: config.toml:1:1: listen has "unix:xbosh", whose path must begin with / behind unix:
    xbosh: config.toml:1:1: listen has "unix:/run/", whose path must end in the name of a file
    xbosh: config.toml:1:1: listen has "unix:/xxx", whose path is longer than the 107 bytes that a socket's path may have
    "#);
    let (code, text) = home.fails(&["--listen", "unix:xbosh"]);
    assert_eq!(code, 2);
    assert!(text.contains("whose path must begin with /"), "{text}");
    assert_eq!(home.fails(&["--listen", &format!("unix:/{long}")]).0, 2);
}

/// The binary with this socket passed as systemd does.
fn passed(home: &Home, socket: OwnedFd, pid: &str, arguments: &str) -> Command {
    let mut command = Command::new("sh");
    let script = format!("LISTEN_PID={pid} LISTEN_FDS=1 exec \"$0\" {arguments} 3<&0 0</dev/null");
    command
        .arg("-c")
        .arg(script)
        .arg(env!("CARGO_BIN_EXE_xbosh"));
    command
        .env_clear()
        .env("HOME", home.path())
        .env("XBOSH_DISCOVERY__HOST_META", "false")
        .current_dir(home.path());
    command.stdin(Stdio::from(socket));
    command
}

#[test]
fn systemds_tcp_socket_replaces_listen() {
    let home = Home::new();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let command = passed(&home, socket.into(), "$$", "--listen 127.0.0.1:1");
    let running = Running::start(command);
    assert_eq!(running.address(), address);
    answered(TcpStream::connect(address).unwrap());
    let log = stop(&running);
    assert!(log.contains("`listen` is not used"), "{log}");
    assert!(running.lines.recv_timeout(PATIENCE).is_err());
}

/// What systemd made, systemd removes.
#[test]
fn systemds_unix_socket_stays() {
    let home = Home::new();
    let path = home.path().join("passed");
    let socket = UnixListener::bind(&path).unwrap();
    let running = Running::start(passed(&home, socket.into(), "$$", ""));
    assert_eq!(
        running.line(),
        format!("listening on unix:{}", path.display())
    );
    answered_at(&path);
    let log = stop(&running);
    assert!(!log.contains("`listen` is not used"), "{log}");
    assert!(path.exists());
}

#[test]
fn sockets_for_another_process_are_ignored() {
    let home = Home::new();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let command = passed(&home, socket.into(), "1", "--listen 127.0.0.1:0");
    let running = Running::start(command);
    assert_ne!(running.address(), address);
}

/// S-01: systemd's sockets included.
#[test]
fn s01_systemds_sockets_for_other_machines_need_the_key() {
    let home = Home::new();
    let socket = TcpListener::bind("0.0.0.0:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let again = OwnedFd::from(socket.try_clone().unwrap());
    let output = passed(&home, socket.into(), "$$", "").output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8(output.stderr).unwrap();
    let text = without_the_hint(&text);
    insta::assert_snapshot!(text.replace(&address, "ADDRESS"), @"xbosh: systemd passes the socket ADDRESS, which other machines can reach; change ListenStream= in xbosh.socket, or set allow_remote_clients = true if that is what you want: clients there are then served over TLS only");
    home.write("config.toml", "allow_remote_clients = true\n");
    let running = Running::start(passed(&home, again, "$$", "--config config.toml"));
    assert!(running.address().ip().is_unspecified());
    let log = stop(&running);
    assert!(
        log.contains("clients on other machines can reach 0.0.0.0:"),
        "{log}"
    );
}

#[test]
fn what_systemd_passes_and_clients_cannot_use() {
    let home = Home::new();
    let (end, _other) = UnixStream::pair().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let file = fs::File::open("/dev/null").unwrap();
    let mut text = String::new();
    for socket in [
        OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap()),
        UnixDatagram::unbound().unwrap().into(),
        end.into(),
        connected.into(),
        file.into(),
    ] {
        let output = passed(&home, socket, "$$", "").output().unwrap();
        assert_eq!(output.status.code(), Some(78));
        assert_eq!(output.stdout, b"");
        text.push_str(&String::from_utf8(output.stderr).unwrap());
    }
    insta::assert_snapshot!(text, @"
    xbosh: systemd passes a datagram socket as file descriptor 3, through which no client can come; let xbosh.socket hold only ListenStream= lines with an address or a path, and no Accept=yes
    xbosh: systemd passes a datagram socket as file descriptor 3, through which no client can come; let xbosh.socket hold only ListenStream= lines with an address or a path, and no Accept=yes
    xbosh: systemd passes a connection as file descriptor 3, through which no client can come; let xbosh.socket hold only ListenStream= lines with an address or a path, and no Accept=yes
    xbosh: systemd passes a connection as file descriptor 3, through which no client can come; let xbosh.socket hold only ListenStream= lines with an address or a path, and no Accept=yes
    xbosh: systemd passes something that is no TCP or Unix stream socket as file descriptor 3, through which no client can come; let xbosh.socket hold only ListenStream= lines with an address or a path, and no Accept=yes
    ");
    let mut command = home.command(&[]);
    command.env("LISTEN_FDS", "4000000000");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(78));
}

/// Both kinds at once, by systemd's own program.
#[test]
fn systemd_socket_activate() {
    const ACTIVATE: &str = "/usr/bin/systemd-socket-activate";
    let home = Home::new();
    let path = home.path().join("passed");
    // Free a moment ago; another program may take it only if it asks for this very port.
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    if !Path::new(ACTIVATE).is_file() {
        return skipped("systemd-socket-activate is not installed");
    }
    let mut command = Command::new(ACTIVATE);
    command
        .args(["-E", "XBOSH_DISCOVERY__HOST_META"])
        .arg("-l")
        .arg(&path)
        .arg("-l")
        .arg(address.to_string());
    command.arg(env!("CARGO_BIN_EXE_xbosh")).env_clear();
    command
        .env("HOME", home.path())
        .env("XBOSH_DISCOVERY__HOST_META", "false");
    let running = Running::start(command);
    // It starts xbosh for the first client, and has no other way of saying that it waits for one.
    #[allow(clippy::disallowed_methods, reason = "the limit is one of real time")]
    let began = std::time::Instant::now();
    let first = loop {
        match UnixStream::connect(&path) {
            Ok(client) => break client,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
        }
        thread::yield_now();
    };
    assert_eq!(
        running.line(),
        format!("listening on unix:{}", path.display())
    );
    assert_eq!(running.address(), address);
    answered(first);
    answered(TcpStream::connect(address).unwrap());
    answered_at(&path);
    stop(&running);
}
