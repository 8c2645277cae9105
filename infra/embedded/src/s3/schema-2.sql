-- What a database of the first schema lacks.
ALTER TABLE usage ADD COLUMN requests_get INTEGER NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN requests_put INTEGER NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN requests_list INTEGER NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN requests_delete INTEGER NOT NULL DEFAULT 0;
