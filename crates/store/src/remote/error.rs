//! Why a bucket did not do what it was asked for.

use std::{error::Error as StdError, io, time::Duration};

use super::transport::{AnswerTooLong, NoCredentials, Refused};

/// A request to a bucket failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {object}{}", after(*.tries))]
pub struct BucketError {
    /// What was being done.
    pub doing: &'static str,
    /// To what: an address that can be shown.
    pub object: String,
    /// How often it was tried.
    pub tries: u32,
    /// Why not.
    #[source]
    pub fault: Fault,
}

fn after(tries: u32) -> String {
    if tries > 1 { format!(" (tried {tries} times)") } else { String::new() }
}

/// What went wrong with a request.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// There is no such object.
    #[error("there is no such object")]
    Missing,
    /// The server said no.
    #[error(transparent)]
    Refused(Box<Refused>),
    /// The connection failed, or broke.
    #[error("the connection failed: {cause}")]
    Connection {
        /// The innermost cause.
        cause: String,
    },
    /// The server said nothing in time.
    #[error("the server did not answer in {} s", .patience.as_secs())]
    Silent {
        /// How long was waited.
        patience: Duration,
    },
    /// It sent less than it had announced.
    #[error("it broke off after {got} of {announced} bytes")]
    Short {
        /// What came.
        got: u64,
        /// What was to come.
        announced: u64,
    },
    /// The object is larger than it may be.
    #[error("it is larger than {limit} bytes")]
    TooLarge {
        /// What it may have.
        limit: u64,
    },
    /// What came is not what the object's name promises.
    #[error("it holds something else")]
    Content(#[source] super::ChunkError),
    /// Credentials could not be had.
    #[error("no credentials were found, and this machine was given none: {cause}")]
    Credentials {
        /// The innermost cause.
        cause: String,
    },
    /// The directory that is used as a bucket.
    #[error("{cause}")]
    Directory {
        /// What kind of error it is.
        kind: io::ErrorKind,
        /// The innermost cause.
        cause: String,
    },
    /// The client cannot be set up.
    #[error("{cause}")]
    Client {
        /// The innermost cause.
        cause: String,
    },
}

/// What to do after a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// Nothing: it would fail again.
    Never,
    /// Try again, after this long at least.
    After(Duration),
    /// Try again, but not for long: there may be nobody.
    Briefly,
    /// Try again, but not often: it may be so.
    Seldom,
}

impl Fault {
    /// What of an error of the object store matters here.
    pub(super) fn of(error: &object_store::Error) -> Self {
        let mut next: Option<&(dyn StdError + 'static)> = Some(error);
        let mut cause = error.to_string();
        let mut input = None;
        while let Some(this) = next {
            if let Some(refused) = this.downcast_ref::<Refused>() {
                return if refused.is_missing_object() {
                    Self::Missing
                } else {
                    Self::Refused(Box::new(refused.clone()))
                };
            }
            if this.is::<AnswerTooLong>() {
                return Self::TooLarge { limit: AnswerTooLong::LIMIT };
            }
            if let Some(NoCredentials { cause }) = this.downcast_ref() {
                return Self::Credentials { cause: cause.clone() };
            }
            if let Some(error) = this.downcast_ref::<io::Error>() {
                input = Some(error.kind());
            }
            cause = this.to_string();
            next = this.source();
        }
        match error {
            object_store::Error::NotFound { .. } => Self::Missing,
            object_store::Error::Generic { store: "LocalFileSystem", .. } => {
                Self::Directory { kind: input.unwrap_or(io::ErrorKind::Other), cause }
            }
            _ => Self::Connection { cause },
        }
    }

    /// Whether it may go better another time.
    pub(super) fn again(&self) -> Again {
        match self {
            Self::Refused(refused) if refused.is_busy() => {
                Again::After(refused.retry_after.unwrap_or_default())
            }
            Self::Connection { .. } | Self::Silent { .. } => Again::Briefly,
            Self::Short { .. } => Again::After(Duration::ZERO),
            // It may have happened on the way.
            Self::Content(_) => Again::Seldom,
            _ => Again::Never,
        }
    }

    fn hint(&self, object: &str) -> Option<String> {
        match self {
            Self::Refused(refused) => refused.hint(),
            Self::Connection { .. } | Self::Silent { .. } => {
                Some("check the network connection, and the endpoint if one is given".to_owned())
            }
            Self::Content(_) => Some(format!(
                "remove {object} and upload again, or upload again with --again: what lies in the bucket is damaged"
            )),
            Self::Credentials { .. } => Some(
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile that has them with --profile"
                    .to_owned(),
            ),
            Self::Directory { kind: io::ErrorKind::StorageFull, .. } => {
                Some("free some space on the file system of the bucket's directory".to_owned())
            }
            Self::Directory { .. } => {
                Some("check that the bucket's directory exists and may be used by this user".to_owned())
            }
            Self::Missing | Self::Short { .. } | Self::TooLarge { .. } | Self::Client { .. } => None,
        }
    }
}

impl BucketError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        self.fault.hint(&self.object)
    }

    /// Whether there is no such object.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self.fault, Fault::Missing)
    }
}

