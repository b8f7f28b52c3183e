//! What a process used, from /proc.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// Processor time of each of a process's tasks, to the nanosecond. A task that ended takes its time with it.
#[derive(Clone, Debug)]
pub struct Cpu(BTreeMap<String, u64>);

impl Cpu {
    /// So far.
    ///
    /// # Errors
    /// No such process, or a kernel without schedstat.
    pub fn of(pid: u32) -> Result<Self, String> {
        let mut tasks = BTreeMap::new();
        for (task, text) in each_task(pid, "schedstat")? {
            let spent = text.split(' ').next().and_then(|word| word.parse().ok());
            let spent = spent.ok_or_else(|| format!("schedstat reads {text:?}"))?;
            tasks.insert(task, spent);
        }
        Ok(Self(tasks))
    }

    /// Spent from then to now.
    #[must_use]
    pub fn since(&self, then: &Self) -> Duration {
        let spent = self.0.iter().map(|(task, now)| {
            let before = then.0.get(task).copied().unwrap_or(0);
            now.saturating_sub(before)
        });
        Duration::from_nanos(spent.sum())
    }
}

/// Resident memory in KiB.
///
/// # Errors
/// No such process.
pub fn resident_kib(pid: u32) -> Result<f64, String> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    field(&text, "Rss:").ok_or_else(|| format!("no Rss in {path}"))
}

/// How often its tasks were put off a processor, by their own will or not.
///
/// # Errors
/// No such process.
pub fn switches(pid: u32) -> Result<u64, String> {
    let mut all = 0.0;
    for (_, text) in each_task(pid, "status")? {
        for name in ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"] {
            all += field(&text, name).unwrap_or(0.0);
        }
    }
    Ok(all as u64)
}

fn field(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn each_task(pid: u32, file: &str) -> Result<Vec<(String, String)>, String> {
    let path = format!("/proc/{pid}/task");
    let tasks = fs::read_dir(&path).map_err(|error| format!("{path}: {error}"))?;
    let read = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join(file)).ok()?;
        Some((task.file_name().to_string_lossy().into_owned(), text))
    };
    // A task may end between the two reads.
    Ok(tasks.flatten().filter_map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_this_process_uses() {
        let own = std::process::id();
        let before = Cpu::of(own).expect("schedstat");
        let sum: u64 = (0..3_000_000u64).fold(0, |sum, n| sum ^ n.wrapping_mul(sum | 1));
        assert_ne!(std::hint::black_box(sum), 1);
        assert!(resident_kib(own).expect("smaps_rollup") > 100.0);
        assert!(switches(own).is_ok());
        let now = Cpu::of(own).expect("schedstat");
        assert!(now.since(&before) > Duration::ZERO);
    }
}
