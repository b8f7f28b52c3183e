//! `docs/conformance.md` names only files and tests that exist, and each rule once.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

/// One row: id, section, requirement, where, proof.
fn rows(text: &str) -> Vec<Vec<String>> {
    text.lines()
        .filter(|line| {
            line.starts_with("| ") && !line.starts_with("| id ") && !line.starts_with("|---")
        })
        .map(|line| {
            line.trim_matches('|')
                .split(" | ")
                .map(|cell| cell.trim().to_owned())
                .collect()
        })
        .collect()
}

/// Back-quoted words of a cell.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn named_files_and_tests_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/conformance.md")).unwrap();
    let rows = rows(&text);
    assert!(
        rows.len() > 100,
        "only {} rows: was the table's format changed?",
        rows.len()
    );
    let mut ids = HashSet::new();
    let mut wrong = Vec::new();
    for row in &rows {
        let [id, _section, requirement, place, proof] = &row[..] else {
            wrong.push(format!("not five cells: {row:?}"));
            continue;
        };
        if !ids.insert(id) {
            wrong.push(format!("{id} stands twice"));
        }
        if requirement.is_empty() {
            wrong.push(format!("{id} does not say what is required"));
        }
        for file in quoted(place) {
            if !root.join(file).exists() {
                wrong.push(format!("{id}: no file {file}"));
            }
        }
        let mut proofs = 0;
        for test in quoted(proof) {
            proofs += 1;
            let Some((file, name)) = test.split_once("::") else {
                wrong.push(format!("{id}: {test} is not file::test"));
                continue;
            };
            let source = fs::read_to_string(root.join(file)).unwrap_or_default();
            let defined =
                source.contains(&format!("fn {name}(")) || source.contains(&format!("{name}:"));
            if !defined {
                wrong.push(format!("{id}: no test {name} in {file}"));
            }
        }
        if proofs == 0 && !proof.starts_with("not done: ") && !proof.starts_with("not needed: ") {
            wrong.push(format!("{id}: neither a test nor a reason"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
