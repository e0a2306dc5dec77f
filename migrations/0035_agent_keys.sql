-- A machine's key that was replaced or revoked. No machine takes it again: whoever stole it cannot come back with it.
CREATE TABLE ended_agent_keys (
    agent_key   bytea PRIMARY KEY CHECK (octet_length(agent_key) = 20),
    machine_id  uuid NOT NULL REFERENCES machines,
    enrolled_at timestamptz NOT NULL,
    ended_at    timestamptz NOT NULL
);
CREATE TRIGGER ended_agent_keys_immutable BEFORE UPDATE OR DELETE ON ended_agent_keys
    FOR EACH ROW EXECUTE FUNCTION forbid_change();
-- Whether a machine ever had an agent.
CREATE INDEX ended_agent_keys_by_machine ON ended_agent_keys (machine_id);

-- Those of a machine are ended together.
CREATE INDEX sessions_by_machine ON sessions (machine_id) WHERE machine_id IS NOT NULL AND revoked_at IS NULL;

-- A retired machine's agent signs in no more, and no other one enrols.
UPDATE sessions s SET revoked_at = now() FROM machines m
    WHERE m.id = s.machine_id AND m.service = 'retired' AND s.revoked_at IS NULL;
UPDATE machines SET enroll_token_hash = NULL, enroll_expires_at = NULL
    WHERE service = 'retired' AND enroll_token_hash IS NOT NULL;
