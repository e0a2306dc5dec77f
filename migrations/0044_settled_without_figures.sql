-- A machine with more rows than are looked at has no figures, but up to here its past is settled all the same: what its
-- readings cover was drawn together. The version before does not write it; its machines have it after their next turn.
CREATE TABLE machines_without_figures (
    machine_id  uuid PRIMARY KEY REFERENCES machines,
    as_of       timestamptz NOT NULL
);
