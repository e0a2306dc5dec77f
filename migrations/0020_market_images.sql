-- Files that API processes keep their market in (docs/adr/0012). A row is committed after the snapshot that its file names:
-- a database that has the row has seen everything that the file has. One that was restored from before does not have it, and
-- one that was made from a dump, whose transactions have other numbers, has its tables under other oids.
CREATE TABLE market_images (
    id          uuid PRIMARY KEY,
    database    oid NOT NULL,
    offers      oid NOT NULL,
    migration   bigint NOT NULL,
    at          timestamptz NOT NULL DEFAULT now() -- the server's: only rows' ages are made of it
);
