//! What we change in the server's `<stream:features/>`, and why (S-35, S-36, S-46).
//!
//! The client's TLS, if any, ends at us, and so does its TCP connection. Whatever would bind it to the
//! server's own channel, or negotiate that channel, can only fail and is cut out. Everything else stays
//! byte for byte.

mod why;

use std::ops::Range;

use super::ns;
pub use super::scan::ScanError;
use super::scan::{Scanner, Tag, Token};
pub use why::why;

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
    /// Whether PLAIN is taken out (S-45).
    pub hide_plain: bool,
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
    /// PLAIN was there and is hidden.
    pub plain_hidden: bool,
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

    /// E-68: no way to log in is offered. Of meaning only before login; to be logged, since the client gets
    /// the features as they are.
    #[must_use]
    pub const fn no_login_offered(&self) -> bool {
        !self.had_mechanisms && !self.iq_auth && !self.register
    }
}

/// What is told of features that cannot be read (E-63).
pub(crate) const UNREADABLE: &str = "its stream features are not readable";

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
    let mut scanner = Scanner::new(input)?;
    let mut walk = Walk {
        filter,
        open: Vec::new(),
        edits: Vec::new(),
        removed: Vec::new(),
        facts: FeatureFacts::default(),
    };
    while let Some(token) = scanner.next()? {
        match token {
            Token::Open(tag) => walk.on_open(&tag)?,
            Token::Text(text) => walk.on_text(&text),
            Token::Close(span) => walk.on_close(&span),
        }
    }
    let bytes = apply(input, &walk.edits);
    Ok(Filtered {
        bytes,
        removed: walk.removed,
        facts: walk.facts,
    })
}

/// The input with each edit's range replaced. Edits are in order and do not overlap.
fn apply(input: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(input.len());
    let mut kept = 0;
    for edit in edits {
        bytes.extend_from_slice(input.get(kept..edit.range.start).unwrap_or_default());
        bytes.extend_from_slice(edit.replacement.as_bytes());
        kept = edit.range.end;
    }
    bytes.extend_from_slice(input.get(kept..).unwrap_or_default());
    bytes
}

struct Edit {
    range: Range<usize>,
    replacement: String,
}

/// Which list a mechanism stands in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum List {
    Sasl1,
    Sasl2,
    Fast,
}

/// What an open element is to the filter.
enum Role {
    /// Goes, with everything inside.
    Cut(String),
    /// A mechanism; stays or goes by its text.
    Mechanism(List),
    /// The list of FAST mechanisms; goes when the filter empties it.
    FastList { kept: usize, cut: usize },
    /// XEP-0478's limit; its text may be replaced.
    MaxBytes,
    /// The parent of that limit.
    Limits,
    /// Stays.
    Plain,
}

struct Open {
    role: Role,
    /// The start tag.
    tag: Range<usize>,
    text: String,
    /// How many edits there were before it.
    edits: usize,
}

struct Walk<'f> {
    filter: &'f Filter,
    open: Vec<Open>,
    edits: Vec<Edit>,
    removed: Vec<String>,
    facts: FeatureFacts,
}

