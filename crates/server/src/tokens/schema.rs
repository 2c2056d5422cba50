//! What the file with tokens and quotas holds.

use crate::database::Schema;

/// `token_changes` is counted on by the triggers: whoever changes a token, by hand even, the service notices.
pub(crate) const SCHEMA: Schema = Schema {
    what: "the tokens",
    loss: "make new tokens: infra.operator token create",
    migrations: &[(
        1,
        "
    CREATE TABLE token (
        id TEXT PRIMARY KEY,
        secret_sha256 BLOB NOT NULL CHECK (length(secret_sha256) = 32),
        name TEXT NOT NULL,
        created INTEGER NOT NULL,
        revoked INTEGER,
        expires INTEGER,
        rate TEXT,
        concurrency INTEGER,
        daily_executions INTEGER,
        languages TEXT,
        max_memory_mib INTEGER,
        max_timeout_seconds INTEGER,
        admin INTEGER NOT NULL CHECK (admin IN (0, 1))
    ) STRICT;
    CREATE UNIQUE INDEX token_name ON token (name) WHERE revoked IS NULL;
    CREATE TABLE token_changes (number INTEGER NOT NULL) STRICT;
    INSERT INTO token_changes VALUES (0);
    CREATE TRIGGER token_inserted AFTER INSERT ON token BEGIN
        UPDATE token_changes SET number = number + 1;
    END;
    CREATE TRIGGER token_updated AFTER UPDATE ON token BEGIN
        UPDATE token_changes SET number = number + 1;
    END;
    CREATE TRIGGER token_deleted AFTER DELETE ON token BEGIN
        UPDATE token_changes SET number = number + 1;
    END;
    CREATE TABLE rate_state (
        token TEXT PRIMARY KEY REFERENCES token (id) ON DELETE CASCADE,
        arrival INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE daily_usage (
        token TEXT NOT NULL REFERENCES token (id) ON DELETE CASCADE,
        day INTEGER NOT NULL,
        executions INTEGER NOT NULL,
        PRIMARY KEY (token, day)
    ) STRICT, WITHOUT ROWID;
",
    )],
};
