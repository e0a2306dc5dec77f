-- Where a rented machine is reached, as its agent said last; for its renter, while the rental goes on.
CREATE TABLE rental_access (
    rental_id uuid PRIMARY KEY REFERENCES rentals,
    -- a DNS name or an IP address (crates/domain/src/reach.rs)
    host      text NOT NULL CHECK (octet_length(host) BETWEEN 1 AND 253 AND host !~ '[^0-9a-z.:-]'),
    -- [{"name": "ssh", "port": 41022}]
    ports     jsonb NOT NULL CHECK (jsonb_typeof(ports) = 'array' AND octet_length(ports::text) <= 8192),
    told_at   timestamptz NOT NULL
);
