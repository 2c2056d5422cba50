//! Files that a program left and its request asked for, as answers have them.

use protocol::{
    Bytes,
    message::{Content, Fetched, Omitted},
};
use serde::Serialize;

/// What a file is whose name and content say nothing.
const UNKNOWN: &str = "application/octet-stream";

/// Images that are known by their first bytes, with what follows after a gap of so many.
const IMAGES: [(&str, &[u8], usize, &[u8]); 5] = [
    ("image/png", b"\x89PNG\r\n\x1a\n", 0, b""),
    ("image/jpeg", b"\xff\xd8\xff", 0, b""),
    ("image/gif", b"GIF87a", 0, b""),
    ("image/gif", b"GIF89a", 0, b""),
    ("image/webp", b"RIFF", 4, b"WEBP"),
];

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReturnedFile {
    /// Its path beneath the job directory.
    pub name: String,
    /// What kind of file it is (RFC 6838): images by what they hold, others by their name. It says what a program
    /// claims, so nothing of it is safe to be shown as part of a page.
    pub media_type: String,
    /// Its length, in bytes.
    pub size: u64,
    /// What it holds, as base64.
    pub content: Bytes,
}

/// A file that was asked for and is not returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OmittedFile {
    /// Its path beneath the job directory; `.` for all that were not looked at.
    pub name: String,
    /// Its length, in bytes, as far as it is known.
    pub size: u64,
    /// Why: `too_large`, `too_many`, `unreadable`.
    pub reason: Omitted,
}

/// What an execution left of what was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// What is returned, in order of name.
    pub returned: Vec<ReturnedFile>,
    /// What is not.
    pub omitted: Vec<OmittedFile>,
}

impl Files {
    /// As the guest agent tells it.
    pub(crate) fn of(fetched: impl IntoIterator<Item = Fetched>) -> Self {
        let mut files = Self::default();
        for Fetched { index: _, name, size, content } in fetched {
            match content {
                Content::Bytes(content) => {
                    let media_type = media_type(&name, &content.0);
                    files.returned.push(ReturnedFile { name, media_type, size, content });
                }
                Content::Omitted(reason) => files.omitted.push(OmittedFile { name, size, reason }),
            }
        }
        files
    }
}

fn media_type(name: &str, content: &[u8]) -> String {
    let image = IMAGES.iter().find(|(_, first, gap, then)| {
        content
            .strip_prefix(*first)
            .and_then(|rest| rest.get(*gap..))
            .is_some_and(|rest| rest.starts_with(then))
    });
    if let Some((image, ..)) = image {
        return (*image).to_owned();
    }
    match mime_guess::from_path(name).first_raw() {
        // Its name alone makes no image of those of which we know better.
        Some(named) if IMAGES.iter().any(|(image, ..)| *image == named) => UNKNOWN,
        Some(named) => named,
        None if std::str::from_utf8(content).is_ok_and(|text| !text.contains('\0')) => "text/plain",
        None => UNKNOWN,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_known_by_what_they_hold_and_others_by_their_names() {
        for (name, content, expected) in [
            ("plot", &b"\x89PNG\r\n\x1a\n...."[..], "image/png"),
            ("plot.txt", b"\xff\xd8\xff\xe0", "image/jpeg"),
            ("a.gif", b"GIF89a", "image/gif"),
            ("a.webp", b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
            ("a.webp", b"RIFF\0\0\0\0WAVE", UNKNOWN),
            ("a.png", b"<script>", UNKNOWN),
            ("a.png", b"", UNKNOWN),
            ("a.svg", b"<svg/>", "image/svg+xml"),
            ("a.csv", b"1,2", "text/csv"),
            ("a.json", b"{}", "application/json"),
            ("README", b"text", "text/plain"),
            ("data", b"\xff\0", UNKNOWN),
            ("data", b"a\0b", UNKNOWN),
        ] {
            assert_eq!(media_type(name, content), expected, "{name}");
        }
    }
}
