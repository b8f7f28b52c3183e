//! What the walk found, for people and for programs.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::stream::error::StreamFault;

/// The format of [`Report`] as JSON; raised when something is taken away or means something else.
const FORMAT: u32 = 1;

/// The hops of the way, in the order in which they are walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum HopName {
    /// The configuration.
    Config,
    /// Where the domain's connection manager is.
    Discovery,
    /// Direct or through which proxy.
    Way,
    /// The proxy.
    Proxy,
    /// The manager's host, without a proxy.
    Network,
    /// Its certificate.
    Tls,
    /// The BOSH session.
    Session,
    /// Stream features.
    Features,
    /// One exchange over an open connection.
    RoundTrip,
    /// A request that the manager holds.
    LongPoll,
    /// The largest request that comes through.
    LargeBody,
}

impl fmt::Display for HopName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Config => "config",
            Self::Discovery => "discovery",
            Self::Way => "way out",
            Self::Proxy => "proxy",
            Self::Network => "network",
            Self::Tls => "TLS",
            Self::Session => "session",
            Self::Features => "features",
            Self::RoundTrip => "round trip",
            Self::LongPoll => "long poll",
            Self::LargeBody => "large body",
        })
    }
}

/// How a hop was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// Worth knowing, and no failure.
    Note,
    /// The way ends here.
    Failed,
}

/// One line of the report.
#[derive(Clone, Debug, Serialize)]
pub struct Hop {
    /// Which hop.
    pub hop: HopName,
    /// How it was.
    pub outcome: Outcome,
    /// The row of the failure table, `E-31` for instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<&'static str>,
    /// How long it took, in milliseconds.
    #[serde(
        rename = "ms",
        skip_serializing_if = "Option::is_none",
        serialize_with = "milliseconds"
    )]
    pub took: Option<Duration>,
    /// One sentence.
    pub text: String,
}

/// To a tenth: what is below is noise.
fn milliseconds<S: serde::Serializer>(
    took: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let took = took.unwrap_or_default();
    serializer.serialize_f64((took.as_secs_f64() * 10_000.0).round() / 10.0)
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.outcome {
            Outcome::Ok => "ok",
            Outcome::Note => "note",
            Outcome::Failed => "FAILED",
        };
        let took = match self.took {
            Some(took) => format!("{} ms", (took.as_secs_f64() * 1000.0).ceil()),
            None => String::new(),
        };
        write!(f, "{:<11} {outcome:<7} {took:>9}  {}", self.hop, self.text)?;
        match self.row {
            Some(row) => write!(f, " [{row}]"),
            None => Ok(()),
        }
    }
}

/// A place in a report.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    hops: usize,
    advice: usize,
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// 1.
    pub format: u32,
    /// The XMPP domain.
    pub domain: String,
    /// Whether a client could log in.
    pub ok: bool,
    /// Hop by hop.
    pub hops: Vec<Hop>,
    /// What to do, each a sentence or lines for the configuration.
    pub advice: Vec<String>,
}

impl Report {
    pub(super) fn new(domain: &str) -> Self {
        Self {
            format: FORMAT,
            domain: domain.to_owned(),
            ok: true,
            hops: Vec::new(),
            advice: Vec::new(),
        }
    }

    pub(super) fn ok(&mut self, hop: HopName, took: Option<Duration>, text: String) {
        self.add(hop, Outcome::Ok, None, took, text);
    }

    pub(super) fn note(&mut self, hop: HopName, text: String) {
        self.add(hop, Outcome::Note, None, None, text);
    }

    pub(super) fn fail(&mut self, hop: HopName, row: &'static str, text: String) {
        self.ok = false;
        self.add(hop, Outcome::Failed, Some(row), None, text);
    }

    /// What a client would be told.
    pub(super) fn fault(&mut self, hop: HopName, fault: StreamFault) {
        let row = fault.reason.row();
        let text = fault.text.unwrap_or_else(|| {
            // The server's own error, which has no text of ours.
            fault.reason.default_text().to_owned()
        });
        self.fail(hop, row, text);
    }

    /// Where the hops of one address begin.
    pub(super) fn mark(&self) -> Mark {
        Mark {
            hops: self.hops.len(),
            advice: self.advice.len(),
        }
    }

    /// What failed since then is no failure: there is another address.
    pub(super) fn forgive(&mut self, since: Mark) {
        self.ok = true;
        self.advice.truncate(since.advice);
        for hop in &mut self.hops[since.hops..] {
            if hop.outcome == Outcome::Failed {
                hop.outcome = Outcome::Note;
                hop.text.push_str("; trying the next address");
            }
        }
    }

    fn add(
        &mut self,
        hop: HopName,
        outcome: Outcome,
        row: Option<&'static str>,
        took: Option<Duration>,
        text: String,
    ) {
        self.hops.push(Hop {
            hop,
            outcome,
            row,
            took,
            // One line each, whatever a server wrote.
            text: text.split_whitespace().collect::<Vec<_>>().join(" "),
        });
    }

    pub(super) fn advise(&mut self, what: String) {
        if !self.advice.contains(&what) {
            self.advice.push(what);
        }
    }
}
