//! The client's side of SCRAM-SHA-1 (RFC 5802), without channel binding.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::{Digest as _, Sha1};

/// One login; fed with the server's messages in turn.
pub(super) struct Scram {
    /// GS2 flag of channel binding: n or y.
    flag: &'static str,
    password: String,
    first_bare: String,
    nonce: String,
    server_signature: String,
}

impl Scram {
    /// `user` has neither `,` nor `=`.
    pub(super) fn new(flag: &'static str, user: &str, password: &str) -> Self {
        let mut random = [0; 18];
        getrandom::fill(&mut random).expect("the system gives random bytes");
        Self::with_nonce(flag, user, password, BASE64.encode(random))
    }

    fn with_nonce(flag: &'static str, user: &str, password: &str, nonce: String) -> Self {
        Self {
            flag,
            password: password.to_owned(),
            first_bare: format!("n={user},r={nonce}"),
            nonce,
            server_signature: String::new(),
        }
    }

    /// The first message, not yet in Base64.
    pub(super) fn first(&self) -> String {
        format!("{},,{}", self.flag, self.first_bare)
    }

    /// The answer to the server's first message, or what is wrong with that.
    pub(super) fn respond(&mut self, server_first: &str) -> Result<String, String> {
        let field = |name: &str| {
            server_first
                .split(',')
                .find_map(|part| part.strip_prefix(name))
                .ok_or_else(|| format!("no {name} in the SCRAM challenge"))
        };
        let nonce = field("r=")?;
        if !nonce.starts_with(&self.nonce) {
            return Err("the SCRAM challenge has another nonce".to_owned());
        }
        let salt = BASE64.decode(field("s=")?).map_err(|e| e.to_string())?;
        let rounds: u32 = field("i=")?.parse().map_err(|_| "bad SCRAM rounds")?;

        let header = BASE64.encode(format!("{},,", self.flag));
        let without_proof = format!("c={header},r={nonce}");
        let signed = format!("{},{server_first},{without_proof}", self.first_bare);
        let keys = Keys::derive(&self.password, &salt, rounds);
        let signature = hmac(&keys.stored, signed.as_bytes());
        let mut proof = keys.client;
        for (byte, mask) in proof.iter_mut().zip(signature) {
            *byte ^= mask;
        }
        self.server_signature = BASE64.encode(hmac(&keys.server, signed.as_bytes()));
        Ok(format!("{without_proof},p={}", BASE64.encode(proof)))
    }

    /// Whether the server's last message proves that it knows the password too.
    pub(super) fn verify(&self, server_last: &str) -> bool {
        server_last.strip_prefix("v=") == Some(&self.server_signature)
    }
}

/// The keys of an account, as client and server derive them from its password.
pub(crate) struct Keys {
    client: [u8; 20],
    pub(crate) stored: [u8; 20],
    pub(crate) server: [u8; 20],
}

impl Keys {
    pub(crate) fn derive(password: &str, salt: &[u8], rounds: u32) -> Self {
        let salted = pbkdf2::pbkdf2_hmac_array::<Sha1, 20>(password.as_bytes(), salt, rounds);
        let client = hmac(&salted, b"Client Key");
        Self {
            client,
            stored: Sha1::digest(client).into(),
            server: hmac(&salted, b"Server Key"),
        }
    }
}

fn hmac(key: &[u8], text: &[u8]) -> [u8; 20] {
    let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plays_the_example_of_rfc_5802_section_5() {
        let nonce = "fyko+d2lbbFgONRv9qkxdawL".to_owned();
        let mut scram = Scram::with_nonce("n", "user", "pencil", nonce);
        assert_eq!(scram.first(), "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL");
        let answer =
            scram.respond("r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096");
        assert_eq!(
            answer.as_deref(),
            Ok(
                "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
            )
        );
        assert!(scram.verify("v=rmF9pqV8S7suAoZWja4dJRkFsKQ="));
        assert!(!scram.verify("v=AAAA"));
    }
}
