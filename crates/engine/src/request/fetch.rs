//! What a request wants back: paths and globs.
//!
//! A glob is tried on each name that a program leaves, after the program's time. So it is not only to be well-formed, but
//! also cheap: braces in a row multiply, and ten small groups stand for more patterns than anything can try.

use protocol::limits::{MAX_ALTERNATIVES, MAX_FETCH};

use super::{RequestError, check_name, invalid, shown};

/// The globs as the guest agent takes them.
pub(super) fn check_fetch(globs: Vec<String>) -> Result<Vec<String>, RequestError> {
    if globs.len() > MAX_FETCH {
        return Err(invalid(format!("fetch: {} of them, at most {MAX_FETCH} are allowed", globs.len())));
    }
    let checked = |(index, glob): (usize, String)| {
        // As shells and programs name what is here.
        let glob = glob.strip_prefix("./").map_or_else(|| glob.clone(), str::to_owned);
        check_glob(&glob).map_err(|reason| invalid(format!("fetch[{index}]: {reason}"))).map(|()| glob)
    };
    globs.into_iter().enumerate().map(checked).collect()
}

fn check_glob(glob: &str) -> Result<(), String> {
    if glob.starts_with('!') {
        return Err(format!("{:?} begins with '!'; name what is wanted", shown(glob)));
    }
    check_name(glob)?;
    fast_glob::validate(glob).map_err(|error| error.to_string())?;
    if alternatives(glob) > MAX_ALTERNATIVES {
        return Err(format!(
            "its braces stand for more than {MAX_ALTERNATIVES} patterns; name fewer, or use '*'"
        ));
    }
    Ok(())
}

/// How many patterns a valid glob stands for, if its braces are written out.
fn alternatives(glob: &str) -> usize {
    /// Of a part in braces: what its alternatives before the last have come to, and what the last does so far.
    #[derive(Clone, Copy)]
    struct Part {
        before: usize,
        last: usize,
    }
    const NEW: Part = Part { before: 0, last: 1 };
    let mut outer = Vec::new();
    let mut part = NEW;
    let mut bytes = glob.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => _ = bytes.next(),
            b'[' => {
                // A class, whose first character is never its end.
                bytes.next_if(|byte| matches!(byte, b'!' | b'^'));
                let mut first = true;
                while let Some(byte) = bytes.next().filter(|byte| first || *byte != b']') {
                    first = false;
                    if byte == b'\\' {
                        bytes.next();
                    }
                }
            }
            b'{' => outer.push(std::mem::replace(&mut part, NEW)),
            b',' if !outer.is_empty() => {
                part = Part { before: part.before.saturating_add(part.last), last: 1 };
            }
            b'}' => {
                if let Some(around) = outer.pop() {
                    let all = part.before.saturating_add(part.last);
                    part = Part { last: around.last.saturating_mul(all), ..around };
                }
            }
            _ => {}
        }
    }
    part.last
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn braces_are_counted_as_they_are_written_out() {
        for (glob, expected) in [
            ("a.png", 1),
            ("*.{png,svg}", 2),
            ("{a,b}{c,d,e}", 6),
            ("{a,b{c,d},}", 4),
            ("{{a,b},{c,d}}{e,f}", 8),
            (r"\{a,b}", 1),
            ("[{,]a,b", 1),
            ("[]{,]a,b", 1),
            (r"[\]{,]{a,b}", 2),
            ("a,b}", 1),
            ("{a}", 1),
            ("{,,}", 3),
            ("{a,a}{a,a}{a,a}{a,a}{a,a}{a,a}{a,a}{a,a}{a,a}{a,a}", 1024),
        ] {
            assert_eq!(alternatives(glob), expected, "{glob}");
        }
    }

    #[test]
    fn what_one_group_can_hold_is_let_in() {
        let most = format!("{{{}a}}", "a,".repeat(126));
        assert_eq!(alternatives(&most), 127);
        assert_eq!(check_fetch(vec![most.clone()]), Ok(vec![most]));
    }

    #[test]
    fn what_is_let_in_is_tried_on_a_name_in_no_time() {
        let costly = [
            "{*a,*a}{*a,*a}{*a,*a}{*a,*a}{*a,*a}{*a,*a}{*a,*b}".to_owned(),
            format!("{}b", "{**/*,*a}".repeat(7)),
            format!("{}b", "**/*a*/".repeat(36)),
            format!("{{{}a}}*b", "*,".repeat(120)),
            format!("*[{}]b", "a".repeat(250)),
            format!("{{{}}}*[{}]b", "*a,".repeat(40), "a".repeat(100)),
            format!("{}{}b", "{a,a*}".repeat(7), "*[aaaa]".repeat(28)),
        ];
        let names = ["a".repeat(255), "a/".repeat(127) + "a"];
        for glob in check_fetch(costly.to_vec()).unwrap() {
            let since = Instant::now();
            for name in &names {
                std::hint::black_box(fast_glob::glob_match(&glob, name));
            }
            // Milliseconds. What it is to be far from is minutes.
            assert!(since.elapsed() < Duration::from_secs(5), "{:?} for {glob}", since.elapsed());
        }
    }
}
