//! A bucket: few operations on objects, each bounded in time and size, and tried again where that may help.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, TryStreamExt as _};
use object_store::{
    ClientOptions, ObjectStore, ObjectStoreExt as _, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    local::LocalFileSystem,
    path::Path as ObjectPath,
};

use super::{
    BucketAddress, BucketError, Fault, again::Tries, chunk, names::ObjectName, transport::Connector,
};

/// How long a server may take to accept a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// How long it may take to begin an answer, and to go on with one.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// The slowest sending that is waited for, in bytes for each second: 8 MiB take two minutes.
const SLOWEST_BYTES_PER_SECOND: u64 = 64 << 10;

/// The slowest receiving that is waited for, in bytes for each second. Several objects come at a time.
const SLOWEST_RECEIVED_BYTES_PER_SECOND: u64 = 16 << 10;

/// How long a whole listing may take.
const LISTING_PATIENCE: Duration = Duration::from_secs(120);

/// The most objects that a listing looks at. Each is a version of an image or a kind of host.
const MAX_LISTED: usize = 10_000;

/// The longest name of an object in S3, in bytes.
const MAX_NAME_BYTES: usize = 1024;

/// Where a bucket is and how to get in.
#[derive(Clone, Debug)]
pub struct BucketSettings {
    /// Where it is.
    pub address: BucketAddress,
    /// The server; nothing for Amazon's own.
    pub endpoint: Option<String>,
    /// The region.
    pub region: String,
    /// Who asks.
    pub credentials: Credentials,
    /// Whether a directory that is not there is made.
    pub make_directory: bool,
}

/// Who asks.
#[derive(Clone)]
pub enum Credentials {
    /// Keys.
    Static {
        /// The access key's id.
        access_key_id: String,
        /// The secret.
        secret_access_key: String,
        /// For keys that expire.
        session_token: Option<String>,
    },
    /// A token in a file is exchanged for keys (EKS and its like).
    WebIdentity {
        /// The file.
        token_file: String,
        /// The role.
        role_arn: String,
        /// The session's name.
        session_name: Option<String>,
    },
    /// The container's host gives them (ECS).
    Container {
        /// Where, beneath 169.254.170.2.
        relative_uri: String,
    },
    /// The container's host gives them to who has a token (EKS).
    Pod {
        /// Where.
        full_uri: String,
        /// The file with the token.
        token_file: String,
    },
    /// The machine's host gives them (EC2).
    Instance,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Nothing of them, ever: this may end in a log.
        f.write_str(match self {
            Self::Static { .. } => "Static",
            Self::WebIdentity { .. } => "WebIdentity",
            Self::Container { .. } => "Container",
            Self::Pod { .. } => "Pod",
            Self::Instance => "Instance",
        })
    }
}

/// A bucket, or a directory that is used as one.
#[derive(Clone)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    address: BucketAddress,
}

/// An object that a listing has found.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    /// Its name without the bucket's prefix.
    pub(super) name: String,
    /// When it was put there, in seconds since 1970.
    pub(super) modified_unix: u64,
    /// The same, as exactly as the store has it.
    pub(super) modified: SystemTime,
}

impl Bucket {
    /// The bucket of these settings. A server is not asked before something is wanted of it.
    ///
    /// The process must have installed its TLS (rustls) provider.
    pub fn open(settings: &BucketSettings) -> Result<Self, BucketError> {
        let address = settings.address.clone();
        let failed = |fault| BucketError { doing: "open", object: address.to_string(), tries: 1, fault };
        let store: Arc<dyn ObjectStore> = match &address {
            BucketAddress::Directory(directory) => {
                if settings.make_directory {
                    std::fs::create_dir_all(directory).map_err(|error| {
                        failed(Fault::Directory { kind: error.kind(), cause: error.to_string() })
                    })?;
                }
                let opened = LocalFileSystem::new_with_prefix(directory);
                // Whether an object is there is asked by its name: after a power cut, too, it must be whole then.
                Arc::new(opened.map_err(|error| failed(Fault::of(&error)))?.with_fsync(true))
            }
            BucketAddress::S3 { name, .. } => {
                let built = builder(name, settings).build();
                Arc::new(built.map_err(|error| failed(Fault::Client { cause: error.to_string() }))?)
            }
        };
        Ok(Self { store, address })
    }

    /// Where it is.
    pub fn address(&self) -> &BucketAddress {
        &self.address
    }

