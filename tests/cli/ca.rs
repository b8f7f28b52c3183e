//! `xbosh ca`.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use super::{Home, skipped};

impl Home {
    fn ca(&self, arguments: &[&str]) -> (i32, String, String) {
        let all: Vec<&str> = ["ca"].iter().chain(arguments).copied().collect();
        self.ends(&all)
    }

    fn authority(&self, domain: &str) -> PathBuf {
        self.path().join(".local/state/xbosh/ca").join(domain)
    }
}

/// The path alone on stdout, for scripts; the authority is there afterwards and stays the same.
#[test]
fn path() {
    let home = Home::new();
    let file = home.authority("xn--bcher-kva.example").join("ca.pem");
    let expected = (0, format!("{}\n", file.display()), String::new());
    assert_eq!(home.ca(&["path", "B\u{fc}cher.example"]), expected);
    let made = fs::read_to_string(&file).unwrap();
    assert!(made.starts_with("-----BEGIN CERTIFICATE-----\n"), "{made}");
    assert_eq!(home.ca(&["path", "xn--bcher-kva.example"]), expected);
    assert_eq!(fs::read_to_string(&file).unwrap(), made);
}

/// Processes that need it at the same time end with one authority, and every one of them shows it.
#[test]
fn many_processes_at_once() {
    let home = Home::new();
    let running: Vec<_> = (0..8)
        .map(|_| {
            home.command(&["ca", "show", "example.org"])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let shown: Vec<String> = running
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.success(), "{said}");
            String::from_utf8(output.stdout).unwrap()
        })
        .collect();
    assert!(shown[0].contains("SHA-256:"), "{}", shown[0]);
    assert!(shown.iter().all(|text| *text == shown[0]), "{shown:?}");
    let folder = home.path().join(".local/state/xbosh/ca");
    assert_eq!(fs::read_dir(folder).unwrap().count(), 1, "no drafts");
}

