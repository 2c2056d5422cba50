//! APIs of others over the same core: for clients that people have already.
//!
//! ```text
//! their request ─▶ piston, sandbox_fusion ─▶ engine::Request ─▶ the way of every request ─▶ their answer
//! ```
//!
//! Who asks, what is allowed, how much, and what runs is decided as for requests of our own.

mod loose;
pub(crate) mod piston;
pub(crate) mod sandbox_fusion;
mod versions;

pub(crate) use self::versions::{Runtime, Versions};

use base64::{
    alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

/// As the decoders of Node and Python: with padding or without, and with what remains in the last character.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);
