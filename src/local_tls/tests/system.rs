//! The system's store, in systems made of temporary folders and shell scripts.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::super::system::{Change, SystemError, SystemStore};
use super::super::trust;

struct System(tempfile::TempDir);

impl System {
    fn new(folders: &[&str], programs: &[(&str, &str)]) -> Self {
        let system = Self(tempfile::tempdir().unwrap());
        fs::write(system.certificate(), "the authority").unwrap();
        for folder in folders {
            fs::create_dir_all(system.path(folder)).unwrap();
        }
        for (program, script) in programs {
            let path = system.path(program);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let log = system.path("calls").display().to_string();
            let text = format!("#!/bin/sh\necho \"${{0##*/}} $*\" >>{log}\n{script}\n");
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        system
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn certificate(&self) -> PathBuf {
        self.path("ca.pem")
    }

    fn store(&self, may_change: bool) -> SystemStore {
        SystemStore::at(self.0.path().to_owned(), may_change)
    }

    fn change(&self, change: Change, domain: &str) -> Result<String, SystemError> {
        self.store(true).change(change, &self.certificate(), domain)
    }

    fn calls(&self) -> String {
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        calls.replace(&self.0.path().display().to_string(), "ROOT")
    }

    fn plain(&self, text: &str) -> String {
        text.replace(&self.0.path().display().to_string(), "ROOT")
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// In, known to be in, and out again; twice is no mistake.
#[test]
fn each_kind_of_system() {
    let cases = [
        (
            "usr/local/share/ca-certificates",
            "usr/sbin/update-ca-certificates",
            "crt",
            [
                "update-ca-certificates \n",
                "update-ca-certificates --fresh\n",
            ],
        ),
        (
            "etc/pki/ca-trust/source/anchors",
            "usr/bin/update-ca-trust",
            "pem",
            ["update-ca-trust extract\n"; 2],
        ),
        (
            "etc/ca-certificates/trust-source/anchors",
            "usr/bin/update-ca-trust",
            "crt",
            ["update-ca-trust \n"; 2],
        ),
        (
            "etc/pki/trust/anchors",
            "usr/sbin/update-ca-certificates",
            "pem",
            [
                "update-ca-certificates \n",
                "update-ca-certificates --fresh\n",
            ],
        ),
    ];
    for (folder, program, suffix, [add, remove]) in cases {
        // p11-kit is there as well, and not needed.
        let system = System::new(&[folder], &[(program, ""), ("usr/bin/trust", "")]);
        let target = system.path(&format!("{folder}/xbosh-example.org.{suffix}"));
        let holds = || {
            let certificate = system.certificate();
            system.store(false).holds(&certificate, "example.org")
        };
        assert_eq!(holds(), Some(false));
        for _ in 0..2 {
            let said = system.change(Change::Add, "example.org").unwrap();
            assert_eq!(said, format!("added {}", target.display()));
            assert_eq!(fs::read_to_string(&target).unwrap(), "the authority");
            assert_eq!(mode(&target), 0o644);
            assert_eq!(holds(), Some(true));
        }
        fs::write(&target, "an older one").unwrap();
        assert_eq!(holds(), Some(false));
        for _ in 0..2 {
            let said = system.change(Change::Remove, "example.org").unwrap();
            assert_eq!(said, format!("removed {}", target.display()));
            assert!(!target.exists());
        }
        assert_eq!(system.calls(), add.repeat(2) + &remove.repeat(2));
    }
}

/// Elsewhere p11-kit's tool does it, which knows what it holds by itself.
#[test]
fn p11_kit_is_the_last_resort() {
    // The folder alone, without the program, is no store.
    let folder = "usr/local/share/ca-certificates";
    let system = System::new(&[folder], &[("usr/bin/trust", "")]);
    system.change(Change::Add, "example.org").unwrap();
    system.change(Change::Remove, "example.org").unwrap();
    assert_eq!(
        system.calls(),
        "trust anchor --store ROOT/ca.pem\ntrust anchor --remove ROOT/ca.pem\n"
    );
    let store = system.store(false);
    assert_eq!(store.holds(&system.certificate(), "example.org"), None);
}

/// Who is not root is told what root has to run; nothing is changed.
#[test]
fn what_root_has_to_run() {
    let folder = "usr/local/share/ca-certificates";
    let debian = System::new(&[folder], &[("usr/sbin/update-ca-certificates", "")]);
    let p11 = System::new(&[], &[("usr/bin/trust", "")]);
    let mut told = String::new();
    for system in [&debian, &p11] {
        for change in [Change::Add, Change::Remove] {
            let file = system.path("it's/ca.pem");
            let store = system.store(false);
            let refused = store.change(change, &file, "[2001:db8::1]").unwrap_err();
            told += &system.plain(&format!("{refused}\n"));
        }
        assert_eq!(system.calls(), "");
    }
    insta::assert_snapshot!(told, @r"
    only root can change the system's certificates; run
      sudo install -m 644 'ROOT/it'\''s/ca.pem' ROOT/usr/local/share/ca-certificates/xbosh-2001-db8--1.crt
      sudo update-ca-certificates
    only root can change the system's certificates; run
      sudo rm -f ROOT/usr/local/share/ca-certificates/xbosh-2001-db8--1.crt
      sudo update-ca-certificates --fresh
    only root can change the system's certificates; run
      sudo trust anchor --store 'ROOT/it'\''s/ca.pem'
    only root can change the system's certificates; run
      sudo trust anchor --remove 'ROOT/it'\''s/ca.pem'
    ");
}

/// Failures say which program, what it said, and what can be done.
#[test]
fn failures() {
    let unknown = System::new(&[], &[]);
    let mut told = vec![
        unknown.plain(
            &unknown
                .change(Change::Add, "example.org")
                .unwrap_err()
                .to_string(),
        ),
    ];
    for script in ["echo no space left >&2; exit 1", "exit 3"] {
        let folder = "usr/local/share/ca-certificates";
        let system = System::new(&[folder], &[("usr/sbin/update-ca-certificates", script)]);
        let failed = system.change(Change::Add, "example.org").unwrap_err();
        told.push(system.plain(&failed.to_string()));
        // What is in the way of the file.
        fs::create_dir(system.path(&format!("{folder}/xbosh-b.example.crt"))).unwrap();
        let failed = system.change(Change::Add, "b.example").unwrap_err();
        assert!(failed.to_string().starts_with("cannot change "), "{failed}");
    }
    insta::assert_snapshot!(told.join("\n"), @r"
    this system has no certificate store that xbosh knows: add ROOT/ca.pem by the system's own means, then run xbosh ca trust
    update-ca-certificates failed: no space left
    update-ca-certificates failed: exit status: 3
    ");
}

/// What a person reads after `xbosh ca trust`.
#[test]
fn instructions() {
    let folder = "usr/local/share/ca-certificates";
    let system = System::new(&[folder], &[("usr/sbin/update-ca-certificates", "")]);
    let store = system.store(false);
    let text = trust::instructions(&store, &system.certificate(), "example.org");
    insta::assert_snapshot!(system.plain(&text));
}

/// Every client that was tested is named, and nothing else is there without saying so.
#[test]
fn instructions_and_the_list_of_clients_agree() {
    let system = System::new(
        &["usr/local/share/ca-certificates"],
        &[("usr/sbin/update-ca-certificates", "")],
    );
    let told = trust::instructions(&system.store(false), &system.certificate(), "example.org");
    let told = told.to_lowercase();
    let tested = include_str!("../../../docs/clients.md");
    let tested: Vec<String> = tested
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(str::to_lowercase)
        .collect();
    for client in &tested {
        assert!(told.contains(client.as_str()), "{client} is not named");
    }
    let own = told.split("for one client alone:").nth(1).unwrap();
    for line in own.lines().filter(|line| line.starts_with("  ")) {
        let known = tested.iter().any(|client| line.contains(client.as_str()));
        assert!(known || line.contains("(untested)"), "{line}");
    }
}