    /// How long an object is; nothing where there is none, or where nobody may ask.
    pub(super) async fn length(&self, name: &ObjectName) -> Result<Option<u64>, BucketError> {
        let path = self.path(name);
        let asked = self
            .attempts("look for", name.as_str(), || async {
                in_time(ANSWER_PATIENCE, self.store.head(&path)).await.map(|found| found.size)
            })
            .await;
        match asked {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.is_missing() => Ok(None),
            Err(BucketError { fault: Fault::Refused(refused), .. }) if refused.is_denial() => {
                self.why_denied(name).await
            }
            Err(error) => Err(error),
        }
    }

    /// An answer to HEAD has no text, so that the reason is learned by a GET. Who may not read may still be allowed to write.
    async fn why_denied(&self, name: &ObjectName) -> Result<Option<u64>, BucketError> {
        let path = self.path(name);
        let asked = self.attempts("look for", name.as_str(), || async {
            in_time(ANSWER_PATIENCE, self.store.get(&path)).await.map(drop)
        });
        match asked.await {
            Err(BucketError { fault: Fault::Refused(refused), .. }) if refused.is_access_denied() => Ok(None),
            Err(error) if !error.is_missing() => Err(error),
            _ => Ok(None),
        }
    }

    /// An object of at most `limit` bytes, as `accept` makes it of its bytes.
    pub(super) async fn get<T, Accepted>(
        &self,
        name: &ObjectName,
        limit: usize,
        accept: impl Fn(Bytes) -> Accepted,
    ) -> Result<T, BucketError>
    where
        Accepted: Future<Output = Result<T, Fault>>,
    {
        self.attempts("read", name.as_str(), || async {
            let bytes = self.receive(&self.path(name), limit).await?;
            accept(bytes).await
        })
        .await
    }

    async fn receive(&self, path: &ObjectPath, limit: usize) -> Result<Bytes, Fault> {
        let found = in_time(ANSWER_PATIENCE, self.store.get(path)).await?;
        let announced = found.meta.size;
        let length = usize::try_from(announced).ok().filter(|length| *length <= limit);
        let Some(length) = length else { return Err(Fault::TooLarge { limit: limit as u64 }) };
        let patience = ANSWER_PATIENCE + Duration::from_secs(announced / SLOWEST_RECEIVED_BYTES_PER_SECOND);
        collect(found.into_stream(), length, patience).await
    }

    /// Puts an object there, in the place of one that may be there. Nobody sees a part of it.
    pub(super) async fn put(&self, name: &ObjectName, bytes: Bytes) -> Result<(), BucketError> {
        let path = self.path(name);
        let patience = ANSWER_PATIENCE + Duration::from_secs(bytes.len() as u64 / SLOWEST_BYTES_PER_SECOND);
        self.attempts("write", name.as_str(), || async {
            in_time(patience, self.store.put(&path, bytes.clone().into())).await.map(drop)
        })
        .await
    }

    /// All objects beneath `folder`.
    pub(super) async fn list(&self, folder: &str) -> Result<Vec<Listed>, BucketError> {
        let prefix = self.prefixed(folder);
        let found = self
            .attempts("list", folder, || async {
                let listing = self.whole_listing(&prefix);
                tokio::time::timeout(LISTING_PATIENCE, listing)
                    .await
                    .unwrap_or(Err(Fault::Silent { patience: LISTING_PATIENCE }))
            })
            .await;
        let found = match found {
            Err(error) if error.is_missing() => return Ok(Vec::new()),
            found => found?,
        };
        Ok(found)
    }

    async fn whole_listing(&self, prefix: &ObjectPath) -> Result<Vec<Listed>, Fault> {
        let own = self.prefixed("").to_string();
        let mut listing = self.store.list(Some(prefix));
        let (mut found, mut count) = (Vec::new(), 0);
        while let Some(object) = in_time(ANSWER_PATIENCE, listing.try_next()).await? {
            if count == MAX_LISTED {
                return Err(Fault::TooLarge { limit: MAX_LISTED as u64 });
            }
            count += 1;
            let name = object.location.as_ref();
            // Longer ones are none of ours, and ten thousand of them would fill the memory.
            if name.len() > MAX_NAME_BYTES {
                continue;
            }
            let Some(name) = name.strip_prefix(&own) else { continue };
            let name = name.trim_start_matches('/').to_owned();
            let modified_unix = u64::try_from(object.last_modified.timestamp()).unwrap_or_default();
            found.push(Listed { name, modified_unix, modified: object.last_modified.into() });
        }
        Ok(found)
    }

