//! Tokens as text: how one is made, written, and recognised.
//!
//! ```text
//! lfc_5f0c2ab391_9b74c9897bac770ffc029102a200c5de…     lfc _ id _ secret
//!     10 digits  64 digits
//! ```
//!
//! Both parts are hexadecimal, so a token needs no escapes in a URL or a header, and a double click selects all of it.
//! The prefix lets scanners for leaked secrets find it.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

const PREFIX: &str = "lfc_";
/// Two ids are the same by chance after a million tokens, and then another is drawn.
const ID_BYTES: usize = 5;
/// Nobody guesses 256 bits, so a fast hash protects them as well as a slow one would.
const SECRET_BYTES: usize = 32;

/// The public part of a token: names it, and opens nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenId(String);

impl TokenId {
    /// As it was stored.
    pub(super) fn stored(text: String) -> Self {
        Self(text)
    }

    /// It as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A whole token, with its secret. It can be shown, but is in no `Debug` output.
pub struct TokenText {
    id: TokenId,
    secret: String,
}

impl TokenText {
    /// A new one.
    pub(super) fn random() -> Result<Self, getrandom::Error> {
        Ok(Self { id: TokenId(random_digits::<ID_BYTES>()?), secret: random_digits::<SECRET_BYTES>()? })
    }

    /// Its public part.
    pub fn id(&self) -> &TokenId {
        &self.id
    }

    /// All of it, as it is sent with requests.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}_{}", self.id, self.secret)
    }

    /// What is stored of its secret.
    pub(super) fn secret_hash(&self) -> SecretHash {
        SecretHash::of(&self.secret)
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenText").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The SHA-256 of a secret.
#[derive(Clone, Copy, Debug)]
pub(super) struct SecretHash([u8; 32]);

impl SecretHash {
    /// What an unknown token is compared with: no secret has this hash that anybody could find.
    pub(super) const OF_NOBODY: Self = Self([0; 32]);

    pub(super) fn stored(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Takes as long whether they are equal or not.
    pub(super) fn equals(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }

    fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret).into())
    }
}

/// What a request came with, if it looks like a token at all.
#[derive(Debug)]
pub(super) struct PresentedToken {
    pub(super) id: TokenId,
    pub(super) hash: SecretHash,
}

impl PresentedToken {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let is_token = is_digits(id, ID_BYTES) && is_digits(secret, SECRET_BYTES);
        is_token.then(|| Self { id: TokenId(id.to_owned()), hash: SecretHash::of(secret) })
    }
}

fn is_digits(text: &str, bytes: usize) -> bool {
    text.len() == 2 * bytes && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn random_digits<const BYTES: usize>() -> Result<String, getrandom::Error> {
    use fmt::Write as _;
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().fold(String::with_capacity(2 * BYTES), |mut digits, byte| {
        // Writing to a string cannot fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_recognised_by_its_text() {
        let token = TokenText::random().unwrap();
        let presented = PresentedToken::parse(&token.reveal()).unwrap();
        assert_eq!(&presented.id, token.id());
        assert!(bool::from(presented.hash.equals(&token.secret_hash())));
    }

    #[test]
    fn two_tokens_have_nothing_in_common() {
        let (one, other) = (TokenText::random().unwrap(), TokenText::random().unwrap());
        assert_ne!(one.id, other.id);
        assert!(!bool::from(one.secret_hash().equals(&other.secret_hash())));
    }

    #[test]
    fn a_secret_is_in_no_debug_output() {
        let token = TokenText::random().unwrap();
        assert!(!format!("{token:?}").contains(&token.secret));
    }

    #[test]
    fn what_is_no_token_is_not_looked_up() {
        let token = TokenText::random().unwrap().reveal();
        let shorter = &token[..token.len() - 1];
        for text in [
            "",
            "lfc_",
            "lfc__",
            "x",
            shorter,
            &format!("{token}0"),
            &token.to_uppercase(),
            &format!(" {token}"),
        ] {
            assert!(PresentedToken::parse(text).is_none(), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_can_be_presented(text in "(lfc_)?[0-9a-f_é]{0,90}") {
            if let Some(presented) = PresentedToken::parse(&text) {
                let start = format!("lfc_{}_", presented.id);
                proptest::prop_assert!(text.starts_with(&start));
            }
        }
    }
}
