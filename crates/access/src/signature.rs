//! Signatures by which a receiver knows that a request is the hub's, as
//! [Standard Webhooks](https://www.standardwebhooks.com) has them: HMAC-SHA256 over the id, the time
//! and the body.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use thiserror::Error;
use tidings_auth::UnixSeconds;

/// What the hub and the receivers of its webhooks share. One or more secrets; each of them signs, so
/// a receiver can go from one to the next without a gap.
#[derive(Clone)]
pub struct WebhookSecret {
    keys: Vec<hmac::Key>,
}

/// Why a text is no [`WebhookSecret`]. The text is not repeated.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WebhookSecretError {
    /// There is none.
    #[error("the webhook secret is empty")]
    Empty,
    /// What follows `whsec_` is not base64.
    #[error("what follows whsec_ in the webhook secret is not base64")]
    NotBase64,
    /// A secret has too few bytes to be one.
    #[error("a webhook secret of {bytes} bytes is too short; 24 are needed")]
    TooShort {
        /// The bytes that it has.
        bytes: usize,
    },
}

impl WebhookSecret {
    /// Parses one or more secrets with white space between them. Each is `whsec_` and base64, or else
    /// the text itself; both of at least 24 bytes.
    ///
    /// # Errors
    ///
    /// There is none, or one is too short or not what its prefix says.
    pub fn parse(text: &str) -> Result<Self, WebhookSecretError> {
        let keys = text.split_ascii_whitespace().map(parse_one).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(WebhookSecretError::Empty) } else { Ok(Self { keys }) }
    }

    /// The header `webhook-signature`: one signature for each secret, the first secret's first.
    pub(crate) fn sign(&self, id: &str, at: UnixSeconds, body: &[u8]) -> String {
        let signed = |key: &hmac::Key| {
            let mut content = hmac::Context::with_key(key);
            content.update(format!("{id}.{at}.").as_bytes());
            content.update(body);
            format!("v1,{}", STANDARD.encode(content.sign()))
        };
        self.keys.iter().map(signed).collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(..)")
    }
}

fn parse_one(text: &str) -> Result<hmac::Key, WebhookSecretError> {
    let bytes = match text.strip_prefix("whsec_") {
        Some(encoded) => LENIENT.decode(encoded).map_err(|_| WebhookSecretError::NotBase64)?,
        None => text.as_bytes().to_vec(),
    };
    if bytes.len() < SECRET_BYTES_MIN {
        return Err(WebhookSecretError::TooShort { bytes: bytes.len() });
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

/// The least that Standard Webhooks asks for: 192 bits.
const SECRET_BYTES_MIN: usize = 24;

/// Secrets are copied by hand: with padding or without.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification, which its libraries are tested with.
    #[test]
    fn signs_as_standard_webhooks_does() {
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature =
            secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn several_secrets_sign_one_after_the_other() {
        let one = "a secret that is long enough".replace(' ', "-");
        let other = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let sign = |text: &str| WebhookSecret::parse(text).unwrap().sign("msg_1", 1, b"{}");
        assert_eq!(sign(&format!("{one}\n{other}\n")), format!("{} {}", sign(&one), sign(other)));
    }

    #[test]
    fn weak_and_broken_secrets_are_refused() {
        let check = |text: &str, expected: WebhookSecretError| {
            assert_eq!(WebhookSecret::parse(text).unwrap_err(), expected);
        };
        check(" \n", WebhookSecretError::Empty);
        check("secret", WebhookSecretError::TooShort { bytes: 6 });
        check("whsec_c2VjcmV0", WebhookSecretError::TooShort { bytes: 6 });
        check("whsec_?", WebhookSecretError::NotBase64);
    }

    #[test]
    fn a_secret_is_not_shown() {
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(format!("{secret:?}"), "WebhookSecret(..)");
    }
}
