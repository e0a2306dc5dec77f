-- What a machine is sold as: what its provider declares, or what its agent measured where that is less. Ports are sold as
-- declared: how many are free at a moment says nothing of the next.
ALTER TABLE machines
    ADD COLUMN sold_cpu_cores integer NOT NULL
        GENERATED ALWAYS AS (least(cpu_cores, (measured ->> 'cpu_cores')::integer)) STORED,
    ADD COLUMN sold_ram_gb integer NOT NULL
        GENERATED ALWAYS AS (least(ram_gb, (measured ->> 'ram_gb')::integer)) STORED,
    ADD COLUMN sold_disk_gb integer NOT NULL
        GENERATED ALWAYS AS (least(disk_gb, (measured ->> 'disk_gb')::integer)) STORED;

-- As in 0012, by what is sold.
DROP TRIGGER machines_noted ON machines;
CREATE TRIGGER machines_noted AFTER UPDATE ON machines FOR EACH ROW
    WHEN (OLD.contact_since IS DISTINCT FROM NEW.contact_since
          OR NEW.last_heartbeat_at >= OLD.last_heartbeat_at + interval '15 seconds'
          OR (OLD.region, OLD.sold_cpu_cores, OLD.sold_ram_gb, OLD.sold_disk_gb, OLD.cuda_version, OLD.inet_up_mbps,
              OLD.inet_down_mbps, OLD.disk_mb_s, OLD.pcie_mb_s, OLD.ports, OLD.static_ip, OLD.verification,
              OLD.datacenter, OLD.service)
             IS DISTINCT FROM
             (NEW.region, NEW.sold_cpu_cores, NEW.sold_ram_gb, NEW.sold_disk_gb, NEW.cuda_version, NEW.inet_up_mbps,
              NEW.inet_down_mbps, NEW.disk_mb_s, NEW.pcie_mb_s, NEW.ports, NEW.static_ip, NEW.verification,
              NEW.datacenter, NEW.service))
    EXECUTE FUNCTION note_machine();

-- A GPU has one spelling: what NVIDIA's ids begin with in capitals, all else in small letters.
DROP INDEX gpus_vendor_uuid_key, gpus_retired;
UPDATE gpus g SET vendor_uuid = spelled.uuid
FROM (SELECT id, CASE WHEN vendor_uuid ~* '^(GPU|MIG)-'
                      THEN upper(left(vendor_uuid, 4)) || lower(substr(vendor_uuid, 5))
                      ELSE lower(vendor_uuid) END AS uuid FROM gpus) spelled
WHERE spelled.id = g.id AND spelled.uuid <> g.vendor_uuid;

-- Of machines in the market that name the same GPU the one that was registered first keeps it. In the others it counts as
-- given back; they begin nothing new and say why, until their provider retires them and registers what is in them.
CREATE TEMPORARY TABLE named_twice ON COMMIT DROP AS
    SELECT id, machine_id, vendor_uuid FROM (
        SELECT g.id, g.machine_id, g.vendor_uuid,
               row_number() OVER (PARTITION BY g.vendor_uuid ORDER BY m.created_at, m.id, g.ordinal) AS nth
        FROM gpus g JOIN machines m ON m.id = g.machine_id WHERE NOT g.retired) numbered
    WHERE nth > 1;
UPDATE gpus SET retired = true WHERE id IN (SELECT id FROM named_twice);
UPDATE machine_listings SET to_at = greatest(from_at, now())
    WHERE to_at IS NULL AND machine_id IN (SELECT machine_id FROM named_twice);
UPDATE machines m
    SET service = 'draining', verification = 'deverified', verification_at = now(), version = version + 1,
        verification_reason = 'GPU ' || twice.uuid || ' is registered already'
    FROM (SELECT machine_id, min(vendor_uuid) AS uuid FROM named_twice GROUP BY machine_id) twice
    WHERE m.id = twice.machine_id;
DROP TABLE named_twice;
-- Nobody opens those again, the version before this one included: a GPU would be rented twice.
CREATE FUNCTION refuse_opening() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM gpus WHERE machine_id = NEW.id AND retired) THEN
        RAISE EXCEPTION 'machine % has a GPU that another machine may have', NEW.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'machines_open_with_all_gpus', TABLE = 'machines';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER machines_opened BEFORE UPDATE OF service ON machines FOR EACH ROW
    WHEN (NEW.service = 'open' AND OLD.service <> 'open')
    EXECUTE FUNCTION refuse_opening();
CREATE UNIQUE INDEX gpus_vendor_uuid_key ON gpus (lower(vendor_uuid)) WHERE NOT retired;
CREATE INDEX gpus_retired ON gpus (lower(vendor_uuid)) WHERE retired;

-- Slices of GPUs (MIG) were taken for whole ones: what was sold of them had the memory of the whole. They are off the market.
UPDATE offers SET state = 'paused', updated_at = greatest(updated_at, now())
    WHERE state = 'listed'
      AND machine_id IN (SELECT machine_id FROM gpus WHERE upper(left(vendor_uuid, 4)) = 'MIG-');
