//! Authorities and leaves: what they vouch for, how they are kept, what is refused.

mod handshakes;
mod limits;
mod system;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use xbosh_testkit::real::available::skipped;

use super::*;
use crate::config::LocalTlsMode;

const DAY: Duration = Duration::from_secs(24 * 3600);

struct Place {
    home: tempfile::TempDir,
    tls: LocalTls,
}

impl Place {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(adjust: impl FnOnce(&mut Config)) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        adjust(&mut config);
        let tls = LocalTls::new(&config, home.path().join("ca"));
        Self { home, tls }
    }

    /// As after a new start.
    fn again(&self) -> LocalTls {
        LocalTls::new(&Config::default(), self.home.path().join("ca"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home.path().join("ca").join(name)
    }

    fn refused(&self, domain: &str) -> String {
        let error = self.again().server_config(domain).unwrap_err().to_string();
        let home = self.home.path().display().to_string();
        error.replace(&home, "HOME")
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o777
}

/// The key is readable by its owner alone, and never made twice.
#[test]
fn made_once_and_closed() {
    let place = Place::new();
    let file = place.tls.certificate_file("example.org").unwrap();
    assert_eq!(file, place.file("example.org/ca.pem"));
    assert_eq!(mode(&place.file("")), 0o700);
    assert_eq!(mode(&place.file("example.org")), 0o700);
    assert_eq!(mode(&place.file("example.org/ca-key.pem")), 0o600);
    let first = std::fs::read_to_string(&file).unwrap();
    place.again().server_config("example.org").unwrap();
    assert_eq!(mode(&place.file("example.org/leaf.pem")), 0o600);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), first);
    let names: Vec<_> = std::fs::read_dir(place.file("")).unwrap().collect();
    assert_eq!(names.len(), 1, "no drafts are left: {names:?}");
}

/// Two programs that make it at once use the same one.
#[test]
fn made_by_many_at_once() {
    let place = Place::new();
    let prints: Vec<String> = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| place.again().describe("example.org").unwrap().fingerprint))
            .collect();
        makers
            .into_iter()
            .map(|maker| maker.join().unwrap())
            .collect()
    });
    assert!(prints.iter().all(|print| *print == prints[0]), "{prints:?}");
    assert_eq!(std::fs::read_dir(place.file("")).unwrap().count(), 1);
}

