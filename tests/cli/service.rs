//! `xbosh init` and `xbosh service`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use xbosh_testkit::proxy::{HttpProxy, HttpTrick, ProxyOptions};
use xbosh_testkit::tls::Authority;
use xbosh_testkit::web::{BOSH, WebHost, xrd};

use super::Home;

/// A systemctl that writes down what it is told, and knows the environment in the file `environment`.
fn systemctl(home: &Home) -> String {
    let folder = home.path().join("bin");
    fs::create_dir_all(&folder).unwrap();
    let script = folder.join("systemctl");
    let (log, environment) = (home.path().join("told"), home.path().join("environment"));
    fs::write(&environment, "").unwrap();
    let lines = format!(
        "#!/bin/sh\necho \"$@\" >> {}\nif [ \"$2\" = show-environment ]; then cat {}; fi\n",
        log.display(),
        environment.display()
    );
    fs::write(&script, lines).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:/usr/bin:/bin", folder.display())
}

fn run(mut command: Command, path: &str) -> (i32, String, String) {
    let output = command.env("PATH", path).output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The file is for its owner, parses to what was said, and is never overwritten; a mistake leaves nothing.
#[test]
fn init() {
    let home = Home::new();
    let file = home.path().join(".config/xbosh/config.toml");
    let mistake = [
        "init",
        "--yes",
        "--domain",
        "example.org",
        "--url",
        "ftp://example.org/",
    ];
    let (code, _, said) = home.ends(&mistake);
    assert_eq!(code, 78, "{said}");
    assert!(!file.exists());

    let good = [
        "init",
        "--yes",
        "--domain",
        "EXAMPLE.org",
        "--url",
        "https://example.org/http-bind",
        "--proxy",
        "socks5://127.0.0.1:9050",
    ];
    let (code, out, said) = home.ends(&good);
    assert_eq!((code, said.as_str()), (0, ""));
    assert!(out.contains("xbosh check example.org"), "{out}");
    assert_eq!(mode(&file), 0o600);
    let text = fs::read_to_string(&file).unwrap();
    let value: toml::Table = toml::from_str(&text).unwrap();
    assert_eq!(
        value["proxy"]["url"].as_str(),
        Some("socks5://127.0.0.1:9050")
    );
    assert_eq!(
        value["domains"]["example.org"]["url"].as_str(),
        Some("https://example.org/http-bind")
    );

    let (code, _, said) = home.ends(&["init", "--yes"]);
    assert_eq!(code, 1);
    assert!(said.contains("is there already"), "{said}");
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
}

/// `init` on a terminal, with these lines typed: exit code, and what is on the screen.
fn typed(home: &Home, environment: &[(&str, &str)], lines: &str) -> (i32, String) {
    let mut command = Command::new("script");
    command
        .args([
            "-qec",
            concat!(env!("CARGO_BIN_EXE_xbosh"), " init"),
            "/dev/null",
        ])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", home.path())
        .envs(environment.iter().copied())
        .current_dir(home.path());
    let output = assert_cmd::Command::from_std(command)
        .write_stdin(lines)
        .timeout(super::PATIENCE)
        .output()
        .unwrap();
    let screen = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), screen.replace('\r', ""))
}

