-- Bookings announce nothing: transactions that notify commit one after the other. What they write for the streams of accounts
-- is found by looking, once a second for all streams of a process. As in 0019 but for the last line.
CREATE OR REPLACE FUNCTION hook(account uuid, kind text, at timestamptz, data jsonb) RETURNS void LANGUAGE sql AS $$
    INSERT INTO hook_events (account_id, kind, at, data)
    SELECT $1, $2, $3, $4
    WHERE EXISTS (SELECT FROM webhooks w
                  WHERE w.account_id = $1 AND w.state = 'active' AND w.events && ARRAY[$2, '*']);
    WITH told AS (
        INSERT INTO account_events (account_id, kind, at, data)
        SELECT $1, $2, $3, $4
        WHERE EXISTS (SELECT FROM account_streams s WHERE s.account_id = $1)
        RETURNING account_id)
    SELECT pg_notify('weir_accounts', account_id::text) FROM told WHERE $2 <> 'rental.booked';
$$;