/// The leaf outlives a restart, is made anew before it ends, and keeps its key, which some clients remember.
#[test]
fn leaves_are_renewed() {
    let place = Place::new();
    let now = SystemTime::now();
    let at = |tls: &LocalTls, days: u32| {
        tls.server_config_at("example.org", now + DAY * days)
            .unwrap();
        std::fs::read_to_string(place.file("example.org/leaf.pem")).unwrap()
    };
    let first = at(&place.tls, 0);
    assert_eq!(at(&place.again(), 300), first);
    assert_eq!(at(&place.tls, 334), first, "kept ready until then");
    let renewed = at(&place.tls, 336);
    assert_ne!(renewed, first);
    let key = |text: &str| {
        text.split("-----BEGIN CERTIFICATE")
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(key(&renewed), key(&first));
    assert_eq!(at(&place.again(), 337), renewed);
    // The last one ends with the authority, and is not made anew over and over before that.
    let last = at(&place.tls, 3640);
    assert_ne!(last, renewed);
    assert_eq!(at(&place.tls, 3641), last);
    assert_eq!(at(&place.again(), 3649), last);
}

/// Who deletes an authority to have another made, or puts one back, need not start xbosh again.
#[test]
fn an_authority_is_exchanged_while_running() {
    let place = Place::new();
    let (folder, away) = (place.file("example.org"), place.home.path().join("away"));
    let first = place.tls.server_config("example.org").unwrap();
    let same = place.tls.server_config("example.org").unwrap();
    assert!(Arc::ptr_eq(&first, &same));
    std::fs::rename(&folder, &away).unwrap();
    let second = place.tls.server_config("example.org").unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    let made = std::fs::read(folder.join("ca.pem")).unwrap();
    assert_ne!(made, std::fs::read(away.join("ca.pem")).unwrap());
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::rename(&away, &folder).unwrap();
    let back = place.tls.server_config("example.org").unwrap();
    assert!(!Arc::ptr_eq(&back, &second));
    // Damage is told at once, too.
    std::fs::write(folder.join("ca.pem"), "rubbish, and longer than a tick").unwrap();
    assert!(place.tls.server_config("example.org").is_err());
}

/// A name is a folder's name: nothing leads out of the folder of authorities, or fills the disk.
#[test]
fn names_that_are_no_folders() {
    let place = Place::new();
    let long = "a".repeat(300);
    for name in [
        "../evil", "..", ".", "", "a/b", "a\0b", ".hidden", "UPPER", "a b", &long,
    ] {
        let refused = place.tls.server_config(name);
        assert!(
            matches!(refused, Err(LocalTlsError::BadName { .. })),
            "{name}: {refused:?}"
        );
        assert!(place.tls.set_trusted(name, true).is_err());
        assert!(!place.tls.is_advertised(name));
    }
    assert_eq!(std::fs::read_dir(place.home.path()).unwrap().count(), 0);
    for name in [
        "example.org",
        "localhost",
        "xn--bcher-kva.example",
        "192.0.2.1",
        "[2001:db8::1]",
        "my_box",
    ] {
        place.tls.server_config(name).unwrap();
    }
}

/// What is damaged, foreign or open to others is refused with what to do, and never replaced.
#[test]
fn damaged_authorities() {
    let place = Place::new();
    let domain = "example.org";
    place.tls.server_config(domain).unwrap();
    place.tls.server_config("other.example").unwrap();
    let (key, certificate) = (
        place.file("example.org/ca-key.pem"),
        place.file("example.org/ca.pem"),
    );
    let read = |path: &Path| std::fs::read(path).unwrap();
    let (good_key, good_certificate) = (read(&key), read(&certificate));
    let foreign_key = read(&place.file("other.example/ca-key.pem"));
    let foreign = read(&place.file("other.example/ca.pem"));
    let chmod = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let mut told = Vec::new();
    let mut damage = |path: &Path, bytes: &[u8], good: &[u8]| {
        std::fs::write(path, bytes).unwrap();
        told.push(place.refused(domain));
        assert_eq!(read(path), bytes, "nothing is replaced");
        std::fs::write(path, good).unwrap();
    };
    damage(&key, b"", &good_key);
    damage(&key, &foreign_key, &good_key);
    damage(&certificate, b"rubbish", &good_certificate);
    damage(&certificate, &foreign, &good_certificate);
    std::fs::remove_file(&key).unwrap();
    told.push(place.refused(domain));
    assert!(!key.exists());
    std::fs::write(&key, &good_key).unwrap();
    chmod(&key, 0o644);
    told.push(place.refused(domain));
    chmod(&key, 0o600);
    chmod(&place.file(domain), 0o755);
    told.push(place.refused(domain));
    chmod(&place.file(domain), 0o700);
    place.again().server_config(domain).unwrap();
    insta::assert_snapshot!(told.join("\n"), @r"
    HOME/ca/example.org/ca-key.pem: it holds no key; put the right file back, or delete HOME/ca/example.org and have clients trust a new one
    HOME/ca/example.org/ca.pem: the key beside it is not its key; put the right file back, or delete HOME/ca/example.org and have clients trust a new one
    HOME/ca/example.org/ca.pem: it holds no certificate; put the right file back, or delete HOME/ca/example.org and have clients trust a new one
    HOME/ca/example.org/ca.pem: it is no authority for example.org alone: it may vouch for other names; put the right file back, or delete HOME/ca/example.org and have clients trust a new one
    HOME/ca/example.org/ca-key.pem: it is missing; put the right file back, or delete HOME/ca/example.org and have clients trust a new one
    HOME/ca/example.org/ca-key.pem: others have access to it: run chmod 600 HOME/ca/example.org/ca-key.pem; nobody else may have been able to read it, or delete HOME/ca/example.org and have clients trust a new one
    HOME/ca/example.org: others have access to it: run chmod 700 HOME/ca/example.org; nobody else may have been able to read it, or delete HOME/ca/example.org and have clients trust a new one
    ");
    // A leaf is no loss.
    std::fs::write(place.file("example.org/leaf.pem"), "rubbish").unwrap();
    place.again().server_config(domain).unwrap();
    // Ten years later.
    let error = place
        .again()
        .server_config_at(domain, SystemTime::now() + DAY * 3651);
    assert!(error.unwrap_err().to_string().contains("it has expired"));
}

/// What is wrong with the folder above is said as well.
#[test]
fn folders_that_cannot_be_used() {
    let place = Place::new();
    std::fs::create_dir(place.file("")).unwrap();
    std::fs::set_permissions(place.file(""), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(place.refused("example.org").contains("chmod 700 HOME/ca"));
    std::fs::remove_dir(place.file("")).unwrap();
    std::fs::write(place.home.path().join("ca"), "a file").unwrap();
    assert!(!place.refused("example.org").is_empty());
}

/// design.md `[local_tls]`: whose certificate is shown.
#[test]
fn which_domain_a_handshake_means() {
    let domain = |place: &Place, name: Option<&str>| {
        place
            .tls
            .domain_for(name)
            .map_err(|error| error.to_string())
    };
    let nothing = "a client began TLS without naming a domain: set default_domain".to_owned();
    let place = Place::new();
    assert_eq!(
        domain(&place, Some("B\u{fc}cher.Example")),
        Ok("xn--bcher-kva.example".into())
    );
    for unnamed in [None, Some("localhost"), Some("127.0.0.1"), Some("::1")] {
        assert_eq!(domain(&place, unnamed), Err(nothing.clone()), "{unnamed:?}");
    }
    place.tls.used("last.example");
    assert_eq!(domain(&place, Some("localhost")), Ok("last.example".into()));

    let settings = |config: &Config| crate::config::Domain {
        url: None,
        route: None,
        tls: config.tls.clone(),
        bosh: config.bosh.clone(),
        proxy: config.proxy.clone(),
    };
    let place = Place::with(|config| {
        config
            .domains
            .insert("only.example".into(), settings(config));
    });
    place.tls.used("last.example");
    assert_eq!(domain(&place, None), Ok("only.example".into()));

    let place = Place::with(|config| {
        config
            .domains
            .insert("only.example".into(), settings(config));
        config.default_domain = Some("default.example".into());
        config.allowed_domains = Some(vec!["default.example".into(), "b.example".into()]);
    });
    assert_eq!(domain(&place, None), Ok("default.example".into()));
    assert_eq!(domain(&place, Some("b.example")), Ok("b.example".into()));
    let refused = domain(&place, Some("c.example")).unwrap_err();
    assert_eq!(
        refused,
        "a client began TLS for \"c.example\", which allowed_domains does not hold"
    );
    assert!(place.tls.server_config("c.example").is_err());
    assert!(!place.home.path().join("ca/c.example").exists());
}

/// S-37: what is offered in which mode.
#[test]
fn s37_what_is_advertised() {
    for (mode, before, after) in [
        (LocalTlsMode::Auto, false, true),
        (LocalTlsMode::Optional, true, true),
        (LocalTlsMode::Required, true, true),
        (LocalTlsMode::Off, false, false),
    ] {
        let place = Place::with(|config| config.local_tls = mode);
        place.tls.server_config("example.org").unwrap();
        assert_eq!(place.tls.is_advertised("example.org"), before, "{mode:?}");
        place.tls.set_trusted("example.org", true).unwrap();
        place.tls.set_trusted("example.org", true).unwrap();
        assert_eq!(place.tls.is_advertised("example.org"), after, "{mode:?}");
        assert!(place.again().is_advertised("example.org"));
        place.tls.set_trusted("example.org", false).unwrap();
        place.tls.set_trusted("example.org", false).unwrap();
        assert_eq!(place.tls.is_advertised("example.org"), before, "{mode:?}");
    }
}

/// At most 64 are kept ready, those used last; more domains than anybody has are refused, but not those that the
/// configuration names, nor those that the user asks for.
#[test]
fn many_domains() {
    let place = Place::with(|config| config.default_domain = Some("mine.example".into()));
    let mut now = SystemTime::now();
    for n in 0..MAX_AUTHORITIES {
        now += NEW_WITHIN;
        let name = format!("d{n}.example");
        place.tls.server_config_at(&name, now).unwrap();
        place.tls.server_config("d0.example").unwrap();
    }
    let state = place.tls.lock();
    assert_eq!(state.ready.len(), MAX_READY);
    assert!(state.ready.contains_key("d0.example") && state.ready.contains_key("d255.example"));
    drop(state);
    let refused = place.tls.server_config_at("one-more.example", now);
    assert!(
        matches!(refused, Err(LocalTlsError::TooMany { .. })),
        "{refused:?}"
    );
    place.tls.server_config("d1.example").unwrap();
    place.tls.server_config("mine.example").unwrap();
    place.tls.certificate_file("one-more.example").unwrap();
    place.tls.server_config("one-more.example").unwrap();
}

/// A program that asks for one name after the other has few authorities made in a minute; the configuration's domains
/// and those that have one are served all the same.
#[test]
fn names_of_clients_are_made_slowly() {
    let place = Place::with(|config| {
        config.default_domain = Some("mine.example".into());
    });
    let now = SystemTime::now();
    let made = |from: usize, now| {
        let names = (from..from + 2 * MAX_NEW).map(|n| format!("d{n}.example"));
        let results = names.map(|name| place.tls.server_config_at(&name, now));
        let refused = |error: &LocalTlsError| matches!(error, LocalTlsError::TooFast { .. });
        results
            .filter(|made| !made.as_ref().is_err_and(refused))
            .count()
    };
    assert_eq!(made(0, now), MAX_NEW);
    assert_eq!(place.tls.folder.count(), MAX_NEW);
    place.tls.server_config_at("mine.example", now).unwrap();
    place.tls.server_config_at("d0.example", now).unwrap();
    // A new start or configuration is no way around it for long, and time is.
    let again = place.again().knowing(&place.tls);
    assert!(again.server_config_at("other.example", now).is_err());
    assert_eq!(made(100, now + NEW_WITHIN), MAX_NEW);
}

/// A new configuration forgets neither the domain used last nor what clients may resume; a new start knows at least the
/// only domain that there is.
#[test]
fn what_is_known_of_domains() {
    let place = Place::new();
    let first = place.tls.server_config("a.example").unwrap();
    place.tls.server_config("b.example").unwrap();
    place.tls.used("b.example");
    let reread = place.again().knowing(&place.tls);
    assert_eq!(reread.domain_for(None).unwrap(), "b.example");
    let ready = reread.ready("a.example").unwrap().unwrap();
    assert!(
        Arc::ptr_eq(&ready, &first),
        "its tickets are as good as before"
    );
    // Another folder has other authorities.
    let elsewhere = Place::new();
    let other = elsewhere.again().knowing(&place.tls);
    assert!(other.domain_for(None).is_err() && other.ready("a.example").unwrap().is_none());

    assert!(place.again().domain_for(None).is_err(), "one of two");
    std::fs::remove_dir_all(place.file("b.example")).unwrap();
    std::fs::create_dir(place.file(".new-0123")).unwrap();
    assert_eq!(place.again().domain_for(None).unwrap(), "a.example");
}

/// What somebody else has put there is not used, whatever it holds: only what is ours, in a place of its own.
#[test]
fn what_others_have_put_there() {
    let place = Place::new();
    place.tls.server_config("example.org").unwrap();
    let away = place.home.path().join("away");
    for name in [
        "example.org",
        "example.org/ca-key.pem",
        "example.org/leaf.pem",
    ] {
        let path = place.file(name);
        std::fs::rename(&path, &away).unwrap();
        std::os::unix::fs::symlink(&away, &path).unwrap();
        let refused = place.refused("example.org");
        assert!(
            refused.starts_with(&format!("HOME/ca/{name}: it is a symbolic link; ")),
            "{refused}"
        );
        std::fs::remove_file(&path).unwrap();
        std::fs::rename(&away, &path).unwrap();
    }
    place.again().server_config("example.org").unwrap();
    // Only root can give files away.
    if !rustix::process::geteuid().is_root() {
        return skipped("not root, who alone can give files to another user");
    }
    for name in [
        "example.org",
        "example.org/ca-key.pem",
        "example.org/leaf.pem",
    ] {
        let path = place.file(name);
        std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
        let refused = place.refused("example.org");
        assert!(
            refused.starts_with(&format!("HOME/ca/{name}: it belongs to another user; ")),
            "{refused}"
        );
        std::os::unix::fs::chown(&path, Some(0), None).unwrap();
    }
    place.again().server_config("example.org").unwrap();
    // The folder of all of them is looked at before one is made.
    std::os::unix::fs::chown(place.file(""), Some(65_534), None).unwrap();
    let refused = place.refused("b.example");
    assert!(
        refused.contains("HOME/ca: it belongs to another user"),
        "{refused}"
    );
}

/// Nothing that is printed holds a key.
#[test]
fn debug_shows_no_key() {
    let place = Place::new();
    place.tls.server_config("example.org").unwrap();
    let shown = format!(
        "{:?} {:?}",
        place.tls,
        place.tls.authority("example.org", SystemTime::now())
    );
    assert!(!shown.contains("PRIVATE") && shown.len() < 400, "{shown}");
}

/// The usual folder: systemd's, XDG's, the home's.
#[test]
fn the_usual_folder() {
    let folder = |pairs: &[(&str, &str)]| {
        let owned: Vec<(String, String)> = pairs
            .iter()
            .map(|(a, b)| ((*a).into(), (*b).into()))
            .collect();
        LocalTls::usual_folder(&owned).map(|path| path.display().to_string())
    };
    assert_eq!(folder(&[]), None);
    assert_eq!(
        folder(&[("HOME", "/h")]).unwrap(),
        "/h/.local/state/xbosh/ca"
    );
    assert_eq!(
        folder(&[("HOME", "/h"), ("XDG_STATE_HOME", "/s")]).unwrap(),
        "/s/xbosh/ca"
    );
    assert_eq!(
        folder(&[("HOME", "/h"), ("XDG_STATE_HOME", "s")]).unwrap(),
        "/h/.local/state/xbosh/ca"
    );
    let systemd = [("HOME", "/h"), ("STATE_DIRECTORY", "/var/lib/xbosh:/x")];
    assert_eq!(folder(&systemd).unwrap(), "/var/lib/xbosh/ca");
}