    /// An object's address, to be shown.
    pub(super) fn shown(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    fn path(&self, name: &ObjectName) -> ObjectPath {
        self.prefixed(name.as_str())
    }

    fn prefixed(&self, name: &str) -> ObjectPath {
        match &self.address {
            BucketAddress::S3 { prefix, .. } if !prefix.is_empty() => {
                ObjectPath::from(format!("{prefix}/{name}"))
            }
            BucketAddress::S3 { .. } | BucketAddress::Directory(_) => ObjectPath::from(name),
        }
    }

    async fn attempts<T, Attempt>(
        &self,
        doing: &'static str,
        name: &str,
        attempt: impl Fn() -> Attempt,
    ) -> Result<T, BucketError>
    where
        Attempt: Future<Output = Result<T, Fault>>,
    {
        let mut tries = Tries::new(Instant::now());
        loop {
            let fault = match attempt().await {
                Ok(done) => return Ok(done),
                Err(fault) => fault,
            };
            match tries.pause(&fault, Instant::now()) {
                Some(pause) => {
                    tracing::info!(object = name, %fault, ?pause, "trying again");
                    tokio::time::sleep(pause).await;
                }
                None => {
                    return Err(BucketError { doing, object: self.shown(name), tries: tries.made(), fault });
                }
            }
        }
    }
}

/// All pieces, which must be `length` bytes together. Who sends a byte now and then is never silent: all of it has a
/// deadline as well.
async fn collect(
    mut pieces: impl Stream<Item = object_store::Result<Bytes>> + Unpin,
    length: usize,
    patience: Duration,
) -> Result<Bytes, Fault> {
    let announced = length as u64;
    let receiving = async {
        let mut bytes = BytesMut::with_capacity(length);
        while let Some(piece) = in_time(ANSWER_PATIENCE, pieces.try_next()).await? {
            if bytes.len() + piece.len() > length {
                return Err(Fault::TooLarge { limit: announced });
            }
            bytes.extend_from_slice(&piece);
        }
        if bytes.len() < length {
            return Err(Fault::Short { got: bytes.len() as u64, announced });
        }
        Ok(bytes.freeze())
    };
    tokio::time::timeout(patience, receiving).await.unwrap_or(Err(Fault::Silent { patience }))
}

async fn in_time<T>(
    patience: Duration,
    work: impl Future<Output = object_store::Result<T>>,
) -> Result<T, Fault> {
    match tokio::time::timeout(patience, work).await {
        Ok(done) => done.map_err(|error| Fault::of(&error)),
        Err(_) => Err(Fault::Silent { patience }),
    }
}

fn builder(name: &str, settings: &BucketSettings) -> AmazonS3Builder {
    let plain = settings.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    let options = ClientOptions::new()
        .with_connect_timeout(CONNECT_PATIENCE)
        // Ours depend on what is asked.
        .with_timeout_disabled()
        .with_read_timeout_disabled()
        // Only who writes http:// gets it.
        .with_allow_http(plain)
        .with_pool_max_idle_per_host(2 * super::PARALLEL);
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(name)
        .with_region(&settings.region)
        .with_client_options(options)
        // Ours see more of a refusal.
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
        .with_http_connector(Connector);
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    match &settings.credentials {
        Credentials::Static { access_key_id, secret_access_key, session_token } => {
            builder = builder.with_access_key_id(access_key_id).with_secret_access_key(secret_access_key);
            if let Some(token) = session_token {
                builder = builder.with_token(token);
            }
        }
        Credentials::WebIdentity { token_file, role_arn, session_name } => {
            builder = builder
                .with_config(AmazonS3ConfigKey::WebIdentityTokenFile, token_file)
                .with_config(AmazonS3ConfigKey::RoleArn, role_arn);
            if let Some(name) = session_name {
                builder = builder.with_config(AmazonS3ConfigKey::RoleSessionName, name);
            }
        }
        Credentials::Container { relative_uri } => {
            builder = builder.with_config(AmazonS3ConfigKey::ContainerCredentialsRelativeUri, relative_uri);
        }
        Credentials::Pod { full_uri, token_file } => {
            builder = builder
                .with_config(AmazonS3ConfigKey::ContainerCredentialsFullUri, full_uri)
                .with_config(AmazonS3ConfigKey::ContainerAuthorizationTokenFile, token_file);
        }
        Credentials::Instance => {}
    }
    builder
}

const _: () = assert!(chunk::MAX_STORED_BYTES < 16 << 20);

#[cfg(test)]
#[path = "bucket_tests.rs"]
mod tests;
