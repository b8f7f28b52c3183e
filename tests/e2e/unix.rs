//! Clients that come through a Unix socket.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::process::Command;
use xbosh::config::ListenAddress;
use xbosh_testkit::client::managed::{Managed, Resumed};
use xbosh_testkit::client::{Client, ClientError, Mechanism};
use xbosh_testkit::cm::Profile;

use crate::support::{Chain, account, echo};

/// A chain that listens on a socket beside its port.
async fn chain(max_streams: usize) -> (Chain, PathBuf, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("xbosh");
    let chain = Chain::start_with(Profile::prosody(), |config| {
        config.listen.push(ListenAddress::Unix(path.clone()));
        config.limits.max_streams = max_streams;
    })
    .await;
    (chain, path, folder)
}

async fn login(path: &Path, user: &str) -> Client {
    Client::login(path, &account(user), Mechanism::Scram)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_session_through_the_socket() {
    let (chain, path, _folder) = chain(16).await;
    assert_eq!(
        chain.sidecar.listening(),
        [
            ListenAddress::Tcp(chain.addr()),
            ListenAddress::Unix(path.clone())
        ]
    );
    let (mut near, mut tcp) = (login(&path, "user").await, chain.login().await);
    assert!(
        near.roster()
            .await
            .unwrap()
            .has("jabber:iq:roster", "query")
    );
    for client in [&mut near, &mut tcp] {
        client.ping().await.unwrap();
        echo(client, 0..20).await;
    }
    near.logout().await.unwrap();
    tcp.logout().await.unwrap();
    chain.assert_faithful();
}

/// S-49: the connection dies, and the stream goes on.
#[tokio::test]
async fn s49_a_stream_resumes_through_the_socket() {
    let (chain, path, _folder) = chain(16).await;
    let mut client = Managed::login(path.as_path(), &account("user"), Mechanism::Plain)
        .await
        .unwrap();
    for round in 0..3 {
        client
            .message("echo@localhost", &format!("round {round}"))
            .await;
        assert_eq!(client.reconnect().await.unwrap(), Resumed::Yes);
        loop {
            let stanza = client.next_stanza().await.unwrap();
            if stanza.name() == "message" {
                let body = stanza.child_text("body").unwrap();
                assert_eq!(body, format!("round {round}"));
                break;
            }
        }
    }
    client.logout().await.unwrap();
    chain.assert_faithful();
}

/// E-14: the limit counts clients of both kinds together.
#[tokio::test]
async fn e14_the_limit_holds_for_both_kinds() {
    let (chain, path, _folder) = chain(1).await;
    let tcp = chain.login().await;
    let refused = Client::login(path.as_path(), &account("other"), Mechanism::Plain).await;
    match refused {
        Err(ClientError::Stream(error)) => assert_eq!(error.condition, "resource-constraint"),
        other => panic!("{other:?}"),
    }
    tcp.logout().await.unwrap();
}

/// S-47: told, and the file is gone.
#[tokio::test]
async fn s47_stopping_ends_streams_and_removes_the_file() {
    let (chain, path, _folder) = chain(16).await;
    let mut client = login(&path, "user").await;
    let (told, ()) = tokio::join!(client.next_stanza(), chain.sidecar.stop());
    match told {
        Err(ClientError::Stream(error)) => assert_eq!(error.condition, "system-shutdown"),
        other => panic!("{other:?}"),
    }
    assert!(!path.exists());
}

/// The mode keeps other users out; should it not, their clients are closed without a byte.
#[tokio::test]
async fn another_user_is_not_served() {
    let program = "import socket, sys\n\
                   s = socket.socket(socket.AF_UNIX)\n\
                   s.settimeout(20)\n\
                   s.connect(sys.argv[1])\n\
                   print(len(s.recv(100)))\n";
    let (chain, path, folder) = chain(16).await;
    let open = |file: &Path, mode| {
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open(folder.path(), 0o755);
    let run = async |uid: u32| {
        let mut command = std::process::Command::new("/usr/bin/python3");
        command.args(["-c", program]).arg(&path).uid(uid).gid(uid);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Command::from(command).output().await
    };
    const NOBODY: u32 = 65534;
    let attempt = match run(NOBODY).await {
        Ok(attempt) => attempt,
        Err(error) => {
            let why = format!("left out: another_user_is_not_served ({error})\n");
            return std::io::stderr().write_all(why.as_bytes()).unwrap();
        }
    };
    let said = String::from_utf8_lossy(&attempt.stderr);
    assert!(said.contains("PermissionError"), "{said}");
    open(&path, 0o666);
    let attempt = run(NOBODY).await.unwrap();
    assert_eq!(
        String::from_utf8_lossy(&attempt.stdout),
        "0\n",
        "{attempt:?}"
    );
    login(&path, "user").await.logout().await.unwrap();
    chain.assert_faithful();
}
