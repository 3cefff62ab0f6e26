-- A role for the dashboard: it reads every table of the store, those of later migrations too, and writes nothing.
-- Run it once, as the role that owns the store, against the store's database:
--   printf '\\getenv reader_password READER_PASSWORD\n\\i deploy/postgres/reader.sql\n' | psql "$MERGEBOARD_DATABASE_URL"
-- The role is made without a password and cannot log in by one until the second statement gives it its own.
CREATE ROLE mergeboard_reader LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT CONNECTION LIMIT 50;
ALTER ROLE mergeboard_reader PASSWORD :'reader_password';
ALTER ROLE mergeboard_reader SET default_transaction_read_only = on;
ALTER ROLE mergeboard_reader SET statement_timeout = '60s';
GRANT USAGE ON SCHEMA public TO mergeboard_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO mergeboard_reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO mergeboard_reader;
