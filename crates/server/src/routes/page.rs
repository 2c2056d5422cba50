//! The page at `/`, where people write a program and run it. It is part of this program: nothing is fetched from
//! elsewhere, and its policy would not allow that.
//!
//! What it consists of is in `assets/page`. `editor.js` there is made of the npm project in `web/`; a test makes it anew
//! and compares.

use std::{io::Write as _, sync::Arc, sync::LazyLock};

use axum::{
    Extension,
    extract::{Path, State},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{
            ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
            IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
        },
    },
    response::{IntoResponse as _, Redirect, Response},
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use images::Sha256Digest;

use crate::{error::ApiError, service::Shared, trace::TraceId, types::Failed};

/// The page may use what this service has, and show what programs have made; nobody may frame it, and no text becomes
/// markup in it: the functions that would do so are switched off.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// The parts by their names; the page itself is the first. Made by whoever is the first to ask, and never changed.
static PARTS: LazyLock<[(&str, Part); 11]> = LazyLock::new(|| {
    let part = |name, media_type, text| (name, Part::new(media_type, text));
    [
        part("index.html", "text/html; charset=utf-8", include_str!("../../assets/page/index.html")),
        part("page.css", "text/css; charset=utf-8", include_str!("../../assets/page/page.css")),
        part("page.js", "text/javascript; charset=utf-8", include_str!("../../assets/page/page.js")),
        part("editor.js", "text/javascript; charset=utf-8", include_str!("../../assets/page/editor.js")),
        part("examples.js", "text/javascript; charset=utf-8", include_str!("../../assets/page/examples.js")),
        part("files.js", "text/javascript; charset=utf-8", include_str!("../../assets/page/files.js")),
        part("output.js", "text/javascript; charset=utf-8", include_str!("../../assets/page/output.js")),
        part("program.js", "text/javascript; charset=utf-8", include_str!("../../assets/page/program.js")),
        part("results.js", "text/javascript; charset=utf-8", include_str!("../../assets/page/results.js")),
        part("service.js", "text/javascript; charset=utf-8", include_str!("../../assets/page/service.js")),
        part("icon.svg", "image/svg+xml", include_str!("../../assets/page/icon.svg")),
    ]
});

/// A part of the page in both of its forms.
struct Part {
    media_type: &'static str,
    plain: Form,
    gzip: Form,
}

/// What is sent, and the name of exactly that.
struct Form {
    body: Bytes,
    etag: HeaderValue,
}

impl Form {
    fn new(body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let digest = Sha256Digest::of_bytes(&body);
        let etag = HeaderValue::from_str(&format!("\"{}\"", digest.as_str()))
            .expect("digits in quotes are a header's value");
        Self { body, etag }
    }
}

impl Part {
    fn new(media_type: &'static str, text: &'static str) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let compressed = encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish());
        Self { media_type, plain: Form::new(text), gzip: Form::new(compressed.expect("a vector takes all")) }
    }

    fn served(&self, headers: &HeaderMap) -> Response {
        let compressed = takes_gzip(headers);
        let form = if compressed { &self.gzip } else { &self.plain };
        let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let mut known = known.flat_map(|value| value.split(',')).map(|tag| {
            let tag = tag.trim();
            tag.strip_prefix("W/").unwrap_or(tag)
        });
        let mut response = if known.any(|tag| tag == "*" || form.etag == tag) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            form.body.clone().into_response()
        };
        let told = response.headers_mut();
        told.insert(CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        told.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        told.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        told.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        // Another release has another one: ask, and be told that it is the same.
        told.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        told.insert(VARY, HeaderValue::from_static("accept-encoding"));
        told.insert(ETAG, form.etag.clone());
        if compressed {
            told.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

/// Whether whoever asks can read gzip.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut codings = values.flat_map(|value| value.split(',')).map(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(Ok(1.0), str::parse::<f32>);
        (name, quality.unwrap_or(0.0))
    });
    codings.any(|(name, quality)| (name.eq_ignore_ascii_case("gzip") || name == "*") && quality > 0.0)
}

/// The page.
#[utoipa::path(
    get,
    path = "/",
    operation_id = "page",
    tag = "documentation",
    security(()),
    responses(
        (status = 200, description = "A page where programs are written and run", body = String,
            content_type = "text/html"),
        (status = 304, description = "It is the one that `If-None-Match` names"),
        (status = 307, description = "To `/docs`, where the page is switched off",
            headers(("Location" = String, description = "`/docs`"))),
    ),
)]
pub(super) async fn page(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    if !shared.page {
        return Redirect::temporary("/docs").into_response();
    }
    let [(_, page), ..] = &*PARTS;
    page.served(&headers)
}

