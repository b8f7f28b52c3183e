//! Defaults < file < environment < flags, and where the file is found.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use xbosh::config::{Flags, environment, load};

use crate::support::{Folder, config, owned};

#[test]
fn the_environment_beats_the_file_and_flags_beat_both() {
    let folder = Folder::new("[bosh]\nwait = 10\nhold = 2\n[log]\nlevel = 'warn'\n");
    let config = folder.load(&[]).unwrap().config;
    assert_eq!((config.bosh.wait.as_secs(), config.bosh.hold), (10, 2));

    let variables = [("XBOSH_BOSH__WAIT", "20"), ("XBOSH_LOG__LEVEL", "error")];
    let config = folder.load(&variables).unwrap().config;
    assert_eq!((config.bosh.wait.as_secs(), config.bosh.hold), (20, 2));
    assert_eq!(config.log.level, "error");

    let flags = Flags {
        log: Some("debug".into()),
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        ..Flags::default()
    };
    let config = folder.load_with(&variables, flags).unwrap().config;
    assert_eq!(config.log.level, "debug");
    assert_eq!(config.listen, ["127.0.0.1:0".parse().unwrap()]);
    assert_eq!(config.bosh.wait.as_secs(), 20);
}

#[test]
fn variables_are_toml_or_else_text() {
    let folder = Folder::new("");
    let variables = [
        ("XBOSH_LISTEN", r#"["127.0.0.1:1", "[::1]:2"]"#),
        ("XBOSH_ALLOWED_DOMAINS", "Example.ORG"),
        ("XBOSH_PROXY__URL", "http://proxy.example:3128"),
        ("XBOSH_PROXY__USERNAME", "true"),
        ("XBOSH_PROXY__PASSWORD", "12345"),
        ("XBOSH_BOSH__VER", "1.10"),
        ("XBOSH_BOSH__LANG", "'de'"),
        ("XBOSH_LIMITS__MAX_DEPTH", "1_00"),
        // Two settings in one value would be none.
        ("XBOSH_LOG__LEVEL", "info"),
    ];
    let loaded = folder.load(&variables).unwrap();
    let config = loaded.config;
    assert_eq!(config.listen.len(), 2);
    assert_eq!(config.allowed_domains, Some(vec!["example.org".to_owned()]));
    assert_eq!(config.proxy.credentials.unwrap().username, "true");
    assert_eq!(config.bosh.ver, "1.10");
    assert_eq!(config.bosh.lang, "de");
    assert_eq!(config.limits.max_depth, 100);
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn unknown_variables_are_worth_a_warning() {
    let variables = [
        ("XBOSH_BOSH__WAITT", "5"),
        ("XBOSH_DOMAINS__X__URL", "https://x.example"),
        ("XBOSH_PROXY.URL", "none"),
        ("NOT_OURS", "x"),
    ];
    let loaded = Folder::new("").load(&variables).unwrap();
    insta::assert_snapshot!(loaded.warnings.join("\n"), @r#"
    ignored: environment variable XBOSH_BOSH__WAITT: unknown key bosh.waitt; did you mean bosh.wait?
    ignored: environment variable XBOSH_DOMAINS__X__URL: domains are set in the file only
    ignored: environment variable XBOSH_PROXY.URL: unknown key "proxy.url"; did you mean proxy.url?
    "#);
}

#[test]
fn a_variable_that_is_no_text_is_an_error_only_if_we_read_it() {
    let broken = || OsString::from_vec(vec![b'x', 0xff]);
    for name in ["XBOSH_PROXY__PASSWORD", "https_proxy", "HOME"] {
        let error = environment([(name.into(), broken())]).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("environment variable {name}: must be UTF-8")
        );
    }
    let other = environment([("LS_COLORS".into(), broken()), ("A".into(), "b".into())]);
    assert_eq!(other.unwrap(), owned(&[("A", "b")]));
}

#[test]
fn the_file_is_found_where_the_xdg_specification_says() {
    let folder = Folder::new("");
    folder.write("xdg/xbosh/config.toml", "[bosh]\nwait = 1\n", 0o644);
    folder.write(
        "home/.config/xbosh/config.toml",
        "[bosh]\nwait = 2\n",
        0o644,
    );
    let (xdg, home) = (folder.path().join("xdg"), folder.path().join("home"));
    let (xdg, home) = (xdg.to_str().unwrap(), home.to_str().unwrap());
    let wait = |variables: &[(&str, &str)]| {
        let loaded = load(&Flags::default(), &owned(variables)).unwrap();
        let file = loaded.file.map(|file| folder.shown(file.display()));
        (loaded.config.bosh.wait.as_secs(), file.unwrap_or_default())
    };
    assert_eq!(
        wait(&[("XDG_CONFIG_HOME", xdg), ("HOME", home)]),
        (1, "xdg/xbosh/config.toml".into())
    );
    let in_home = (2, "home/.config/xbosh/config.toml".into());
    assert_eq!(wait(&[("HOME", home)]), in_home);
    assert_eq!(wait(&[("XDG_CONFIG_HOME", ""), ("HOME", home)]), in_home);
    assert_eq!(wait(&[("XDG_CONFIG_HOME", "xdg"), ("HOME", home)]), in_home);
}

#[test]
fn a_usual_file_that_cannot_be_read_is_not_passed_over() {
    let folder = Folder::new("");
    std::fs::create_dir_all(folder.path().join("xdg/xbosh/config.toml")).unwrap();
    let xdg = folder.path().join("xdg");
    let variables = owned(&[("XDG_CONFIG_HOME", xdg.to_str().unwrap())]);
    let error = load(&Flags::default(), &variables).unwrap_err();
    insta::assert_snapshot!(folder.shown(error), @"cannot read the configuration file xdg/xbosh/config.toml: is a directory");
}

#[test]
fn domains_inherit_what_they_leave_out() {
    let config = config(
        r#"
        [bosh]
        wait = 30
        lang = "de"
        [tls]
        ca_file = "all.pem"
        client_cert = "cert.pem"
        client_key = "key.pem"
        [domains."Bücher.Example"]
        url = "https://cm.example/bosh#part"
        route = "xmpp:im.example:5222"
        wait = 20
        ca_file = "/one.pem"
        [domains."other.example"]
        "#,
    );
    let books = &config.domains["xn--bcher-kva.example"];
    assert_eq!(
        books.url.as_ref().unwrap().as_str(),
        "https://cm.example/bosh"
    );
    assert_eq!(books.route.as_deref(), Some("xmpp:im.example:5222"));
    assert_eq!(
        (books.bosh.wait.as_secs(), books.bosh.lang.as_str()),
        (20, "de")
    );
    assert_eq!(books.tls.ca_file.as_deref(), Some("/one.pem".as_ref()));
    assert_eq!(books.tls.client_cert, config.tls.client_cert);
    let other = &config.domains["other.example"];
    assert_eq!((&other.tls, &other.bosh), (&config.tls, &config.bosh));
    assert!(other.url.is_none());
}

#[test]
fn paths_in_the_file_start_at_its_folder() {
    let folder = Folder::new("[tls]\nca_file = 'roots.pem'\n");
    let config = folder.load(&[]).unwrap().config;
    assert_eq!(config.tls.ca_file, Some(folder.path().join("roots.pem")));
    let config = folder
        .load(&[("XBOSH_TLS__CA_FILE", "roots.pem")])
        .unwrap()
        .config;
    assert_eq!(config.tls.ca_file, Some("roots.pem".into()));
}

#[test]
fn a_url_flag_joins_the_domains_table() {
    let folder = Folder::new("[domains.'example.org']\nwait = 9\nurl = 'https://old.example/'\n");
    let flags = Flags {
        domain: Some(("Example.ORG".into(), "https://new.example/".into())),
        ..Flags::default()
    };
    let config = folder.load_with(&[], flags).unwrap().config;
    let domain = &config.domains["example.org"];
    assert_eq!(
        domain.url.as_ref().unwrap().as_str(),
        "https://new.example/"
    );
    assert_eq!(domain.bosh.wait.as_secs(), 9);
}

#[test]
fn remote_clients_are_allowed_with_a_warning() {
    let loaded =
        Folder::new("listen = ['0.0.0.0:5222', '127.0.0.2:5222', '[::ffff:127.0.0.1]:1']\nallow_remote_clients = true\n")
            .load(&[])
            .unwrap();
    insta::assert_snapshot!(loaded.warnings.join("\n"), @"clients on other machines can reach 0.0.0.0:5222: they are served over TLS only");
}
