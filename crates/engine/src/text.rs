//! Bytes that come in parts, as text.

/// Decodes UTF-8 whose characters may be cut at the end of a part. What is no UTF-8 becomes U+FFFD.
#[derive(Debug, Default)]
pub struct Utf8 {
    /// The beginning of a character: at most three bytes.
    rest: Vec<u8>,
}

impl Utf8 {
    /// The text that is complete now.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        let mut joined = std::mem::take(&mut self.rest);
        joined.extend_from_slice(bytes);
        let mut text = String::with_capacity(joined.len());
        let mut chunks = joined.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let invalid = chunk.invalid();
            let is_cut = || std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
            if invalid.is_empty() {
                continue;
            }
            if chunks.peek().is_none() && is_cut() {
                self.rest = invalid.to_vec();
            } else {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        text
    }

    /// What stands for a character that was begun and has no end.
    pub fn finish(&mut self) -> &'static str {
        if std::mem::take(&mut self.rest).is_empty() { "" } else { "\u{fffd}" }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cut_character_waits_for_its_end() {
        let mut utf8 = Utf8::default();
        assert_eq!(utf8.push(b"a\xe2\x82"), "a");
        assert_eq!(utf8.push(b"\xacb"), "€b");
        assert_eq!(utf8.push(b"\xf0\x9f"), "");
        assert_eq!(utf8.finish(), "\u{fffd}");
        assert_eq!(utf8.finish(), "");
    }

    proptest! {
        #[test]
        fn parts_give_the_text_of_the_whole(bytes in prop::collection::vec(any::<u8>(), 0..60), cuts in prop::collection::vec(1_usize..9, 0..20)) {
            let mut utf8 = Utf8::default();
            let (mut text, mut rest) = (String::new(), &bytes[..]);
            for cut in cuts {
                let (part, after) = rest.split_at(cut.min(rest.len()));
                text.push_str(&utf8.push(part));
                rest = after;
            }
            text.push_str(&utf8.push(rest));
            text.push_str(utf8.finish());
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }
    }
}
