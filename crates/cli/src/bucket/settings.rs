//! The flags about a bucket, and what stands behind them.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow};
use store::remote::{Bucket, BucketAddress, BucketSettings, Credentials};

use super::profile::{MAX_FILE_BYTES, Profile};
use crate::{
    config::{self, Storage},
    failure::{Failure, OrFail as _},
    settings::Global,
};

/// Where S3's first region is, which many compatible stores take for theirs.
const DEFAULT_REGION: &str = "us-east-1";

/// Whether a directory that is used as a bucket, and is not there, is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Make {
    /// It is.
    Directory,
    /// It is an error.
    Nothing,
}

/// A bucket.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct BucketArgs {
    #[arg(
        long,
        value_name = "BUCKET",
        help = config::help("storage.bucket")
    )]
    bucket: Option<BucketAddress>,

    #[arg(
        long,
        value_name = "URL",
        value_parser = endpoint,
        hide_short_help = true,
        help = config::help("storage.endpoint")
    )]
    endpoint: Option<String>,

    #[arg(long, value_name = "REGION", hide_short_help = true, help = config::help("storage.region"))]
    region: Option<String>,

    #[arg(long, value_name = "NAME", hide_short_help = true, help = config::help("storage.profile"))]
    profile: Option<String>,
}

impl BucketArgs {
    /// Whether there is one.
    pub(crate) fn is_given(&self, global: &Global) -> bool {
        self.bucket.is_some() || global.config.storage.bucket.is_some()
    }

    /// The bucket.
    pub(crate) fn open(&self, make: Make, global: &Global) -> Result<Bucket, Failure> {
        let storage = &global.config.storage;
        let address = self.bucket.clone().or_else(|| storage.bucket.clone()).ok_or_else(|| {
            Failure::usage(anyhow!("which bucket?"))
                .hint("name it with --bucket or LLM_FIRECRACKER_BUCKET, or in the configuration".to_owned())
        })?;
        let make_directory = make == Make::Directory;
        let settings = if let BucketAddress::Directory(_) = address {
            let region = DEFAULT_REGION.to_owned();
            let credentials = Credentials::Instance;
            BucketSettings { address, endpoint: None, region, credentials, make_directory }
        } else {
            self.settings(address, storage, &Environment::of_process())?
        };
        Bucket::open(&settings).or_fail()
    }

    fn settings(
        &self,
        address: BucketAddress,
        storage: &Storage,
        environment: &Environment,
    ) -> Result<BucketSettings, Failure> {
        let named = self.profile.as_ref().or(storage.profile.as_ref());
        let files = environment.files().map_err(Failure::host)?;
        let profile = Profile::find(named.map_or("default", String::as_str), &files.0, &files.1);
        if let (Some(name), None) = (named, &profile) {
            let hint = "aws configure list-profiles shows those that there are".to_owned();
            return Err(Failure::usage(anyhow!("there is no profile {name:?}")).hint(hint));
        }
        let profile = profile.unwrap_or_default();
        let of_profile = |key: &str| profile.get(key).map(str::to_owned);
        let region = self
            .region
            .clone()
            .or_else(|| storage.region.clone())
            .or_else(|| of_profile("region"))
            .unwrap_or_else(|| DEFAULT_REGION.to_owned());
        let endpoint = self
            .endpoint
            .clone()
            .or_else(|| storage.endpoint.clone())
            .or_else(|| of_profile("endpoint_url"))
            .map(|url| self::endpoint(&url).map_err(|error| Failure::usage(anyhow!(error))))
            .transpose()?;
        // Who names a profile on the command line means it; else the environment comes first.
        let credentials = match environment.keys()? {
            Some(keys) if self.profile.is_none() => keys,
            _ => match of_a_profile(named.map(String::as_str), &profile)? {
                Some(keys) => keys,
                None => environment.elsewhere()?,
            },
        };
        Ok(BucketSettings { address, endpoint, region, credentials, make_directory: false })
    }
}

