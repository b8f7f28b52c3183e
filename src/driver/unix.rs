//! Listening on a Unix socket's path, without touching anybody else's file.
//!
//! Nobody else can connect at any moment, whatever the umask: the socket has mode 0600 before it has a name, and its
//! file is looked at, and set right where a system ignores that, while nothing can connect because nothing listens.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, fchmod, flock};
use tokio::net::{UnixListener, UnixSocket, UnixStream};

use super::clock;

/// Only the user who runs the sidecar.
const MODE: u32 = 0o600;
/// Clients that may wait to be accepted.
const BACKLOG: u32 = 1024;
/// How long another xbosh may take to bind in the same folder.
const LOCK_LIMIT: Duration = Duration::from_secs(2);
/// Pause between attempts to get the folder's lock.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A path that cannot be listened on.
#[derive(Debug)]
pub(super) struct Refused {
    /// What to do about it.
    pub(super) hint: &'static str,
    pub(super) source: io::Error,
}

impl From<io::Error> for Refused {
    fn from(source: io::Error) -> Self {
        let hint = match source.kind() {
            io::ErrorKind::AddrInUse => super::sockets::IN_USE,
            io::ErrorKind::NotFound => {
                "its folder does not exist; create it or set another `listen`"
            }
            io::ErrorKind::NotADirectory => {
                "what should be its folder is a file; set another `listen`"
            }
            io::ErrorKind::PermissionDenied => {
                "xbosh may not create or replace it there; check who owns its folder or set another `listen`"
            }
            io::ErrorKind::ReadOnlyFilesystem => {
                "its folder cannot be written to; under systemd choose one in the unit's RuntimeDirectory"
            }
            _ => "check `listen`",
        };
        Self { hint, source }
    }
}

/// The file of a socket that listens. Removed on drop, if it is still the same one: dropped before its socket, which
/// keeps another file from getting its number.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    number: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Ok(now) = fs::symlink_metadata(&self.path)
            && (now.dev(), now.ino()) == (self.device, self.number)
        {
            // Left behind, it is replaced by the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens on `path` for this user alone. What is left of a program that is gone is replaced.
///
/// # Errors
/// [`Refused`] if another program listens there, a file is there that is no socket, or the system says no.
pub(super) async fn bind(path: &Path) -> Result<(SocketFile, UnixListener), Refused> {
    // Until it listens, a socket looks left behind to another xbosh that starts.
    let _lock = lock_folder(path).await?;
    make_room(path).await?;
    let socket = UnixSocket::new_stream()?;
    // Only Linux gives it to the file; looked at below.
    let _ = fchmod(&socket, Mode::from_raw_mode(MODE));
    socket.bind(path)?;
    let made = fs::symlink_metadata(path)?;
    let file = SocketFile {
        path: path.to_owned(),
        device: made.dev(),
        number: made.ino(),
    };
    if made.mode() & 0o777 != MODE {
        fs::set_permissions(path, Permissions::from_mode(MODE))?;
    }
    let listener = socket.listen(BACKLOG)?;
    Ok((file, listener))
}

/// One xbosh at a time binds in a folder. A folder that cannot be locked is done without.
async fn lock_folder(path: &Path) -> Result<Option<File>, Refused> {
    let folder = match File::open(path.parent().unwrap_or(path)) {
        Ok(folder) if folder.metadata()?.is_dir() => folder,
        Ok(_) => return Err(io::Error::from(io::ErrorKind::NotADirectory).into()),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Err(error.into());
        }
        Err(_) => return Ok(None),
    };
    let until = clock::now() + LOCK_LIMIT;
    loop {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(folder)),
            Err(error) if io::Error::from(error).kind() != io::ErrorKind::WouldBlock => {
                return Ok(None);
            }
            Err(_) if clock::now() < until => tokio::time::sleep(LOCK_PAUSE).await,
            Err(error) => {
                return Err(Refused {
                    hint: "another program keeps its folder locked; set another `listen`",
                    source: error.into(),
                });
            }
        }
    }
}

