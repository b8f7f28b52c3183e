//! The end of a stream: errors, `</stream:stream>`, and the session's end that follows or precedes it.

use std::time::{Duration, Instant};

use super::{Bridge, CLOSE_LIMIT, Event, Stage, explain};
use crate::bosh::{self, CloseReason};
use crate::stream::STREAM_CLOSE;
use crate::stream::error::{FaultReason, StreamFault, fault};

impl Bridge {
    pub(super) fn on_session_closed(&mut self, reason: CloseReason, now: Instant) {
        match self.stage {
            Stage::Closed => {}
            Stage::Leaving => self.finish_stream(),
            Stage::Header { .. } | Stage::Waiting | Stage::Open => {
                let opened = self.session.as_ref().is_some_and(|s| s.granted().is_some());
                match explain::explain(&reason, opened) {
                    None => {
                        self.write_header();
                        self.finish_stream();
                    }
                    Some(fault) => self.fail_with(fault, CLOSE_LIMIT, now),
                }
            }
        }
    }

    /// Drops a session that is over, once the shell knows of its aborts.
    pub(super) fn reap(&mut self) {
        if self
            .session
            .as_ref()
            .is_some_and(|s| s.phase() == bosh::session::Phase::Closed)
        {
            self.session = None;
        }
    }

    /// Ends the stream with the error of that row (S-19): at most one, then close.
    pub(super) fn fail(&mut self, reason: FaultReason, detail: Option<&str>, now: Instant) {
        self.fail_within(reason, detail, CLOSE_LIMIT, now);
    }

    pub(super) fn fail_within(
        &mut self,
        reason: FaultReason,
        detail: Option<&str>,
        limit: Duration,
        now: Instant,
    ) {
        self.fail_with(fault(reason, detail), limit, now);
    }

    pub(super) fn fail_with(&mut self, fault: StreamFault, limit: Duration, now: Instant) {
        if self.stage != Stage::Closed {
            // S-12: also a setup error comes inside a stream.
            self.write_header();
            fault.write(&mut self.out);
            self.finish_stream();
            self.events.push_back(Event::Fault(fault));
        }
        self.end_session(limit, now);
    }

    /// `</stream:stream>`, and nothing after it (T-29).
    pub(super) fn finish_stream(&mut self) {
        if self.header_written {
            self.out.extend_from_slice(STREAM_CLOSE);
        }
        self.close_client();
    }

    pub(super) fn close_client(&mut self) {
        self.stage = Stage::Closed;
        self.stash.clear();
        self.header_due = None;
        self.header_patience = None;
        self.features_due = None;
        self.stalled_until = None;
    }

    pub(super) fn end_session(&mut self, limit: Duration, now: Instant) {
        if let Some(session) = &mut self.session {
            session.set_receiving(true);
            session.terminate(limit, now);
        }
    }
}
