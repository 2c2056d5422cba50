//! `infra.operator token`: who may use the service, and how much.

use std::{collections::BTreeSet, process::ExitCode, time::SystemTime};

use anyhow::anyhow;
use clap::builder::RangedU64ValueParser;
use engine::Languages;
use serde::Serialize;
use server::tokens::{Grant, Rate, Register, TokenName, TokenState, TokenStatus};

use super::rootfs::unknown_language;
use crate::{
    failure::{Failure, OrFail as _},
    output,
    settings::Global,
};

/// What to do with access tokens.
#[derive(clap::Subcommand)]
pub(crate) enum TokenCommand {
    /// Makes an access token and prints it. It is shown this once: only its hash is kept
    Create(Box<CreateArgs>),
    /// Lists the access tokens, each with what it allows and what it has used today
    List(ListArgs),
    /// Revokes an access token. A service that runs knows at its next request
    Revoke(RevokeArgs),
}

/// Arguments of `token create`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  infra.operator token create --name alice
  infra.operator token create --name ci --expires 90d --rate 60/min --concurrency 4 --daily 5000
  infra.operator token create --name homework --languages python --max-mem 256 --max-timeout 10
  TOKEN=$(infra.operator token create --name deploy --admin)

Requests carry it as one of:
  Authorization: Bearer TOKEN
  X-Access-Token: TOKEN
  ?access_token=TOKEN (which ends up in logs of proxies: better one of the others)

A limit that is not given is none. A quota that is used up is answered with E002 (429), and says
when to come again.")]
pub(crate) struct CreateArgs {
    /// Whom or what it is for; two tokens that are not revoked never have the same
    #[arg(long)]
    name: TokenName,

    /// When it becomes invalid: after a time as in 12h, 30d, 8w, or at one as in 2027-01-01 (its beginning, in UTC) or
    /// 2027-01-01T12:00:00Z [default: never]
    #[arg(long, value_name = "TIME", value_parser = expiry)]
    expires: Option<u64>,

    /// How many requests in which time, as in 5/s, 60/min, 1000/h. All may come at once, the next when their share of
    /// the time has passed
    #[arg(long, value_name = "N/UNIT")]
    rate: Option<Rate>,

    /// How many requests at once, of those that wait for their answer: jobs run as jobs.running says
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u32>::new().range(1..=100_000))]
    concurrency: Option<u32>,

    /// How many executions a day, in UTC. A batch of n counts n
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u32>::new().range(1..))]
    daily: Option<u32>,

    /// The languages that it allows
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    languages: Vec<String>,

    /// The largest microVM that it allows, in MiB
    #[arg(long, value_name = "MIB", value_parser = RangedU64ValueParser::<u32>::new().range(128..=65_536))]
    max_mem: Option<u32>,

    /// The longest timeout that it allows, in seconds
    #[arg(long, value_name = "SECONDS", value_parser = RangedU64ValueParser::<u32>::new().range(1..))]
    max_timeout: Option<u32>,

    /// Allows also to make images and snapshots, and to exchange them with object storage
    #[arg(long)]
    admin: bool,

    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `token list`.