/// What can be found out is not asked for: the address where the domain names one, the proxy where the environment does.
#[tokio::test(flavor = "multi_thread")]
async fn init_asks_what_it_cannot_find() {
    let authority = Authority::new();
    let web = WebHost::start(Some(authority.acceptor(&["example.test"]))).await;
    let page = "/.well-known/host-meta";
    let found = "https://cm.example.test/http-bind";
    web.page(page, &xrd(&[(BOSH, found)]));
    let options = ProxyOptions {
        places: [("example.test:443".to_owned(), web.addr())].into(),
        ..ProxyOptions::default()
    };
    let proxy = HttpProxy::start(options, HttpTrick::None).await;
    let way = format!("http://{}", proxy.addr());
    let written = |home: &Home| -> toml::Table {
        let file = home.path().join(".config/xbosh/config.toml");
        assert_eq!(mode(&file), 0o600);
        toml::from_str(&fs::read_to_string(file).unwrap()).unwrap()
    };
    let asks = [
        "XMPP domain of your account",
        "Proxy, like",
        "BOSH address of",
    ];
    for (environment, names, lines, asked, url) in [
        // Both are asked for, and the address is found through the proxy that was said.
        (
            None,
            true,
            format!("Example.test\n{way}\n"),
            [true, true, false],
            None,
        ),
        (
            Some(&way),
            true,
            "example.test\n".to_owned(),
            [true, false, false],
            None,
        ),
        (
            Some(&way),
            false,
            "example.test\nhttps://own.example.test/b\n".to_owned(),
            [true, false, true],
            Some("https://own.example.test/b"),
        ),
        (
            Some(&way),
            false,
            "example.test\n\n".to_owned(),
            [true, false, true],
            None,
        ),
    ] {
        web.page(page, &xrd(&[(BOSH, found)][..usize::from(names)]));
        let home = Home::new();
        let ca_file = home.write("ca.pem", &authority.pem());
        let mut variables = vec![("XBOSH_TLS__CA_FILE", ca_file.to_str().unwrap())];
        variables.extend(environment.map(|way| ("HTTPS_PROXY", way.as_str())));
        let (code, screen) = typed(&home, &variables, &lines);
        assert_eq!(code, 0, "{screen}");
        assert_eq!(asks.map(|ask| screen.contains(ask)), asked, "{screen}");
        let says = format!("example.test says where BOSH is spoken: {found}\n");
        assert_eq!(screen.contains(&says), names, "{screen}");
        assert!(
            screen.contains("xbosh check example.test says whether it works"),
            "{screen}"
        );
        let file = written(&home);
        assert_eq!(file["default_domain"].as_str(), Some("example.test"));
        let proxy = environment.map_or(way.as_str(), |_| "env");
        assert_eq!(file["proxy"]["url"].as_str(), Some(proxy));
        let set = file
            .get("domains")
            .map(|domains| &domains["example.test"]["url"]);
        assert_eq!(set.and_then(toml::Value::as_str), url);
    }
}

/// The units start this very program; they go again, and nobody else's are touched.
#[test]
fn service() {
    let home = Home::new();
    let path = systemctl(&home);
    let units = home.path().join(".config/systemd/user");
    let (code, out, said) = run(home.command(&["service", "install"]), &path);
    assert_eq!((code, said.as_str()), (0, ""), "{out}");
    let unit = fs::read_to_string(units.join("xbosh.service")).unwrap();
    let program = env!("CARGO_BIN_EXE_xbosh");
    assert!(
        unit.contains(&format!("\nExecStart={program} run\n")),
        "{unit}"
    );
    assert!(units.join("xbosh.socket").exists());
    let told = fs::read_to_string(home.path().join("told")).unwrap();
    assert!(
        told.ends_with("--user daemon-reload\n--user enable --now xbosh.socket xbosh.service\n"),
        "{told}"
    );

    let (code, out, _) = run(home.command(&["service", "uninstall"]), &path);
    assert_eq!(code, 0);
    assert!(out.contains("removed"), "{out}");
    assert!(!units.join("xbosh.service").exists() && !units.join("xbosh.socket").exists());

    fs::write(units.join("xbosh.service"), "[Unit]\n").unwrap();
    let (code, _, said) = run(home.command(&["service", "install"]), &path);
    assert_eq!(code, 1);
    assert!(said.contains("is there and not of xbosh"), "{said}");
    let (code, out, _) = run(home.command(&["service", "uninstall"]), &path);
    assert_eq!(code, 0);
    assert!(out.contains("is not of xbosh, and stays"), "{out}");

    let (code, out, _) = run(home.command(&["service", "install", "--no-socket"]), &path);
    assert_eq!(code, 1, "{out}");
    fs::remove_file(units.join("xbosh.service")).unwrap();
    let (code, ..) = run(home.command(&["service", "install", "--no-socket"]), &path);
    assert_eq!(code, 0);
    let unit = fs::read_to_string(units.join("xbosh.service")).unwrap();
    assert!(!unit.contains("Also="), "{unit}");
}

