//! The server's side of SASL: PLAIN, ANONYMOUS and SCRAM (RFC 4616, 4505, 5802, 7677), for both profiles.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// Rounds of PBKDF2; the least that RFC 5802 allows.
pub(super) const ROUNDS: u32 = 4096;

/// The hash of a SCRAM mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Hash {
    Sha1,
    Sha256,
}

impl Hash {
    /// The hash of this mechanism, if it is SCRAM.
    pub(super) fn of(mechanism: &str) -> Option<Self> {
        match mechanism {
            "SCRAM-SHA-1" => Some(Self::Sha1),
            "SCRAM-SHA-256" => Some(Self::Sha256),
            _ => None,
        }
    }

    fn digest(self, text: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => Sha1::digest(text).to_vec(),
            Self::Sha256 => Sha256::digest(text).to_vec(),
        }
    }

    fn hmac(self, key: &[u8], text: &[u8]) -> Vec<u8> {
        const ANY: &str = "HMAC takes keys of any length";
        match self {
            Self::Sha1 => {
                let mut mac = Hmac::<Sha1>::new_from_slice(key).expect(ANY);
                mac.update(text);
                mac.finalize().into_bytes().to_vec()
            }
            Self::Sha256 => {
                let mut mac = Hmac::<Sha256>::new_from_slice(key).expect(ANY);
                mac.update(text);
                mac.finalize().into_bytes().to_vec()
            }
        }
    }

    /// The salted password, which costs time.
    pub(super) fn salted(self, password: &str, salt: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => {
                pbkdf2::pbkdf2_hmac_array::<Sha1, 20>(password.as_bytes(), salt, ROUNDS).to_vec()
            }
            Self::Sha256 => {
                pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), salt, ROUNDS).to_vec()
            }
        }
    }
}

/// A SCRAM login between its two messages.
#[derive(Debug)]
pub(super) struct Scram {
    hash: Hash,
    pub(super) user: String,
    salted: Vec<u8>,
    nonce: String,
    gs2: String,
    /// Client's first message without the header, and the server's.
    spoken: String,
}

/// A client's first message.
pub(super) struct First {
    pub(super) user: String,
    bare: String,
    nonce: String,
    gs2: String,
}

impl First {
    /// Reads it; channel binding is not offered, so a client that wants it is refused.
    pub(super) fn read(message: &str) -> Option<Self> {
        let mut parts = message.splitn(3, ',');
        let (flag, authzid, bare) = (parts.next()?, parts.next()?, parts.next()?);
        if !matches!(flag, "n" | "y") {
            return None;
        }
        let field = |name: &str| {
            bare.split(',')
                .find_map(|part| part.strip_prefix(name))
                .map(str::to_owned)
        };
        Some(Self {
            user: field("n=")?.replace("=2C", ",").replace("=3D", "="),
            nonce: field("r=")?,
            gs2: format!("{flag},{authzid},"),
            bare: bare.to_owned(),
        })
    }
}

impl Scram {
    /// The login and the server's first message.
    pub(super) fn challenge(
        hash: Hash,
        first: &First,
        salted: Vec<u8>,
        salt: &[u8],
        own_nonce: &str,
    ) -> (Self, String) {
        let nonce = format!("{}{own_nonce}", first.nonce);
        let message = format!("r={nonce},s={},i={ROUNDS}", BASE64.encode(salt));
        let login = Self {
            hash,
            user: first.user.clone(),
            salted,
            nonce,
            gs2: first.gs2.clone(),
            spoken: format!("{},{message}", first.bare),
        };
        (login, message)
    }

    /// The server's last message, if the client knows the password.
    pub(super) fn verify(&self, last: &str) -> Result<String, &'static str> {
        let (without_proof, proof) = last.rsplit_once(",p=").ok_or("malformed-request")?;
        let expected = format!("c={},r={}", BASE64.encode(&self.gs2), self.nonce);
        if without_proof != expected {
            return Err("malformed-request");
        }
        let spoken = format!("{},{without_proof}", self.spoken);
        let client_key = self.hash.hmac(&self.salted, b"Client Key");
        let signature = self
            .hash
            .hmac(&self.hash.digest(&client_key), spoken.as_bytes());
        let right: Vec<u8> = client_key
            .iter()
            .zip(&signature)
            .map(|(a, b)| a ^ b)
            .collect();
        if BASE64.decode(proof).ok() != Some(right) {
            return Err("not-authorized");
        }
        let server_key = self.hash.hmac(&self.salted, b"Server Key");
        Ok(format!(
            "v={}",
            BASE64.encode(self.hash.hmac(&server_key, spoken.as_bytes()))
        ))
    }
}

/// PLAIN's user and password.
pub(super) fn plain(message: &str) -> Option<(String, String)> {
    let mut parts = message.split('\0').skip(1);
    Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
}

pub(super) fn decode(text: &str) -> Option<String> {
    match text.trim() {
        "" | "=" => Some(String::new()),
        text => String::from_utf8(BASE64.decode(text).ok()?).ok(),
    }
}

pub(super) fn encode(text: &str) -> String {
    BASE64.encode(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677 section 3.
    #[test]
    fn plays_the_example_of_rfc_7677() {
        let first = First::read("n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let salted = Hash::Sha256.salted("pencil", &salt);
        let (login, message) = Scram::challenge(
            Hash::Sha256,
            &first,
            salted,
            &salt,
            "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        );
        assert_eq!(
            message,
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(
            login.verify(last).as_deref(),
            Ok("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
        );
        assert_eq!(
            login.verify(&last.replace("p=dH", "p=eH")),
            Err("not-authorized")
        );
        assert!(First::read("p=tls-exporter,,n=user,r=x").is_none());
    }
}
