//! What we change in the server's `<stream:features/>`, and why (S-35, S-36, S-46).
//!
//! The client's TLS, if any, ends at us, and so does its TCP connection. Whatever would bind it to the
//! server's own channel, or negotiate that channel, can only fail and is cut out. Everything else stays
//! byte for byte.

use std::ops::Range;

use super::ns;
pub use super::scan::ScanError;
use super::scan::{Scanner, Tag, Token};

/// Most names that [`Filtered::removed`] and [`FeatureFacts::sasl1_mechanisms`] hold.
const MAX_NAMES: usize = 64;
/// Longest name that is kept, in characters (SASL mechanism names have at most 20).
const MAX_NAME_CHARS: usize = 64;

/// What to do with SASL channel binding, which differs on each side of us (S-36).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Take out mechanisms and binding types together.
    #[default]
    Filter,
    /// Leave them.
    Pass,
}

/// How features are filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Channel binding.
    pub channel_binding: ChannelBinding,
    /// Whether the server's stream management is taken out.
    pub remove_sm: bool,
    /// Our own limit on one element, for XEP-0478.
    pub max_stanza_bytes: usize,
}

/// Filtered features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filtered {
    /// The element without what was cut; as it was in every other byte.
    pub bytes: Vec<u8>,
    /// What was cut, by name: `starttls`, `SCRAM-SHA-1-PLUS`. At most 64 names; for the log.
    pub removed: Vec<String>,
    /// What the server offers, after the filter unless said otherwise.
    pub facts: FeatureFacts,
}

/// What features say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeatureFacts {
    /// Mechanisms of RFC 6120 SASL that are left; at most 64.
    pub sasl1_mechanisms: Vec<String>,
    /// SASL2 is offered.
    pub sasl2: bool,
    /// Some mechanism of SASL or SASL2 is left.
    pub mechanisms_left: bool,
    /// Some mechanism of SASL or SASL2 was there before the filter.
    pub had_mechanisms: bool,
    /// Login by jabber:iq:auth is offered.
    pub iq_auth: bool,
    /// In-band registration is offered.
    pub register: bool,
    /// Resource binding is offered: the features of a stream that is logged in.
    pub bind: bool,
}

impl FeatureFacts {
    /// E-66: there were mechanisms, and the filter left none.
    #[must_use]
    pub const fn filtered_out(&self) -> bool {
        self.had_mechanisms && !self.mechanisms_left
    }

    /// E-68: features from before login that offer no way in. To be logged; the client gets them as they are.
    #[must_use]
    pub const fn no_login_offered(&self) -> bool {
        !self.had_mechanisms && !self.iq_auth && !self.register && !self.bind
    }
}

/// Why features cannot be read; the manager is at fault (E-63).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeaturesError {
    /// The element is not `<stream:features/>`.
    #[error("the element is not <stream:features/>")]
    NotFeatures,
    /// The element is malformed, forbidden or too large.
    #[error("stream features {0}")]
    Xml(#[from] ScanError),
}

/// Cuts out of one complete `<stream:features/>` what cannot work through us.
///
/// The prefix `stream` counts as bound to the stream namespace; all others must be declared.
///
/// # Errors
/// See [`FeaturesError`].
pub fn filter_features(input: &[u8], filter: &Filter) -> Result<Filtered, FeaturesError> {
    todo!()
}