/// A proxy that only the shell knows is written down: its password into a file of its own, into no unit.
#[test]
fn the_shells_proxy() {
    let home = Home::new();
    let path = systemctl(&home);
    let install = |arguments: &[&str]| {
        let mut command = home.command(&[&["service", "install"][..], arguments].concat());
        command
            .env("HTTPS_PROXY", "http://juliet:s%40cret@proxy.example:3128")
            .env("NO_PROXY", "localhost,.corp.example");
        run(command, &path)
    };
    let (code, out, _) = install(&[]);
    assert_eq!(code, 0);
    assert!(
        out.contains("your shell has a proxy that the service does not see"),
        "{out}"
    );
    let folder = home.path().join(".config/xbosh");
    assert!(!folder.join("config.toml").exists());

    let (code, out, said) = install(&["--yes"]);
    assert_eq!((code, said.as_str()), (0, ""), "{out}");
    let config = fs::read_to_string(folder.join("config.toml")).unwrap();
    let value: toml::Table = toml::from_str(&config).unwrap();
    assert_eq!(
        value["proxy"]["url"].as_str(),
        Some("http://proxy.example:3128")
    );
    assert_eq!(value["proxy"]["username"].as_str(), Some("juliet"));
    assert_eq!(value["proxy"]["no_proxy"].as_array().unwrap().len(), 2);
    let secret = folder.join("proxy-password");
    assert_eq!(
        (fs::read_to_string(&secret).unwrap().as_str(), mode(&secret)),
        ("s@cret\n", 0o600)
    );
    for unit in ["xbosh.service", "xbosh.socket"] {
        let text = fs::read_to_string(home.path().join(".config/systemd/user").join(unit)).unwrap();
        assert!(!text.contains("cret"), "{text}");
    }
    assert!(!config.contains("cret") && !out.contains("cret"));
    // What was written is a configuration.
    let (code, ..) = home.ends(&[
        "check",
        "example.org",
        "--config",
        folder.join("config.toml").to_str().unwrap(),
    ]);
    assert_eq!(code, 3, "it is read, and there is no address");
}

const UNSEEN: &str = "your shell has a proxy that the service does not see";

/// Nothing is said or written where the service sees the same proxy, however systemd writes it, or where the configuration
/// that it reads names one.
#[test]
fn the_service_has_its_proxy() {
    let home = Home::new();
    let path = systemctl(&home);
    let install = |value: &str| {
        let mut command = home.command(&["service", "install", "--yes"]);
        command.env("HTTPS_PROXY", value);
        command.env("no_proxy", "*.corp.example localhost");
        let (code, out, said) = run(command, &path);
        assert_eq!((code, said.as_str()), (0, ""), "{out}");
        out
    };
    let folder = home.path().join(".config/xbosh");
    let value = "http://juliet:it's&more@proxy.example:3128";
    let seen = "HOME=/elsewhere\nHTTPS_PROXY=$'http://juliet:it\\'s&more@proxy.example:3128'\n\
                no_proxy=$'*.corp.example localhost'\n";
    home.write("environment", seen);
    let out = install(value);
    assert!(!out.contains("proxy"), "{out}");
    assert!(!folder.exists());
    // Another password is another proxy.
    home.write("environment", &seen.replace("more", "less"));
    fs::create_dir_all(&folder).unwrap();
    let file = home.write(
        ".config/xbosh/config.toml",
        "[proxy]\nusername = 'x'\npassword = 'y'\n",
    );
    let out = install(value);
    let told = format!("{UNSEEN}: set proxy.url in {}\n", file.display());
    assert!(out.contains(&told), "{out}");
    let kept = fs::read_to_string(&file).unwrap();
    assert!(kept.contains("username"), "{kept}");
    for set in ["url = 'http://other.example:8080'", "url = 'none'"] {
        home.write(".config/xbosh/config.toml", &format!("[proxy]\n{set}\n"));
        let out = install(value);
        assert!(!out.contains("proxy"), "{out}");
    }
    home.write(".config/xbosh/config.toml", "[prxy]\n");
    let mut command = home.command(&["service", "install"]);
    command.env("HTTPS_PROXY", value);
    let (code, _, said) = run(command, &path);
    assert_eq!(code, 78, "{said}");
}

/// What an earlier installation left behind is no obstacle: the password is the new one, for its owner alone.
#[test]
fn a_password_file_of_earlier_is_replaced() {
    let home = Home::new();
    let path = systemctl(&home);
    let folder = home.path().join(".config/xbosh");
    fs::create_dir_all(&folder).unwrap();
    let secret = folder.join("proxy-password");
    for (password, stale) in [("first", false), ("second", true)] {
        if stale {
            fs::remove_file(folder.join("config.toml")).unwrap();
            fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
            fs::write(folder.join("proxy-password.new"), "half").unwrap();
        }
        let mut command = home.command(&["service", "install", "--yes"]);
        let value = format!("http://juliet:{password}@proxy.example:3128");
        command.env("HTTPS_PROXY", value);
        let (code, out, said) = run(command, &path);
        assert_eq!((code, said.as_str()), (0, ""), "{out}");
        let written = fs::read_to_string(&secret).unwrap();
        assert_eq!((written.trim_end(), mode(&secret)), (password, 0o600));
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
}
