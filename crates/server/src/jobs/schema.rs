//! What the file with jobs holds.
//!
//! `tally` is kept by triggers, so that bounds, turns and positions are looked up instead of counted.

use crate::database::Schema;

pub(super) const SCHEMA: Schema = Schema {
    what: "the jobs",
    loss: "restart the service, which begins with none",
    migrations: &[(
        1,
        "
    CREATE TABLE job (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        tenant TEXT NOT NULL,
        trace_id TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
        language TEXT NOT NULL,
        memory_mib INTEGER NOT NULL,
        vcpus INTEGER NOT NULL,
        executions INTEGER NOT NULL,
        request BLOB,
        rerun INTEGER NOT NULL CHECK (rerun IN (0, 1)),
        attempt INTEGER NOT NULL DEFAULT 0,
        refusals INTEGER NOT NULL DEFAULT 0,
        interruptions INTEGER NOT NULL DEFAULT 0,
        not_before INTEGER NOT NULL DEFAULT 0,
        created INTEGER NOT NULL,
        started INTEGER,
        finished INTEGER,
        lifetime INTEGER NOT NULL,
        expires INTEGER,
        result BLOB,
        error TEXT,
        bytes INTEGER NOT NULL,
        idempotency_key TEXT,
        body_sha256 BLOB CHECK (length(body_sha256) = 32),
        callback_url TEXT,
        callback_attempts INTEGER NOT NULL DEFAULT 0,
        callback_due INTEGER,
        callback_delivered INTEGER,
        callback_error TEXT,
        CHECK ((state IN ('queued', 'running')) = (finished IS NULL)),
        CHECK ((state IN ('queued', 'running')) = (request IS NOT NULL)),
        CHECK ((state = 'done') = (result IS NOT NULL))
    ) STRICT;
    CREATE UNIQUE INDEX job_key ON job (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;
    CREATE INDEX job_of_owner ON job (owner, number);
    CREATE INDEX job_queued ON job (tenant, number) WHERE state = 'queued';
    CREATE INDEX job_running ON job (number) WHERE state = 'running';
    CREATE INDEX job_waiting ON job (not_before) WHERE state = 'queued';
    CREATE INDEX job_expires ON job (expires) WHERE expires IS NOT NULL;
    CREATE INDEX job_callback ON job (tenant, callback_due) WHERE callback_due IS NOT NULL;

    CREATE TABLE tally (
        tenant TEXT PRIMARY KEY,
        kept INTEGER NOT NULL,
        queued INTEGER NOT NULL,
        running INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        served INTEGER NOT NULL DEFAULT 0
    ) STRICT, WITHOUT ROWID;
    CREATE TRIGGER job_inserted AFTER INSERT ON job BEGIN
        INSERT INTO tally (tenant, kept, queued, running, bytes)
        VALUES (NEW.tenant, 1, NEW.state = 'queued', NEW.state = 'running', NEW.bytes)
        ON CONFLICT (tenant) DO UPDATE SET
            kept = kept + 1,
            queued = queued + excluded.queued,
            running = running + excluded.running,
            bytes = bytes + excluded.bytes;
    END;
    CREATE TRIGGER job_updated AFTER UPDATE OF state, bytes ON job BEGIN
        UPDATE tally SET
            queued = queued + (NEW.state = 'queued') - (OLD.state = 'queued'),
            running = running + (NEW.state = 'running') - (OLD.state = 'running'),
            bytes = bytes + NEW.bytes - OLD.bytes
        WHERE tenant = NEW.tenant;
    END;
    CREATE TRIGGER job_deleted AFTER DELETE ON job BEGIN
        UPDATE tally SET
            kept = kept - 1,
            queued = queued - (OLD.state = 'queued'),
            running = running - (OLD.state = 'running'),
            bytes = bytes - OLD.bytes
        WHERE tenant = OLD.tenant;
        DELETE FROM tally WHERE tenant = OLD.tenant AND kept = 0;
    END;

    CREATE TABLE signing (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        secret BLOB NOT NULL CHECK (length(secret) = 32)
    ) STRICT;
    INSERT INTO signing VALUES (1, randomblob(32));
",
    )],
};
