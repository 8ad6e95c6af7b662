-- Sign-in failures are counted for each client apart, and a client is known by the addresses that have signed in.

-- Only counts of the last hour matter: what was counted before this migration starts anew.
DROP TABLE auth.sign_in_failures;
CREATE TABLE auth.sign_in_failures (
    -- Sign-in and password change count apart.
    purpose varchar(20) NOT NULL CHECK (purpose IN ('sign-in', 'change-password')),
    -- A user's id; a keyed digest where nobody has the address: both must be slowed down alike.
    account varchar(64) NOT NULL,
    -- Who has this count: everybody who is not known to the account ('strangers'), or one known client.
    client varchar(64) NOT NULL,
    failures integer NOT NULL,
    failed_at timestamptz NOT NULL,
    -- Before this moment no password is looked at.
    next_at timestamptz NOT NULL,
    PRIMARY KEY (purpose, account, client)
);
CREATE INDEX sign_in_failures_failed_at ON auth.sign_in_failures (failed_at);

CREATE TABLE auth.known_addresses (
    user_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
    -- An IPv4 address, or the /64 of an IPv6 one.
    address varchar(45) NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (user_id, address)
);
CREATE INDEX known_addresses_seen_at ON auth.known_addresses (seen_at);

-- Owners that are signed in during the upgrade are known from the start.
INSERT INTO auth.known_addresses (user_id, address, seen_at)
SELECT user_id, host(CASE WHEN family(ip) = 6 THEN network(set_masklen(ip, 64)) ELSE ip END), max(last_used_at)
FROM (SELECT user_id, last_used_at, ip_address::inet AS ip FROM auth.sessions WHERE ip_address IS NOT NULL) seen
GROUP BY 1, 2;
