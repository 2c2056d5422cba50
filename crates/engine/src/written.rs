//! How long something is once it is written as JSON: what is kept for an answer is counted by that, or a guest would choose
//! by what a byte of its output becomes many.

/// What U+FFFD takes, which stands for what is no UTF-8.
const REPLACEMENT: usize = char::REPLACEMENT_CHARACTER.len_utf8();

/// The length of text between its quotes, in bytes.
pub(crate) fn length(text: &str) -> usize {
    text.bytes().map(of_byte).sum()
}

/// How many of the first bytes of `output` take at most `room` once they are written as text, and how much they take.
pub(crate) fn fitting(output: &[u8], room: usize) -> (usize, usize) {
    let (mut kept, mut taken) = (0, 0);
    for chunk in output.utf8_chunks() {
        let whole = length(chunk.valid());
        if taken + whole > room {
            for c in chunk.valid().chars() {
                let more = length(c.encode_utf8(&mut [0; 4]));
                if taken + more > room {
                    break;
                }
                (kept, taken) = (kept + c.len_utf8(), taken + more);
            }
            return (kept, taken);
        }
        (kept, taken) = (kept + chunk.valid().len(), taken + whole);
        if !chunk.invalid().is_empty() {
            if taken + REPLACEMENT > room {
                return (kept, taken);
            }
            (kept, taken) = (kept + chunk.invalid().len(), taken + REPLACEMENT);
        }
    }
    (kept, taken)
}

/// What a byte of UTF-8 takes.
fn of_byte(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | b'\x08' | b'\x0c' => 2,
        // `\u0000`
        0..0x20 => 6,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(output: &[u8]) -> usize {
        serde_json::to_string(&String::from_utf8_lossy(output)).unwrap().len() - 2
    }

    #[test]
    fn each_byte_takes_what_it_takes_in_json() {
        for byte in 0..=u8::MAX {
            assert_eq!(fitting(&[byte], 6), (1, written(&[byte])), "{byte}");
        }
    }

    proptest! {
        #[test]
        fn as_much_is_kept_as_fits_and_no_more(
            output in prop::collection::vec(prop_oneof![any::<u8>(), Just(0), Just(0xe2), Just(0x82), Just(0xac)], 0..60),
            room in 0_usize..200,
        ) {
            let (kept, taken) = fitting(&output, room);
            prop_assert!(taken <= room);
            prop_assert_eq!(taken, written(&output[..kept]));
            if kept < output.len() {
                let more = output[kept..].utf8_chunks().next().unwrap();
                let next = more.valid().chars().next().map_or(more.invalid().len(), char::len_utf8);
                prop_assert!(written(&output[..kept + next]) > room);
            }
        }
    }
}
