-- Read-only role for the dashboard: it reads all tables of the store, including those of later migrations.
-- Run it once, as the role that owns the store, against the store's database:
--   printf '\\getenv reader_password READER_PASSWORD\n\\i deploy/postgres/reader.sql\n' | psql "$MERGEBOARD_DATABASE_URL"
-- The role is created without a password; it cannot log in with one before the second statement.
CREATE ROLE mergeboard_reader LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT CONNECTION LIMIT 50;
ALTER ROLE mergeboard_reader PASSWORD :'reader_password';
ALTER ROLE mergeboard_reader SET default_transaction_read_only = on;
ALTER ROLE mergeboard_reader SET statement_timeout = '60s';
GRANT USAGE ON SCHEMA public TO mergeboard_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO mergeboard_reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO mergeboard_reader;
