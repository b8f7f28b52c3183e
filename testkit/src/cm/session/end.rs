//! The session's end, told to every request that waits.

use super::{Reply, Session};
use crate::cm::profile::AtEnd;
use crate::cm::reply::Answer;

impl Session {
    /// Ends the session: everything pending goes with the last word.
    pub(super) fn end(&mut self, condition: Option<&str>, inner: &str, ender: Option<u64>) {
        if self.over || self.last_word.is_some() {
            return;
        }
        self.stream.go_offline();
        let rest: String = self.pending.drain(..).collect();
        let last = Answer::ok(self.profile.terminate(condition, &format!("{rest}{inner}")));
        let early = std::mem::take(&mut self.early);
        let waiting: Vec<(u64, Reply)> = std::mem::take(&mut self.held)
            .into_iter()
            .map(|held| (held.rid, held.reply))
            .chain(
                early
                    .into_values()
                    .map(|early| (early.request.rid, early.reply)),
            )
            .collect();
        if waiting.is_empty() && !self.profile.forgets_reason {
            self.last_word = Some(last);
            return;
        }
        let speaks = match self.profile.at_end {
            AtEnd::OtherRequest => ender.or_else(|| waiting.first().map(|(rid, _)| *rid)),
            AtEnd::Oldest | AtEnd::All | AtEnd::ZeroBytes => waiting.first().map(|(rid, _)| *rid),
        };
        for (rid, reply) in waiting {
            let answer = if Some(rid) == speaks {
                let mut last = last.clone();
                if self.profile.at_end == AtEnd::OtherRequest && condition.is_none() {
                    last.status = "200 Session close";
                }
                last
            } else {
                Answer::ok(match self.profile.at_end {
                    AtEnd::Oldest => self.profile.wrap("", ""),
                    AtEnd::All => self.profile.terminate(condition, ""),
                    AtEnd::OtherRequest => self.profile.terminate(Some("other-request"), ""),
                    AtEnd::ZeroBytes => String::new(),
                })
            };
            self.parting.push((reply, answer));
        }
        self.over = true;
    }
}
