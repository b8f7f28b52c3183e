//! The documentation against what it speaks of: links lead somewhere, messages are what the program says, and the reference
//! of the configuration is `config.toml`.
//!
//! `XBOSH_WRITE_DOCS=1 cargo test --test docs` writes `docs/configuration.md` anew.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says what is wrong by failing"
)]

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every page for people.
fn pages() -> Vec<PathBuf> {
    let docs = root().join("docs").read_dir().unwrap();
    let mut pages: Vec<PathBuf> = docs
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    pages.extend(["README.md", "CHANGELOG.md"].map(|name| root().join(name)));
    pages
}

/// The lines that are not code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence && !line.starts_with("    ")
    })
}

/// Without what stands in back quotes.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("``")
}

/// As GitHub makes them.
fn anchors(text: &str) -> HashSet<String> {
    let given = text.split("<a id=\"").skip(1);
    let given = given.filter_map(|rest| rest.split('"').next());
    let mut seen: HashSet<String> = given.map(str::to_owned).collect();
    for line in prose(text).filter(|line| line.starts_with('#')) {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let anchor: String = title
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let mut again = 1;
        let mut unique = anchor.clone();
        while !seen.insert(unique.clone()) {
            unique = format!("{anchor}-{again}");
            again += 1;
        }
    }
    seen
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    let mut links = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for line in prose(&text) {
            for rest in without_code(line).split("](").skip(1) {
                let target = rest.split(')').next().unwrap().trim();
                if target.contains("://") || target.starts_with("mailto:") {
                    continue;
                }
                links += 1;
                let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
                let file = match path {
                    "" => page.clone(),
                    path => page.parent().unwrap().join(path),
                };
                let known = file.exists()
                    && (anchor.is_empty()
                        || anchors(&fs::read_to_string(&file).unwrap()).contains(anchor));
                if !known {
                    wrong.push(format!("{}: {target}", page.display()));
                }
            }
        }
    }
    assert!(links > 30, "only {links} links: are they still found?");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Pages that the program, its configuration and its units send people to.
#[test]
fn every_page_that_is_spoken_of_exists() {
    let mut sources = vec![root().join("config.toml"), root().join("README.md")];
    for folder in ["src", "docs", "systemd", "packaging"] {
        files(&root().join(folder), &mut sources);
    }
    let mut wrong = Vec::new();
    let mut found = 0;
    for source in sources {
        let Ok(text) = fs::read_to_string(&source) else {
            continue;
        };
        for rest in text.split("docs/").skip(1) {
            let end = rest.find(".md").map(|end| &rest[..end + 3]);
            let Some(page) = end.filter(|page| {
                page.chars()
                    .all(|c| c.is_alphanumeric() || "-._".contains(c))
            }) else {
                continue;
            };
            found += 1;
            if !root().join("docs").join(page).exists() {
                wrong.push(format!("{}: docs/{page}", source.display()));
            }
        }
    }
    assert!(found > 10, "only {found} pages: are they still found?");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, into),
            false => into.push(path),
        }
    }
}

/// One group of keys of `config.toml`, with the comment above it.
#[derive(Default)]
struct Group {
    words: Vec<String>,
    keys: Vec<String>,
}

/// A line of a key, in force or commented out: without its comment mark.
fn key_line(line: &str) -> Option<&str> {
    let line = line.strip_prefix("# ").unwrap_or(line);
    let (key, _) = line.split_once(" = ")?;
    let is_key = !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    is_key.then_some(line)
}

