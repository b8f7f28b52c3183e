//! One certificate for all connections of a session (XEP-0124 section 19.1, B-72).

use std::sync::{Mutex, PoisonError};

use crate::connect::ConnectError;

/// The certificate that the session's first connection saw.
#[derive(Debug)]
pub(super) struct Identity {
    /// As DER.
    seen: Mutex<Option<Vec<u8>>>,
    /// Another one is refused, and not only logged.
    strict: bool,
}

impl Identity {
    pub(super) fn new(strict: bool) -> Self {
        Self {
            seen: Mutex::default(),
            strict,
        }
    }

    /// Compares the certificate of a new connection, which is valid by itself, with the session's.
    pub(super) fn check(&self, certificate: Option<&[u8]>, peer: &str) -> Result<(), ConnectError> {
        let Some(certificate) = certificate else {
            return Ok(());
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match &*seen {
            Some(known) if known == certificate => return Ok(()),
            Some(_) if self.strict => {
                return Err(ConnectError::OtherCertificate {
                    peer: peer.to_owned(),
                });
            }
            // A renewal, or one machine of many.
            Some(_) => {
                tracing::info!("{peer} shows another certificate than before, which is valid too")
            }
            None => {}
        }
        *seen = Some(certificate.to_vec());
        Ok(())
    }

    /// Whether [`Self::check`] would let this certificate pass.
    pub(super) fn accepts(&self, certificate: Option<&[u8]>) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*seen, certificate) {
            (Some(known), Some(certificate)) => !self.strict || known == certificate,
            (None, _) | (_, None) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// B-72: another certificate is accepted from then on, or refused for ever.
    #[test]
    fn b72_another_certificate() {
        let lenient = Identity::new(false);
        for certificate in [None, Some(&b"a"[..]), Some(&b"b"[..]), Some(&b"b"[..])] {
            assert!(lenient.accepts(certificate));
            assert!(lenient.check(certificate, "cm:443").is_ok());
        }
        let strict = Identity::new(true);
        for (certificate, fine) in [
            ("a", true),
            ("a", true),
            ("b", false),
            ("a", true),
            ("b", false),
        ] {
            let certificate = Some(certificate.as_bytes());
            assert_eq!(strict.accepts(certificate), fine, "{certificate:?}");
            let result = strict.check(certificate, "cm:443");
            assert_eq!(result.is_ok(), fine, "{certificate:?}");
        }
    }
}