#[derive(clap::Args)]
pub(crate) struct ListArgs {
    /// Those that were revoked, too
    #[arg(long)]
    all: bool,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `token revoke`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  infra.operator token revoke alice
  infra.operator token revoke 5f0c2ab391

The id is the part of a token between its underscores: lfc_ID_… No request is let in with it from
then on; what runs already goes on.")]
pub(crate) struct RevokeArgs {
    /// Its id or name; the whole token does as well, but then stands in the history of the shell
    #[arg(value_name = "ID|NAME")]
    token: String,
}

/// Does it.
pub(super) fn run(command: TokenCommand, global: &Global) -> Result<ExitCode, Failure> {
    match command {
        TokenCommand::Create(args) => create(*args, global),
        TokenCommand::List(args) => list(&args, global),
        TokenCommand::Revoke(args) => revoke(&args, global),
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    id: &'a str,
    token: &'a str,
    created: Option<String>,
    #[serde(flatten)]
    grant: Allowed<'a>,
}

fn create(args: CreateArgs, global: &Global) -> Result<ExitCode, Failure> {
    let json = args.json;
    let grant = args.grant()?;
    let mut register = Register::open(&global.data().service_database()).or_fail()?;
    let new = register.create(&grant).or_fail()?;
    let (id, token) = (new.text.id(), new.text.reveal());
    let shown = if json {
        let created = output::time(new.created_unix);
        output::json(&Shown { id: id.as_str(), token: &token, created, grant: Allowed(&grant) })
    } else {
        output::line(&token)
    };
    shown.map_err(|failure| {
        failure.hint(format!(
            "it was made all the same, and nobody has seen it; run: infra.operator token revoke {id}"
        ))
    })?;
    crate::output::say!("made the token {} with the id {id}; it is not shown again", grant.name);
    Ok(ExitCode::SUCCESS)
}

impl CreateArgs {
    fn grant(self) -> Result<Grant, Failure> {
        let known = Languages::built_in();
        let languages: BTreeSet<_> = self
            .languages
            .iter()
            .map(|name| {
                let spec = known.find(name).ok_or_else(|| unknown_language(name, &known))?;
                Ok(spec.name.clone())
            })
            .collect::<Result<_, Failure>>()?;
        Ok(Grant {
            name: self.name,
            expires_unix: self.expires,
            rate: self.rate,
            concurrency: self.concurrency,
            daily_executions: self.daily,
            languages: (!languages.is_empty()).then_some(languages),
            max_memory_mib: self.max_mem,
            max_timeout_seconds: self.max_timeout,
            admin: self.admin,
        })
    }
}

/// What a token allows, as JSON: with times as everywhere else.
struct Allowed<'a>(&'a Grant);

impl Serialize for Allowed<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields<'a> {
            name: &'a str,
            expires: Option<String>,
            rate: Option<String>,
            concurrency: Option<u32>,
            daily_executions: Option<u32>,
            languages: Option<&'a BTreeSet<store::Language>>,
            max_memory_mib: Option<u32>,
            max_timeout_seconds: Option<u32>,
            admin: bool,
        }
        let Self(grant) = self;
        Fields {
            name: grant.name.as_str(),
            expires: grant.expires_unix.and_then(output::time),
            rate: grant.rate.map(|rate| rate.to_string()),
            concurrency: grant.concurrency,
            daily_executions: grant.daily_executions,
            languages: grant.languages.as_ref(),
            max_memory_mib: grant.max_memory_mib,
            max_timeout_seconds: grant.max_timeout_seconds,
            admin: grant.admin,
        }
        .serialize(serializer)
    }
}

#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    created: Option<String>,
    revoked: Option<String>,
    used_today: u64,
    state: &'static str,
    #[serde(flatten)]
    grant: Allowed<'a>,
}

fn list(args: &ListArgs, global: &Global) -> Result<ExitCode, Failure> {
    let path = global.data().service_database();
    // Listing makes nothing, least of all in a directory that was mistyped.
    let mut tokens =
        if path.exists() { Register::open(&path).or_fail()?.list().or_fail()? } else { Vec::new() };
    if !args.all {
        tokens.retain(|token| token.state != TokenState::Revoked);
    }
    if args.json {
        output::json(&tokens.iter().map(row).collect::<Vec<_>>())?;
    } else if tokens.is_empty() {
        crate::output::say!("there are no tokens");
        crate::output::say!("{}", global.typed("hint: run: infra.operator token create --name NAME"));
    } else {
        let cells: Vec<_> = tokens.iter().map(cells).collect();
        output::table(&["ID", "NAME", "CREATED", "EXPIRES", "LIMITS", "USED TODAY", "STATE"], &cells)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(token: &TokenStatus) -> Row<'_> {
    Row {
        id: token.id.as_str(),
        created: output::time(token.created_unix),
        revoked: token.revoked_unix.and_then(output::time),
        used_today: token.used_today,
        state: match token.state {
            TokenState::Active => "active",
            TokenState::Expired => "expired",
            TokenState::Revoked => "revoked",
        },
        grant: Allowed(&token.grant),
    }
}

fn cells(token: &TokenStatus) -> Vec<String> {
    let row = row(token);
    vec![
        row.id.to_owned(),
        token.grant.name.to_string(),
        row.created.unwrap_or_else(|| "-".to_owned()),
        token.grant.expires_unix.and_then(output::time).unwrap_or_else(|| "never".to_owned()),
        limits(&token.grant),
        match token.grant.daily_executions {
            Some(limit) => format!("{} of {limit}", token.used_today),
            None => token.used_today.to_string(),
        },
        match row.revoked {
            Some(when) => format!("{} {when}", row.state),
            None => row.state.to_owned(),
        },
    ]
}

/// A grant's limits in one line; the daily one stands beside what was used of it.
fn limits(grant: &Grant) -> String {
    let names = |languages: &BTreeSet<store::Language>| {
        languages.iter().map(store::Language::as_str).collect::<Vec<_>>().join("+")
    };
    let limits: Vec<String> = [
        grant.rate.map(|rate| rate.to_string()),
        grant.concurrency.map(|most| format!("{most} at once")),
        grant.languages.as_ref().map(names),
        grant.max_memory_mib.map(|most| format!("{most} MiB")),
        grant.max_timeout_seconds.map(|most| format!("{most} s")),
        grant.admin.then(|| "admin".to_owned()),
    ]
    .into_iter()
    .flatten()
    .collect();
    if limits.is_empty() { "-".to_owned() } else { limits.join(", ") }
}

fn revoke(args: &RevokeArgs, global: &Global) -> Result<ExitCode, Failure> {
    let path = global.data().service_database();
    if !path.exists() {
        let hint = "run: infra.operator token create --name NAME".to_owned();
        return Err(
            Failure::host(anyhow!("there are no tokens in {}", global.data().root().display())).hint(hint)
        );
    }
    let revocation = Register::open(&path).or_fail()?.revoke(&args.token).or_fail()?;
    let (name, id) = (revocation.name, revocation.id);
    if revocation.was_revoked {
        let when = output::time(revocation.revoked_unix).unwrap_or_default();
        crate::output::say!("the token {name} with the id {id} was revoked already, {when}");
    } else {
        crate::output::say!("revoked the token {name} with the id {id}");
    }
    Ok(ExitCode::SUCCESS)
}

fn expiry(text: &str) -> Result<u64, String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    expiry_at(text, now)
}

