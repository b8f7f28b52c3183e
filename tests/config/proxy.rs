//! `[proxy]`: where it comes from, who we are to it, and that nobody else learns the password.

use insta::assert_snapshot;
use secrecy::ExposeSecret as _;
use xbosh::config::{Flags, Proxy, ProxySource, ProxyVariable};

use crate::support::{Folder, config, mistake};

/// URL and credentials, in clear.
fn shown(proxy: &Proxy) -> String {
    let source = match &proxy.source {
        ProxySource::Url(url) => url.to_string(),
        ProxySource::Env(env) => {
            let value = |set: &Option<ProxyVariable>| set.as_ref().map(|set| set.value.clone());
            let [https, http, all] = [&env.https, &env.http, &env.all].map(value);
            format!("{https:?} {http:?} {all:?}")
        }
        ProxySource::None => "none".into(),
        ProxySource::List(list) => {
            let urls: Vec<&str> = list.urls.iter().map(url::Url::as_str).collect();
            format!("{} then_direct={}", urls.join(" "), list.then_direct)
        }
    };
    let credentials = proxy
        .credentials
        .as_ref()
        .map_or("-".into(), |credentials| {
            format!(
                "{}:{}",
                credentials.username,
                credentials.password.expose_secret()
            )
        });
    format!("{source} as {credentials}")
}

fn proxy(lines: &str) -> String {
    shown(&config(&format!("[proxy]\n{lines}\n")).proxy)
}

fn wrong(lines: &str) -> String {
    mistake(&format!("[proxy]\n{lines}\n"))
}

#[test]
fn credentials_come_from_the_url_and_keys_beat_them() {
    assert_eq!(
        proxy("url = 'http://proxy.example:3128'"),
        "http://proxy.example:3128/ as -"
    );
    assert_eq!(
        proxy("url = 'http://me%40corp:p%3Aw%20d@proxy.example'"),
        "http://proxy.example/ as me@corp:p:w d"
    );
    assert_eq!(
        proxy("url = 'socks5h://a:b@proxy.example'\nusername = 'c'\npassword = 'd'"),
        "socks5h://proxy.example as c:d"
    );
    assert_eq!(
        proxy("url = 'http://a@proxy.example'\npassword = 'd'"),
        "http://proxy.example/ as a:d"
    );
    assert_eq!(
        proxy("url = 'http://a:b@proxy.example'\npassword = ''"),
        "http://proxy.example/ as a:"
    );
    assert_eq!(proxy("url = 'none'"), "none as -");
}

