-- What a plan costs a month, in US dollars; the bill's preview is made of it. As in leaderboard.domain.bills.PRICES; a
-- test compares the two. Change them with UPDATE: the rows are what counts.
ALTER TABLE plans
    ADD COLUMN monthly_price numeric(12, 2) NOT NULL DEFAULT 0 CHECK (monthly_price >= 0),
    ADD COLUMN included_updates bigint NOT NULL DEFAULT 0 CHECK (included_updates >= 0),
    ADD COLUMN price_per_million numeric(12, 2) NOT NULL DEFAULT 0 CHECK (price_per_million >= 0);
UPDATE plans SET included_updates = 1000000 WHERE name = 'free';
UPDATE plans SET monthly_price = 29, included_updates = 50000000, price_per_million = 0.50 WHERE name = 'pro';
UPDATE plans SET monthly_price = 499, included_updates = 1000000000, price_per_million = 0.50 WHERE name = 'enterprise';
