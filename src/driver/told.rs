//! What was said of a domain already, so that each stream does not say it again.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

/// Domains remembered; of more, nothing is said.
const MAX_DOMAINS: usize = 256;
/// Sentences remembered of one domain: it may offer this at one time and that at another.
const MAX_SENTENCES: usize = 8;

/// Sentences said, by domain.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<HashMap<String, HashSet<String>>>);

impl Told {
    /// Whether the sentence has not been said of this domain; from now on it has.
    pub(super) fn is_news(&self, domain: &str, sentence: &str) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= MAX_DOMAINS && !told.contains_key(domain) {
            return false;
        }
        let said = told.entry(domain.to_owned()).or_default();
        said.len() < MAX_SENTENCES && said.insert(sentence.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_per_domain() {
        let told = Told::default();
        assert!(told.is_news("a.example", "x"));
        assert!(!told.is_news("a.example", "x"));
        assert!(told.is_news("b.example", "x"));
        assert!(told.is_news("a.example", "y"));
    }

    /// Domains come from clients.
    #[test]
    fn bounded() {
        let told = Told::default();
        let news = (0..10_000).filter(|n| told.is_news(&n.to_string(), "x"));
        assert_eq!(news.count(), MAX_DOMAINS);
        let news = (0..10_000).filter(|n| told.is_news("0", &n.to_string()));
        assert_eq!(news.count(), MAX_SENTENCES - 1);
    }
}
