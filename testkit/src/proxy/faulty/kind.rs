//! The faults by name.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What happens to a request that is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The connection is reset before a byte is forwarded.
    ResetBefore,
    /// Half of the request reaches the origin, then both connections are reset.
    ResetDuring,
    /// The origin answers, the answer is thrown away and the connection reset.
    ResetAfter,
    /// Half of the answer's bytes, then a reset.
    CutAnswer,
    /// A page with this status; nothing is forwarded.
    Status(u16),
    /// The origin answers, and a page with this status takes the answer's place.
    StatusAfter(u16),
    /// Every request older than this gets a 504, and its connection to the origin is closed. No matter of chance.
    CutLongPoll(Duration),
    /// The kept connection closes without notice: right behind the answer, or when the next request arrives.
    CloseIdle,
    /// The answer comes as HTTP/1.0 without a length, ended by the close.
    Http10,
    /// The answer is late by up to [`FaultKind::MAX_DELAY`].
    Buffer,
    /// The request goes to the origin twice, one right behind the other on two connections; the first answer
    /// counts, and the other connection is closed.
    ResendPost,
    /// The request is swallowed: nothing ever comes, and the connection stays open.
    Blackhole,
}

impl FaultKind {
    /// Longest delay of [`FaultKind::Buffer`].
    pub const MAX_DELAY: Duration = Duration::from_millis(300);

    /// Whether it can happen inside a tunnel, which the proxy cannot read.
    #[must_use]
    pub const fn hits_tunnels(self) -> bool {
        match self {
            Self::ResetBefore
            | Self::ResetDuring
            | Self::ResetAfter
            | Self::CutAnswer
            | Self::CloseIdle
            | Self::Blackhole => true,
            Self::Status(_)
            | Self::StatusAfter(_)
            | Self::CutLongPoll(_)
            | Self::Http10
            | Self::Buffer
            | Self::ResendPost => false,
        }
    }

    /// Every kind, with usual values.
    pub const ALL: [Self; 15] = [
        Self::ResetBefore,
        Self::ResetDuring,
        Self::ResetAfter,
        Self::CutAnswer,
        Self::Status(407),
        Self::Status(502),
        Self::Status(503),
        Self::Status(504),
        Self::StatusAfter(504),
        Self::CutLongPoll(Duration::from_millis(300)),
        Self::CloseIdle,
        Self::Http10,
        Self::Buffer,
        Self::ResendPost,
        Self::Blackhole,
    ];
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ResetBefore => f.write_str("reset-before"),
            Self::ResetDuring => f.write_str("reset-during"),
            Self::ResetAfter => f.write_str("reset-after"),
            Self::CutAnswer => f.write_str("cut-answer"),
            Self::Status(status) => write!(f, "status-{status}"),
            Self::StatusAfter(status) => write!(f, "status-{status}-after"),
            Self::CutLongPoll(_) => f.write_str("cut-long-poll"),
            Self::CloseIdle => f.write_str("close-idle"),
            Self::Http10 => f.write_str("http10"),
            Self::Buffer => f.write_str("buffer"),
            Self::ResendPost => f.write_str("resend-post"),
            Self::Blackhole => f.write_str("blackhole"),
        }
    }
}

impl FromStr for FaultKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(|kind| kind.to_string());
        Self::ALL
            .into_iter()
            .find(|kind| kind.to_string() == name)
            .ok_or_else(|| format!("no fault is called {name}, but {}", names().join(", ")))
    }
}
