//! The environment, the flags, and which beats which.

use insta::assert_snapshot;

use super::super::{ProxySource, ProxyVariable};
use super::super::{environment, has_password};
use super::*;

fn with(environment: &[(&str, &str)]) -> Config {
    Files::new("").load_with(environment).unwrap().config
}

fn env_error(name: &str, value: &str) -> String {
    Files::new("").load_with(&[(name, value)]).unwrap_err()
}

#[test]
fn file_then_environment_then_flags() {
    let files = Files::new("[log]\nlevel = 'warn'\n[bosh]\nwait = 10\nhold = 2");
    let mut flags = files.flags();
    let environment = pairs(&[
        ("XBOSH_LOG__LEVEL", "debug"),
        ("XBOSH_BOSH__WAIT", "20"),
        ("XBOSH_PROXY__URL", "http://environment.example"),
    ]);
    let config = load(&flags, &environment).unwrap().config;
    assert_eq!(
        (config.log.level.as_str(), config.bosh.wait.as_secs()),
        ("debug", 20)
    );
    assert_eq!((config.bosh.hold, config.bosh.max_body_bytes), (2, 65536));
    flags.log = Some("error".into());
    flags.proxy = Some("socks5://flag.example".into());
    let config = load(&flags, &environment).unwrap().config;
    assert_eq!(config.log.level, "error");
    let ProxySource::Url(url) = config.proxy.source else {
        panic!("no URL");
    };
    assert_eq!(url.as_str(), "socks5://flag.example");
}

#[test]
fn listen_is_replaced_as_a_whole() {
    let files = Files::new("listen = ['127.0.0.1:1', '127.0.0.1:2']");
    let environment = pairs(&[("XBOSH_LISTEN", "127.0.0.1:0")]);
    let mut flags = files.flags();
    let listen = |flags: &Flags, environment: &[(String, String)]| {
        let addresses = load(flags, environment).unwrap().config.listen;
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        addresses.join(" ")
    };
    assert_eq!(listen(&flags, &[]), "127.0.0.1:1 127.0.0.1:2");
    assert_eq!(listen(&flags, &environment), "127.0.0.1:0");
    flags.listen = vec!["[::1]:3".parse().unwrap(), "127.0.0.1:4".parse().unwrap()];
    assert_eq!(listen(&flags, &environment), "[::1]:3 127.0.0.1:4");
}

