//! The tokens that there are: made, listed and revoked by commands, read by the service.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params, types::Type};
use store::Language;

use super::{
    grant::{Grant, TokenName},
    ledger,
    quota::Moment,
    text::{PresentedToken, SecretHash, TokenId, TokenText},
};
use crate::{
    database::{self, Durability, OpenError},
    tokens::SCHEMA,
};

/// How long a command waits for others that are writing. Each of them takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// The tokens, for commands. Whatever it changes, a service that runs notices at its next request.
#[derive(Debug)]
pub struct Register {
    connection: Connection,
    path: PathBuf,
}

/// A token that was just made. Its secret is nowhere else.
#[derive(Debug)]
pub struct NewToken {
    /// The token.
    pub text: TokenText,
    /// When it was made, in seconds since 1970.
    pub created_unix: u64,
}

/// A token, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenStatus {
    /// Its public part.
    pub id: TokenId,
    /// What it allows.
    pub grant: Grant,
    /// When it was made, in seconds since 1970.
    pub created_unix: u64,
    /// When it was revoked, in seconds since 1970.
    pub revoked_unix: Option<u64>,
    /// How many executions it had today, in UTC.
    pub used_today: u64,
    /// Whether it is valid.
    pub state: TokenState,
}

/// Whether a token is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// It is.
    Active,
    /// Its time is over. It keeps its name until it is revoked.
    Expired,
    /// It was revoked.
    Revoked,
}

/// What revoking a token came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The token's id.
    pub id: TokenId,
    /// Its name.
    pub name: TokenName,
    /// When it was revoked, in seconds since 1970.
    pub revoked_unix: u64,
    /// Whether it had been revoked already.
    pub was_revoked: bool,
}

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub enum CreateTokenError {
    /// Another goes by the name.
    #[error("there is a token {name} already, with the id {id}")]
    NameTaken {
        /// The name.
        name: TokenName,
        /// The id of the other.
        id: TokenId,
    },
    /// The kernel gave no random bytes.
    #[error("cannot make a secret")]
    Random(#[source] getrandom::Error),
    /// It could not be stored.
    #[error("cannot store a token in {}", .path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rusqlite::Error,
    },
}

/// Why the tokens cannot be listed.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the tokens in {}", .path.display())]
pub struct ListTokensError {
    path: PathBuf,
    source: rusqlite::Error,
}

/// Why a token was not revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevokeTokenError {
    /// No token has this id or name.
    #[error("there is no token {0:?}")]
    Unknown(String),
    /// It could not be stored.
    #[error("cannot revoke a token in {}", .path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rusqlite::Error,
    },
}

impl CreateTokenError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NameTaken { id, .. } => {
                Some(format!("choose another name, or run: infra.operator token revoke {id}"))
            }
            Self::Random(_) => None,
            Self::Database { path, source } => database::hint(path, SCHEMA.loss, source),
        }
    }
}

impl ListTokensError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        database::hint(&self.path, SCHEMA.loss, &self.source)
    }
}

impl RevokeTokenError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown(_) => Some("to see all, run: infra.operator token list --all".to_owned()),
            Self::Database { path, source } => database::hint(path, SCHEMA.loss, source),
        }
    }
}

