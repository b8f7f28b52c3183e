//! Authorities on disk: a folder for each domain, readable by its owner alone, written whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use super::LocalTlsError;
use super::authority::{Authority, Leaf, validity};

const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca-key.pem";
const LEAF: &str = "leaf.pem";
const TRUSTED: &str = "trusted";
/// No file of ours is larger.
const MAX_FILE: u64 = 64 * 1024;

/// Tells one version of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    modified: (i64, i64),
}

/// The folder of all authorities.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    fn of(&self, domain: &str) -> PathBuf {
        self.0.join(domain)
    }

    pub(super) fn certificate_file(&self, domain: &str) -> PathBuf {
        self.of(domain).join(CERTIFICATE)
    }

    pub(super) fn has(&self, domain: &str) -> bool {
        is_folder_name(domain) && fs::symlink_metadata(self.of(domain)).is_ok()
    }

    /// Of a domain's authority, if it has one.
    pub(super) fn stamp(&self, domain: &str) -> Option<Stamp> {
        let file = is_folder_name(domain).then(|| self.certificate_file(domain))?;
        let found = fs::symlink_metadata(file).ok()?;
        Some(Stamp {
            inode: found.ino(),
            modified: (found.mtime(), found.mtime_nsec()),
        })
    }

    /// How many authorities there are.
    pub(super) fn count(&self) -> usize {
        fs::read_dir(&self.0).map_or(0, Iterator::count)
    }

    /// The only domain that has an authority, if it is one.
    pub(super) fn sole(&self) -> Option<String> {
        let names = fs::read_dir(&self.0).ok()?.flatten();
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names = names.filter(|name| is_folder_name(name));
        names.next().filter(|_| names.next().is_none())
    }

    pub(super) fn is_trusted(&self, domain: &str) -> bool {
        is_folder_name(domain) && self.of(domain).join(TRUSTED).exists()
    }

    pub(super) fn set_trusted(&self, domain: &str, trusted: bool) -> Result<(), LocalTlsError> {
        let path = self.of(check(domain)?).join(TRUSTED);
        let done = if trusted {
            write_new(&path, b"", 0o600).or_else(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => Ok(()),
                _ => Err(error),
            })
        } else {
            fs::remove_file(&path).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })
        };
        done.map_err(|source| LocalTlsError::Io { path, source })
    }

    /// A domain's authority; `None` if there is none yet.
    pub(super) fn load(
        &self,
        domain: &str,
        now: SystemTime,
    ) -> Result<Option<Authority>, LocalTlsError> {
        let folder = self.of(check(domain)?);
        match fs::symlink_metadata(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(io_error(folder, source)),
            Ok(_) => {}
        }
        self.check_private(&folder, &folder)?;
        let key_file = folder.join(KEY);
        let key = self.read_private(&folder, &key_file)?;
        let damaged = |path: &Path, what: &str| LocalTlsError::Damaged {
            path: path.to_owned(),
            folder: folder.clone(),
            what: what.to_owned(),
        };
        let key = KeyPair::from_pem(&key).map_err(|_| damaged(&key_file, "it holds no key"))?;
        let file = folder.join(CERTIFICATE);
        let pem = read(&file).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => damaged(&file, "it is missing"),
            _ => io_error(file.clone(), source),
        })?;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| damaged(&file, "it holds no certificate"))?;
        Authority::take(domain, certificate, key, now)
            .map(Some)
            .map_err(|what| damaged(&file, &what))
    }

    /// Makes a domain's authority. Of two programs that do so at once one wins, and both use its.
    pub(super) fn make(&self, domain: &str, now: SystemTime) -> Result<Authority, LocalTlsError> {
        let authority = Authority::make(check(domain)?, now)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(|source| io_error(self.0.clone(), source))?;
        self.check_private(&self.0, &self.0)?;
        let name = random_name().map_err(|source| io_error(self.0.clone(), source))?;
        let draft = self.0.join(format!(".new-{name}"));
        let written = self.write(&draft, &authority);
        let target = self.of(domain);
        let moved = written.and_then(|()| fs::rename(&draft, &target));
        match moved {
            Ok(()) => {
                // Without this the name may be lost by a power cut, and the authority be made anew.
                let synced = File::open(&self.0).and_then(|folder| folder.sync_all());
                synced.map_err(|source| io_error(self.0.clone(), source))?;
                tracing::info!(domain, file = %self.certificate_file(domain).display(), "made a certificate authority for local clients of this domain");
                Ok(authority)
            }
            Err(source) => {
                // Whether that works or not, there is nothing of value in it.
                let _ = fs::remove_dir_all(&draft);
                match self.load(domain, now)? {
                    Some(theirs) => Ok(theirs),
                    None => Err(io_error(target, source)),
                }
            }
        }
    }

    fn write(&self, draft: &Path, authority: &Authority) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(draft)?;
        write_new(&draft.join(KEY), authority.key_pem().as_bytes(), 0o600)?;
        let pem = pem_of(&authority.certificate);
        write_new(&draft.join(CERTIFICATE), pem.as_bytes(), 0o644)?;
        File::open(draft)?.sync_all()
    }

    /// The leaf of a domain: the one on disk while it lasts, else a new one with the same key, since some clients
    /// remember it.
    pub(super) fn leaf(
        &self,
        domain: &str,
        authority: &Authority,
        now: SystemTime,
    ) -> Result<Leaf, LocalTlsError> {
        let folder = self.of(check(domain)?);
        let path = folder.join(LEAF);
        let kept = match self.read_private(&folder, &path) {
            Ok(text) => read_leaf(&text, authority),
            Err(LocalTlsError::Damaged { .. }) => None,
            Err(error) => return Err(error),
        };
        let key = match kept {
            Some(leaf) if authority.owns(&leaf, now) => return Ok(leaf),
            Some(leaf) => Some(leaf.key),
            None => None,
        };
        let leaf = authority.leaf(key, now)?;
        let mut text = Zeroizing::new(leaf.key.serialize_pem());
        text.push_str(&leaf.chain.first().map(|c| pem_of(c)).unwrap_or_default());
        let name = random_name().map_err(|source| io_error(path.clone(), source))?;
        let draft = folder.join(format!(".leaf-{name}"));
        write_new(&draft, text.as_bytes(), 0o600)
            .and_then(|()| fs::rename(&draft, &path))
            .map_err(|source| io_error(path, source))?;
        Ok(leaf)
    }

    /// Ours, and closed to others.
    fn check_private(&self, path: &Path, folder: &Path) -> Result<(), LocalTlsError> {
        let found = fs::symlink_metadata(path).map_err(|source| io_error(path.into(), source))?;
        let open = |what: String| LocalTlsError::Open {
            path: path.to_owned(),
            folder: folder.to_owned(),
            what,
        };
        if found.file_type().is_symlink() {
            return Err(open("it is a symbolic link".into()));
        }
        if found.uid() != rustix::process::geteuid().as_raw() {
            return Err(open("it belongs to another user".into()));
        }
        if found.mode() & 0o077 != 0 {
            let mode = if found.is_dir() { 700 } else { 600 };
            return Err(open(format!(
                "others have access to it: run chmod {mode} {}",
                path.display()
            )));
        }
        Ok(())
    }

    fn read_private(&self, folder: &Path, path: &Path) -> Result<Zeroizing<String>, LocalTlsError> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(LocalTlsError::Damaged {
                path: path.to_owned(),
                folder: folder.to_owned(),
                what: "it is missing".into(),
            }),
            Err(source) => Err(io_error(path.to_owned(), source)),
            Ok(_) => {
                self.check_private(path, folder)?;
                let text = read(path).map_err(|source| io_error(path.to_owned(), source))?;
                Ok(Zeroizing::new(text))
            }
        }
    }
}