/// P-12: several in their order; user and password stay with each URL unless the keys say otherwise.
#[test]
fn p12_several_proxies() {
    assert_eq!(
        proxy("url = ['http://p.example']"),
        "http://p.example/ as -"
    );
    assert_eq!(proxy("url = ['none']"), "none as -");
    let two = "url = ['http://a%40corp:p%3Aw@p.example:3128', 'socks5h://q.example', 'none']";
    assert_eq!(
        proxy(two),
        "http://a%40corp:p%3Aw@p.example:3128/ socks5h://q.example then_direct=true as -"
    );
    assert_eq!(
        proxy(&format!("{two}\nusername = 'c'\npassword = 'd'")),
        "http://a%40corp:p%3Aw@p.example:3128/ socks5h://q.example then_direct=true as c:d"
    );
    let folder = Folder::new("");
    let from_environment = |value| {
        let loaded = folder.load(&[("XBOSH_PROXY__URL", value)]).unwrap();
        shown(&loaded.config.proxy)
    };
    assert_eq!(
        from_environment("['http://p.example', 'http://q.example']"),
        "http://p.example/ http://q.example/ then_direct=false as -"
    );
    assert_eq!(
        from_environment("http://p.example"),
        "http://p.example/ as -"
    );
    // As elsewhere, a password in the file is for its owner alone.
    let text = "[proxy]\nurl = ['http://p.example', 'http://me:hunter2@q.example']\n";
    folder.write("config.toml", text, 0o644);
    let mistake = folder.mistake(&[]);
    assert!(
        mistake.contains("chmod 600") && !mistake.contains("hunter2"),
        "{mistake}"
    );
    let shown = format!("{:?}", config(text));
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn wrong_proxies() {
    assert_snapshot!(wrong("url = 'ftp://me:hunter2@proxy.example'"), @r#"config.toml:2:1: proxy.url must be "env", "none", or a URL with http://, https://, socks5:// or socks5h://"#);
    assert_snapshot!(wrong("url = 'me:hunter2@proxy.example:3128'"), @r#"config.toml:2:1: proxy.url must be "env", "none", or a URL with http://, https://, socks5:// or socks5h://"#);
    assert_snapshot!(wrong("url = 'proxy.example:3128'"), @r#"config.toml:2:1: proxy.url must be "env", "none", or a URL with http://, https://, socks5:// or socks5h://"#);
    assert_snapshot!(wrong("url = 'http://me:hunt/er2@proxy.example'"), @r#"config.toml:2:1: proxy.url must be "env", "none", or a URL with http://, https://, socks5:// or socks5h://; a password with special characters belongs into proxy.password, or percent-encoded into the URL"#);
    assert_snapshot!(wrong("url = 'socks5://'"), @"config.toml:2:1: proxy.url names no host");
    assert_snapshot!(wrong("url = 'http://me:%FF@proxy.example'"), @"config.toml:2:1: proxy.url has a user name or password that is not UTF-8; a password with special characters belongs into proxy.password, or percent-encoded into the URL");
    assert_snapshot!(wrong("url = 5"), @"config.toml:2:1: proxy.url must be a string or a list of strings, not an integer");
    assert_snapshot!(wrong("url = []"), @r#"config.toml:2:1: proxy.url must name a proxy, or be "env" or "none""#);
    assert_snapshot!(wrong("url = ['none', 'http://a.example']"), @r#"config.toml:2:1: proxy.url may have "none", for no proxy, as its last item only"#);
    assert_snapshot!(wrong("url = ['env', 'none']"), @r#"config.toml:2:1: proxy.url may have "env" alone, not in a list"#);
    assert_snapshot!(wrong("url = ['http://a.example', 'http://me:hunt/er2@b.example']"), @r#"config.toml:2:1: proxy.url must be "env", "none", or a URL with http://, https://, socks5:// or socks5h://; a password with special characters belongs into proxy.password, or percent-encoded into the URL"#);
    assert_snapshot!(wrong("url = ['http://a.example', 'socks5://me:@b.example']"), @r#"config.toml:2:1: proxy.url cannot be used: proxy.password must have 1 to 255 bytes for a SOCKS5 proxy"#);
    assert_snapshot!(wrong("url = 'http://a.example'\nisolate = true"), @r#"config.toml:3:1: proxy.isolate works with a SOCKS5 proxy alone, such as Tor: set url to a socks5h:// one"#);
    assert_snapshot!(wrong("no_proxy = ['10.0.0.0/33']"), @r#"config.toml:2:1: proxy.no_proxy has "10.0.0.0/33", which is no host, domain suffix, address or block like "10.0.0.0/8""#);
    assert_snapshot!(wrong("no_proxy = ['a.example, b.example']"), @r#"config.toml:2:1: proxy.no_proxy has "a.example, b.example", which is no host, domain suffix, address or block like "10.0.0.0/8""#);
}

#[test]
fn user_and_password_need_each_other() {
    let url = "url = 'http://proxy.example'\n";
    assert_snapshot!(wrong(&format!("{url}username = 'me'")), @"config.toml:3:1: proxy.username needs a password: set password, password_file or password_command beside it");
    assert_snapshot!(wrong(&format!("{url}password = 'hunter2'")), @"config.toml:3:1: proxy.password needs a user name: set username beside it");
    assert_snapshot!(
        wrong("username = 'me'\npassword = 'hunter2'\npassword_command = 'cat'"),
        @"config.toml:4:1: proxy.password_command stands beside proxy.password; keep one of the two"
    );
}

/// P-05 (RFC 7617): Basic cannot carry a colon in the user name.
#[test]
fn p05_no_colon_in_the_user_name() {
    let keys = "username = 'a:b'\npassword = 'hunter2'\n";
    assert_snapshot!(wrong(&format!("{keys}url = 'http://proxy.example'")), @"config.toml:2:1: proxy.username holds a colon, which HTTP Basic authentication cannot carry");
    assert_snapshot!(wrong("url = 'https://a%3Ab:c@proxy.example'"), @"config.toml:2:1: proxy.url cannot be used: proxy.username holds a colon, which HTTP Basic authentication cannot carry");
    assert_eq!(
        proxy(&format!("{keys}url = 'socks5://proxy.example'")),
        "socks5://proxy.example as a:b:hunter2"
    );
}

/// P-16 (RFC 1929): 1 to 255 bytes each, refused at start-up.
#[test]
fn p16_socks5_credentials_have_1_to_255_bytes() {
    let lines = |user: usize, password: usize| {
        format!(
            "url = 'socks5://proxy.example'\nusername = '{}'\npassword = '{}'",
            "u".repeat(user),
            "p".repeat(password)
        )
    };
    assert_snapshot!(wrong(&lines(256, 1)), @"config.toml:3:1: proxy.username must have 1 to 255 bytes for a SOCKS5 proxy");
    assert_snapshot!(wrong(&lines(1, 256)), @"config.toml:4:1: proxy.password must have 1 to 255 bytes for a SOCKS5 proxy");
    assert_snapshot!(wrong(&lines(1, 0)), @"config.toml:4:1: proxy.password must have 1 to 255 bytes for a SOCKS5 proxy");
    assert!(proxy(&lines(255, 255)).contains("u:p"));
    let folder = Folder::new("");
    let long = format!("socks5://{}:x@proxy.example", "u".repeat(256));
    assert_snapshot!(folder.mistake(&[("ALL_PROXY", &long)]), @"environment variable ALL_PROXY cannot be used: proxy.username must have 1 to 255 bytes for a SOCKS5 proxy; correct it, or set proxy.url");
}

/// P-13: the environment's proxies, lower case first, only where the key says `env`.
#[test]
fn p13_environment() {
    let variables = [
        ("https_proxy", "http://lower.example:1"),
        ("HTTPS_PROXY", "http://upper.example:1"),
        ("HTTP_PROXY", "plain.example:2"),
        ("ALL_PROXY", "socks5h://me:pw@all.example"),
        ("no_proxy", "localhost"),
    ];
    let load = |text: &str, more: &[(&str, &str)]| {
        let variables: Vec<_> = variables.iter().chain(more).copied().collect();
        shown(&Folder::new(text).load(&variables).unwrap().config.proxy)
    };
    assert_snapshot!(load("", &[]), @r#"Some("http://lower.example:1") Some("plain.example:2") Some("socks5h://me:pw@all.example") as -"#);
    assert_snapshot!(load("", &[("REQUEST_METHOD", "GET")]), @r#"Some("http://lower.example:1") None Some("socks5h://me:pw@all.example") as -"#);
    assert_eq!(load("[proxy]\nurl = 'none'\n", &[]), "none as -");
    let overridden = load("", &[("XBOSH_PROXY__URL", "http://ours.example")]);
    assert_eq!(overridden, "http://ours.example/ as -");
}

/// P-12: a proxy variable that cannot be used is no leave to go direct.
#[test]
fn p12_broken_proxy_variables() {
    let folder = Folder::new("");
    assert_snapshot!(folder.mistake(&[("HTTPS_PROXY", "http://me:hunt er2@")]), @"environment variable HTTPS_PROXY is no proxy URL; correct it, or set proxy.url");
    assert_snapshot!(folder.mistake(&[("all_proxy", "socks4://me:hunter2@proxy.example")]), @"environment variable all_proxy has scheme socks4, not http, https, socks5 or socks5h; correct it, or set proxy.url");
    assert_snapshot!(folder.mistake(&[("http_proxy", "http://a%3Ab:hunter2@proxy.example")]), @"environment variable http_proxy cannot be used: proxy.username holds a colon, which HTTP Basic authentication cannot carry; correct it, or set proxy.url");
    let none = Folder::new("[proxy]\nurl = 'none'\n");
    none.load(&[("HTTPS_PROXY", "http://[")]).unwrap();
}

#[test]
fn a_domains_proxy_inherits_but_never_credentials_for_another_url() {
    let config = config(
        r#"
        [proxy]
        url = "http://me:pw@proxy.example:3128"
        no_proxy = ["a.example"]
        [domains."same.example"]
        [domains."direct.example".proxy]
        url = "none"
        [domains."other.example".proxy]
        url = "socks5://other.example"
        [domains."who.example".proxy]
        username = "you"
        password = "wp"
        [domains."near.example".proxy]
        no_proxy = ["b.example"]
        "#,
    );
    let all: Vec<String> = config
        .domains
        .iter()
        .map(|(name, domain)| {
            format!(
                "{name}: {} not {:?}",
                shown(&domain.proxy),
                domain.proxy.no_proxy
            )
        })
        .collect();
    assert_snapshot!(all.join("\n"), @r#"
    direct.example: none as - not ["a.example"]
    near.example: http://proxy.example:3128/ as me:pw not ["b.example"]
    other.example: socks5://other.example as - not ["a.example"]
    same.example: http://proxy.example:3128/ as me:pw not ["a.example"]
    who.example: http://proxy.example:3128/ as you:wp not ["a.example"]
    "#);
    assert_snapshot!(
        mistake("[domains.'example.org'.proxy]\nurl = 'http://proxy.example'\nusername = 'x'\n"),
        @r#"config.toml:3:1: domains."example.org".proxy.username needs a password: set password, password_file or password_command beside it"#
    );
}

#[test]
fn a_file_with_a_password_is_for_its_owner_alone() {
    let secrets = [
        "[proxy]\nusername = 'me'\npassword = 'hunter2'\nurl = 'http://proxy.example'\n",
        "[proxy]\nurl = 'http://me:hunter2@proxy.example'\n",
        "[domains.x.proxy]\nurl = 'http://me:hunter2@proxy.example'\n",
    ];
    for text in secrets {
        let folder = Folder::new(text);
        folder.load(&[]).unwrap();
        for mode in [0o640, 0o604, 0o644] {
            folder.write("config.toml", text, mode);
            let sentence = folder.load(&[]).unwrap_err().to_string();
            let path = folder.path().join("config.toml");
            let path = path.display();
            assert_eq!(
                sentence,
                format!("{path} holds a password and others can read it: chmod 600 {path}")
            );
        }
    }
    let folder = Folder::new("");
    folder.write(
        "config.toml",
        "[proxy]\nurl = 'http://proxy.example'\n",
        0o644,
    );
    folder.load(&[]).unwrap();
    let odd = folder.write("it's/config.toml", secrets[0], 0o644);
    let flags = Flags {
        config: Some(odd),
        ..Flags::default()
    };
    let error = xbosh::config::load(&flags, &[]).unwrap_err();
    assert!(
        error.to_string().ends_with(r"it'\''s/config.toml'"),
        "{error}"
    );
}

#[test]
fn passwords_from_files_and_credentials() {
    let text = "[proxy]\nurl = 'http://proxy.example'\nusername = 'me'\npassword_file = 'secret'\n";
    let folder = Folder::new(text);
    assert_snapshot!(folder.mistake(&[]), @"config.toml:4:1: proxy.password_file cannot be read from secret: no such file or directory");
    folder.write("secret", "from file \r\nsecond line\n", 0o600);
    let load = |variables: &[(&str, &str)]| {
        let loaded = folder.load(variables).unwrap();
        (shown(&loaded.config.proxy), loaded.warnings)
    };
    let (shown, warnings) = load(&[]);
    assert_eq!(shown, "http://proxy.example/ as me:from file ");
    assert_eq!(warnings, Vec::<String>::new());

    folder.write("secret", "from file", 0o644);
    let (_, warnings) = load(&[]);
    assert_snapshot!(folder.shown(&warnings[0]), @"others can read the password in secret: chmod 600 secret");

    folder.write("credentials/secret", "from systemd", 0o440);
    let directory = folder.path().join("credentials");
    let variables = [("CREDENTIALS_DIRECTORY", directory.to_str().unwrap())];
    let (shown, warnings) = load(&variables);
    assert_eq!(shown, "http://proxy.example/ as me:from systemd");
    assert_eq!(warnings, Vec::<String>::new());

    folder.write("secret", "\n", 0o600);
    assert_snapshot!(folder.mistake(&[]), @"config.toml:4:1: proxy.password_file names secret, whose first line is empty");
    folder.write("secret", &"x".repeat(70_000), 0o600);
    assert_snapshot!(folder.mistake(&[]), @"config.toml:4:1: proxy.password_file cannot be read from secret: it is larger than 64 KiB");
}

#[test]
fn passwords_from_commands() {
    let keys = "url = 'http://proxy.example'\nusername = 'me'\n";
    assert_eq!(
        proxy(&format!("{keys}password_command = 'printf \"%s\\n\" a b'")),
        "http://proxy.example/ as me:a"
    );
    assert_snapshot!(wrong(&format!("{keys}password_command = 'echo hunter2; exit 7'")), @"config.toml:4:1: proxy.password_command failed (exit status: 7)");
}

#[test]
fn a_password_in_the_environment_replaces_the_files() {
    let folder =
        Folder::new("[proxy]\nurl = 'http://me@proxy.example'\npassword_command = 'exit 1'\n");
    let loaded = folder.load(&[("XBOSH_PROXY__PASSWORD", "pw")]).unwrap();
    assert_eq!(
        shown(&loaded.config.proxy),
        "http://proxy.example/ as me:pw"
    );
}

#[test]
fn debug_never_shows_a_password() {
    let folder = Folder::new(
        r#"
        [proxy]
        url = "http://me:hunter2@proxy.example"
        [domains."a.example".proxy]
        url = "env"
        [domains."b.example".proxy]
        username = "me"
        password = "hunter2"
        [domains."c.example".proxy]
        url = "socks5://me:hunter2@proxy.example"
        "#,
    );
    let loaded = folder
        .load(&[("HTTPS_PROXY", "http://me:hunter2@proxy.example")])
        .unwrap();
    let text = format!("{loaded:?} {loaded:#?}");
    assert!(text.contains("proxy.example") && text.contains("b.example"));
    assert!(!text.contains("hunter2"), "{text}");
}

/// Whatever is wrong with it, no sentence repeats a password.
#[test]
fn errors_never_show_a_password() {
    for lines in [
        "password = hunter2",
        "password = [\"hunter2\"]",
        "password = \"hunter2",
        "passwort = \"hunter2\"",
        "url = \"hunter2\"",
        "url = \"me:hunter2@proxy.example\"",
        "url = \"http://me:hunter2@pro xy.example\"",
        "url = \"http://me:hunter2@proxy.example:99999\"",
        "url = \"gopher://me:hunter2@proxy.example\"",
        "url = \"socks5://:hunter2@proxy.example\"",
        "url = [\"http://me:hunter2@pro xy.example\"]",
        "url = [\"http://me:hunter2@proxy.example\", \"env\"]",
        "url = [\"http://me:hunter2@proxy.example\", \"x://me:hunter2@proxy.example\"]",
        "password = \"hunter2\"",
        "password_command = \"echo hunter2; echo hunter2 >&2; exit 1\"\nusername = \"me\"",
    ] {
        let folder = Folder::new(&format!("[proxy]\n{lines}\n"));
        let error = folder.load(&[]).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(!text.contains("hunter2"), "{lines}: {text}");
    }
}
