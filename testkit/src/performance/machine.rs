//! Where the figures come from.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::real::daemon::helper;

/// What a reader has to know of a machine.
#[derive(Clone, Debug)]
pub struct Machine(Vec<(String, String)>);

impl Machine {
    /// This one, with the Debian packages of these names.
    #[must_use]
    pub fn of(packages: &[&str]) -> Self {
        let mut facts = Vec::new();
        let mut fact = |name: &str, value: String| {
            if !value.is_empty() {
                facts.push((name.to_owned(), value));
            }
        };
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        fact("cores", format!("{cores} of {}", model()));
        fact("kernel", line("/proc/sys/kernel/osrelease"));
        fact("load average at the start", line("/proc/loadavg"));
        for package in packages {
            let asked = helper("dpkg-query", &["-W", "-f", "${Version}", package], "");
            fact(package, asked.unwrap_or_default().trim().to_owned());
        }
        Self(facts)
    }

    /// Adds a version of the program that was measured.
    pub fn add_program(&mut self, xbosh: &Path) {
        let program = xbosh.display().to_string();
        if let Ok(version) = helper(&program, &["--version"], "") {
            let version = version.trim().trim_start_matches("xbosh ").to_owned();
            self.0.push(("xbosh".to_owned(), version));
        }
    }

    /// As a list.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut out = String::new();
        for (name, value) in &self.0 {
            // Writing to a string does not fail.
            let _ = writeln!(out, "- {name}: {value}");
        }
        out
    }
}

fn line(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let found = text.lines().find(|line| line.starts_with("model name"));
    let name = found.and_then(|line| line.split_once(':'));
    name.map_or("an unknown kind", |(_, name)| name.trim())
        .to_owned()
}
