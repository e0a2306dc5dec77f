-- Whoever wrote while an account's first stream was opened left no event for it. Of this transaction and all above none is
-- missing: every new stream begins once those below are over. NULL until a stream has asked, in a transaction that began after
-- the row was there. Of rows from before, those transactions are over long since.
ALTER TABLE account_streams ADD COLUMN whole_from xid8 DEFAULT '0';
ALTER TABLE account_streams ALTER COLUMN whole_from DROP DEFAULT;