/// Without a name: the default domain, or the only one; else which?
#[test]
fn which_domain() {
    let home = Home::new();
    let (code, out, err) = home.ca(&["path"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.starts_with("xbosh: which domain? Name one"), "{err}");
    let (code, _, err) = home.ca(&["path", "no domain"]);
    assert_eq!(
        (code, err.as_str()),
        (2, "xbosh: \"no domain\" is no domain name\n")
    );
    // The only one that there is needs no name.
    let other = Home::new();
    let made = other.ca(&["path", "example.org"]);
    assert_eq!(other.ca(&["path"]), made);
    assert_eq!((made.0, made.2.as_str()), (0, ""));
    // The proxy's password is not fetched: a command would take its time.
    let config = home.write(
        "config.toml",
        "default_domain = 'example.org'\n[proxy]\nurl = 'http://p.example'\nusername = 'u'\npassword_command = 'touch ran; false'\n",
    );
    let (code, out, err) = home.ca(&["path", "--config", &config.display().to_string()]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.ends_with("/example.org/ca.pem\n"), "{out}");
    assert!(!home.path().join("ran").exists());
    let config = home.write("only.toml", "allowed_domains = ['a.example']\n");
    let config = config.display().to_string();
    assert!(
        home.ca(&["path", "--config", &config])
            .1
            .contains("/a.example/")
    );
    let (code, _, err) = home.ca(&["path", "b.example", "--config", &config]);
    assert_eq!(code, 1);
    assert!(err.contains("allowed_domains does not hold"), "{err}");
}

/// Name, fingerprint as OpenSSL prints it, dates, and whether it is trusted; `trust` and `--undo` change that.
#[test]
fn show_and_trust() {
    let home = Home::new();
    let (code, out, err) = home.ca(&["show", "example.org"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let file = home.authority("example.org").join("ca.pem");
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].trim_start_matches(':').trim().to_owned()
    };
    assert_eq!(field(&out, "file"), file.display().to_string());
    assert_eq!(
        field(&out, "subject"),
        "xbosh on this machine (example.org)"
    );
    assert_eq!(field(&out, "trusted"), "not yet: run xbosh ca trust");
    assert_ne!(field(&out, "by system"), "yes");
    let openssl = std::process::Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
        .arg(&file)
        .output();
    if let Ok(openssl) = openssl {
        let printed = String::from_utf8(openssl.stdout).unwrap();
        assert_eq!(
            printed.trim().rsplit('=').next().unwrap(),
            field(&out, "SHA-256")
        );
    }

    let (code, out, err) = home.ca(&["trust", "example.org"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        out.contains(&file.display().to_string()) && out.contains("Gajim"),
        "{out}"
    );
    assert!(!out.contains(['{', '}']), "{out}");
    assert_eq!(
        field(&home.ca(&["show", "example.org"]).1, "trusted"),
        "yes"
    );
    let (code, out, _) = home.ca(&["trust", "--undo", "example.org"]);
    assert_eq!(code, 0);
    assert!(
        out.contains("not offered for example.org any more"),
        "{out}"
    );
    assert!(field(&home.ca(&["show", "example.org"]).1, "trusted").starts_with("not yet"));
}

/// What takes trust back needs no sound authority, and makes none.
#[test]
fn undo_without_an_authority() {
    let home = Home::new();
    let (code, out, err) = home.ca(&["trust", "--undo", "example.org"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("not offered"), "{out}");
    assert!(!home.authority("example.org").exists());
    home.ca(&["trust", "example.org"]);
    let marker = home.authority("example.org").join("trusted");
    assert!(marker.exists());
    fs::write(home.authority("example.org").join("ca.pem"), "rubbish").unwrap();
    let (code, _, err) = home.ca(&["trust", "--undo", "example.org"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(!marker.exists());
}

/// Without the right to change the system's certificates: what to do instead, and TLS is not offered before it is done.
/// Root itself is stopped where it would make an authority of its own, that no client meets.
#[test]
fn the_system_without_rights() {
    let home = Home::new();
    let mut command = home.command(&["ca", "trust", "--system", "example.org"]);
    let output = command.env("SUDO_UID", "1000").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(output.stdout.is_empty());
    if rustix::process::geteuid().is_root() {
        assert!(said.contains("run it without sudo"), "{said}");
        assert!(!home.authority("example.org").exists());
    } else {
        assert!(
            said.contains("xbosh ca trust"),
            "it says how to go on: {said}"
        );
        assert!(!home.authority("example.org").join("trusted").exists());
    }
}

/// Runs commands where the system's certificates are a copy that nobody else sees: in a mount namespace.
const PRIVATE: &str = r#"
set -e
copy=$1
shift
mount -t tmpfs tmpfs "$copy"
cp -a /etc/ssl/. "$copy"
mount --bind "$copy" /etc/ssl
mount -t tmpfs tmpfs /usr/local/share/ca-certificates
exec "$@"
"#;

/// A shell script in which `xbosh` is the binary, where that is possible; else why not.
fn in_a_private_system(home: &Home, script: &str) -> Result<(i32, String), String> {
    let copy = home.path().join("etc-ssl");
    fs::create_dir_all(&copy).unwrap();
    let private = |inside: &[&str]| {
        let root = rustix::process::geteuid().is_root();
        std::process::Command::new("unshare")
            .arg(if root { "-m" } else { "-rm" })
            .args(["sh", "-c", PRIVATE, "sh"])
            .arg(&copy)
            .args(inside)
            .env_clear()
            .env("HOME", home.path())
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("XBOSH", env!("CARGO_BIN_EXE_xbosh"))
            .env("XBOSH_DISCOVERY__HOST_META", "false")
            .current_dir(home.path())
            .stdin(Stdio::null())
            .output()
    };
    let store = "/usr/sbin/update-ca-certificates";
    if !std::path::Path::new(store).is_file() {
        return Err(format!("there is no {store}"));
    }
    match private(&["true"]) {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("there is no mount namespace to be had: {said}"));
        }
        Err(error) => return Err(format!("unshare: {error}")),
    }
    let output = private(&["sh", "-c", script]).unwrap();
    let mut said = String::from_utf8(output.stdout).unwrap();
    said.push_str(&String::from_utf8(output.stderr).unwrap());
    Ok((output.status.code().unwrap(), said))
}

/// The system's own program takes the authority in, so that a certificate of the sidecar's is trusted by OpenSSL as any
/// other, and out again; the machine itself never notices.
#[test]
fn the_system_for_real() {
    let home = Home::new();
    let before = fs::read("/etc/ssl/certs/ca-certificates.crt").ok();
    let script = r#"
set -e
ca="$HOME/.local/state/xbosh/ca/example.org/ca.pem"
known() { openssl verify -CApath /etc/ssl/certs -CAfile /etc/ssl/certs/ca-certificates.crt "$ca" >/dev/null 2>&1; }
listed() { grep -qF "$(sed -n 2p "$ca")" /etc/ssl/certs/ca-certificates.crt; }
"$XBOSH" ca path example.org >/dev/null
known && echo "known before"
"$XBOSH" ca trust --system example.org
known && listed && echo "trusted by OpenSSL, and listed"
test -e "/etc/ssl/certs/$(openssl x509 -noout -hash -in "$ca").0" && echo "found by its hash"
"$XBOSH" ca show example.org | grep "by system"
test -e "$HOME/.local/state/xbosh/ca/example.org/trusted" && echo "offered"
"$XBOSH" ca trust --undo --system example.org
known || listed || echo "forgotten"
test -e "/etc/ssl/certs/$(openssl x509 -noout -hash -in "$ca").0" || echo "no link is left"
"$XBOSH" ca show example.org | grep "by system"
test -e "$HOME/.local/state/xbosh/ca/example.org/trusted" || echo "not offered"
"#;
    let (code, said) = match in_a_private_system(&home, script) {
        Ok(ended) => ended,
        Err(why) => return skipped(&why),
    };
    assert_eq!(
        (code, said.as_str()),
        (
            0,
            "added /usr/local/share/ca-certificates/xbosh-example.org.crt\n\
             Clients are offered TLS for example.org from now on.\n\
             trusted by OpenSSL, and listed\n\
             found by its hash\n\
             by system:   yes\n\
             offered\n\
             TLS is not offered for example.org any more, unless local_tls.mode says so.\n\
             removed /usr/local/share/ca-certificates/xbosh-example.org.crt\n\
             forgotten\n\
             no link is left\n\
             by system:   no\n\
             not offered\n"
        )
    );
    assert_eq!(fs::read("/etc/ssl/certs/ca-certificates.crt").ok(), before);
    assert!(
        !std::path::Path::new("/usr/local/share/ca-certificates/xbosh-example.org.crt").exists()
    );
}

/// Root who works for somebody else (sudo) takes back what is the system's, and does not claim more: whether clients are
/// offered TLS is kept with the user, for whom it says the second command.
#[test]
fn undo_for_another() {
    let home = Home::new();
    let script = r#"
"$XBOSH" ca path example.org >/dev/null
"$XBOSH" ca trust --system example.org >/dev/null
mkdir root
HOME=$PWD/root SUDO_UID=1000 "$XBOSH" ca trust --undo --system example.org
echo "ends with $?"
find /usr/local/share/ca-certificates root -type f
test -e "$HOME/.local/state/xbosh/ca/example.org/trusted" && echo "still offered"
"$XBOSH" ca trust --undo example.org
test -e "$HOME/.local/state/xbosh/ca/example.org/trusted" || echo "not offered"
"#;
    let (code, said) = match in_a_private_system(&home, script) {
        Ok(ended) => ended,
        Err(why) => return skipped(&why),
    };
    assert_eq!(
        (code, said.as_str()),
        (
            0,
            "removed /usr/local/share/ca-certificates/xbosh-example.org.crt\n\
             Clients are still offered TLS for example.org if they were. To end that, as yourself, without sudo:\n  \
             xbosh ca trust --undo example.org\n\
             ends with 0\n\
             still offered\n\
             TLS is not offered for example.org any more, unless local_tls.mode says so.\n\
             not offered\n"
        )
    );
}

/// A damaged authority: the sentence, and nothing is replaced.
#[test]
fn damaged() {
    let home = Home::new();
    home.ca(&["path", "example.org"]);
    let key = home.authority("example.org").join("ca-key.pem");
    fs::write(&key, "rubbish").unwrap();
    for what in ["path", "show", "trust"] {
        let (code, out, err) = home.ca(&[what, "example.org"]);
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(
            err.contains("ca-key.pem: it holds no key; put the right file back"),
            "{err}"
        );
    }
    assert_eq!(fs::read_to_string(&key).unwrap(), "rubbish");
}

/// Without a home there is nowhere to keep it.
#[test]
fn no_home() {
    let home = Home::new();
    let mut command = home.command(&["ca", "path", "example.org"]);
    let output = command.env_remove("HOME").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("set HOME or XDG_STATE_HOME"), "{said}");
}
