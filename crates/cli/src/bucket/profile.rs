//! Profiles of the AWS command line: what of `~/.aws/credentials` and `~/.aws/config` matters here.
//!
//! Keys, region and endpoint are read. Profiles whose credentials have to be got from somewhere else first (a role, single
//! sign-on, a program) are refused by name, for taking other credentials instead would be worse.

use std::collections::BTreeMap;

/// The largest file that is read, in bytes.
pub(super) const MAX_FILE_BYTES: u64 = 1 << 20;

/// A profile, from both files.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Profile(BTreeMap<String, String>);

/// Keys that say where credentials come from, if not from the file, and what they are called.
const ELSEWHERE: [(&str, &str); 5] = [
    ("role_arn", "from a role"),
    ("sso_session", "by single sign-on"),
    ("sso_start_url", "by single sign-on"),
    ("login_session", "by a login"),
    ("credential_process", "from a program"),
];

impl Profile {
    /// The profile `name` in the texts of the two files; nothing where neither has it.
    pub(super) fn find(name: &str, credentials: &str, config: &str) -> Option<Self> {
        let (credentials, config) = (sections(credentials), sections(config));
        let of_config = config.get(&format!("profile {name}"));
        let of_config = of_config.or_else(|| config.get(name).filter(|_| name == "default"));
        let of_credentials = credentials.get(name);
        if of_config.is_none() && of_credentials.is_none() {
            return None;
        }
        let mut all = of_config.cloned().unwrap_or_default();
        all.extend(of_credentials.cloned().unwrap_or_default());
        Some(Self(all))
    }

    /// A setting, unless it is empty.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// How its credentials would have to be got, where they are not in the files.
    pub(super) fn elsewhere(&self) -> Option<&'static str> {
        ELSEWHERE.iter().find(|(key, _)| self.get(key).is_some()).map(|(_, how)| *how)
    }
}

/// The sections of a file, `[name]`, with their settings, `key = value`. What stands further to the right belongs to the
/// setting above it, and to none that is read here.
fn sections(text: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut sections: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        if line.starts_with([' ', '\t', '#', ';']) || line.trim().is_empty() {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            let name = rest.split(']').next().unwrap_or_default();
            let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
            sections.entry(name.clone()).or_default();
            current = Some(name);
        } else if let (Some(section), Some((key, value))) = (&current, line.split_once('='))
            && let Some(settings) = sections.get_mut(section)
        {
            // A comment may follow a blank.
            let value = value.split(" #").next().unwrap_or_default();
            settings.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "
# a comment
[default]
aws_access_key_id = AKID
aws_secret_access_key=a/secret+with=signs
[ work ]
AWS_ACCESS_KEY_ID = WORK
aws_secret_access_key = s # not part of it
";

    const CONFIG: &str = "
[default]
region = eu-central-1
s3 =
    endpoint_url = http://nested.example
[profile work]
region=us-west-2
endpoint_url = https://s3.example
[profile role]
role_arn = arn:aws:iam::1:role/x
[profile sso]
sso_session = x
[profile tool]
credential_process = /bin/x
[work]
region = wrong
";

    fn find(name: &str) -> Option<Profile> {
        Profile::find(name, CREDENTIALS, CONFIG)
    }

    #[test]
    fn a_profile_has_its_keys_from_one_file_and_its_region_from_the_other() {
        let default = find("default").unwrap();
        assert_eq!(default.get("aws_access_key_id"), Some("AKID"));
        assert_eq!(default.get("aws_secret_access_key"), Some("a/secret+with=signs"));
        assert_eq!(default.get("region"), Some("eu-central-1"));
        assert_eq!(default.get("endpoint_url"), None, "that one is nested");
        let work = find("work").unwrap();
        assert_eq!(work.get("aws_access_key_id"), Some("WORK"));
        assert_eq!(work.get("aws_secret_access_key"), Some("s"));
        assert_eq!(
            (work.get("region"), work.get("endpoint_url")),
            (Some("us-west-2"), Some("https://s3.example"))
        );
        assert!(find("nobody").is_none());
    }

    #[test]
    fn credentials_from_elsewhere_are_told() {
        assert_eq!(find("role").unwrap().elsewhere(), Some("from a role"));
        assert_eq!(find("sso").unwrap().elsewhere(), Some("by single sign-on"));
        assert_eq!(find("tool").unwrap().elsewhere(), Some("from a program"));
        assert_eq!(find("work").unwrap().elsewhere(), None);
    }

    #[test]
    fn texts_that_are_no_such_files_have_no_profiles() {
        for text in ["", "[", "[]", "=", "key = value", "[a\nb", "\u{0}\n[x]\n=y"] {
            assert!(Profile::find("default", text, text).is_none(), "{text:?}");
        }
    }
}
