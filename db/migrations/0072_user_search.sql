-- A part of an address or a name is found along an index of the groups of three characters in it. The extension is part of
-- PostgreSQL's contrib and trusted: the owner of the database may create it. Without it, a search reads the users.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm')
        AND has_database_privilege(current_database(), 'CREATE')
    THEN
        CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA public;
        CREATE INDEX users_search ON auth.users
            USING gin (email public.gin_trgm_ops, name public.gin_trgm_ops) WITH (fastupdate = off);
    END IF;
END $$;