/// What the page consists of.
#[utoipa::path(
    get,
    path = "/page/{part}",
    operation_id = "page_part",
    tag = "documentation",
    security(()),
    params(
        ("part" = String, Path, description = "`page.css`, `icon.svg`, `page.js` or another of its scripts", example = "page.js"),
    ),
    responses(
        (status = 200, description = "A part of the page", content(
            (String = "text/css"),
            (String = "text/javascript"),
            (String = "image/svg+xml"),
        )),
        (status = 304, description = "It is the one that `If-None-Match` names"),
        (status = 404, description = "E012: there is no such part, or the page is switched off", body = Failed),
    ),
)]
pub(super) async fn part(
    State(shared): State<Arc<Shared>>,
    Extension(trace_id): Extension<TraceId>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    // The page itself has one address.
    let mut parts = PARTS.iter().skip(1).filter(|_| shared.page);
    match parts.find(|(part, _)| *part == name) {
        Some((_, part)) => part.served(&headers),
        None => ApiError::NotFound("no such path".to_owned()).respond(&trace_id),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;
    use crate::fake::Lab;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn only_those_who_can_read_gzip_get_it() {
        for (value, expected) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5, br", true),
            ("*", true),
            ("br", false),
            ("gzip;q=0", false),
            ("gzip; q=0.0", false),
            ("gzip;q=much", false),
            ("", false),
        ] {
            assert_eq!(takes_gzip(&headers(&[(ACCEPT_ENCODING, value)])), expected, "{value:?}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[test]
    fn all_of_it_compressed_is_small() {
        let sizes = PARTS.iter().map(|(_, part)| part.gzip.body.len());
        let sum: usize = sizes.sum();
        assert!((10_000..250_000).contains(&sum), "{sum} bytes");
    }

    #[tokio::test]
    async fn every_part_is_served_under_a_policy_that_allows_nothing_else() {
        let lab = Lab::new().await;
        let page = lab.ask("GET", "/", "").await;
        for (name, part) in PARTS.iter() {
            let path = if *name == "index.html" { "/".to_owned() } else { format!("/page/{name}") };
            let answer = lab.ask("GET", &path, "").await;
            assert_eq!(
                (answer.status, answer.text.as_bytes()),
                (StatusCode::OK, &*part.plain.body),
                "{path}"
            );
            assert_eq!(answer.headers[X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
            let policy = answer.headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
            assert!(path == "/" || page.text.contains(&path[1..]), "{path} is not used");
        }
        let inline = ["style=", "<style", "onclick", "<script>", "//"];
        assert!(inline.iter().all(|what| !page.text.contains(what)), "{}", page.text);
        assert_eq!(lab.ask("GET", "/page/index.html", "").await.error(), "E012: not found: no such path");
    }

    #[tokio::test]
    async fn who_has_it_already_is_not_sent_it_again() {
        let lab = Lab::new().await;
        let first = lab.ask("GET", "/page/page.js", "").await;
        let etag = first.headers[ETAG].to_str().unwrap();
        let listed = format!("\"other\", W/{etag}");
        for known in [etag, listed.as_str(), "*"] {
            let again = lab.ask_with("GET", "/page/page.js", "", &[("if-none-match", known)]).await;
            assert_eq!(again.status, StatusCode::NOT_MODIFIED, "{known}");
            assert_eq!((again.text.as_str(), &again.headers[ETAG]), ("", &first.headers[ETAG]));
        }
        let other = lab.ask_with("GET", "/page/page.js", "", &[("if-none-match", "\"other\"")]).await;
        assert_eq!((other.status, other.text), (StatusCode::OK, first.text));
        assert_ne!(first.headers[ETAG], PARTS[2].1.gzip.etag, "each form has its own");
    }

    #[tokio::test]
    async fn a_page_that_is_switched_off_leads_to_the_documentation() {
        let lab = Lab::without_page().await;
        let root = lab.ask("GET", "/", "").await;
        assert_eq!(
            (root.status, &root.headers["location"]),
            (StatusCode::TEMPORARY_REDIRECT, &"/docs".parse().unwrap())
        );
        assert_eq!(lab.ask("GET", "/page/page.js", "").await.error(), "E012: not found: no such path");
    }
}
