//! What commands print, as clients of the service may see it: without places on the host.

use std::path::Path;

use serde_json::Value;

use crate::settings::quote;

/// Fields that say where something is.
const PLACES: [&str; 2] = ["path", "directory"];

/// Fields of free text. Others hold names, numbers, times and digests.
const TEXTS: [&str; 3] = ["problem", "fix", "image"];

/// Takes places away.
pub(super) struct Presentable {
    /// The data directory, as it was named and as it is.
    roots: Vec<String>,
    /// Flags that tell commands where it is.
    flags: Vec<String>,
}

impl Presentable {
    pub(super) fn new(data: &Path) -> Self {
        let named = [Some(data.to_owned()), data.canonicalize().ok()];
        let mut roots: Vec<_> = named.into_iter().flatten().collect();
        // Under the home directory, both begin with what has to go.
        roots.extend(std::env::var_os("HOME").map(Into::into));
        let roots: Vec<String> = roots
            .iter()
            .map(|root: &std::path::PathBuf| root.display().to_string())
            .map(|root| root.trim_end_matches('/').to_owned())
            .filter(|root| root.starts_with('/'))
            .collect();
        Self { roots, flags: vec![format!(" --data-dir {}", quote(data))] }
    }

    /// A text. What begins with the data directory is shown as relative to it; of other paths, the last part is left.
    pub(super) fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for flag in &self.flags {
            text = text.replace(flag, "");
        }
        for root in &self.roots {
            text = text.replace(&format!("{root}/"), "");
        }
        last_parts(&text)
    }

    /// JSON that a command printed.
    pub(super) fn json(&self, value: Value) -> Value {
        match value {
            Value::Array(values) => values.into_iter().map(|value| self.json(value)).collect(),
            Value::Object(fields) => fields
                .into_iter()
                .filter(|(name, _)| !PLACES.contains(&name.as_str()))
                .map(|(name, value)| match value {
                    Value::String(text) if TEXTS.contains(&name.as_str()) => (name, self.text(&text).into()),
                    value => (name, self.json(value)),
                })
                .collect(),
            other => other,
        }
    }
}

/// Each absolute path replaced by its last part. Addresses stay: there, two slashes follow the scheme.
fn last_parts(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(slash) = rest.find('/') {
        let (before, from_slash) = rest.split_at(slash);
        shown.push_str(before);
        let is_address = before.ends_with(':') && from_slash.starts_with("//") && !before.ends_with("file:");
        let ends = if is_address { ends_an_address } else { ends_a_path };
        let length = from_slash.find(ends).unwrap_or(from_slash.len());
        let (path, after) = from_slash.split_at(length);
        // Inside of a name, as in ghcr.io/team/image or images/rootfs-python.ext4, it begins no path.
        let inside = shown.ends_with(|c: char| c.is_alphanumeric() || "._-~+@*}".contains(c));
        if is_address || inside {
            shown.push_str(path);
        } else {
            // A colon ends what is before it: `/a/b: no such file`, `/bin:/usr/bin`.
            let mut parts =
                path.split(':').map(|part| part.trim_end_matches('/').rsplit('/').next().unwrap_or(""));
            shown.push_str(parts.next().unwrap_or(""));
            for part in parts {
                shown.push(':');
                shown.push_str(part);
            }
        }
        rest = after;
    }
    shown.push_str(rest);
    shown
}

fn ends_an_address(c: char) -> bool {
    c.is_whitespace() || "\"'`()<>".contains(c)
}

fn ends_a_path(c: char) -> bool {
    c.is_whitespace() || "\"'`()<>,;|=[]{}".contains(c)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(text: &str) -> String {
        let flags = vec![" --data-dir '/srv/fire cracker'".to_owned()];
        Presentable { roots: vec!["/srv/fire cracker".to_owned()], flags }.text(text)
    }

    #[test]
    fn no_path_of_the_host_is_left() {
        for (text, expected) in [
            (
                "made /srv/fire cracker/images/rootfs-python.ext4 (150 MiB)",
                "made images/rootfs-python.ext4 (150 MiB)",
            ),
            ("cannot read /root/.docker/config.json: denied", "cannot read config.json: denied"),
            ("cannot run \"/usr/bin/mke2fs\" (see '/var/log/x')", "cannot run \"mke2fs\" (see 'x')"),
            ("PATH=/usr/bin:/opt/secret/bin", "PATH=bin:bin"),
            ("uploaded to file:///srv/bucket/team", "uploaded to file:team"),
            ("run: infra.operator setup --data-dir '/srv/fire cracker'", "run: infra.operator setup"),
            ("in /tmp/.tmpAbC/", "in .tmpAbC"),
            ("/", ""),
        ] {
            assert_eq!(shown(text), expected);
        }
    }

    #[test]
    fn names_with_slashes_stay() {
        for text in [
            "pulling ghcr.io/team/python:3.12 …",
            "cannot reach https://s3.example/bucket/key?x=/y: refused",
            "uploaded to s3://team/llm (12 MiB, 3 MiB in the bucket)",
            "layer 3/7, 12 MB/s",
            "localhost:5000/python",
            "images/rootfs-python.ext4",
        ] {
            assert_eq!(shown(text), text);
        }
    }

    #[test]
    fn results_say_no_places() {
        let presentable = Presentable::new(Path::new("/srv/firecracker"));
        let printed = json!([{ "language": "python", "path": "/srv/firecracker/x", "bytes": 1,
            "problem": "cannot read /srv/firecracker/a/b", "source": { "kind": "oci", "image": "oci:/home/me/x" } }]);
        let shown = json!([{ "language": "python", "bytes": 1, "problem": "cannot read a/b",
            "source": { "kind": "oci", "image": "oci:x" } }]);
        assert_eq!(presentable.json(printed), shown);
    }
}