impl Register {
    /// Opens it, and makes it where there is none.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let connection = database::open(path, &SCHEMA, Durability::Full, PATIENCE)?;
        Ok(Self { connection, path: path.to_owned() })
    }

    /// Makes a token.
    pub fn create(&mut self, grant: &Grant) -> Result<NewToken, CreateTokenError> {
        let path = self.path.clone();
        let failed = |source| CreateTokenError::Database { path, source };
        let mut attempt = || {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let name = grant.name.as_str();
            if let Some(id) = holder_of_name(&transaction, name)? {
                return Ok(Err(CreateTokenError::NameTaken { name: grant.name.clone(), id }));
            }
            let text = loop {
                let text = match TokenText::random() {
                    Ok(text) => text,
                    Err(error) => return Ok(Err(CreateTokenError::Random(error))),
                };
                // An id that is a name would make it unclear whom to revoke.
                if text.id().as_str() != name && find(&transaction, text.id().as_str())?.is_none() {
                    break text;
                }
            };
            let created_unix = Moment::now().unix_seconds();
            insert(&transaction, &text, grant, created_unix)?;
            transaction.commit()?;
            Ok(Ok(NewToken { text, created_unix }))
        };
        attempt().map_err(failed)?
    }

    /// All tokens, the oldest first.
    pub fn list(&self) -> Result<Vec<TokenStatus>, ListTokensError> {
        let now = Moment::now();
        let list = || {
            stored_tokens(&self.connection)?
                .into_iter()
                .map(|token| {
                    let used_today = ledger::used_today(&self.connection, &token.id, now)?;
                    Ok(TokenStatus {
                        used_today,
                        state: token.state(now),
                        id: token.id,
                        grant: token.grant,
                        created_unix: token.created_unix,
                        revoked_unix: token.revoked_unix,
                    })
                })
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        list().map_err(|source| ListTokensError { path: self.path.clone(), source })
    }

    /// Revokes the token of this id or name, or the one that this is. Once it returns, no request is let in with it; those that run go on.
    pub fn revoke(&mut self, id_or_name: &str) -> Result<Revocation, RevokeTokenError> {
        // Whoever finds a token has nothing but that. Its secret gets no further than here, least of all into an error.
        let found = PresentedToken::parse(id_or_name);
        let id_or_name = found.as_ref().map_or(id_or_name, |token| token.id.as_str());
        let mut attempt = || {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let Some((id, name, revoked)) = find(&transaction, id_or_name)? else { return Ok(None) };
            let revoked_unix = revoked.unwrap_or_else(|| Moment::now().unix_seconds());
            transaction
                .execute("UPDATE token SET revoked = ?2 WHERE id = ?1", params![id.as_str(), revoked_unix])?;
            transaction.commit()?;
            Ok(Some(Revocation { id, name, revoked_unix, was_revoked: revoked.is_some() }))
        };
        attempt()
            .map_err(|source| RevokeTokenError::Database { path: self.path.clone(), source })?
            .ok_or_else(|| RevokeTokenError::Unknown(id_or_name.chars().take(64).collect()))
    }
}

/// A token as it is stored.
#[derive(Clone, Debug)]
pub(super) struct StoredToken {
    pub(super) id: TokenId,
    pub(super) secret: SecretHash,
    pub(super) grant: Grant,
    pub(super) created_unix: u64,
    pub(super) revoked_unix: Option<u64>,
}

impl StoredToken {
    pub(super) fn state(&self, now: Moment) -> TokenState {
        if self.revoked_unix.is_some() {
            TokenState::Revoked
        } else if self.grant.is_expired(now.unix_seconds()) {
            TokenState::Expired
        } else {
            TokenState::Active
        }
    }

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let languages: Option<String> = row.get("languages")?;
        let languages = languages.map(|names| {
            let names = names.split(',').filter(|name| !name.is_empty());
            names
                .map(|name| parse::<Language>(row, "languages", name))
                .collect::<rusqlite::Result<BTreeSet<_>>>()
        });
        let rate: Option<String> = row.get("rate")?;
        Ok(Self {
            id: TokenId::stored(row.get("id")?),
            secret: SecretHash::stored(row.get("secret_sha256")?),
            grant: Grant {
                name: parse(row, "name", &row.get::<_, String>("name")?)?,
                expires_unix: row.get("expires")?,
                rate: rate.map(|rate| parse(row, "rate", &rate)).transpose()?,
                concurrency: row.get("concurrency")?,
                daily_executions: row.get("daily_executions")?,
                languages: languages.transpose()?,
                max_memory_mib: row.get("max_memory_mib")?,
                max_timeout_seconds: row.get("max_timeout_seconds")?,
                admin: row.get("admin")?,
            },
            created_unix: row.get("created")?,
            revoked_unix: row.get("revoked")?,
        })
    }
}

fn parse<T>(row: &Row<'_>, column: &str, text: &str) -> rusqlite::Result<T>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    let column = row.as_ref().column_index(column)?;
    text.parse()
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

/// All tokens, the oldest first.
pub(super) fn stored_tokens(connection: &Connection) -> rusqlite::Result<Vec<StoredToken>> {
    let mut statement = connection.prepare("SELECT * FROM token ORDER BY created, rowid")?;
    statement.query_map([], StoredToken::from_row)?.collect()
}

fn insert(
    connection: &Connection,
    text: &TokenText,
    grant: &Grant,
    created_unix: u64,
) -> rusqlite::Result<()> {
    let languages = grant
        .languages
        .as_ref()
        .map(|languages| languages.iter().map(Language::as_str).collect::<Vec<_>>().join(","));
    connection.execute(
        "INSERT INTO token (id, secret_sha256, name, created, expires, rate, concurrency, daily_executions, languages,
            max_memory_mib, max_timeout_seconds, admin)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        params![
            text.id().as_str(),
            text.secret_hash().as_bytes(),
            grant.name.as_str(),
            created_unix,
            grant.expires_unix,
            grant.rate.map(|rate| rate.to_string()),
            grant.concurrency,
            grant.daily_executions,
            languages,
            grant.max_memory_mib,
            grant.max_timeout_seconds,
            grant.admin,
        ],
    )?;
    Ok(())
}