/// The time that `text` means when it is `now`; both in seconds since 1970.
fn expiry_at(text: &str, now: u64) -> Result<u64, String> {
    let unknown = || "neither a time from now as in 12h, 30d, 8w, nor one as in 2027-01-01".to_owned();
    let expires = match from_now(text) {
        Some(seconds) => now.checked_add(seconds).ok_or_else(unknown)?,
        None => u64::try_from(point_in_time(text).ok_or_else(unknown)?).unwrap_or(0),
    };
    if expires <= now {
        return Err("that is over already".to_owned());
    }
    if output::time(expires).is_none() {
        return Err("that is later than the year 9999".to_owned());
    }
    Ok(expires)
}

fn from_now(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(seconds)
}

fn point_in_time(text: &str) -> Option<i64> {
    if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
        return Some(timestamp.as_second());
    }
    // A time of day without a zone could be meant in any.
    let date: jiff::civil::Date = (text.len() == "2027-01-01".len()).then(|| text.parse().ok())??;
    Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 1_795_608_000;

    #[test]
    fn an_expiry_is_a_time_from_now_or_a_point_in_time() {
        assert_eq!(output::time(NOON).unwrap(), "2026-11-25T12:00:00Z");
        assert_eq!(expiry_at("12h", NOON), Ok(NOON + 12 * 3600));
        assert_eq!(expiry_at("30d", NOON), Ok(NOON + 30 * 86_400));
        assert_eq!(expiry_at("2w", NOON), Ok(NOON + 14 * 86_400));
        for (text, time) in [
            ("2027-01-01", "2027-01-01T00:00:00Z"),
            ("2027-01-01T12:30:00Z", "2027-01-01T12:30:00Z"),
            ("2027-01-01T12:30:00+02:00", "2027-01-01T10:30:00Z"),
        ] {
            assert_eq!(output::time(expiry_at(text, NOON).unwrap()).unwrap(), time);
        }
    }

    #[test]
    fn what_is_no_expiry_or_is_over_is_refused() {
        for text in ["", "d", "-1d", "1.5d", "30", "30é", "2027-13-01", "2027-01-01T12:00", "tomorrow"] {
            assert!(expiry_at(text, NOON).unwrap_err().contains("neither"), "{text:?}");
        }
        for text in ["0d", "2026-11-25", "1969-01-01", "2026-11-25T12:00:00Z"] {
            assert!(expiry_at(text, NOON).unwrap_err().contains("over"), "{text:?}");
        }
        assert!(expiry_at("9000000000d", NOON).unwrap_err().contains("9999"));
        assert!(expiry_at("18446744073709551615w", NOON).is_err());
    }

    #[test]
    fn limits_are_shown_in_one_line() {
        let unlimited = Grant::unlimited("a".parse().unwrap());
        assert_eq!(limits(&unlimited), "-");
        let limited = Grant {
            rate: Some("60/min".parse().unwrap()),
            concurrency: Some(2),
            languages: Some(BTreeSet::from(["python".parse().unwrap(), "bash".parse().unwrap()])),
            max_memory_mib: Some(256),
            max_timeout_seconds: Some(10),
            admin: true,
            ..unlimited
        };
        assert_eq!(limits(&limited), "60/min, 2 at once, bash+python, 256 MiB, 10 s, admin");
    }
}