/// The reference, made from the annotated default.
fn reference(annotated: &str) -> String {
    let mut out = String::from(
        "# Configuration reference\n\n<!-- Made from config.toml by `XBOSH_WRITE_DOCS=1 cargo test --test docs`: change that. -->\n",
    );
    let mut table = String::new();
    let mut group = Group::default();
    for line in annotated.lines() {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        if let Some(name) = bare.strip_prefix('[').and_then(|name| name.split_once(']')) {
            let about = match group.keys.is_empty() {
                true => std::mem::take(&mut group.words),
                false => Vec::new(),
            };
            write_group(&mut out, &table, &mut group);
            assert!(name.1.is_empty(), "about a table: above it: {line}");
            table = name.0.to_owned();
            writeln!(out, "\n## `[{table}]`").unwrap();
            if !about.is_empty() {
                writeln!(out, "\n{}", linked(&about.join("\n"))).unwrap();
            }
        } else if let Some(key) = key_line(line) {
            group.keys.push(match line.starts_with("# ") {
                true => format!("# {key}"),
                false => key.to_owned(),
            });
        } else if let Some(words) = line.strip_prefix('#') {
            // A comment below keys is the next group's.
            if !group.keys.is_empty() {
                write_group(&mut out, &table, &mut group);
            }
            if !words.trim().is_empty() {
                group.words.push(words.trim().to_owned());
            }
        } else {
            assert!(line.is_empty(), "neither key nor comment: {line}");
            write_group(&mut out, &table, &mut group);
        }
    }
    write_group(&mut out, &table, &mut group);
    out
}

fn write_group(out: &mut String, table: &str, group: &mut Group) {
    let Group { words, keys } = std::mem::take(group);
    if words.is_empty() && keys.is_empty() {
        return;
    }
    if !keys.is_empty() {
        let names: Vec<String> = keys
            .iter()
            .map(|line| {
                let line = line.trim_start_matches("# ");
                format!("`{}`", line.split_once(" = ").unwrap().0)
            })
            .collect();
        let level = if table.is_empty() { "##" } else { "###" };
        writeln!(out, "\n{level} {}", names.join(", ")).unwrap();
    }
    if !words.is_empty() {
        writeln!(out, "\n{}", linked(&words.join("\n"))).unwrap();
    }
    if !keys.is_empty() {
        writeln!(out, "\n```toml\n{}\n```", keys.join("\n")).unwrap();
    }
}

/// Pages as links, from beside them.
fn linked(words: &str) -> String {
    let mut parts = words.split("docs/");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (page, rest) = part.split_at(part.find(".md").unwrap() + 3);
        write!(out, "[{page}]({page}){rest}").unwrap();
    }
    out
}

#[test]
fn the_configuration_reference_is_config_toml() {
    let made = reference(&read("config.toml"));
    let path = root().join("docs/configuration.md");
    if std::env::var_os("XBOSH_WRITE_DOCS").is_some() {
        fs::write(&path, &made).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == made,
        "docs/configuration.md is not made from config.toml as it is now: XBOSH_WRITE_DOCS=1 cargo test --test docs"
    );
}

/// What the program said in `tests/failures`, in one line a message.
fn said() -> Vec<String> {
    let mut files = Vec::new();
    self::files(&root().join("tests/failures/snapshots"), &mut files);
    let texts = files.iter().map(|file| fs::read_to_string(file).unwrap());
    texts
        .flat_map(|text| {
            text.lines()
                .map(|line| line.trim().to_owned())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The messages that a page quotes: each line of its `text` blocks.
fn quotes(page: &str) -> Vec<String> {
    let mut quoted = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match line.trim() {
            "```text" => inside = true,
            "```" => inside = false,
            "" => {}
            line if inside => quoted.push(line.to_owned()),
            _ => {}
        }
    }
    quoted
}

/// Every quoted message is one that the program has said, and every one that ends a stream or a start is quoted.
#[test]
fn troubleshooting_quotes_what_is_said() {
    let said = said();
    let quotes = quotes(&read("docs/troubleshooting.md"));
    let invented: Vec<&String> = quotes
        .iter()
        .filter(|quote| !said.iter().any(|line| line.contains(quote.as_str())))
        .collect();
    assert!(invented.is_empty(), "never said:\n{invented:#?}");
    let mut missing = Vec::new();
    let before = std::iter::once("").chain(said.iter().map(String::as_str));
    for (line, before) in said.iter().zip(before) {
        let is_message =
            line.contains(" FAILED  ") || line.starts_with("xbosh: ") || before == "client";
        if is_message && !quotes.iter().any(|quote| line.contains(quote.as_str())) {
            missing.push(line);
        }
    }
    missing.dedup();
    assert!(
        missing.is_empty(),
        "not in docs/troubleshooting.md:\n{missing:#?}"
    );
}