impl Walk<'_> {
    fn on_open(&mut self, tag: &Tag<'_>) -> Result<(), FeaturesError> {
        let role = match self.open.last() {
            None if tag.is(ns::STREAM, "features") => Role::Plain,
            None => return Err(FeaturesError::NotFeatures),
            // Inside of what goes, nothing counts.
            Some(parent) if matches!(parent.role, Role::Cut(_)) => Role::Cut(String::new()),
            Some(parent) => match self.cut_name(tag) {
                Some(name) => Role::Cut(name),
                None => role_of(tag, &parent.role),
            },
        };
        if self.open.len() == 1 && !matches!(role, Role::Cut(_)) {
            self.note(tag);
        }
        self.open.push(Open {
            role,
            tag: tag.span.clone(),
            text: String::new(),
            edits: self.edits.len(),
        });
        Ok(())
    }

    /// S-35: the name under which the element is cut, whatever it holds.
    fn cut_name(&self, tag: &Tag<'_>) -> Option<String> {
        let local = tag.local();
        let cut = match (tag.namespace.as_str(), local) {
            (ns::TLS, "starttls") | (ns::COMPRESS_FEATURE, _) | (ns::PIPELINING, _) => true,
            (ns::CHANNEL_BINDING, "sasl-channel-binding") => self.filters_bindings(),
            (ns::SM | ns::SM_2, "sm") => self.filter.remove_sm,
            // Bind 2 names its inline features (XEP-0198 section 9.2).
            (ns::BIND_2, "feature") if self.filter.remove_sm => {
                return tag
                    .attribute("var")
                    .filter(|var| [ns::SM, ns::SM_2].contains(&var.trim()));
            }
            _ => false,
        };
        cut.then(|| local.to_owned())
    }

    fn filters_bindings(&self) -> bool {
        self.filter.channel_binding == ChannelBinding::Filter
    }

    /// Facts from the children of `<stream:features/>`.
    fn note(&mut self, tag: &Tag<'_>) {
        match (tag.namespace.as_str(), tag.local()) {
            (ns::SASL_2, "authentication" | "mechanisms") => self.facts.sasl2 = true,
            (ns::IQ_AUTH_FEATURE, "auth") => self.facts.iq_auth = true,
            (ns::REGISTER_FEATURE, "register") => self.facts.register = true,
            (ns::BIND, "bind") => self.facts.bind = true,
            _ => {}
        }
    }

    fn on_text(&mut self, text: &str) {
        if let Some(open) = self.open.last_mut()
            && matches!(open.role, Role::Mechanism(_) | Role::MaxBytes)
        {
            open.text.push_str(text);
        }
    }

    fn on_close(&mut self, end_tag: &Range<usize>) {
        let Some(open) = self.open.pop() else { return };
        let whole = open.tag.start..end_tag.end;
        match open.role {
            // An empty name is a child of what is cut already.
            Role::Cut(name) if !name.is_empty() => self.cut(whole, &name),
            Role::Mechanism(list) => self.on_mechanism(list, open.text.trim(), whole),
            Role::FastList { kept: 0, cut } if cut > 0 => {
                self.edits.truncate(open.edits);
                self.cut(whole, "fast");
            }
            Role::MaxBytes => self.on_max_bytes(open.text.trim(), open.tag.end..end_tag.start),
            Role::Cut(_) | Role::FastList { .. } | Role::Limits | Role::Plain => {}
        }
    }

    fn on_mechanism(&mut self, list: List, name: &str, whole: Range<usize>) {
        let hidden = self.filter.hide_plain && name.eq_ignore_ascii_case("PLAIN");
        self.facts.plain_hidden |= hidden;
        let cut = hidden || self.filters_bindings() && binds_channel(name);
        match list {
            List::Sasl1 | List::Sasl2 => {
                self.facts.had_mechanisms = true;
                self.facts.mechanisms_left |= !cut;
            }
            List::Fast => {
                if let Some(Role::FastList { kept, cut: gone }) =
                    self.open.last_mut().map(|parent| &mut parent.role)
                {
                    *if cut { gone } else { kept } += 1;
                }
            }
        }
        if cut {
            self.cut(whole, name);
        } else if list == List::Sasl1 {
            push_name(&mut self.facts.sasl1_mechanisms, name);
        }
    }

    /// S-46: a server's limit above ours would make us refuse what it promised.
    fn on_max_bytes(&mut self, text: &str, inside: Range<usize>) {
        let ours = self.filter.max_stanza_bytes;
        let number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // All digits and not readable: larger than any limit.
        if number && text.parse::<usize>().map_or(true, |theirs| theirs > ours) {
            self.edits.push(Edit {
                range: inside,
                replacement: ours.to_string(),
            });
        }
    }

    fn cut(&mut self, range: Range<usize>, name: &str) {
        push_name(&mut self.removed, name);
        self.edits.push(Edit {
            range,
            replacement: String::new(),
        });
    }
}

fn role_of(tag: &Tag<'_>, parent: &Role) -> Role {
    match (tag.namespace.as_str(), tag.local()) {
        (ns::SASL, "mechanism") => Role::Mechanism(List::Sasl1),
        (ns::SASL_2, "mechanism") => Role::Mechanism(List::Sasl2),
        (ns::FAST, "mechanism") => Role::Mechanism(List::Fast),
        (ns::FAST, "fast") => Role::FastList { kept: 0, cut: 0 },
        (ns::LIMITS, "limits") => Role::Limits,
        (ns::LIMITS, "max-bytes") if matches!(parent, Role::Limits) => Role::MaxBytes,
        _ => Role::Plain,
    }
}

/// Adds one of our own features to `<stream:features/>`, as its last child.
pub fn add_feature(features: &mut Vec<u8>, feature: &[u8]) {
    if features.ends_with(b"/>") && memchr::memmem::find(features, b"</").is_none() {
        features.truncate(features.len() - 2);
        features.push(b'>');
        features.extend_from_slice(feature);
        features.extend_from_slice(b"</stream:features>");
    } else if let Some(at) = memchr::memmem::rfind(features, b"</") {
        features.splice(at..at, feature.iter().copied());
    }
}

/// Whether the mechanism binds to the TLS channel: `SCRAM-…-PLUS` (RFC 5802 section 4), and tokens that are
/// not `HT-…-NONE` (XEP-0484).
fn binds_channel(mechanism: &str) -> bool {
    let name = mechanism.to_ascii_uppercase();
    name.ends_with("-PLUS") || (name.starts_with("HT-") && !name.ends_with("-NONE"))
}

/// Keeps a foreign name, within bounds and fit for a log.
fn push_name(names: &mut Vec<String>, name: &str) {
    if names.len() < MAX_NAMES {
        let clean = name.chars().filter(char::is_ascii_graphic);
        names.push(clean.take(MAX_NAME_CHARS).collect());
    }
}

#[cfg(test)]
mod tests;