impl Refused {
    fn is_missing_object(&self) -> bool {
        // The answer to HEAD has no code.
        self.status == 404
            && self.code.as_deref().is_none_or(|code| code == "NoSuchKey" || code == "NotFound")
    }

    fn is_busy(&self) -> bool {
        const CODES: [&str; 4] = ["SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable"];
        matches!(self.status, 408 | 429 | 500..=599) && self.status != 501
            || self.code.as_deref().is_some_and(|code| CODES.contains(&code))
    }

    /// Whether nothing was said but no: an answer to HEAD has no text, so its reason is learned from another request.
    pub(super) fn is_denial(&self) -> bool {
        matches!(self.status, 400 | 401 | 403)
    }

    /// Whether who asks is known, and may not.
    pub(super) fn is_access_denied(&self) -> bool {
        self.status == 403 && self.code.as_deref() == Some("AccessDenied")
    }

    fn hint(&self) -> Option<String> {
        let code = self.code.as_deref().unwrap_or_default();
        let hint = match (code, self.status) {
            ("ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "RequestExpired", _) => {
                "the credentials have expired: renew them".to_owned()
            }
            ("InvalidAccessKeyId" | "InvalidToken" | "SignatureDoesNotMatch" | "AuthFailure", _) => {
                "check the credentials: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, or the profile"
                    .to_owned()
            }
            ("RequestTimeTooSkewed", _) => "set this host's clock".to_owned(),
            ("NoSuchBucket", _) => "check the bucket's name, or create it".to_owned(),
            ("PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException", _)
            | (_, 301 | 307) => match &self.region {
                Some(region) => format!("the bucket is in another region: use --region {region}"),
                None => "the bucket is in another region: name it with --region".to_owned(),
            },
            ("SlowDown", _) | (_, 429 | 503) => "the store is busy: run the same command later".to_owned(),
            (_, 401 | 403) => {
                "ask for the permissions s3:ListBucket, s3:GetObject and s3:PutObject on this bucket".to_owned()
            }
            (_, 500..=599) => "run the same command later".to_owned(),
            _ => return None,
        };
        Some(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, code: &str) -> Refused {
        let code = Some(code.to_owned()).filter(|code| !code.is_empty());
        Refused { status, code, message: None, region: None, retry_after: None }
    }

    #[test]
    fn what_may_go_better_is_tried_again_and_nothing_else() {
        let again = |status, code: &str| Fault::Refused(Box::new(refused(status, code))).again();
        for (status, code) in
            [(429, ""), (503, "SlowDown"), (500, "InternalError"), (502, ""), (400, "RequestTimeout")]
        {
            assert_eq!(again(status, code), Again::After(Duration::ZERO), "{status} {code}");
        }
        for (status, code) in [
            (403, "AccessDenied"),
            (400, "ExpiredToken"),
            (403, "ExpiredToken"),
            (301, ""),
            (404, "NoSuchBucket"),
            (501, ""),
        ] {
            assert_eq!(again(status, code), Again::Never, "{status} {code}");
        }
        let later = Refused { retry_after: Some(Duration::from_secs(7)), ..refused(429, "") };
        assert_eq!(Fault::Refused(Box::new(later)).again(), Again::After(Duration::from_secs(7)));
    }

    #[test]
    fn a_missing_object_is_told_from_a_missing_bucket() {
        assert!(refused(404, "NoSuchKey").is_missing_object() && refused(404, "").is_missing_object());
        assert!(!refused(404, "NoSuchBucket").is_missing_object());
    }

    #[test]
    fn refusals_say_what_to_do() {
        for (status, code, says) in [
            (400, "ExpiredToken", "renew them"),
            (403, "InvalidAccessKeyId", "check the credentials"),
            (404, "NoSuchBucket", "create it"),
            (403, "AccessDenied", "s3:PutObject"),
            (301, "PermanentRedirect", "--region"),
            (503, "SlowDown", "later"),
        ] {
            assert!(refused(status, code).hint().unwrap().contains(says), "{status} {code}");
        }
    }
}
