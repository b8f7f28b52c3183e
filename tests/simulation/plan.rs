//! What a seed stands for: the network, its faults, what the client and the server do, how it ends.

use crate::manager::{Kind, Mutation};
use crate::random::Random;
use crate::{MILLI, SECOND, Time};

/// What the network does to the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// Losses, delays, outages, middle boxes, each run with its own share of them.
    Losses,
    /// A middle box cuts every long poll after some time, and nothing else is wrong.
    Cuts,
    /// Nothing is wrong; for the checks of the checks.
    Calm,
}

impl Scenario {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Losses => "losses",
            Self::Cuts => "cuts",
            Self::Calm => "calm",
        }
    }
}

/// What may happen to one attempt of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No connection; reported.
    Refused,
    /// No connection, and for long or for ever no report.
    Stuck,
    /// Written, never arrives; reported.
    RequestLost,
    /// Written, never arrives; never reported.
    RequestSwallowed,
    /// Arrives; the connection breaks when the answer comes.
    AnswerLost,
    /// Arrives; the answer vanishes.
    AnswerSwallowed,
    /// Arrives; the connection breaks while the request is held.
    DiesHeld,
    /// Arrives; the connection goes dead without a sign while the request is held.
    DeadHeld,
    /// The answer breaks off.
    Truncated,
    /// A middle box answers 502 or 504 and forwards nothing.
    GatewayBefore,
    /// A middle box answers 502 or 504 after it has forwarded the request.
    GatewayAfter,
    /// The sender itself writes the bytes again on a new connection, and says so.
    ShellRepeats,
    /// A middle box writes them again, and says nothing.
    BoxRepeats,
    /// Reported as broken, and arrives much later all the same.
    Late,
}

/// Faults after which the client knows what it has sent.
const OPEN_FAULTS: [Fault; 12] = [
    Fault::Refused,
    Fault::Stuck,
    Fault::RequestLost,
    Fault::RequestSwallowed,
    Fault::AnswerLost,
    Fault::AnswerSwallowed,
    Fault::DiesHeld,
    Fault::DeadHeld,
    Fault::Truncated,
    Fault::GatewayBefore,
    Fault::GatewayAfter,
    Fault::ShellRepeats,
];
/// Faults that make copies which the client cannot know of.
const HIDDEN_FAULTS: [Fault; 2] = [Fault::BoxRepeats, Fault::Late];

/// What the client or the server does on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// The client sends so many stanzas; some ask for an answer.
    Say(u64),
    /// The client sends something that goes by itself.
    SayAlone,
    /// The server has so many stanzas for the client.
    Push(u64),
    /// The client takes nothing for a while.
    Full,
    /// The client takes again.
    Room,
    /// The client waits to hear that what it said has arrived, or does not any more.
    Confirm(bool),
    /// The client says that it is inactive.
    Inactive,
    /// The network may be better than it was.
    Hurry,
    /// The machine's address changed: every connection is renewed.
    Renew,
    /// The machine sleeps for so long, and all connections die meanwhile.
    Sleep(Time),
}

/// How the session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The client goes when all is delivered.
    Settled,
    /// The client goes in the midst of it all.
    Abrupt,
    /// The server ends it.
    Server,
}

/// Everything drawn from a seed. Times of acts count from the moment the client is bound.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) scenario: Scenario,
    pub(crate) seed: u64,
    pub(crate) mutation: Option<Mutation>,
    pub(crate) latency: Time,
    pub(crate) jitter: Time,
    pub(crate) write: Time,
    /// Out of a thousand attempts.
    pub(crate) fault_rate: u64,
    pub(crate) faults: Vec<Fault>,
    /// From when on nothing goes wrong any more, after the start.
    pub(crate) faults_end: Time,
    pub(crate) outages: Vec<(Time, Time)>,
    pub(crate) cut: Option<Time>,
    /// The box that cuts answers 504; otherwise it just closes.
    pub(crate) cut_answers: bool,
    pub(crate) wait: u64,
    /// The manager holds nothing and allows one request at a time (XEP-0124 section 12).
    pub(crate) polling: bool,
    /// Requests carry the keys of a key sequence (section 15).
    pub(crate) keys: bool,
    /// The harness misreads what is confirmed by so many stanzas, so that the checks are seen to bite.
    pub(crate) misread: i32,
    pub(crate) max_body: usize,
    pub(crate) acts: Vec<(Time, Act)>,
    pub(crate) ending: Ending,
    /// For the two endings in the midst of it all.
    pub(crate) end_at: Time,
}

