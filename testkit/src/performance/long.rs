//! One stream that carries much: its memory, and what a message costs when many came before.

use super::link::{Link, Way};
use super::load;
use super::process::{Cpu, resident_kib};
use super::{Stage, Subject, message};

/// Parts that the stream is looked at in; a fifth of them at each end count.
const PARTS: usize = 20;

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Long {
    /// Bytes of stanzas that were sent.
    pub bytes: usize,
    /// What the process grew by from the end of the first fifth, when its queues have been full, to the end, in KiB.
    pub grown_kib: f64,
    /// Resident memory of the process in the end, in MiB.
    pub resident_mib: f64,
    /// Processor time of a message in the last parts, over that in the first.
    pub cpu_ratio: f64,
}

/// Sends at least so many bytes of messages out through one stream, each checked.
///
/// # Errors
/// A lost, reordered or changed message, or a stream that ended.
pub async fn stream(subject: &mut Subject, stage: &Stage, bytes: usize) -> Result<Long, String> {
    let done = through(subject, stage, bytes).await;
    done.map_err(|why| subject.explain(stage, &why))
}

async fn through(subject: &mut Subject, stage: &Stage, bytes: usize) -> Result<Long, String> {
    let [account, .., peer] = stage.accounts() else {
        return Err("the stage has no accounts".to_owned());
    };
    let pid = subject.pid();
    let mut peer = Link::login(&Way::Stream(stage.c2s.into()), peer).await?;
    let to = peer.jid().to_owned();
    subject.loader().login(account).await?;
    let mut one = String::new();
    message::write(&to, 0, &mut one);
    let count = (bytes / PARTS).div_ceil(one.len());
    let mut costs = Vec::new();
    let mut resident = Vec::new();
    for _ in 0..PARTS {
        let before = Cpu::of(pid)?;
        let received = load::receive(&mut peer, count);
        tokio::try_join!(subject.loader().send(&to, count), received)?;
        costs.push(Cpu::of(pid)?.since(&before).as_secs_f64());
        resident.push(resident_kib(pid)?);
    }
    subject.loader().logout().await?;
    peer.logout().await?;
    let sum = |costs: &[f64]| costs.iter().sum::<f64>();
    let first = sum(&costs[..PARTS / 5]);
    let last = sum(&costs[PARTS - PARTS / 5..]);
    Ok(Long {
        bytes: one.len() * count * PARTS,
        grown_kib: resident[PARTS - 1] - resident[PARTS / 5 - 1],
        resident_mib: resident[PARTS - 1] / 1024.0,
        cpu_ratio: last / first,
    })
}