#[test]
fn domain_and_url_flags() {
    let files = Files::new("[domains.'Example.ORG']\nurl = 'https://old.example/'\nwait = 9");
    let set = |domain: &str, url: &str| {
        let flags = Flags {
            domain: Some((domain.into(), url.into())),
            ..files.flags()
        };
        load(&flags, &[]).map_err(|error| files.shorten(&error.to_string()))
    };
    let config = set("example.org", "https://new.example/").unwrap().config;
    let domain = &config.domains["example.org"];
    assert_eq!(
        domain.url.as_ref().unwrap().as_str(),
        "https://new.example/"
    );
    assert_eq!(domain.bosh.wait.as_secs(), 9);
    let sentences = [
        set("a@b", "https://new.example/").unwrap_err(),
        set("example.org", "http://new.example/").unwrap_err(),
        set("example.org", "nonsense").unwrap_err(),
    ];
    assert_snapshot!(sentences.join("\n"), @r#"
    --domain: domains."a@b" is no domain name
    --url: domains."example.org".url is http, so everybody on the way could read the password; use https, or set allow_plain_http = true beside it
    --url: domains."example.org".url must be a URL like https://example.org/http-bind
    "#);
}

#[test]
fn bad_flags_are_named() {
    let error = |flags: Flags| load(&flags, &pairs(&[])).unwrap_err().to_string();
    let sentences = [
        error(Flags {
            log: Some("loud".into()),
            ..Flags::default()
        }),
        error(Flags {
            proxy: Some("ftp://p.example".into()),
            ..Flags::default()
        }),
        error(Flags {
            listen: vec!["0.0.0.0:5222".parse().unwrap()],
            ..Flags::default()
        }),
    ];
    assert_snapshot!(sentences.join("\n"), @r#"
    --log: log.level must be error, warn, info, debug or trace, or a filter like "info,xbosh=debug"
    --proxy: proxy.url must be "env", "none", or a URL with http://, https://, socks5:// or socks5h://
    --listen: listen has 0.0.0.0:5222, which other machines can reach; set allow_remote_clients = true if that is what you want: clients there are then served over TLS only
    "#);
}

#[test]
fn values_are_toml_or_else_text() {
    let config = with(&[
        ("XBOSH_ALLOW_REMOTE_CLIENTS", "true"),
        ("XBOSH_ALLOWED_DOMAINS", "['a.example', \"B.example\"]"),
        ("XBOSH_DEFAULT_DOMAIN", "a.example"),
        ("XBOSH_BOSH__VER", "1.10"),
        ("XBOSH_BOSH__LANG", "'de'"),
        ("XBOSH_BOSH__WAIT", "0x1E"),
        ("XBOSH_PROXY__NO_PROXY", "localhost"),
        ("XBOSH_TLS__CA_FILE", "/roots.pem"),
        ("XBOSH_FEATURES__CHANNEL_BINDING", "pass"),
    ]);
    assert!(config.allow_remote_clients);
    assert_eq!(config.allowed_domains.unwrap(), ["a.example", "b.example"]);
    assert_eq!(config.default_domain.as_deref(), Some("a.example"));
    assert_eq!(
        (config.bosh.ver.as_str(), config.bosh.lang.as_str()),
        ("1.10", "de")
    );
    assert_eq!(config.bosh.wait.as_secs(), 30);
    assert_eq!(config.proxy.no_proxy, ["localhost"]);
    assert_eq!(config.tls.ca_file.as_deref(), Some(Path::new("/roots.pem")));
}

#[test]
fn passwords_stay_as_they_are() {
    for (value, expected) in [
        ("12345", "12345"),
        ("0x10", "0x10"),
        ("1e5", "1e5"),
        ("true", "true"),
        ("99999999999999999999", "99999999999999999999"),
        ("['a']", "['a']"),
        ("{}", "{}"),
        ("a # b", "a # b"),
        ("12 # b", "12 # b"),
        ("2026-01-01", "2026-01-01"),
        ("\"quo\\\"ted\"", "quo\"ted"),
        ("\"a\"\nb = \"c\"", "\"a\"\nb = \"c\""),
        ("a\nb", "a\nb"),
    ] {
        let config = with(&[
            ("XBOSH_PROXY__USERNAME", "007"),
            ("XBOSH_PROXY__PASSWORD", value),
        ]);
        let credentials = shown(config.proxy.credentials.as_ref());
        assert_eq!(credentials, Some(("007", expected)));
    }
    let path = with(&[("XBOSH_TLS__CA_FILE", "1")]).tls.ca_file;
    assert_eq!(path.as_deref(), Some(Path::new("1")));
}

#[test]
fn bad_values_name_their_variable() {
    let sentences = [
        env_error("XBOSH_LISTEN", "127.0.0.1"),
        env_error("XBOSH_LISTEN", "127.0.0.1:1,127.0.0.1:2"),
        env_error("XBOSH_BOSH__WAIT", "0"),
        env_error("XBOSH_BOSH__WAIT", "soon"),
        env_error("XBOSH_BOSH__WAIT", "99999999999999999999"),
        env_error("XBOSH_BOSH__WAIT", ""),
        env_error("XBOSH_ALLOW_REMOTE_CLIENTS", "yes"),
        env_error("XBOSH_PROXY__URL", "htp://juliet:zebra@p.example"),
        env_error("XBOSH_PROXY__PASSWORD", "zebra"),
        env_error("XBOSH_DEFAULT_DOMAIN", "a@b"),
    ];
    let text = sentences.join("\n");
    assert!(!text.contains("zebra"));
    assert_snapshot!(text, @r#"
    environment variable XBOSH_LISTEN: listen has "127.0.0.1", which is neither an address and port like "127.0.0.1:5222" nor a socket like "unix:/path"
    environment variable XBOSH_LISTEN: listen has "127.0.0.1:1,127.0.0.1:2", which is neither an address and port like "127.0.0.1:5222" nor a socket like "unix:/path"
    environment variable XBOSH_BOSH__WAIT: bosh.wait must be from 1 to 3600 s
    environment variable XBOSH_BOSH__WAIT: bosh.wait must be an integer, not a string
    environment variable XBOSH_BOSH__WAIT: bosh.wait must be from 1 to 3600 s
    environment variable XBOSH_BOSH__WAIT: bosh.wait must be an integer, not a string
    environment variable XBOSH_ALLOW_REMOTE_CLIENTS: allow_remote_clients must be true or false, not a string
    environment variable XBOSH_PROXY__URL: proxy.url must be "env", "none", or a URL with http://, https://, socks5:// or socks5h://
    environment variable XBOSH_PROXY__PASSWORD: proxy.password needs a user name: set username beside it
    environment variable XBOSH_DEFAULT_DOMAIN: default_domain has "a@b", which is no domain name
    "#);
}

#[test]
fn unknown_variables_only_warn() {
    let loaded = Files::new("").load_with(&[
        ("XBOSH_LISTN", "127.0.0.1:0"),
        ("XBOSH_PROXY_URL", "http://juliet:zebra@p.example"),
        ("XBOSH_DOMAINS__EXAMPLE", "{}"),
        ("XBOSH_STATUS__SOCKETS", ""),
        ("XBOSH_", ""),
        ("XBOSHX", "1"),
        ("LISTEN", "1"),
    ]);
    let warnings = loaded.unwrap().warnings.join("\n");
    assert!(!warnings.contains("zebra"));
    assert_snapshot!(warnings, @r#"
    ignored: environment variable XBOSH_LISTN: unknown key listn; did you mean listen?
    ignored: environment variable XBOSH_PROXY_URL: unknown key proxy_url; did you mean proxy.url?
    ignored: environment variable XBOSH_DOMAINS__EXAMPLE: domains are set in the file only
    ignored: environment variable XBOSH_STATUS__SOCKETS: unknown key status.sockets; did you mean status.socket?
    ignored: environment variable XBOSH_: unknown key ""
    "#);
}

fn proxies(environment: &[(&str, &str)]) -> [Option<String>; 4] {
    match with(environment).proxy.source {
        ProxySource::Env(env) => {
            let value = |set: ProxyVariable| {
                // The name is that of the variable which the value is from.
                assert!(environment.contains(&(set.name, &set.value)), "{set:?}");
                set.value
            };
            let [https, http, all] = [env.https, env.http, env.all].map(|set| set.map(value));
            [https, http, all, env.no_proxy]
        }
        other => panic!("{other:?}"),
    }
}

/// P-13.
#[test]
fn p13_proxy_variables_in_either_case() {
    let some = |text: &str| Some(text.to_owned());
    let upper = [
        ("HTTPS_PROXY", "S"),
        ("HTTP_PROXY", "H"),
        ("ALL_PROXY", "A"),
        ("NO_PROXY", "N"),
    ];
    let lower = [
        ("https_proxy", "s"),
        ("http_proxy", "h"),
        ("all_proxy", "a"),
        ("no_proxy", "n"),
    ];
    assert_eq!(proxies(&[]), [None, None, None, None]);
    assert_eq!(proxies(&upper), ["S", "H", "A", "N"].map(some));
    assert_eq!(proxies(&lower), ["s", "h", "a", "n"].map(some));
    for both in [[upper, lower].concat(), [lower, upper].concat()] {
        assert_eq!(proxies(&both), ["s", "h", "a", "n"].map(some));
    }
    let empty = [("https_proxy", ""), ("HTTPS_PROXY", "S")];
    assert_eq!(proxies(&empty)[0].as_deref(), Some("S"));
}

/// P-13: what the configuration names is used in place of the environment.
#[test]
fn p13_a_configured_proxy_overrides_the_variables() {
    let environment = [("HTTPS_PROXY", "http://environment.example")];
    for (text, url) in [
        ("[proxy]\nurl = 'http://own.example'", "http://own.example/"),
        ("[proxy]\nurl = 'none'", "none"),
    ] {
        let loaded = Files::new(text).load_with(&environment).unwrap();
        let source = match loaded.config.proxy.source {
            ProxySource::Url(url) => url.to_string(),
            ProxySource::None => "none".into(),
            ProxySource::Env(_) | ProxySource::List(_) => "other".into(),
        };
        assert_eq!(source, url);
    }
}

#[test]
fn under_cgi_only_the_lower_case_http_proxy_counts() {
    let environment = [
        ("REQUEST_METHOD", "GET"),
        ("HTTP_PROXY", "http://evil.example"),
        ("HTTPS_PROXY", "S"),
    ];
    assert_eq!(proxies(&environment)[..2], [Some("S".into()), None]);
    let lower = [environment.as_slice(), &[("http_proxy", "h")]].concat();
    assert_eq!(proxies(&lower)[1].as_deref(), Some("h"));
}

#[test]
fn variables_that_are_not_text() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;
    let read = |name: &str| {
        let value = OsString::from_vec(b"http://zebra\xff".to_vec());
        environment([(OsString::from(name), value)])
    };
    let sentences = [
        read("XBOSH_PROXY__PASSWORD").unwrap_err().to_string(),
        read("https_proxy").unwrap_err().to_string(),
        read("NO_PROXY").unwrap_err().to_string(),
    ];
    assert_snapshot!(sentences.join("\n"), @"
    environment variable XBOSH_PROXY__PASSWORD: must be UTF-8
    environment variable https_proxy: must be UTF-8
    environment variable NO_PROXY: must be UTF-8
    ");
    assert!(read("LS_COLORS").unwrap().is_empty());
    let name = OsString::from_vec(b"\xff".to_vec());
    assert!(environment([(name, "x".into())]).unwrap().is_empty());
}

#[test]
fn a_password_in_an_argument_is_seen() {
    for text in [
        "http://juliet:secret@p.example",
        "http://:secret@p.example",
        "socks5://juliet:se%20cret@p.example",
        "juliet:secret@p.example:3128",
        "http://juliet:se/cret@p.example",
        "http://juliet:12/cret@p.example",
        "http://juliet:12#cret@p.example",
        "http:juliet:secret@p.example",
        "socks5:juliet:secret@p.example",
        "socks5:/juliet:secret@p.example",
    ] {
        assert!(has_password(text), "{text}");
    }
    for text in [
        "env",
        "none",
        "http://p.example",
        "http://juliet@p.example",
        "nonsense",
    ] {
        assert!(!has_password(text), "{text}");
    }
}

/// Every key of the annotated file, with its own default as the value: each is read as its type.
#[test]
fn every_key_can_come_from_the_environment() {
    let text = include_str!("../../../config.toml");
    let file: toml::Table = text.parse().unwrap();
    let mut leaves = Vec::new();
    for (key, value) in file {
        match value {
            toml::Value::Table(table) => leaves.extend(
                table
                    .into_iter()
                    .map(|(last, value)| (format!("{key}__{last}"), value)),
            ),
            other => leaves.push((key, other)),
        }
    }
    assert!(leaves.len() > 20, "{leaves:?}");
    for (key, value) in leaves {
        let name = format!("XBOSH_{}", key.to_uppercase());
        let loaded = Files::new("").load_with(&[(&name, &value.to_string())]);
        assert!(
            loaded.is_ok_and(|l| l.warnings.is_empty()),
            "{name}={value}"
        );
    }
}
