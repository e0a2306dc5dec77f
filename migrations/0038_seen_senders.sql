-- When a worker was last heard of: it says so whenever it takes or renews its right to send for a key. A worker of the version
-- before says nothing, and is told as not heard of.
ALTER TABLE chain_signers ADD COLUMN seen_at timestamptz;
