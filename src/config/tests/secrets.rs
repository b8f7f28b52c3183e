//! Where passwords come from, and where they never show.

use std::fs;
use std::time::Duration;

use insta::assert_snapshot;

use super::super::secret;
use super::*;

const USER: &str = "[proxy]\nusername = 'juliet'\n";

fn password(files: &Files, environment: &[(&str, &str)]) -> Result<String, String> {
    let loaded = files.load_with(environment)?;
    let (_, password) = shown(loaded.config.proxy.credentials.as_ref()).unwrap();
    Ok(password.to_owned())
}

fn with_file(content: &str) -> Files {
    let files = Files::new("");
    let path = files.path().join("secret");
    files.write(
        "config.toml",
        &format!("{USER}password_file = '{}'", path.display()),
    );
    files.write("secret", content);
    files
}

#[test]
fn password_file_gives_its_first_line() {
    for content in ["secret", "secret\n", "secret\r\n", "secret\nmore\n"] {
        assert_eq!(password(&with_file(content), &[]).unwrap(), "secret");
    }
    assert_eq!(
        password(&with_file(" se cret \n"), &[]).unwrap(),
        " se cret "
    );
}

#[test]
fn password_files_that_cannot_be_used() {
    let missing = with_file("");
    fs::remove_file(missing.path().join("secret")).unwrap();
    let directory = with_file("");
    fs::remove_file(directory.path().join("secret")).unwrap();
    fs::create_dir(directory.path().join("secret")).unwrap();
    let bytes = with_file("");
    fs::write(bytes.path().join("secret"), b"\xff\xfe").unwrap();
    let sentences: Vec<String> = [
        &missing,
        &directory,
        &bytes,
        &with_file(""),
        &with_file("\n"),
    ]
    .iter()
    .map(|files| password(files, &[]).unwrap_err())
    .collect();
    assert_snapshot!(sentences.join("\n"), @"
    config.toml:3:1: proxy.password_file cannot be read from secret: no such file or directory
    config.toml:3:1: proxy.password_file cannot be read from secret: is a directory
    config.toml:3:1: proxy.password_file cannot be read from secret: not UTF-8 text
    config.toml:3:1: proxy.password_file names secret, whose first line is empty
    config.toml:3:1: proxy.password_file names secret, whose first line is empty
    ");
}

#[test]
fn a_password_file_that_others_can_read_is_warned_about() {
    let files = with_file("secret");
    assert!(files.load_with(&[]).unwrap().warnings.is_empty());
    files.chmod("secret", 0o644);
    let warnings = files.load_with(&[]).unwrap().warnings.join("\n");
    assert_snapshot!(files.shorten(&warnings), @"others can read the password in secret: chmod 600 secret");
}

#[test]
fn a_bare_name_is_a_systemd_credential() {
    let files = Files::new(&format!("{USER}password_file = 'proxy-password'"));
    fs::create_dir(files.path().join("credentials")).unwrap();
    files.write("credentials/proxy-password", "from systemd\n");
    let folder = files.path().join("credentials").display().to_string();
    let environment = [("CREDENTIALS_DIRECTORY", folder.as_str())];
    assert_eq!(password(&files, &environment).unwrap(), "from systemd");
    let without = password(&files, &[]).unwrap_err();
    assert_snapshot!(without, @"config.toml:3:1: proxy.password_file cannot be read from proxy-password: no such file or directory");
    // A path is never looked for among the credentials.
    files.write(
        "config.toml",
        &format!("{USER}password_file = './proxy-password'"),
    );
    assert!(password(&files, &environment).is_err());
}

fn command(command: &str) -> Result<String, String> {
    let text = format!("{USER}password_command = '''{command}'''");
    password(&Files::new(&text), &[])
}

#[test]
fn password_command_gives_the_first_line_of_its_output() {
    for (text, expected) in [
        ("echo secret", "secret"),
        ("printf secret", "secret"),
        ("printf \"a b\\nc\\n\"", "a b"),
    ] {
        assert_eq!(command(text).unwrap(), expected);
    }
}

#[test]
fn password_commands_that_fail_never_show_their_output() {
    let sentences: Vec<String> = [
        "echo zebra; exit 3",
        "echo zebra; kill -9 $$",
        "true",
        "echo; echo zebra",
        "printf \"zebra\\377\"",
    ]
    .iter()
    .map(|text| command(text).unwrap_err())
    .collect();
    let text = sentences.join("\n");
    assert!(!text.contains("zebra"));
    assert_snapshot!(text, @"
    config.toml:3:1: proxy.password_command failed (exit status: 3)
    config.toml:3:1: proxy.password_command failed (signal: 9 (SIGKILL))
    config.toml:3:1: proxy.password_command printed no password on its first line
    config.toml:3:1: proxy.password_command printed no password on its first line
    config.toml:3:1: proxy.password_command printed no password: not UTF-8 text
    ");
}

#[test]
fn password_command_has_a_limit() {
    let limit = Duration::from_millis(50);
    for slow in [
        "exec sleep 60",
        "echo zebra; exec sleep 60",
        "exec >&-; exec sleep 60",
    ] {
        let error = secret::from_command(slow, limit).unwrap_err();
        assert_eq!(error.to_string(), "did not end within 0.05 s");
    }
}

#[test]
fn a_file_with_a_password_must_be_private() {
    let texts = [
        "[proxy]\nusername = 'juliet'\npassword = 'zebra'",
        "[proxy]\nurl = 'http://juliet:zebra@p.example'",
        "[domains.'a.example'.proxy]\nusername = 'juliet'\npassword = 'zebra'",
        "[domains.'a.example'.proxy]\nurl = 'socks5://juliet:zebra@p.example'",
    ];
    for text in texts {
        let files = Files::new(text);
        for mode in [0o600, 0o400] {
            files.chmod("config.toml", mode);
            files.load_with(&[]).unwrap();
        }
        for mode in [0o644, 0o640, 0o604] {
            files.chmod("config.toml", mode);
            assert_eq!(
                files.load_with(&[]).unwrap_err(),
                "config.toml holds a password and others can read it: chmod 600 config.toml"
            );
        }
    }
    for text in [
        "",
        "[proxy]\nurl = 'http://juliet@p.example'",
        "[proxy]\nusername = 'juliet'\npassword_command = 'echo x'",
    ] {
        let files = Files::new(text);
        files.chmod("config.toml", 0o644);
        files.load_with(&[]).unwrap();
    }
    // What stands in the environment is none of the file's business.
    let files = Files::new("[proxy]\nusername = 'juliet'");
    files.chmod("config.toml", 0o644);
    files
        .load_with(&[("XBOSH_PROXY__PASSWORD", "zebra")])
        .unwrap();
}

/// B-73.
#[test]
fn b73_debug_shows_no_password() {
    let files = Files::new(
        "[proxy]\nurl = 'http://juliet:zebra@p.example'\n\
         [domains.'a.example'.proxy]\nurl = 'socks5://q.example'\nusername = 'juliet'\npassword = 'zebra'\n\
         [domains.'b.example'.proxy]\nurl = 'env'",
    );
    let loaded = files.load_with(&[
        ("HTTPS_PROXY", "http://juliet:zebra@p.example"),
        ("http_proxy", "http://juliet:zebra@p.example"),
        ("all_proxy", "http://juliet:zebra@p.example"),
    ]);
    let debug = format!("{:?}", loaded.unwrap());
    assert!(
        debug.contains("p.example") && !debug.contains("zebra"),
        "{debug}"
    );
}

/// B-73.
#[test]
fn b73_a_syntax_error_shows_nothing_of_its_line() {
    let texts = [
        "[proxy]\npassword = \"zebra",
        "[proxy]\npassword = zebra",
        "[proxy]\npassword = 'zebra' zebra",
        "[proxy]\npassword = \"zebra\\q\"",
        "[proxy]\npassword = 'x'\npassword = 'zebra'",
        "[proxy]\npassword 'zebra'",
        "[proxy]\npassword = zebra = 1",
        "[proxy]\npassword = 12zebra",
        "[proxy]\npassword = [zebra",
        "[proxy]\n'zebra",
        "[proxy\nurl = 'http://juliet:zebra@p.example'",
        "[proxy]\npassword = '''zebra",
        "[proxy]\npassword = {zebra}",
        "listen = ['üüü', zebra]",
    ];
    let text = errors(&texts);
    assert!(!text.contains("zebra"), "{text}");
    assert_snapshot!(text, @r#"
    config.toml:2:18: not valid TOML: invalid basic string, expected `"`
    config.toml:2:12: not valid TOML: string values must be quoted, expected literal string
    config.toml:2:20: not valid TOML: unexpected key or value, expected newline, `#`
    config.toml:2:19: not valid TOML: missing escaped value, expected `b`, `e`, `f`, `n`, `r`, `\`, `"`, `x`, `u`, `U`
    config.toml:3:1: not valid TOML: duplicate key
    config.toml:2:10: not valid TOML: key with no value, expected `=`
    config.toml:2:18: not valid TOML: unexpected key or value, expected newline, `#`
    config.toml:2:14: not valid TOML: invalid float, expected nothing
    config.toml:2:18: not valid TOML: unclosed array, expected `]`
    config.toml:2:7: not valid TOML: key with no value, expected `=`
    config.toml:1:7: not valid TOML: unclosed table, expected `]`
    config.toml:2:20: not valid TOML: invalid multi-line literal string, expected `'`
    config.toml:2:18: not valid TOML: invalid literal string, expected `'`
    config.toml:1:18: not valid TOML: string values must be quoted, expected literal string
    "#);
}
