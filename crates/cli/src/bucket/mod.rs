//! Which bucket, and who asks: flags, the usual environment of AWS, and its profiles.

mod profile;
mod settings;

pub(crate) use settings::{BucketArgs, Make, endpoint};