impl Plan {
    pub(crate) fn draw(kind: Kind, scenario: Scenario, seed: u64) -> Self {
        let salt = (kind as u64) << 32 | (scenario as u64) << 40;
        let mut random = Random::new(seed ^ salt);
        let r = &mut random;
        let length = r.pick(&[10, 30, 60, 120, 300]) * SECOND;
        let mut faults = Vec::new();
        let mut fault_rate = 0;
        let mut outages = Vec::new();
        if scenario == Scenario::Losses {
            // Each run knows few kinds of fault: many kinds together hide each other.
            for _ in 0..r.range(1, 4) {
                faults.push(r.pick(&OPEN_FAULTS));
            }
            if r.chance(150) {
                faults.push(r.pick(&HIDDEN_FAULTS));
            }
            fault_rate = r.pick(&[0, 20, 80, 200, 400]);
            for _ in 0..r.pick(&[0, 0, 0, 1, 2]) {
                let start = r.range(0, length);
                let most = kind.inactivity() * SECOND * 6 / 10;
                outages.push((start, start + r.range(SECOND, most)));
            }
        }
        let cut = (scenario == Scenario::Cuts).then(|| r.range(8, 50) * SECOND);
        let latency = r.pick(&[MILLI, 5 * MILLI, 40 * MILLI, 150 * MILLI]);
        let jitter = match scenario {
            Scenario::Losses => r.pick(&[0, 2 * MILLI, 2 * MILLI, 20 * MILLI, 120 * MILLI]),
            Scenario::Cuts | Scenario::Calm => 0,
        };
        let ending = r.pick(&[
            Ending::Settled,
            Ending::Settled,
            Ending::Settled,
            Ending::Abrupt,
            Ending::Server,
        ]);
        let acts = acts(r, length, kind, scenario);
        // Tigase gives a poll ten seconds, and ends the session after as many: nothing may be lost there.
        let polling = r.chance(100) && (kind != Kind::Tigase || scenario == Scenario::Calm);
        Self {
            kind,
            scenario,
            seed,
            mutation: None,
            latency,
            jitter,
            write: r.pick(&[0, MILLI, 10 * MILLI, 300 * MILLI]),
            fault_rate,
            faults,
            faults_end: length,
            outages,
            cut,
            cut_answers: r.chance(500),
            wait: r.pick(&[55, 55, 20]),
            polling,
            keys: r.chance(200),
            misread: 0,
            max_body: r.pick(&[65_536, 65_536, 700]),
            acts,
            ending,
            end_at: r.range(0, length),
        }
    }
}

fn acts(r: &mut Random, length: Time, kind: Kind, scenario: Scenario) -> Vec<(Time, Act)> {
    let mut acts = Vec::new();
    let mut at = 0;
    let eager = r.chance(400);
    while at < length && acts.len() < 60 {
        at += match r.range(0, 9) {
            0..=3 => r.range(0, 30) * MILLI,
            4..=7 => r.range(50, 3000) * MILLI,
            8 if eager => r.range(0, 500) * MILLI,
            _ => r.range(5, 150) * SECOND,
        };
        let act = match r.range(0, 24) {
            0..=6 => Act::Say(1),
            7..=9 => Act::Say(r.range(2, 12)),
            10 => Act::SayAlone,
            11..=15 => Act::Push(1),
            16..=18 => Act::Push(r.range(2, 20)),
            19 | 20 => Act::Confirm(r.chance(700)),
            21 => r.pick(&[Act::Hurry, Act::Inactive]),
            22 if scenario == Scenario::Losses && r.chance(500) => match r.range(0, 9) {
                0..=4 => Act::Renew,
                5..=8 => Act::Sleep(r.range(100, kind.inactivity() * 400) * MILLI),
                _ => Act::Sleep(r.range(kind.inactivity(), kind.inactivity() * 4) * SECOND),
            },
            _ if scenario == Scenario::Losses => {
                acts.push((at, Act::Full));
                at += r.range(100, kind.inactivity() * 500) * MILLI;
                Act::Room
            }
            _ => Act::Push(1),
        };
        acts.push((at, act));
    }
    acts
}
