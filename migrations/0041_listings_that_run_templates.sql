-- As in 0036, with whether a machine runs templates: search tells it.
DROP TRIGGER machines_noted ON machines;
CREATE TRIGGER machines_noted AFTER UPDATE ON machines FOR EACH ROW
    WHEN (OLD.contact_since IS DISTINCT FROM NEW.contact_since
          OR NEW.last_heartbeat_at >= OLD.last_heartbeat_at + interval '15 seconds'
          OR (OLD.region, OLD.sold_cpu_cores, OLD.sold_ram_gb, OLD.sold_disk_gb, OLD.cuda_version, OLD.inet_up_mbps,
              OLD.inet_down_mbps, OLD.disk_mb_s, OLD.pcie_mb_s, OLD.ports, OLD.static_ip, OLD.templates,
              OLD.verification, OLD.datacenter, OLD.service)
             IS DISTINCT FROM
             (NEW.region, NEW.sold_cpu_cores, NEW.sold_ram_gb, NEW.sold_disk_gb, NEW.cuda_version, NEW.inet_up_mbps,
              NEW.inet_down_mbps, NEW.disk_mb_s, NEW.pcie_mb_s, NEW.ports, NEW.static_ip, NEW.templates,
              NEW.verification, NEW.datacenter, NEW.service))
    EXECUTE FUNCTION note_machine();
