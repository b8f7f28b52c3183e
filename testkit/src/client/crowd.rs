//! Many clients that behave, and how long each of them waits for anything.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Account, Client, Mechanism, Place};

/// How long the members of a crowd waited.
#[derive(Debug, Default)]
pub struct Waits {
    /// For being online.
    pub logins: Vec<Duration>,
    /// For each message to come back.
    pub echoes: Vec<Duration>,
}

/// Each of these logs in, sends so many messages one after another, to the second name or else to itself, waiting for each
/// to come back, and logs out; all of them at once.
///
/// # Panics
/// If any of it goes wrong.
pub async fn converse(
    members: impl IntoIterator<Item = (Place, Account, Option<String>)>,
    rounds: usize,
    deadline: Duration,
) -> Waits {
    let mut running = JoinSet::new();
    for (number, (place, account, to)) in members.into_iter().enumerate() {
        running.spawn(async move {
            let began = Instant::now();
            let client = Client::login(place, &account, Mechanism::Scram).await;
            let mut client = client.expect("a login");
            let login = began.elapsed();
            client.set_deadline(deadline);
            let to = to.unwrap_or_else(|| client.jid().to_owned());
            let mut echoes = Vec::with_capacity(rounds);
            for round in 0..rounds {
                let text = format!("{number}: {round}");
                let began = Instant::now();
                client.message(&to, &text).await.expect("it is sent");
                let back = client.wait_for(|s| s.name() == "message").await;
                let back = back.expect("it comes back");
                echoes.push(began.elapsed());
                assert_eq!(back.child_text("body"), Some(text));
            }
            client.logout().await.expect("a logout");
            (login, echoes)
        });
    }
    let mut waits = Waits::default();
    while let Some(done) = running.join_next().await {
        let (login, echoes) = done.expect("a member");
        waits.logins.push(login);
        waits.echoes.extend(echoes);
    }
    waits
}

impl Waits {
    /// These waits are as these others, measured in the same surroundings: slower by the work that there is besides, on a
    /// machine that is busy, but nobody was held up.
    ///
    /// # Panics
    /// If somebody was.
    pub fn assert_like(&self, quiet: &Self) {
        let of = |part: usize, waits: &[Duration]| {
            let mut sorted = waits.to_vec();
            sorted.sort_unstable();
            let at = (sorted.len() * part).div_ceil(100).saturating_sub(1);
            sorted.get(at).copied().unwrap_or_default()
        };
        for (what, part, factor, more, noisy, quiet) in [
            ("echo, p99", 99, 10, 250, &self.echoes, &quiet.echoes),
            ("echo, longest", 100, 5, 1000, &self.echoes, &quiet.echoes),
            ("login, longest", 100, 5, 1500, &self.logins, &quiet.logins),
        ] {
            assert_eq!(noisy.len(), quiet.len());
            let (noisy, quiet) = (of(part, noisy), of(part, quiet));
            println!("{what}: {noisy:?}, alone {quiet:?}");
            let most = quiet * factor + Duration::from_millis(more);
            assert!(noisy <= most, "{what}: {noisy:?}, alone {quiet:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(longest: Duration) -> Waits {
        let mut echoes = vec![Duration::from_millis(100); 999];
        echoes.push(longest);
        Waits {
            logins: vec![Duration::from_millis(300); 50],
            echoes,
        }
    }

    /// Slower is no stall, and one stall among a thousand is seen.
    #[test]
    #[should_panic(expected = "echo, longest: 5s, alone 400ms")]
    fn a_stall_is_seen() {
        let quiet = waits(Duration::from_millis(400));
        waits(Duration::from_secs(2)).assert_like(&quiet);
        waits(Duration::from_secs(5)).assert_like(&quiet);
    }
}
