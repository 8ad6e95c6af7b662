-- An account that is suspended comes back, one that is closed does not: `active` alone no longer tells them apart.
ALTER TABLE auth.users ADD COLUMN closed_at timestamptz;
UPDATE auth.users SET closed_at = updated_at WHERE NOT active;
ALTER TABLE auth.users ADD CHECK (closed_at IS NULL OR NOT active);
