//! Many sessions at rest: memory, processor time, wake-ups.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::measure::WAIT;
use super::process::{Cpu, resident_kib, switches};
use super::results::{Metric, Results};
use super::{Stage, Subject};

/// How much an idle round holds.
#[derive(Clone, Copy, Debug)]
pub struct Rest {
    /// Sessions in the end, at least 100.
    pub sessions: usize,
    /// How long one idle session is watched.
    pub watch: Duration,
    /// Whether every session polls once before processor time is taken: what its login has left behind, a second
    /// connection above all, is closed by then.
    pub settle: bool,
}

/// One interval between looks at a process that comes to rest.
const LOOK: Duration = Duration::from_millis(300);
/// Longest time to come to rest.
const RESTLESS: Duration = Duration::from_secs(15);

/// One session alone, then a hundred, then all, in every subject at the same time: what each used.
///
/// # Errors
/// A session that fails or ends.
pub async fn round(
    subjects: &mut [Subject],
    stage: &Stage,
    rest: Rest,
    results: &mut Results,
) -> Result<(), String> {
    grow(subjects, stage, 1).await?;
    quiet(subjects, rest.watch, results).await?;
    let first = resident(subjects)?;
    grow(subjects, stage, 100).await?;
    let hundred = resident(subjects)?;
    grow(subjects, stage, rest.sessions).await?;
    let all = resident(subjects)?;

    // Every session has one request that is held and sent again in this time.
    let period = Duration::from_secs(WAIT);
    if rest.settle {
        sleep(period).await;
    }
    let before = spent(subjects)?;
    sleep(period).await;
    let after = spent(subjects)?;
    for (number, subject) in subjects.iter_mut().enumerate() {
        let alive = subject.loader().ended().await;
        alive.map_err(|why| subject.explain(stage, &why))?;
        let (path, target) = subject.key();
        let mut push = |metric, value| results.push(path, target, metric, value);
        let each = |grown: &[f64], count: usize| {
            (grown[number] - first[number]) / (count.max(2) - 1) as f64
        };
        push(Metric::Memory100, each(&hundred, 100));
        push(Metric::Memory1000, each(&all, rest.sessions));
        push(Metric::Resident100, hundred[number] / 1024.0);
        let spent = after[number].since(&before[number]);
        let milliseconds = spent.as_secs_f64() * 1e3 / period.as_secs_f64();
        push(Metric::CpuIdle, milliseconds);
    }
    Ok(())
}

/// What very many sessions of one process come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Many {
    /// How many there were, all alive in the end.
    pub sessions: usize,
    /// Resident memory of the process in MiB.
    pub resident_mib: f64,
    /// Milliseconds of processor time a second.
    pub cpu_ms: f64,
}

/// Brings one subject up to so many sessions and lets them rest until each has polled.
///
/// # Errors
/// A session that fails or ends.
pub async fn many(subject: &mut Subject, stage: &Stage, sessions: usize) -> Result<Many, String> {
    let only = std::slice::from_mut(subject);
    grow(only, stage, sessions).await?;
    let period = Duration::from_secs(WAIT);
    let before = spent(only)?;
    sleep(period).await;
    let after = spent(only)?;
    let alive = subject.loader().ended().await;
    alive.map_err(|why| subject.explain(stage, &why))?;
    let spent = after.iter().zip(&before).map(|(now, then)| now.since(then));
    Ok(Many {
        sessions,
        resident_mib: resident_kib(subject.pid())? / 1024.0,
        cpu_ms: spent.sum::<Duration>().as_secs_f64() * 1e3 / period.as_secs_f64(),
    })
}

/// Watches one idle session of each subject.
///
/// # Errors
/// A process is gone.
pub async fn quiet(
    subjects: &[Subject],
    watch: Duration,
    results: &mut Results,
) -> Result<(), String> {
    let before = woken(subjects)?;
    sleep(watch).await;
    let after = woken(subjects)?;
    for (number, subject) in subjects.iter().enumerate() {
        let (path, target) = subject.key();
        let times = after[number].saturating_sub(before[number]) as f64;
        let rate = times / watch.as_secs_f64();
        results.push(path, target, Metric::Switches, rate);
    }
    Ok(())
}

/// Opens sessions in all subjects until each has `total`, and waits until they are at rest.
///
/// # Errors
/// A login failed.
pub async fn grow(subjects: &mut [Subject], stage: &Stage, total: usize) -> Result<(), String> {
    let accounts = stage.accounts();
    let open = subjects.iter_mut().map(|subject| async move {
        let opened = subject.loader().idle(total, accounts).await;
        opened.map_err(|why| subject.explain(stage, &why))
    });
    futures_join(open).await?;
    let deadline = Instant::now() + RESTLESS;
    let mut before = woken(subjects)?;
    loop {
        sleep(LOOK).await;
        let now = woken(subjects)?;
        if now == before || Instant::now() > deadline {
            return Ok(());
        }
        before = now;
    }
}

async fn futures_join<F: Future<Output = Result<(), String>>>(
    futures: impl Iterator<Item = F>,
) -> Result<(), String> {
    let mut waiting: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        let mut place = 0;
        while let Some(future) = waiting.get_mut(place) {
            match future.as_mut().poll(context) {
                std::task::Poll::Ready(Ok(())) => drop(waiting.swap_remove(place)),
                std::task::Poll::Ready(Err(why)) => return std::task::Poll::Ready(Err(why)),
                std::task::Poll::Pending => place += 1,
            }
        }
        if waiting.is_empty() {
            std::task::Poll::Ready(Ok(()))
        } else {
            std::task::Poll::Pending
        }
    })
    .await
}

fn woken(subjects: &[Subject]) -> Result<Vec<u64>, String> {
    subjects.iter().map(|s| switches(s.pid())).collect()
}

fn resident(subjects: &[Subject]) -> Result<Vec<f64>, String> {
    subjects.iter().map(|s| resident_kib(s.pid())).collect()
}

fn spent(subjects: &[Subject]) -> Result<Vec<Cpu>, String> {
    subjects.iter().map(|s| Cpu::of(s.pid())).collect()
}