/// The token that is called so and not revoked, or has this as its id.
fn holder_of_name(connection: &Connection, name: &str) -> rusqlite::Result<Option<TokenId>> {
    const HOLDER: &str = "SELECT id FROM token WHERE (name = ?1 AND revoked IS NULL) OR id = ?1";
    connection.query_row(HOLDER, [name], |row| row.get(0).map(TokenId::stored)).optional()
}

/// The token of this id, else that of this name: the one that is not revoked, else the one that was revoked last.
fn find(
    connection: &Connection,
    id_or_name: &str,
) -> rusqlite::Result<Option<(TokenId, TokenName, Option<u64>)>> {
    connection
        .query_row(
            "SELECT id, name, revoked FROM token WHERE id = ?1 OR name = ?1
             ORDER BY id = ?1 DESC, revoked IS NULL DESC, revoked DESC LIMIT 1",
            [id_or_name],
            |row| {
                let name: String = row.get("name")?;
                Ok((TokenId::stored(row.get("id")?), parse(row, "name", &name)?, row.get("revoked")?))
            },
        )
        .optional()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register() -> (tempfile::TempDir, Register) {
        let directory = tempfile::tempdir().unwrap();
        let register = Register::open(&directory.path().join("service.sqlite3")).unwrap();
        (directory, register)
    }

    fn grant(name: &str) -> Grant {
        Grant::unlimited(name.parse().unwrap())
    }

    #[test]
    fn a_token_is_listed_as_it_was_made() {
        let (_directory, mut register) = register();
        let grant = Grant {
            expires_unix: Some(1),
            rate: Some("60/min".parse().unwrap()),
            concurrency: Some(3),
            daily_executions: Some(1000),
            languages: Some(BTreeSet::from(["python".parse().unwrap(), "c++".parse().unwrap()])),
            max_memory_mib: Some(512),
            max_timeout_seconds: Some(60),
            admin: true,
            ..grant("full")
        };
        let new = register.create(&grant).unwrap();
        let listed = register.list().unwrap();
        assert_eq!((listed.len(), &listed[0].id, &listed[0].grant), (1, new.text.id(), &grant));
        assert_eq!((listed[0].state, listed[0].used_today), (TokenState::Expired, 0));
    }

    #[test]
    fn no_secret_is_in_the_file() {
        let (directory, mut register) = register();
        let text = register.create(&grant("a")).unwrap().text.reveal();
        let secret = text.rsplit('_').next().unwrap();
        for file in std::fs::read_dir(&directory).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
        }
    }

    #[test]
    fn a_name_is_free_again_when_its_token_is_revoked() {
        let (_directory, mut register) = register();
        let first = register.create(&grant("a")).unwrap();
        let error = register.create(&grant("a")).unwrap_err();
        assert!(
            matches!(&error, CreateTokenError::NameTaken { id, .. } if id == first.text.id()),
            "{error:?}"
        );
        register.revoke("a").unwrap();
        let second = register.create(&grant("a")).unwrap();
        assert_eq!(register.revoke("a").unwrap().id, *second.text.id());
    }

    #[test]
    fn no_name_is_the_id_of_another() {
        let (_directory, mut register) = register();
        let id = register.create(&grant("a")).unwrap().text.id().clone();
        assert!(matches!(register.create(&grant(id.as_str())), Err(CreateTokenError::NameTaken { .. })));
    }

    #[test]
    fn revoking_twice_says_when_it_was() {
        let (_directory, mut register) = register();
        let id = register.create(&grant("a")).unwrap().text.id().clone();
        let first = register.revoke(id.as_str()).unwrap();
        assert!(!first.was_revoked);
        register.connection.execute("UPDATE token SET revoked = 5", []).unwrap();
        for id_or_name in [id.as_str(), "a"] {
            let again = register.revoke(id_or_name).unwrap();
            assert_eq!((again.was_revoked, again.revoked_unix), (true, 5));
        }
        assert!(matches!(register.revoke("b"), Err(RevokeTokenError::Unknown(name)) if name == "b"));
        assert_eq!(register.list().unwrap()[0].state, TokenState::Revoked);
    }

    #[test]
    fn a_token_that_was_found_can_be_revoked_and_its_secret_is_not_repeated() {
        let (_directory, mut register) = register();
        let text = register.create(&grant("a")).unwrap().text;
        assert_eq!(register.revoke(&text.reveal()).unwrap().id, *text.id());
        let unknown = TokenText::random().unwrap();
        let error = register.revoke(&unknown.reveal()).unwrap_err();
        assert!(matches!(error, RevokeTokenError::Unknown(id) if id == unknown.id().as_str()));
    }
}
