//! Every file of the fuzzers' corpora goes through its target, without a fuzzer. `fuzz/run` looks for more.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "a target says what is wrong by failing"
)]

#[path = "../fuzz/targets/lib.rs"]
mod targets;

use std::path::Path;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(
        files.len() >= 20,
        "{} files in {}",
        files.len(),
        folder.display()
    );
    for file in files {
        // Shown only if it fails.
        println!("{}", file.display());
        run(&std::fs::read(&file).unwrap());
    }
}

#[test]
fn framer() {
    replay("framer", targets::framer::run);
}

#[test]
fn body() {
    replay("body", targets::body::run);
}

#[test]
fn session() {
    replay("session", targets::session::run);
}

#[test]
fn proxy_replies() {
    replay("proxy_replies", targets::proxy_replies::run);
}

#[test]
fn config() {
    replay("config", targets::config::run);
}
