//! Key sequences: protection of sessions over plain http (XEP-0124 section 15).

use std::fmt;

use sha1::{Digest as _, Sha1};
use zeroize::Zeroizing;

/// Fewest keys of a chain.
const FEWEST: u64 = 256;
/// How many more it may have.
const SPAN: u64 = 769;

/// 256 random bits that every chain of a session comes from.
#[derive(Clone)]
pub struct KeySeed(Zeroizing<[u8; 32]>);

impl KeySeed {
    /// Takes bits from a source fit for secrets.
    #[must_use]
    pub fn new(bits: [u8; 32]) -> Self {
        Self(Zeroizing::new(bits))
    }
}

impl fmt::Debug for KeySeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySeed(…)")
    }
}

/// What one request carries: `key` and `newkey`, as hex.
#[derive(Clone, Default)]
pub struct RequestKeys {
    /// The next key of the chain in use.
    pub key: Option<Zeroizing<String>>,
    /// The last key of a new chain.
    pub new_key: Option<Zeroizing<String>>,
}

/// The chain of one session: K(1) is the hash of a seed, K(i) of the text of K(i − 1); the last goes out first
/// (XEP-0124 sections 15.3 to 15.5).
pub(super) struct KeyChain {
    seed: KeySeed,
    generation: u64,
    /// Keys not used yet, K(1) first.
    keys: Zeroizing<Vec<[u8; 20]>>,
    length: Option<u64>,
}

impl KeyChain {
    pub(super) fn new(seed: KeySeed) -> Self {
        Self {
            seed,
            generation: 0,
            keys: Zeroizing::default(),
            length: None,
        }
    }

    /// Chains of a fixed length, to see them end.
    #[cfg(test)]
    pub(super) fn of_length(seed: KeySeed, length: u64) -> Self {
        Self {
            length: Some(length),
            ..Self::new(seed)
        }
    }

    /// The keys of the next request. A repeat takes none: it is the stored bytes (B-68).
    pub(super) fn next(&mut self) -> RequestKeys {
        let key = self.keys.pop().map(hex);
        let new_key = self.keys.is_empty().then(|| self.begin());
        RequestKeys { key, new_key }
    }

    /// A fresh chain; its last key, which announces it.
    fn begin(&mut self) -> Zeroizing<String> {
        let seed = self.derive(b"seed");
        let length = self.length.unwrap_or_else(|| {
            let bits = self.derive(b"length");
            let number = bits.iter().take(8).fold(0, |n, b| n << 8 | u64::from(*b));
            FEWEST + number % SPAN
        });
        self.generation += 1;
        // Growing would leave copies behind.
        self.keys.reserve(usize::try_from(length).unwrap_or(0));
        let mut key: [u8; 20] = Sha1::digest(hex(seed).as_bytes()).into();
        for _ in 1..length {
            self.keys.push(key);
            key = Sha1::digest(hex(key).as_bytes()).into();
        }
        hex(key)
    }

    fn derive(&self, purpose: &[u8]) -> [u8; 20] {
        let mut hash = Sha1::new();
        hash.update(&self.seed.0[..]);
        hash.update(self.generation.to_be_bytes());
        hash.update(purpose);
        hash.finalize().into()
    }
}

/// Lower case: managers compare the text (T-13).
fn hex(bytes: [u8; 20]) -> Zeroizing<String> {
    use fmt::Write as _;
    let mut out = Zeroizing::new(String::with_capacity(40));
    for byte in bytes {
        // Writing into a String cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha1_hex(text: &str) -> String {
        hex(Sha1::digest(text.as_bytes()).into()).to_string()
    }

    fn chain(length: u64) -> KeyChain {
        KeyChain::of_length(KeySeed::new([7; 32]), length)
    }

    /// B-65, T-13: the hash runs over the hex text (the first vector is FIPS 180's "abc").
    #[test]
    fn b65_hash_of_the_hex_text() {
        assert_eq!(sha1_hex("abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
        let mut chain = chain(3);
        let last = chain.next().new_key.unwrap();
        let second = chain.next().key.unwrap();
        let first = chain.next().key.unwrap();
        assert_eq!(*last, sha1_hex(&second));
        assert_eq!(*second, sha1_hex(&first));
        assert!(
            first
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        );
    }

    /// B-66, B-67: a manager that checks every step is content for 3000 requests, at every change of chain.
    #[test]
    fn b66_b67_the_chain_holds() {
        for length in [2, 3, 256] {
            let mut chain = chain(length);
            let first = chain.next();
            assert!(first.key.is_none());
            let mut expected = first.new_key.unwrap().to_string();
            let mut changes = 0;
            for _ in 0..3000 {
                let keys = chain.next();
                let key = keys.key.unwrap();
                assert_eq!(sha1_hex(&key), expected);
                expected = key.to_string();
                if let Some(new) = keys.new_key {
                    expected = new.to_string();
                    changes += 1;
                }
            }
            assert_eq!(changes, 3000 / (length - 1));
        }
    }

    /// B-65: lengths lie in 256..=1024 and differ, chains too.
    #[test]
    fn b65_chains_are_fresh() {
        let mut chain = KeyChain::new(KeySeed::new([9; 32]));
        let mut lengths = std::collections::BTreeSet::new();
        let mut announced = std::collections::HashSet::new();
        for _ in 0..20 {
            assert!(announced.insert(chain.begin().to_string()));
            let length = chain.keys.len() + 1;
            assert!((256..=1024).contains(&length));
            lengths.insert(length);
            chain.keys.clear();
        }
        assert!(lengths.len() > 10);
    }

    /// B-73: keys and seeds do not show.
    #[test]
    fn b73_seed_is_not_printed() {
        assert_eq!(format!("{:?}", KeySeed::new([1; 32])), "KeySeed(…)");
    }
}
