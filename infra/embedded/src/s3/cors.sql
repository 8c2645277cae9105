-- The CORS rules of a bucket, as JSON. Made at every start, so that folders of every release have it.
CREATE TABLE IF NOT EXISTS cors (
    bucket_id INTEGER PRIMARY KEY,
    rules TEXT NOT NULL
);
-- The id of a deleted bucket may be given again.
CREATE TRIGGER IF NOT EXISTS bucket_deleted AFTER DELETE ON buckets BEGIN
    DELETE FROM cors WHERE bucket_id = OLD.id;
END;
