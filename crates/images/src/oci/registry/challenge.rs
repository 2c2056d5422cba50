//! What a registry asks for when it does not know who is asking: `WWW-Authenticate` (RFC 9110, section 11).

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A name and a password with every request.
    Basic,
    /// A token, which is had elsewhere.
    Bearer {
        /// Where: a URL.
        realm: String,
        /// For which service.
        service: Option<String>,
        /// For what, where the registry says so.
        scope: Option<String>,
    },
}

/// The first challenge of a header's value that can be met; a token rather than a password.
pub(super) fn parse(header: &str) -> Option<Challenge> {
    let mut rest = header.trim();
    let mut basic = None;
    while !rest.is_empty() {
        let end = rest.find(' ').unwrap_or(rest.len());
        let (scheme, after) = rest.split_at(end);
        let (parameters, after) = parameters(after.trim_start());
        rest = after;
        let get = |name: &str| {
            let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.clone())
        };
        if scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = get("realm")
        {
            return Some(Challenge::Bearer { realm, service: get("service"), scope: get("scope") });
        }
        if scheme.eq_ignore_ascii_case("basic") {
            basic = Some(Challenge::Basic);
        }
    }
    basic
}

/// `name=value, name="quoted value"`, up to the next scheme.
fn parameters(text: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', ',', '\t']);
        let name_end =
            rest.find(|c: char| !c.is_ascii_alphanumeric() && !"-_".contains(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(name_end);
        let Some(after) = after.trim_start().strip_prefix('=').map(str::trim_start) else {
            return (found, rest);
        };
        let (value, after) = value(after);
        found.push((name.to_owned(), value));
        rest = after;
    }
}

/// A token or a quoted string.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            character => value.push(character),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenges_of_real_registries_are_understood() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            let owned = |text: Option<&str>| text.map(str::to_owned);
            Some(Challenge::Bearer { realm: realm.to_owned(), service: owned(service), scope: owned(scope) })
        };
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io""#;
        assert_eq!(parse(hub), bearer("https://auth.docker.io/token", Some("registry.docker.io"), None));
        let scoped =
            r#"bearer realm="https://a/t", service=b, scope="repository:x:pull,push", error="invalid""#;
        assert_eq!(parse(scoped), bearer("https://a/t", Some("b"), Some("repository:x:pull,push")));
        assert_eq!(parse(r#"Basic realm="Registry Realm""#), Some(Challenge::Basic));
        let both = r#"Basic realm="x \" y", Bearer realm="https://a/t""#;
        assert_eq!(parse(both), bearer("https://a/t", None, None));
        for nothing in
            ["", "Negotiate", "Bearer", "Digest realm=\"x\"", "=,=,\"", "\\", "Bearer realm=\"", "é=é"]
        {
            let challenge = parse(nothing);
            assert!(!matches!(challenge, Some(Challenge::Basic)), "{nothing:?} became {challenge:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_header_is_parsed_or_not(header in "\\PC{0,80}") {
            let _ = parse(&header);
        }
    }
}
