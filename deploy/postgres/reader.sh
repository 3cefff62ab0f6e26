#!/bin/sh
# Runs once, when the PostgreSQL container creates its database; psql reads the password from the environment.
set -eu
psql --set=ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\getenv reader_password READER_PASSWORD
\i /docker-entrypoint-initdb.d/reader/reader.sql
SQL
