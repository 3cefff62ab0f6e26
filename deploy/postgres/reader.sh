#!/bin/sh
# Runs once, when the PostgreSQL container makes its database; the password comes from the environment, read by psql itself.
set -eu
psql --set=ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\getenv reader_password READER_PASSWORD
\i /docker-entrypoint-initdb.d/reader/reader.sql
SQL