fn random_name() -> io::Result<String> {
    let random = getrandom::u64().map_err(io::Error::other)?;
    Ok(format!("{random:016x}"))
}

fn read_leaf(text: &str, authority: &Authority) -> Option<Leaf> {
    let key = KeyPair::from_pem(text).ok()?;
    let certificate = CertificateDer::from_pem_slice(text.as_bytes()).ok()?;
    let (_, ends) = validity(&certificate).ok()?;
    Some(Leaf {
        chain: vec![certificate, authority.certificate.clone()],
        key,
        ends,
    })
}

/// A domain is a path's last part: it must be one that leads nowhere else.
fn is_folder_name(domain: &str) -> bool {
    let plain =
        |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b':' | b'[' | b']');
    (1..=253).contains(&domain.len()) && !domain.starts_with('.') && domain.bytes().all(plain)
}

fn check(domain: &str) -> Result<&str, LocalTlsError> {
    if is_folder_name(domain) {
        Ok(domain)
    } else {
        Err(LocalTlsError::BadName {
            domain: domain.chars().take(80).collect(),
        })
    }
}

fn io_error(path: PathBuf, source: io::Error) -> LocalTlsError {
    LocalTlsError::Io { path, source }
}

/// At most [`MAX_FILE`] bytes of a file.
fn read(path: &Path) -> io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

pub(super) fn pem_of(certificate: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}