fn of_a_profile(name: Option<&str>, profile: &Profile) -> Result<Option<Credentials>, Failure> {
    let name = name.unwrap_or("default");
    match (profile.get("aws_access_key_id"), profile.get("aws_secret_access_key")) {
        (Some(id), Some(secret)) => Ok(Some(Credentials::Static {
            access_key_id: id.to_owned(),
            secret_access_key: secret.to_owned(),
            session_token: profile.get("aws_session_token").map(str::to_owned),
        })),
        (None, None) => match profile.elsewhere() {
            None => Ok(None),
            Some(how) => {
                let error =
                    anyhow!("the profile {name:?} gets its credentials {how}, which is not supported");
                let hint = format!(
                    "put them into the environment: eval \"$(aws configure export-credentials --profile {name} --format env)\""
                );
                Err(Failure::usage(error).hint(hint))
            }
        },
        _ => Err(Failure::usage(anyhow!("the profile {name:?} has only one of key id and secret"))),
    }
}

/// The environment, as far as AWS's programs heed it.
struct Environment(Box<Lookup>);

type Lookup = dyn Fn(&str) -> Option<String>;

impl Environment {
    fn of_process() -> Self {
        Self(Box::new(|name| std::env::var(name).ok()))
    }

    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    /// The texts of the two files of profiles.
    fn files(&self) -> Result<(String, String)> {
        let home = self.get("HOME").map(PathBuf::from);
        let read = |variable: &str, name: &str| match self.get(variable) {
            Some(path) => read_file(Path::new(&path)),
            None => home.as_ref().map_or(Ok(String::new()), |home| read_file(&home.join(".aws").join(name))),
        };
        Ok((read("AWS_SHARED_CREDENTIALS_FILE", "credentials")?, read("AWS_CONFIG_FILE", "config")?))
    }

    fn keys(&self) -> Result<Option<Credentials>, Failure> {
        match (self.get("AWS_ACCESS_KEY_ID"), self.get("AWS_SECRET_ACCESS_KEY")) {
            (Some(access_key_id), Some(secret_access_key)) => Ok(Some(Credentials::Static {
                access_key_id,
                secret_access_key,
                session_token: self.get("AWS_SESSION_TOKEN"),
            })),
            (None, None) => Ok(None),
            _ => {
                Err(Failure::usage(anyhow!("of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY only one is set")))
            }
        }
    }

    /// Whoever runs this process may give it credentials.
    fn elsewhere(&self) -> Result<Credentials, Failure> {
        if let (Some(token_file), Some(role_arn)) =
            (self.get("AWS_WEB_IDENTITY_TOKEN_FILE"), self.get("AWS_ROLE_ARN"))
        {
            let session_name = self.get("AWS_ROLE_SESSION_NAME");
            return Ok(Credentials::WebIdentity { token_file, role_arn, session_name });
        }
        if let Some(relative_uri) = self.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
            return Ok(Credentials::Container { relative_uri });
        }
        if let (Some(full_uri), Some(token_file)) = (
            self.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
            self.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
        ) {
            return Ok(Credentials::Pod { full_uri, token_file });
        }
        if self.get("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            let hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile with --profile";
            return Err(Failure::usage(anyhow!("there are no credentials")).hint(hint.to_owned()));
        }
        Ok(Credentials::Instance)
    }
}

