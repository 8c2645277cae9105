CREATE TABLE settings (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO settings VALUES ('starts', 0);

CREATE TABLE users (
    uid TEXT PRIMARY KEY,
    display_name TEXT NOT NULL,
    suspended INTEGER NOT NULL DEFAULT 0,
    quota_bytes INTEGER,
    -- Sums over the user's buckets, kept by the triggers below.
    stored_bytes INTEGER NOT NULL DEFAULT 0,
    objects INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE access_keys (
    access_key TEXT PRIMARY KEY,
    secret_key TEXT NOT NULL,
    uid TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX access_keys_by_user ON access_keys (uid);

CREATE TABLE buckets (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    uid TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    versioning INTEGER NOT NULL DEFAULT 0,
    -- Kept by the triggers below, so that no write path can forget them.
    stored_bytes INTEGER NOT NULL DEFAULT 0,
    objects INTEGER NOT NULL DEFAULT 0,
    versions INTEGER NOT NULL DEFAULT 0,
    noncurrent_bytes INTEGER NOT NULL DEFAULT 0,
    multipart_bytes INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX buckets_by_user ON buckets (uid, name);

-- Object versions and delete markers. `age` is the negated sequence number of the write, so that the
-- primary key runs through the versions of a key from the newest on, as listings do. Keys are blobs:
-- S3 orders them by their bytes.
CREATE TABLE versions (
    bucket_id INTEGER NOT NULL,
    key BLOB NOT NULL,
    age INTEGER NOT NULL,
    version_id TEXT NOT NULL,
    is_current INTEGER NOT NULL,
    delete_marker INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    etag TEXT NOT NULL,
    modified_ms INTEGER NOT NULL,
    meta TEXT NOT NULL,
    PRIMARY KEY (bucket_id, key, age)
) WITHOUT ROWID;
-- What a plain listing walks; old versions and delete markers do not slow it down.
CREATE INDEX current_objects ON versions (bucket_id, key) WHERE is_current = 1 AND delete_marker = 0;

-- The files of a version, in order. An object without content has none.
CREATE TABLE blobs (
    id INTEGER PRIMARY KEY,
    sequence INTEGER NOT NULL,
    position INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL
);
CREATE UNIQUE INDEX blobs_by_version ON blobs (sequence, position);

CREATE TABLE uploads (
    id TEXT PRIMARY KEY,
    bucket_id INTEGER NOT NULL,
    key BLOB NOT NULL,
    created_ms INTEGER NOT NULL,
    meta TEXT NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX uploads_by_key ON uploads (bucket_id, key, id);

CREATE TABLE parts (
    upload_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    bucket_id INTEGER NOT NULL,
    -- NULL for a part without content.
    blob_id INTEGER,
    size_bytes INTEGER NOT NULL,
    etag TEXT NOT NULL,
    modified_ms INTEGER NOT NULL,
    -- As JSON.
    checksums TEXT,
    PRIMARY KEY (upload_id, number)
) WITHOUT ROWID;
CREATE INDEX parts_by_blob ON parts (blob_id);

-- The parts of a version that was uploaded in parts.
CREATE TABLE version_parts (
    sequence INTEGER NOT NULL,
    number INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    checksums TEXT NOT NULL,
    PRIMARY KEY (sequence, number)
) WITHOUT ROWID;

-- What completed uploads were answered, for whoever did not hear it and asks again.
CREATE TABLE completed_uploads (
    id TEXT PRIMARY KEY,
    bucket_id INTEGER NOT NULL,
    key BLOB NOT NULL,
    completed_ms INTEGER NOT NULL,
    answer TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX completed_by_date ON completed_uploads (completed_ms);
CREATE INDEX completed_by_bucket ON completed_uploads (bucket_id);

-- Outlives the buckets and users it speaks of. `hour` is in hours since 1970.
CREATE TABLE usage (
    uid TEXT NOT NULL,
    bucket TEXT NOT NULL,
    hour INTEGER NOT NULL,
    bytes_sent INTEGER NOT NULL,
    bytes_received INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    -- Of these, by what they did; the rest is other.
    requests_get INTEGER NOT NULL DEFAULT 0,
    requests_put INTEGER NOT NULL DEFAULT 0,
    requests_list INTEGER NOT NULL DEFAULT 0,
    requests_delete INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (uid, bucket, hour)
) WITHOUT ROWID;
CREATE INDEX usage_by_hour ON usage (hour);

CREATE TRIGGER version_added AFTER INSERT ON versions BEGIN
    UPDATE buckets SET
        stored_bytes = stored_bytes + NEW.size_bytes,
        objects = objects + (NEW.is_current AND NOT NEW.delete_marker),
        versions = versions + (NOT NEW.delete_marker),
        noncurrent_bytes = noncurrent_bytes + NEW.size_bytes * (NOT NEW.is_current)
    WHERE id = NEW.bucket_id;
END;
CREATE TRIGGER version_removed AFTER DELETE ON versions BEGIN
    UPDATE buckets SET
        stored_bytes = stored_bytes - OLD.size_bytes,
        objects = objects - (OLD.is_current AND NOT OLD.delete_marker),
        versions = versions - (NOT OLD.delete_marker),
        noncurrent_bytes = noncurrent_bytes - OLD.size_bytes * (NOT OLD.is_current)
    WHERE id = OLD.bucket_id;
END;
CREATE TRIGGER version_superseded AFTER UPDATE OF is_current ON versions BEGIN
    UPDATE buckets SET
        objects = objects + (NEW.is_current AND NOT NEW.delete_marker) - (OLD.is_current AND NOT OLD.delete_marker),
        noncurrent_bytes = noncurrent_bytes + NEW.size_bytes * (NOT NEW.is_current) - OLD.size_bytes * (NOT OLD.is_current)
    WHERE id = NEW.bucket_id;
END;
CREATE TRIGGER part_added AFTER INSERT ON parts BEGIN
    UPDATE buckets SET
        stored_bytes = stored_bytes + NEW.size_bytes,
        multipart_bytes = multipart_bytes + NEW.size_bytes
    WHERE id = NEW.bucket_id;
END;
CREATE TRIGGER part_removed AFTER DELETE ON parts BEGIN
    UPDATE buckets SET
        stored_bytes = stored_bytes - OLD.size_bytes,
        multipart_bytes = multipart_bytes - OLD.size_bytes
    WHERE id = OLD.bucket_id;
END;
CREATE TRIGGER bucket_changed AFTER UPDATE OF stored_bytes, objects ON buckets BEGIN
    UPDATE users SET
        stored_bytes = stored_bytes + NEW.stored_bytes - OLD.stored_bytes,
        objects = objects + NEW.objects - OLD.objects
    WHERE uid = NEW.uid;
END;
