//! What a user would write or type to do as a driver did, with names of examples in place of a test's.

use std::fs;
use std::path::Path;

/// Marks of the lines of a driver that say how to use a library.
const BEGIN: &str = "What a program writes:";
const END: &str = "So far a program.";

/// Names of a test, and what stands for each.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<(String, String)>);

impl Names {
    /// In this order. Empty ones stand for nothing.
    pub(super) fn new(pairs: &[(&str, &str)]) -> Self {
        let told = pairs.iter().filter(|(real, _)| !real.is_empty());
        Self(told.map(|(a, b)| ((*a).into(), (*b).into())).collect())
    }

    pub(super) fn hidden(&self, text: &str) -> String {
        self.0
            .iter()
            .fold(text.to_owned(), |text, (real, example)| {
                text.replace(real, example)
            })
    }
}

/// A file that was written, or a command that was run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// The file's name; nothing for commands.
    pub file: Option<String>,
    /// What is in it; the command.
    pub text: String,
}

impl Used {
    pub(super) fn command(text: &str) -> Self {
        Self {
            file: None,
            text: text.into(),
        }
    }

    pub(super) fn file(name: &str, text: &str) -> Self {
        Self {
            file: Some(name.into()),
            text: text.trim_end().into(),
        }
    }
}

/// The lines of a driver that a program would have, moved to the left, and the file's name.
pub(super) fn excerpt(driver: &Path) -> Option<(String, String)> {
    let name = driver.file_name()?.to_string_lossy().into_owned();
    let text = cut_out(&fs::read_to_string(driver).ok()?);
    (!text.is_empty()).then_some((name, text))
}

fn cut_out(source: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    let mut inside = false;
    for line in source.lines() {
        if line.contains(END) {
            inside = false;
        }
        if inside {
            lines.push(line);
        }
        if line.contains(BEGIN) {
            inside = true;
        }
    }
    let indents = lines.iter().filter(|line| !line.trim().is_empty());
    let indent = indents.map(|line| line.len() - line.trim_start().len());
    let indent = indent.min().unwrap_or_default();
    let moved: Vec<&str> = lines
        .iter()
        .map(|line| line.get(indent..).unwrap_or_default())
        .collect();
    moved.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_names_come_first() {
        let names = Names::new(&[
            ("secret", "PASSWORD"),
            ("a@b.test", "you@example.org"),
            ("b.test", "example.org"),
            ("", "nothing"),
        ]);
        assert_eq!(
            names.hidden("a@b.test at b.test: secret"),
            "you@example.org at example.org: PASSWORD"
        );
    }

    #[test]
    fn marked_lines_are_cut_out() {
        let source = "a\n  # What a program writes:\n    b\n\n      c\n  # So far a program.\nd\n\
                      /* What a program writes: */\n    e\n/* So far a program. */\n";
        assert_eq!(cut_out(source), "b\n\n  c\ne");
    }
}