/// Removes a socket that nobody listens on.
async fn make_room(path: &Path) -> Result<(), Refused> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => {}
        Ok(_) => {
            return Err(Refused {
                hint: "there is something that is no socket, which xbosh does not delete; move it away or set \
                       another `listen`",
                source: io::ErrorKind::AlreadyExists.into(),
            });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::debug!(path = %path.display(), "replacing a socket that nobody listens on");
            Ok(fs::remove_file(path)?)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error.into()),
        // Anything else has somebody behind it, if only one with too much to do.
        Ok(_) | Err(_) => Err(io::Error::from(io::ErrorKind::AddrInUse).into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use tempfile::TempDir;

    use super::*;

    fn folder() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        (folder, path)
    }

    #[tokio::test]
    async fn only_its_user_may_connect_and_the_file_goes() {
        let (_folder, path) = folder();
        let (file, _listener) = bind(&path).await.unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o777, MODE);
        UnixStream::connect(&path).await.unwrap();
        drop(file);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn another_file_of_that_name_stays() {
        let (_folder, path) = folder();
        let (file, _listener) = bind(&path).await.unwrap();
        fs::remove_file(&path).unwrap();
        let (_other, _theirs) = bind(&path).await.unwrap();
        drop(file);
        UnixStream::connect(&path).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_left_behind_is_replaced() {
        let (_folder, path) = folder();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let (_file, _listener) = bind(&path).await.unwrap();
        UnixStream::connect(&path).await.unwrap();
    }

    #[tokio::test]
    async fn what_lives_is_left_alone() {
        let (_folder, path) = folder();
        let (_file, _listener) = bind(&path).await.unwrap();
        let error = bind(&path).await.unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
        UnixStream::connect(&path).await.unwrap();
        let (_folder, path) = folder();
        let _datagrams = UnixDatagram::bind(&path).unwrap();
        let error = bind(&path).await.unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
        assert!(path.exists());
    }

    /// Somebody who cannot take more clients is somebody.
    #[tokio::test]
    async fn a_busy_program_is_left_alone() {
        let (_folder, path) = folder();
        let socket = UnixSocket::new_stream().unwrap();
        socket.bind(&path).unwrap();
        let _listener = socket.listen(1).unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = UnixStream::connect(&path).await {
            waiting.push(stream);
            assert!(waiting.len() < 100);
        }
        let error = bind(&path).await.unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn what_is_no_socket_is_never_deleted() {
        let (folder, path) = folder();
        let target = folder.path().join("target");
        let (_file, _listener) = bind(&target).await.unwrap();
        let make: [&dyn Fn(); 3] = [
            &|| fs::write(&path, "precious").unwrap(),
            &|| std::os::unix::fs::symlink(&target, &path).unwrap(),
            &|| fs::create_dir(&path).unwrap(),
        ];
        for make in make {
            make();
            let before = fs::symlink_metadata(&path).unwrap();
            let error = bind(&path).await.unwrap_err();
            assert_eq!(error.source.kind(), io::ErrorKind::AlreadyExists);
            let after = fs::symlink_metadata(&path).unwrap();
            assert_eq!((before.ino(), before.mode()), (after.ino(), after.mode()));
            if after.is_dir() {
                fs::remove_dir(&path).unwrap();
            } else {
                fs::remove_file(&path).unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_folder_that_is_none() {
        let (_folder, path) = folder();
        let error = bind(&path.join("socket")).await.unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::NotFound);
        fs::write(&path, "").unwrap();
        let error = bind(&path.join("socket")).await.unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::NotADirectory);
    }

    /// Of many that start at once, over a socket left behind, exactly one gets the path, and keeps it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn one_of_many_wins() {
        for _ in 0..10 {
            one_wins().await;
        }
    }

    async fn one_wins() {
        let (_folder, path) = folder();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                let path = path.clone();
                tokio::spawn(async move { bind(&path).await })
            })
            .collect();
        let mut won = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                Ok(bound) => won.push(bound),
                Err(error) => assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse),
            }
        }
        assert_eq!(won.len(), 1);
        UnixStream::connect(&path).await.unwrap();
    }

    /// A lock that is never let go delays a start, and is named.
    #[tokio::test(start_paused = true)]
    async fn a_folder_that_stays_locked() {
        let (folder, path) = folder();
        let held = File::open(folder.path()).unwrap();
        flock(&held, FlockOperation::LockExclusive).unwrap();
        let error = bind(&path).await.unwrap_err();
        assert!(error.hint.contains("locked"), "{error:?}");
        assert!(!path.exists());
        drop(held);
        bind(&path).await.unwrap();
    }
}