/// A file's text; none where there is no such file.
fn read_file(path: &Path) -> Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text));
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        read => read.map(|_| text).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// A server's address, without what may be a password.
pub(crate) fn endpoint(url: &str) -> Result<String, String> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let Some(rest) = rest.map(|rest| rest.trim_end_matches('/')).filter(|rest| !rest.is_empty()) else {
        return Err("an endpoint begins with https:// or http:// and names a server".to_owned());
    };
    if rest.contains(['@', '?', '#']) || !rest.chars().all(|c| c.is_ascii_graphic()) {
        return Err("an endpoint has no credentials or parameters in it".to_owned());
    }
    Ok(url.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{
        config::{Config, Source},
        settings::Flags,
    };

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        bucket: BucketArgs,
    }

    fn settings(arguments: &[&str], variables: &[(&str, &str)]) -> Result<BucketSettings, String> {
        let arguments = [&["test", "--bucket", "llm-firecracker"], arguments].concat();
        let bucket = Arguments::try_parse_from(arguments).map_err(|error| error.to_string())?.bucket;
        let of_config = variables.to_vec();
        let variables: Vec<(String, String)> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let environment = Environment(Box::new(move |name| {
            variables.iter().find(|(variable, _)| variable == name).map(|(_, value)| value.clone())
        }));
        let address = bucket.bucket.clone().ok_or("no bucket")?;
        let resolution =
            config::resolve(&Flags::default(), &config::Environment::of(&of_config), &Source::Nowhere);
        let storage = Config::of(resolution).map_err(|failure| format!("{failure:?}"))?.storage;
        bucket.settings(address, &storage, &environment).map_err(|failure| format!("{failure:?}"))
    }

    const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "hidden")];

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_profile() {
        let directory = tempfile::tempdir().unwrap();
        let (credentials, config) = (directory.path().join("credentials"), directory.path().join("config"));
        std::fs::write(&credentials, "[default]\naws_access_key_id=FILE\naws_secret_access_key=hidden\n")
            .unwrap();
        std::fs::write(&config, "[default]\nregion=eu-west-3\nendpoint_url=https://profile.example\n")
            .unwrap();
        let (credentials, config) = (credentials.to_str().unwrap(), config.to_str().unwrap());
        let files = [("AWS_SHARED_CREDENTIALS_FILE", credentials), ("AWS_CONFIG_FILE", config)];
        let id = |settings: &BucketSettings| match &settings.credentials {
            Credentials::Static { access_key_id, .. } => access_key_id.clone(),
            other => format!("{other:?}"),
        };

        let of_files = settings(&[], &files).unwrap();
        assert_eq!((id(&of_files).as_str(), of_files.region.as_str()), ("FILE", "eu-west-3"));
        assert_eq!(of_files.endpoint.as_deref(), Some("https://profile.example"));

        let regions = [("AWS_REGION", "us-west-1"), ("AWS_ENDPOINT_URL", "http://127.0.0.1:9000/")];
        let variables = [&files[..], &KEYS, &regions].concat();
        let of_environment = settings(&[], &variables).unwrap();
        assert_eq!((id(&of_environment).as_str(), of_environment.region.as_str()), ("AKID", "us-west-1"));
        assert_eq!(of_environment.endpoint.as_deref(), Some("http://127.0.0.1:9000"));

        let flags = ["--region", "x", "--endpoint", "https://s3.example", "--profile", "default"];
        let of_flags = settings(&flags, &variables).unwrap();
        assert_eq!((id(&of_flags).as_str(), of_flags.region.as_str()), ("FILE", "x"));
        assert_eq!(of_flags.endpoint.as_deref(), Some("https://s3.example"));
    }

    #[test]
    fn without_anything_the_machine_is_asked_unless_that_is_forbidden() {
        assert!(matches!(settings(&[], &[]).unwrap().credentials, Credentials::Instance));
        let refused = settings(&[], &[("AWS_EC2_METADATA_DISABLED", "true")]).unwrap_err();
        assert!(refused.contains("there are no credentials"), "{refused}");
        let web = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"), ("AWS_ROLE_ARN", "r")];
        assert!(matches!(settings(&[], &web).unwrap().credentials, Credentials::WebIdentity { .. }));
    }

    #[test]
    fn halves_of_credentials_and_profiles_that_are_none_are_refused() {
        for variables in [&KEYS[..1], &[("AWS_PROFILE", "nobody")], &[("AWS_ENDPOINT_URL", "127.0.0.1:9000")]]
        {
            assert!(settings(&[], variables).is_err(), "{variables:?}");
        }
        for endpoint in ["s3.example", "ftp://s3.example", "https://", "https://user:secret@s3.example"] {
            let refused = settings(&["--endpoint", endpoint], &KEYS).unwrap_err();
            assert!(refused.contains("an endpoint"), "{endpoint}: {refused}");
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let shown = format!("{:?}", settings(&[], &KEYS).unwrap());
        assert!(!shown.contains("hidden") && !shown.contains("AKID"), "{shown}");
    }
}
