//! The licences that ask to be passed on with the program, in one text. They are taken from the sources that are compiled; the same
//! text is there once, with all whose it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use cargo_metadata::{Metadata, Package};

use super::{Contents, directory_of, package};

/// How names of files with notices begin; in capitals.
const NAMES: [&str; 5] = ["LICENSE", "LICENCE", "NOTICE", "COPYRIGHT", "UNLICENSE"];

/// Only beside the manifest: deeper there are licences that are one of several, such as the GPL of zstd.
const OUTERMOST_NAME: &str = "COPYING";

/// Not compiled into anything.
const OTHER_DIRECTORIES: [&str; 6] = ["tests", "test", "test-data", "examples", "benches", "target"];

const INTRODUCTION: &str = "\
Software of others that is in infra.operator, with the licences that ask to be passed on.
infra.operator itself is under the Apache License 2.0. Which versions are in it, and where they come from, stands in
infra.operator.cdx.json.

The guest agent inside it is linked statically with the GNU C Library (LGPL-2.1-or-later) and with libgcc
(GPL-3.0-or-later with the GCC runtime library exception). SQLite is in the public domain.
";

/// For a crate whose archive lacks the text, as its licence has it.
const MIT: &str = "\
Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation
files (the \"Software\"), to deal in the Software without restriction, including without limitation the rights to use, copy,
modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software
is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED \"AS IS\", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE,
ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.";

/// The whole text.
pub(super) fn text(root: &Path, metadata: &Metadata, contents: &Contents) -> Result<String> {
    let apache = fs::read_to_string(root.join("LICENSE")).context("cannot read LICENSE")?;
    let mut owners: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let programs = [&contents.program, &contents.agent];
    for id in programs.into_iter().flat_map(|program| program.crates.keys()).collect::<BTreeSet<_>>() {
        let package = package(metadata, &id.name, Some(&id.version))?;
        let mut notices = BTreeSet::new();
        collect(&directory_of(package)?, true, &mut notices)?;
        if notices.is_empty() {
            notices.insert(without_file(package, &apache)?);
        }
        for notice in notices {
            owners.entry(notice).or_default().insert(format!("{} {}", id.name, id.version));
        }
    }
    // By the first name, and not by the text: so that somebody can find one.
    let mut notices: Vec<_> = owners
        .into_iter()
        .map(|(notice, owners)| (owners.into_iter().collect::<Vec<_>>().join(", "), notice))
        .collect();
    notices.sort();
    notices.push(("In the service's page:".to_owned(), contents.bundled.npm_notices.clone()));
    let library = &contents.bundled.standard_library;
    notices.push((format!("The Rust standard library, {}", library.version), standard_library()?));
    let mut all = INTRODUCTION.to_owned();
    for (owners, notice) in notices {
        write!(all, "\n{}\n{owners}\n\n{notice}\n", "=".repeat(78)).context("cannot write")?;
    }
    Ok(all)
}

/// Notices beneath a crate's directory.
fn collect(directory: &Path, is_outermost: bool, into: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        if path.is_dir() {
            if !OTHER_DIRECTORIES.iter().any(|other| name.eq_ignore_ascii_case(other)) {
                collect(&path, false, into)?;
            }
            continue;
        }
        let is_notice = NAMES.iter().any(|begin| name.starts_with(begin))
            || is_outermost && name.starts_with(OUTERMOST_NAME);
        let is_code = [".RS", ".H", ".C", ".PY", ".TOML"].iter().any(|end| name.ends_with(end));
        if is_notice && !is_code {
            let notice = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            into.insert(tidy(&String::from_utf8_lossy(&notice)));
        }
    }
    Ok(())
}

/// Without what does not show, so that the same text is the same.
fn tidy(text: &str) -> String {
    let lines: Vec<_> = text.trim_start_matches('\u{feff}').lines().map(str::trim_end).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

fn without_file(package: &Package, apache: &str) -> Result<String> {
    let licence = package.license.as_deref().unwrap_or_default();
    match licence {
        "Apache-2.0" => Ok(tidy(apache)),
        "MIT" if !package.authors.is_empty() => {
            Ok(format!("MIT License\n\nCopyright (c) {}\n\n{MIT}", package.authors.join(", ")))
        }
        _ => bail!("{} {} has no file with its licence ({licence})", package.name, package.version),
    }
}

/// What the compiler's makers say of it: a page, of which the text is wanted.
fn standard_library() -> Result<String> {
    let output = std::process::Command::new("rustc")
        .args(["--print", "sysroot"])
        .output()
        .context("cannot run rustc")?;
    let sysroot = String::from_utf8(output.stdout).context("rustc printed no UTF-8")?;
    let page = Path::new(sysroot.trim()).join("share/doc/rust/COPYRIGHT-library.html");
    if let Ok(page) = fs::read_to_string(&page) {
        return Ok(page_text(&page));
    }
    // Distributions pack it elsewhere, or not at all.
    eprintln!(
        "note: {} is missing: the standard library's licences are named, and their texts left out",
        page.display()
    );
    Ok("Copyright The Rust Project Developers. Apache-2.0 OR MIT: see https://www.rust-lang.org/policies/licenses".to_owned())
}

/// A page without its tags.
fn page_text(page: &str) -> String {
    let body =
        page.split_once("<body").map_or(page, |(_, body)| body.split_once('>').map_or("", |(_, body)| body));
    let mut text = String::new();
    for part in body.split('<').enumerate().map(|(index, part)| match index {
        0 => part,
        _ => part.split_once('>').map_or("", |(_, text)| text),
    }) {
        text.push_str(part);
    }
    for (entity, character) in [
        ("&#60;", "<"),
        ("&lt;", "<"),
        ("&#62;", ">"),
        ("&gt;", ">"),
        ("&#34;", "\""),
        ("&quot;", "\""),
        ("&#39;", "'"),
    ] {
        text = text.replace(entity, character);
    }
    // Last, for what it begins may look like another one.
    text = text.replace("&#38;", "&").replace("&amp;", "&");
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines().map(str::trim_end) {
        if !(line.is_empty() && lines.last().is_none_or(|last| last.is_empty())) {
            lines.push(line);
        }
    }
    lines.join("\n").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_are_found_beside_and_beneath_the_manifest() {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("LICENSE-MIT", "mit \r\n\r\n"),
            ("license.txt", "mit\n"),
            ("COPYING", "copying"),
            ("src/license.rs", "code"),
            ("inside/COPYING", "gpl"),
            ("inside/LICENSE", "bsd"),
            ("tests/LICENSE", "of a test"),
            ("README.md", "no notice"),
        ] {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut found = BTreeSet::new();
        collect(directory.path(), true, &mut found).unwrap();
        assert_eq!(found, ["bsd", "copying", "mit"].map(str::to_owned).into());
    }

    #[test]
    fn a_page_is_read_without_its_tags() {
        let page = "<html><head><style>a { b: c }</style></head><body class=\"x\">\n<h1>A &#38;lt; B</h1>\n\n\n<p>&#34;c&#34; &lt;d@e&gt;</p></body></html>";
        assert_eq!(page_text(page), "A &lt; B\n\n\"c\" <d@e>");
    }
}
