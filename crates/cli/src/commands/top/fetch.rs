//! Gets `/metrics` of a service. Whatever the service does, this ends.

use std::{
    io::Read as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use ureq::{
    Agent,
    tls::{RootCerts, TlsConfig, TlsProvider},
};

use super::open_metrics::{self, Sample};

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest answer, in bytes. A service with ten languages writes some 100 kB.
const MAX_BYTES: u64 = 16 << 20;

/// A service that is looked at.
#[derive(Clone)]
pub(super) struct Service {
    agent: Agent,
    url: String,
    token: Option<String>,
}

/// What it said, and when.
pub(super) struct Look {
    pub(super) samples: Vec<Sample>,
    pub(super) when: Instant,
}

impl Service {
    /// At `url`, as in `http://127.0.0.1:8080`.
    pub(super) fn at(url: &str, token: Option<String>) -> Self {
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::PlatformVerifier)
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            // A token goes where it was meant to go.
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!("infra.operator/", env!("CARGO_PKG_VERSION")))
            .timeout_global(Some(PATIENCE))
            .build()
            .into();
        Self { agent, url: url.trim_end_matches('/').to_owned(), token }
    }

    /// Where it is.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Looks at it. Blocks.
    pub(super) fn look(&self) -> Result<Look> {
        let text = self.text().with_context(|| format!("cannot read {}/metrics", self.url))?;
        let samples = open_metrics::parse(&text)
            .with_context(|| format!("{}/metrics is not what it should be", self.url))?;
        Ok(Look { samples, when: Instant::now() })
    }

    fn text(&self) -> Result<String> {
        let mut request = self.agent.get(format!("{}/metrics", self.url));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let mut response = request.call()?;
        match response.status().as_u16() {
            200 => {}
            401 if self.token.is_none() => bail!("the service asks for a token"),
            401 => bail!("the service does not take this token"),
            status => return Err(anyhow!("the service answers with status {status}")),
        }
        let mut text = String::new();
        let mut body = response.body_mut().with_config().limit(u64::MAX).reader().take(MAX_BYTES + 1);
        body.read_to_string(&mut text).context("the answer broke off, or is no text")?;
        ensure!(text.len() as u64 <= MAX_BYTES, "the answer is longer than {MAX_BYTES} bytes");
        Ok(text)
    }
}
