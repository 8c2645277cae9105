-- What a database of the second schema lacks.
ALTER TABLE parts ADD COLUMN checksums TEXT;
CREATE TABLE version_parts (
    sequence INTEGER NOT NULL,
    number INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    checksums TEXT NOT NULL,
    PRIMARY KEY (sequence, number)
) WITHOUT ROWID;
CREATE TABLE completed_uploads (
    id TEXT PRIMARY KEY,
    bucket_id INTEGER NOT NULL,
    key BLOB NOT NULL,
    completed_ms INTEGER NOT NULL,
    answer TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX completed_by_date ON completed_uploads (completed_ms);
CREATE INDEX completed_by_bucket ON completed_uploads (bucket_id);
